#!/usr/bin/env python3
"""Measure dsocr and other programs in turns: the work of `make bench-peers`.

Called by tools/bench/peers, which prepares what is needed.  All sides of a
figure run alternately (A B A B), one run each; a ratio is taken round by
round.  Processor time of one thread is measured, or with --wall the time on
the clock of two.  After each figure everything is written to OUT/peers.json,
and figures of earlier runs stay there until they are measured again.

    peers.py --render peers.json docs/benchmarks/peers.md     put the table there
    peers.py --self-test              a run with small models, without any peer
"""
import argparse
import json
import os
import re
import selectors
import statistics
import subprocess
import sys
import tempfile
import time

import figures
import peer_table

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


class Worker:
    """A program that answers lines with lines of JSON; started with the first."""

    def __init__(self, command, log, **environment):
        self.command, self.log = command, log
        self.environment = dict(os.environ, **environment)
        self.process = None

    def ask(self, line, limit=900):
        if self.process is None:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=self.log, text=True, bufsize=1, env=self.environment)
        try:
            self.process.stdin.write(line + "\n")
            with selectors.DefaultSelector() as s:
                s.register(self.process.stdout, selectors.EVENT_READ)
                if not s.select(limit):
                    raise RuntimeError(f"no answer to \"{line}\" in {limit} s")
            reply = json.loads(self.process.stdout.readline())
        except (OSError, ValueError, RuntimeError) as e:
            self.stop(kill=True)
            raise RuntimeError(f"{' '.join(self.command)}: {line}: {e}") from e
        if "error" in reply:
            raise RuntimeError(f"{self.command[0]}: {line}: {reply['error']}")
        return reply

    def stop(self, kill=False):
        if self.process is None:
            return
        if kill:
            self.process.kill()
        try:
            self.process.communicate("" if kill else "quit\n", timeout=30)
        except (OSError, ValueError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.process = None


class Bench:
    def __init__(self, options):
        self.o = options
        self.path = os.path.join(options.out, "peers.json")
        self.result = {"figures": {}, "notes": {}}
        self.failed = []
        self.workers = []
        os.makedirs(options.out, exist_ok=True)
        self.log = open(os.path.join(options.out, "peers.log"), "a", encoding="utf-8")
        if os.path.exists(self.path) and not options.fresh:
            with open(self.path, encoding="utf-8") as f:
                self.result = json.load(f)

    def wanted(self, name):
        return re.search(self.o.only, name) is not None

    def worker(self, command, **environment):
        self.workers.append(Worker(command, self.log, **environment))
        return self.workers[-1]

    def stop(self):
        for w in self.workers:
            w.stop()
        self.workers = []

    def save(self):
        self.result["machine"] = machine()
        with open(self.path + ".new", "w", encoding="utf-8") as f:
            json.dump(self.result, f, indent=1)
        os.replace(self.path + ".new", self.path)
        with open(os.path.join(self.o.out, "peers.txt"), "w", encoding="utf-8") as f:
            f.write(peer_table.plain(self.result) + "\n")

    def note(self, name, text):
        print(f"{name}: {text}", flush=True)
        self.result["notes"][name] = text
        self.save()

    def figure(self, name, sides, unit="s", goals=None, limit=None, rounds=None, clock=None):
        """Run all sides in turns.  sides: name to a function that runs once; the first is ours.

        limit: function that gives what the machine allows, in the unit, in every round.
        Whole rounds before a failure are kept."""
        if not self.wanted(name):
            return
        clock = clock or ("wall" if self.o.wall else "cpu")
        f = {"name": name, "unit": unit, "clock": clock, "threads": self.o.threads, "ours": next(iter(sides)),
             "goals": goals or {}, "limit": [], "sides": {s: [] for s in sides},
             "date": time.strftime("%Y-%m-%d"), "load": []}
        try:
            for r in range(-1, rounds or self.o.rounds):  # the first warms up
                for side, run in sides.items():
                    reply = run()
                    if r >= 0:
                        f["sides"][side].append(reply)
                if r >= 0:
                    f["load"].append(os.getloadavg()[0])
                    if limit:
                        f["limit"].append(limit())
        except (RuntimeError, OSError, subprocess.SubprocessError) as e:
            print(f"{name}: {e}", flush=True)
            self.failed.append(name)
            whole = min(map(len, f["sides"].values()))
            if whole == 0:
                return
            f["sides"] = {s: runs[:whole] for s, runs in f["sides"].items()}
        self.result["figures"][name] = f
        self.save()
        for row in peer_table.rows(f):
            print("  ".join(c for c in row if c), flush=True)

    def close(self):
        self.stop()
        self.log.close()


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        text = f.read()
    flags = re.search(r"^flags\s*: (.*)", text, re.M)
    known = [x for x in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
             if flags and x in flags.group(1).split()]
    name = re.search(r"model name\s*: (.*)", text)
    return {"processor": name.group(1) if name else "", "cores": os.cpu_count(), "sets": known}


def self_test(options):
    """The machinery with the embedded model: another instruction set is the other side."""
    checks = []

    def check(ok, what):
        checks.append(ok)
        if not ok:
            print("FAIL " + what)

    f = {"name": "f", "unit": "s", "clock": "cpu", "ours": "a", "goals": {"b": 3}, "limit": [0.5],
         "sides": {"a": [{"cpu_s": 1.0}, {"cpu_s": 2.0}, {"cpu_s": 1.0}],
                   "b": [{"cpu_s": 4.0}, {"cpu_s": 4.0}, {"cpu_s": 3.0}]}}
    check(peer_table.ratios(f, "b") == [4, 2, 3], "ratios of seconds")
    rows = peer_table.rows(f)
    check(rows[0][2:5] == ["1 s", "+0 +100 %", "50 % of 0.5"], f"our row: {rows[0]}")
    check(rows[1][5:] == ["3.00", "2.00 to 4.00", "3", "met"], f"their row: {rows[1]}")
    f.update(unit="tokens/s", sides={"a": [{"cpu_s": 2, "n": 20}], "b": [{"cpu_s": 2, "n": 10}]})
    check(peer_table.ratios(f, "b") == [2], "ratios of rates")
    check(peer_table.rows(f)[1][8] == "missed", "a missed goal")
    with tempfile.TemporaryDirectory() as folder:
        options.out, options.rounds, options.only = folder, 2, ""
        b = Bench(options)
        command = [options.stages, "--model", os.path.join(TOP, "models", "nano")]
        sides = {"all": b.worker(command), "avx2": b.worker(command, DSOCR_ISA="avx2", ONEDNN_MAX_CPU_ISA="AVX2")}
        figures.isa(b, sides, 512, 40, 5)
        b.figure("does not work", {"all": lambda: sides["all"].ask("decode 100000")})
        check(b.failed == ["does not work"], f"failed: {b.failed}")
        b.close()
        again = Bench(options)
        names = list(again.result["figures"])
        check(len(names) == 3 and all(len(v) == 2 for x in again.result["figures"].values()
                                      for v in x["sides"].values()), f"figures kept: {names}")
        check(all(statistics.median(peer_table.ratios(x, "avx2")) > 0 for x in again.result["figures"].values()),
              "ratios of the kept figures")
        prefill = again.result["figures"][names[1]]["sides"]
        check(prefill["all"][0]["choice"] == prefill["avx2"][0]["choice"], "both chose the same token")
        check(peer_table.markdown(again.result).count("\n| ") >= 7, "lines of the table")
        again.close()
    print(f"{sum(checks)} passed, {len(checks) - sum(checks)} failed")
    return 0 if all(checks) else 1


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--render", nargs=2, metavar=("FILE", "DOCUMENT"))
    p.add_argument("--self-test", action="store_true")
    p.add_argument("--peers", help="folder of tools/bench/setup")
    p.add_argument("--model", help="model of full size")
    p.add_argument("--stages", default=os.path.join(TOP, "build", "bench", "bench_stages"))
    p.add_argument("--engine", default=os.path.join(TOP, "dsocr-engine"))
    p.add_argument("--out", default=os.path.join(TOP, "build", "peers"))
    p.add_argument("--server", nargs=3, metavar=("PSQL", "SOCKET", "DATA"), help="with the extension, for nano in SQL")
    p.add_argument("--only", default="", help="regular expression of figures")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--wall", action="store_true", help="time on the clock with two threads: for quiet machines")
    p.add_argument("--fresh", action="store_true", help="forget earlier figures")
    o = p.parse_args()
    o.threads = 2 if o.wall else 1
    if o.render:
        with open(o.render[0], encoding="utf-8") as f:
            text = peer_table.markdown(json.load(f))
        with open(o.render[1], encoding="utf-8") as f:
            before, _, after = re.split(r"(?s)(<!-- measured -->\n.*?<!-- end -->)", f.read())
        with open(o.render[1], "w", encoding="utf-8") as f:
            f.write(f"{before}<!-- measured -->\n{text}\n<!-- end -->{after}")
        return 0
    if o.self_test:
        return self_test(o)
    bench = Bench(o)
    try:
        figures.run(bench)
    finally:
        bench.close()
    print()
    print(peer_table.plain(bench.result))
    if bench.failed:
        print("failed: " + ", ".join(bench.failed))
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
