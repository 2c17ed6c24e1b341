#!/usr/bin/env python3
"""Run the GPU benchmark: the engine's programs and PyTorch in turns.

Called by tools/gpu/bench.  Every figure is measured by both sides
alternately (A B A B), medians count.  After each figure all results are
written to OUT/bench.json, so that nothing is lost when time runs out; the
table OUT/bench.md is made of that file and can be made again anywhere:

    bench.py --render bench.json TABLE.md
"""

import argparse
import json
import os
import queue
import re
import statistics
import subprocess
import sys
import threading
import time

import bench_table

BATCHES = (1, 8, 32, 64, 128, 256, 512)


class Worker:
    """A program that answers lines with lines of JSON; started when needed."""

    def __init__(self, name, command, log, start_limit):
        self.name, self.command, self.log = name, command, log
        self.start_limit = start_limit
        self.process = None
        self.lines = None

    def start(self):
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
            text=True, bufsize=1)
        self.lines = queue.Queue()

        def read(out, lines):
            for line in out:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, args=(self.process.stdout, self.lines),
                         daemon=True).start()

    def stop(self):
        if self.process is None:
            return
        try:
            self.process.stdin.write('{"do": "quit"}\n' if self.name == "peer" else "quit\n")
            self.process.stdin.close()
            self.process.wait(20)
        except (OSError, ValueError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.process = None

    def ask(self, line, limit):
        """The answer, {"error": ...} when there is none within the limit of seconds."""
        if self.process is None:
            self.start()
            limit += self.start_limit
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            while True:
                reply = self.lines.get(timeout=max(limit, 1))
                if reply is None:
                    raise OSError("ended")
                if reply.startswith("{"):
                    return json.loads(reply)
        except queue.Empty:
            why = f"no answer within {limit:.0f} s"
        except (OSError, ValueError) as e:
            why = f"{self.name}: {e}"
        self.process.kill()
        self.process.wait()
        self.process = None
        return {"error": why}


class Bench:
    def __init__(self, o):
        self.o = o
        self.began = time.monotonic()
        self.log = open(os.path.join(o.out, "bench.log"), "a", encoding="utf-8")
        self.rounds = 1 if o.quick else 2
        self.result = {"name": o.name, "quick": o.quick, "device": o.device,
                       "started": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
                       "facts": {}, "kernels": [], "figures": [], "traces": {}, "skipped": []}
        with open(o.config, encoding="utf-8") as f:
            self.result["config"] = json.load(f)["language_config"]
        both = ["--device", o.device] + (["--quick"] if o.quick else [])
        # The CUDA backend takes all memory it is allowed to: leave some for PyTorch.
        memory = ["--memory", str(o.memory)] if o.memory else []
        batch = ["--batch", "8" if o.quick else "512"]
        self.model = Worker("model", [f"{o.bin}/bench_model", "--model", o.model, *both, *o.tools,
                                      *batch, *memory], self.log, 60)
        self.engine = Worker("engine", [f"{o.bin}/bench_engine", "--model", o.model, *both,
                                        "--batch", "4" if o.quick else "256"], self.log, 60)
        here = os.path.dirname(os.path.abspath(__file__))
        self.peer = Worker("peer", [o.python, f"{here}/peer.py", "--device",
                                    "cuda" if o.device.startswith("cuda") and o.real else "cpu",
                                    *(["--config", o.config] if o.quick else []),
                                    *(["--quick"] if o.quick else [])], self.log, 90)

    # ---- bookkeeping ----

    def left(self):
        return self.o.seconds - (time.monotonic() - self.began)

    def save(self):
        path = os.path.join(self.o.out, "bench.json")
        self.result["seconds"] = round(time.monotonic() - self.began, 1)
        with open(path + ".tmp", "w", encoding="utf-8") as f:
            json.dump(self.result, f, indent=1)
        os.replace(path + ".tmp", path)
        with open(os.path.join(self.o.out, "bench.md"), "w", encoding="utf-8") as f:
            f.write(bench_table.render(self.result))

    def wanted(self, name, least):
        """Is the figure asked for, and is there time for it?"""
        if self.o.only and not re.search(self.o.only, name):
            return False
        if self.left() < least:
            self.result["skipped"].append(name)
            return False
        return True

    def ask(self, worker, line, limit=60):
        if worker is self.peer and not self.o.peer:
            return {"error": "no PyTorch"}
        reply = worker.ask(line, min(limit, self.left()))
        print(f"{time.monotonic() - self.began:6.1f} s  {worker.name}: {line}: "
              f"{json.dumps(reply)[:150]}", file=self.log, flush=True)
        return reply

    # ---- figures ----

    def figure(self, name, ours, variants, rounds=0, exclusive=False, limit=60, **limits):
        """Both sides in turns.  ours: (worker, line) or None; variants: {name: command of the
        peer}; those that fail in the first round are not asked again."""
        if not self.wanted(name, 3):
            return None
        f = {"name": name, "ours": [], "peer": {}, "errors": {}, **limits}
        alive = dict(variants)
        for _ in range(rounds or self.rounds):
            if ours is not None:
                if exclusive:
                    self.peer.stop()
                reply = self.ask(*ours, limit)
                if "ms" in reply:
                    f["ours"].append(reply["ms"])
                    f.update({k: v for k, v in reply.items()
                              if k in ("tokens", "pages_per_s", "tokens_per_s", "mean_ms",
                                       "image_tokens", "pages")})
                else:
                    f["errors"]["ours"] = reply.get("error", str(reply))
                    ours = None
            if exclusive and alive:
                self.model.stop()
                self.engine.stop()
            for variant, command in list(alive.items()):
                if self.left() < 3:
                    break
                reply = self.ask(self.peer, json.dumps(command), limit)
                if "ms" in reply:
                    f["peer"].setdefault(variant, []).append(reply["ms"])
                else:
                    f["errors"][variant] = reply.get("error", str(reply))
                    del alive[variant]
        if f["ours"]:
            f["ours_ms"] = statistics.median(f["ours"])
        if f["peer"]:
            best = min(f["peer"], key=lambda v: statistics.median(f["peer"][v]))
            f["peer_best"], f["peer_ms"] = best, statistics.median(f["peer"][best])
        if "ours_ms" in f and "peer_ms" in f:
            f["ratio"] = f["peer_ms"] / f["ours_ms"]
        self.result["figures"].append(f)
        self.save()
        print(bench_table.line(f), flush=True)
        return f

    def facts(self):
        r = self.result["facts"]
        size, n = (1 << 20, 128) if self.o.quick else (4 << 30, 8192)
        info = self.ask(self.model, "info", 120)
        r["ours"] = info
        r["peer"] = self.ask(self.peer, '{"do": "info"}', 120)
        copies, products = [], []
        for _ in range(2):
            for reply in (self.ask(self.model, f"copy {size}"),
                          self.ask(self.peer, json.dumps({"do": "copy", "bytes": size}))):
                copies.append(reply.get("bytes_per_s", 0))
            for reply in (self.ask(self.model, f"product {n}"),
                          self.ask(self.peer, json.dumps({"do": "product", "n": n}))):
                products.append(reply.get("flops_per_s", 0))
        r["copy_bytes_per_s"], r["product_flops_per_s"] = max(copies), max(products)
        r["copies"], r["products"] = copies, products
        self.save()
        print(f"copy {max(copies) / 1e12:.3f} TB/s, product {max(products) / 1e12:.1f} TFLOP/s",
              flush=True)

    def kernels(self):
        """bench_kernels writes a line for each case; what it wrote before an end counts."""
        for precision in ("bf16",) if not self.o.quick else ("bf16", "fp32"):
            if not self.wanted(f"kernels {precision}", 10):
                continue
            command = [f"{self.o.bin}/bench_kernels", "--device", self.o.device, "--precision",
                       precision, *self.o.tools, *(["--quick"] if self.o.quick else [])]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
            killer = threading.Timer(min(self.left(), 200), process.kill)
            killer.start()
            for line in process.stdout:
                try:
                    self.result["kernels"].append({**json.loads(line), "precision": precision})
                except ValueError:
                    continue
                if len(self.result["kernels"]) % 10 == 0:
                    self.save()
            rc = process.wait()
            killer.cancel()
            if rc != 0:
                self.result["skipped"].append(f"kernels {precision}: ended with status {rc}")
            self.save()
            print(f"kernels {precision}: {len(self.result['kernels'])} cases", flush=True)

    def encode(self, compiled):
        cases = ((512, 1), (640, 1), (1024, 1), (1280, 1), (640, 6), (512, 2), (512, 4), (512, 8),
                 (640, 2), (640, 4), (640, 8), (1024, 2), (1024, 4), (1024, 8), (1280, 2), (1280, 4))
        if compiled:
            cases = ((1024, 1), (640, 6))
        if self.o.quick:
            cases = cases[:2]
        for size, views in cases:
            ways = ("compile",) if compiled else ("eager", "graph") if views == 1 else ("graph",)
            variants = {w: {"do": "encode", "size": size, "views": views, "how": w} for w in ways}
            name = f"encode {size} x {views}" + (", compiled" if compiled else "")
            self.figure(name, (self.model, f"encode {size} {views}"), variants,
                        limit=180 if compiled else 60,
                        flops=bench_table.encode_flops(size) * views if not self.o.quick else 0)

    def prefill(self, compiled):
        for n in (40,) if self.o.quick else (284, 912, 2000):
            variants = {"eager loop": ("loop", "eager"), "graph grouped": ("grouped", "graph")}
            if compiled:
                variants = {"compile grouped": ("grouped", "compile")}
            self.figure(f"prefill {n}" + (", compiled" if compiled else ""),
                        (self.model, f"prefill {n}"),
                        {k: {"do": "prefill", "tokens": n, "experts": e, "how": h}
                         for k, (e, h) in variants.items()}, limit=180 if compiled else 60,
                        flops=bench_table.prefill_flops(n) if not self.o.quick else 0,
                        bytes=2 * bench_table.active(n) if not self.o.quick else 0)
            if compiled:
                break

    def decode(self, compiled):
        context = 40 if self.o.quick else 1000
        batches = (1, 4) if self.o.quick else (1, 64, 256) if compiled else BATCHES
        for n in batches:
            variants = {"graph grouped": ("grouped", "graph")}
            if n <= 64:
                variants["graph dense"] = ("dense", "graph")
            if n in (1, 64) or n > 64:
                variants["eager loop"] = ("loop", "eager")
            if compiled:
                variants = {"compile grouped": ("grouped", "compile")}
            self.figure(f"decode {n} at {context}" + (", compiled" if compiled else ""),
                        (self.model, f"decode {n} {context}"),
                        {k: {"do": "decode", "batch": n, "context": context, "experts": e, "how": h}
                         for k, (e, h) in variants.items()},
                        exclusive=n == 512 and self.o.memory > 0, batch=n,
                        limit=180 if compiled else 60,
                        bytes=bench_table.step_bytes(n, context) if not self.o.quick else 0)

    def pages(self):
        """Latency of one base page against the peer, then many gundam pages."""
        self.model.stop()
        size, tokens = (512, 4) if self.o.quick else (1024, 500)
        mode = "tiny" if self.o.quick else "base"
        self.peer.stop()  # the engine takes all memory that is free
        self.figure(f"page {mode}, {tokens} tokens", (self.engine, f"page {mode} {tokens}"), {},
                    rounds=1, limit=90)
        if self.o.quick:
            self.figure("pages gundam", (self.engine, "pages tiny 2 4"), {}, rounds=1)
        elif self.wanted("pages gundam", 20):
            # as many as a minute is enough for, by the rate of a few short ones
            first = self.ask(self.engine, "pages gundam 64 100", 100)
            rate = first.get("tokens_per_s", 0) / 1000
            n = max(32, min(512, int(60 * rate) // 32 * 32))
            self.figure(f"pages gundam, {n} of 1000 tokens",
                        (self.engine, f"pages gundam {n} 1000"), {}, rounds=1, limit=150)
        self.engine.stop()
        self.figure(f"page {mode}, {tokens} tokens, PyTorch", None,
                    {"graph grouped": {"do": "page", "size": size, "tokens": tokens,
                                       "experts": "grouped", "how": "graph"},
                     "graph dense": {"do": "page", "size": size, "tokens": tokens,
                                     "experts": "dense", "how": "graph"}}, rounds=1, limit=90)

    def traces(self):
        context = 40 if self.o.quick else 1000
        lines = [f"encode {512 if self.o.quick else 1024} 1", f"prefill {40 if self.o.quick else 912}"]
        lines += [f"decode {n} {context}" for n in ((2,) if self.o.quick else (1, 64, 256))]
        for line in lines:
            if self.wanted("trace " + line, 3):
                reply = self.ask(self.model, "trace " + line)
                self.result["traces"][line] = reply
                self.save()

    def run(self):
        try:
            if self.o.real:
                self.kernels()  # alone: it takes the memory it finds
            self.facts()
            if not self.o.real:
                self.kernels()
            self.decode(False)
            self.encode(False)
            self.prefill(False)
            self.traces()
            self.pages()
            self.decode(True)
            self.encode(True)
            self.prefill(True)
        finally:
            for worker in (self.model, self.engine, self.peer):
                worker.stop()
            self.save()


def main():
    if len(sys.argv) == 4 and sys.argv[1] == "--render":
        with open(sys.argv[2], encoding="utf-8") as f:
            text = bench_table.render(json.load(f))
        with open(sys.argv[3], "w", encoding="utf-8") as f:
            f.write(text)
        return 0
    p = argparse.ArgumentParser()
    for name in ("bin", "model", "config", "out"):
        p.add_argument("--" + name, required=True)
    p.add_argument("--device", default="cuda:0")
    p.add_argument("--name", default="device")
    p.add_argument("--python", default=sys.executable)
    p.add_argument("--seconds", type=float, default=500)
    p.add_argument("--memory", type=int, default=0, help="MB for the engine beside PyTorch")
    p.add_argument("--only", default="")
    p.add_argument("--quick", action="store_true")
    p.add_argument("--tools", default="")
    o = p.parse_args()
    o.real = bool(o.tools)
    o.tools = ["--tools", o.tools] if o.tools else []
    o.peer = subprocess.call([o.python, "-c", "import torch"], stderr=subprocess.DEVNULL) == 0
    os.makedirs(o.out, exist_ok=True)
    bench = Bench(o)
    bench.run()
    print()
    print(bench_table.short(bench.result))
    done = [f for f in bench.result["figures"] if "ours_ms" in f]
    wrong = [f["name"] for f in bench.result["figures"] if "ours" in f["errors"]]
    if wrong:
        print("failed: " + ", ".join(wrong))
    if bench.result["skipped"]:
        print("skipped: " + ", ".join(bench.result["skipped"]))
    return 0 if done and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
