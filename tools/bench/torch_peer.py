#!/usr/bin/env python3
"""PyTorch on the CPU, told line by line what to do: the other side of bench_stages.

    torch_peer.py MODEL encoder|decoder [THREADS]

Commands and answers are those of test/bench/bench_stages.c, but pages.  The
model is tools/gpu/peer_model.py in bf16 with the weights of the folder MODEL;
only the half that is asked for is read.
"""
import json
import os
import resource
import sys
import time

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "gpu"))
import peer_model  # noqa: E402

ROOM = 256


class Files:
    """Tensors of all files of a folder by name, read when they are asked for."""

    def __init__(self, folder):
        with open(folder + "/model.safetensors.index.json", encoding="utf-8") as f:
            self.names = json.load(f)["weight_map"]
        self.files = {n: peer_model.Stored(f"{folder}/{n}", "cpu", torch.bfloat16)
                      for n in set(self.names.values())}

    def get(self, name, *shape):
        return self.files[self.names[name]].get(name, *shape)


class Peer:
    def __init__(self, folder, part):
        config = peer_model.Config(folder + "/config.json")
        if part == "encoder":
            self.encoder = peer_model.Encoder(config, Files(folder))
        else:
            self.decoder = peer_model.Decoder(config, Files(folder))
        self.vocab = config.vocab
        self.pixels = {}

    def encode(self, size):
        if size not in self.pixels:
            n = torch.arange(3 * size * size) // 48 * 2654435761 % 2 ** 32 // 2 ** 24
            x = (n.reshape(1, size, size, 3).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
            self.pixels[size] = x.to(torch.bfloat16).contiguous()
        return lambda: (self.encoder(self.pixels[size]).shape[1], -1)

    def ids(self, first, n):
        return (torch.arange(first, first + n) * 7919 + 11) % self.vocab

    def prefill(self, n, texts=1):
        # a cache for each text: they are no longer of one length behind the prompt
        self.prompt = n
        self.caches = [self.decoder.new_cache(1, n + ROOM) for _ in range(texts)]

        def run():
            for t, cache in enumerate(self.caches):
                x = torch.nn.functional.embedding(self.ids(t * 1000, n)[None], self.decoder.embed)
                logits = self.decoder.prefill(x, cache)
            return n * texts, int(logits.argmax())

        return run

    def decode(self, steps):
        """The cache ends where the text does: a longer one would cost attention to nothing."""
        def run():
            for step in range(steps):
                n = self.prompt + step
                ids = self.ids(n, 1)
                view = self.caches[0][:, :, :, :, :n + 1]
                chosen, _ = self.decoder.decode(ids, torch.tensor([n]), view)
            return steps, int(chosen[0])

        return run


def cpu():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_utime + u.ru_stime


def main():
    torch.set_num_threads(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    torch.set_grad_enabled(False)
    peer = Peer(sys.argv[1], sys.argv[2])
    commands = {"encode": peer.encode, "prefill": peer.prefill, "batch": peer.prefill, "decode": peer.decode}
    for line in sys.stdin:
        word, *numbers = line.split()
        if word == "quit":
            break
        try:
            if word == "info":
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                reply = {"what": f"PyTorch {torch.__version__}", "peak_kb": peak}
            else:
                run = commands[word](*map(int, numbers))
                wall, start = time.perf_counter(), cpu()
                n, choice = run()
                reply = {"wall_s": time.perf_counter() - wall, "cpu_s": cpu() - start, "n": n, "choice": choice}
        except Exception as e:  # one figure less, not all
            reply = {"error": f"{type(e).__name__}: {e}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
