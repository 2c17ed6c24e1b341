#!/usr/bin/env python3
"""The PyTorch side of the GPU benchmark: does what it is told line by line.

    peer.py [--device cuda] [--config config.json] [--quick]

Each line of the input is a JSON object {"do": NAME, ...}, each gets one line
of JSON as answer; {"error": TEXT} when something went wrong, and the next
line is read all the same.  Weights are random, of the official dimensions
unless a config.json is given.

    info
    copy     bytes                     device to device
    product  n                         bf16 [n, n] x [n, n]
    encode   size views how            how: eager, graph, compile
    prefill  tokens experts how        experts: loop, grouped, dense
    decode   batch context experts how
    page     size tokens experts how   one view, its prompt, so many tokens
    quit

Times are in milliseconds, medians over repeated runs.  graph replays a CUDA
graph of the eager operations, compile one of what torch.compile made of them.
"""

import argparse
import gc
import json
import os
import statistics
import sys
import time

import torch

import peer_model


class Peer:
    def __init__(self, options):
        self.device = torch.device(options.device)
        self.cuda = self.device.type == "cuda"
        self.quick = options.quick
        self.dtype = torch.bfloat16
        self.config = peer_model.Config(options.config) if options.config \
            else peer_model.official_config()
        weights = peer_model.Random(self.device, self.dtype)
        self.encoder = peer_model.Encoder(self.config, weights)
        self.decoder = peer_model.Decoder(self.config, weights)
        self.compiled = {}

    # ---- timing ----

    def sync(self):
        if self.cuda:
            torch.cuda.synchronize()

    def once(self, f):
        """Milliseconds of one call."""
        self.sync()
        if self.cuda:
            a, b = (torch.cuda.Event(enable_timing=True) for _ in "ab")
            a.record()
            f()
            b.record()
            b.synchronize()
            return a.elapsed_time(b)
        start = time.perf_counter()
        f()
        return (time.perf_counter() - start) * 1e3

    def median(self, f, warm=3, least=5, most=60, budget=1000.0):
        """Median over at least so many calls, more while the budget of milliseconds lasts."""
        if self.quick:
            warm, least, most = 1, 1, 1
        for _ in range(warm):
            f()
        times = []
        while len(times) < least or (len(times) < most and sum(times) < budget):
            times.append(self.once(f))
        return {"ms": statistics.median(times), "fastest": min(times), "runs": len(times)}

    def prepared(self, function, how, key, *args):
        """A call of function(*args), or the replay of what it records.

        Compiled functions are kept for the next round, so they must not hold
        the tensors they work on.
        """
        if how == "compile":
            if key not in self.compiled:
                self.compiled[key] = torch.compile(function, dynamic=False)
            function = self.compiled[key]
        elif how not in ("eager", "graph"):
            raise ValueError(f"how: {how}")

        def f():
            return function(*args)

        if how == "eager" or not self.cuda:
            return f
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                f()
        torch.cuda.current_stream().wait_stream(stream)
        self.sync()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            f()
        return graph.replay

    # ---- commands ----

    def info(self, _):
        reply = {"torch": torch.__version__, "python": sys.version.split()[0],
                 "device": str(self.device)}
        if self.cuda:
            p = torch.cuda.get_device_properties(self.device)
            reply.update(device=p.name, sms=p.multi_processor_count, bytes=p.total_memory,
                         l2=getattr(p, "L2_cache_size", 0), cuda=torch.version.cuda,
                         capability=f"{p.major}.{p.minor}")
        return reply

    def copy(self, a):
        src = torch.empty(a["bytes"], dtype=torch.uint8, device=self.device).random_()
        dst = torch.empty_like(src)
        r = self.median(lambda: dst.copy_(src))
        r["bytes_per_s"] = 2e3 * a["bytes"] / r["ms"]
        return r

    def product(self, a):
        n = a["n"]
        x, y = (torch.randn(n, n, device=self.device, dtype=self.dtype) for _ in "xy")
        out = torch.empty(n, n, device=self.device, dtype=self.dtype)
        r = self.median(lambda: torch.mm(x, y.t(), out=out))
        r["flops_per_s"] = 2e3 * n ** 3 / r["ms"]
        return r

    def pixels(self, size, views):
        t = torch.randint(0, 256, (views, 3, size, size), device=self.device)
        return ((t / 255 - 0.5) / 0.5).to(self.dtype)

    def encode(self, a):
        pixels = self.pixels(a["size"], a["views"])
        self.encoder(pixels)  # the position tables of this size
        return self.median(self.prepared(self.encode_views, a["how"],
                                         ("encode", a["size"], a["views"]), pixels))

    def encode_views(self, pixels):
        return self.encoder(pixels)

    def prompt(self, n):
        ids = torch.randint(0, self.config.vocab, (1, n), device=self.device)
        return torch.nn.functional.embedding(ids, self.decoder.embed)

    def prefill(self, a):
        x = self.prompt(a["tokens"])
        cache = self.decoder.new_cache(1, a["tokens"])
        r = self.median(self.prepared(self.run_prompt, a["how"],
                                      ("prefill", a["tokens"], a["experts"]), x, cache,
                                      a["experts"]))
        r["tokens_per_s"] = 1e3 * a["tokens"] / r["ms"]
        return r

    def run_prompt(self, x, cache, experts):
        return self.decoder.prefill(x, cache, how=experts)

    def run_step(self, ids, position, cache, experts):
        return self.decoder.decode(ids, position, cache, experts)

    def next_step(self, ids, position, cache, experts):
        """The same, and on to the next position."""
        ids.copy_(self.decoder.decode(ids, position, cache, experts)[0])
        position.add_(1)

    def decode(self, a):
        """Rows of different sequences, all at the same position, over and over."""
        n, context = a["batch"], a["context"]
        ids = torch.randint(0, self.config.vocab, (n,), device=self.device)
        position = torch.tensor([context - 1], device=self.device)
        cache = self.decoder.new_cache(n, -(-context // 64) * 64)
        for layer in cache:
            layer.normal_()
        r = self.median(self.prepared(self.run_step, a["how"],
                                      ("decode", n, context, a["experts"]), ids, position, cache,
                                      a["experts"]))
        r["tokens_per_s"] = 1e3 * n / r["ms"]
        return r

    def page(self, a):
        """Latency of one view and so many tokens, from the pixels on."""
        pixels = self.pixels(a["size"], 1)
        side = a["size"] // 64
        n = side * (side + 1) + 12
        x = self.prompt(n)
        room = -(-(n + a["tokens"]) // 64) * 64
        cache = self.decoder.new_cache(1, room)
        ids = torch.zeros(1, dtype=torch.long, device=self.device)
        position = torch.zeros(1, dtype=torch.long, device=self.device)
        encoded = self.encoder(pixels)
        encode = self.prepared(self.encode_views, a["how"], ("encode", a["size"], 1), pixels)
        position.fill_(n)
        step = self.prepared(self.next_step, a["how"],
                             ("page", a["size"], a["tokens"], a["experts"]), ids, position, cache,
                             a["experts"])

        def run():
            encode()
            x[:, 1:1 + encoded.shape[1]] = encoded[0]
            self.decoder.prefill(x, cache, how=a["experts"])
            position.fill_(n)
            for _ in range(a["tokens"] - 1):
                step()
                ids.tolist()  # the id is needed on the host: it may be the end

        return self.median(run, warm=1, least=2, most=3)

    def answer(self, a):
        if a.get("do") not in ("info", "copy", "product", "encode", "prefill", "decode", "page"):
            raise ValueError(f"unknown command: {a.get('do')}")
        reply = getattr(self, a["do"])(a)
        if self.cuda:
            reply["peak_gib"] = torch.cuda.max_memory_allocated() / 2 ** 30
        return reply

    def release(self):
        gc.collect()
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--config")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    # What libraries print must not stand between the answers.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_grad_enabled(False)
    if hasattr(torch, "_dynamo"):
        torch._dynamo.config.cache_size_limit = 256
    peer = None
    for line in sys.stdin:
        try:
            a = json.loads(line)
            if a.get("do") == "quit":
                break
            if peer is None:
                peer = Peer(options)
            reply = peer.answer(a)
        except Exception as e:  # one figure less, not all
            reply = {"error": f"{type(e).__name__}: {str(e)[:400]}"}
        try:
            if peer is not None:
                peer.release()
        except Exception as e:
            reply["error"] = f"{type(e).__name__}: {str(e)[:400]}"
        print(json.dumps(reply), file=out, flush=True)


if __name__ == "__main__":
    main()
