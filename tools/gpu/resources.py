#!/usr/bin/env python3
"""What compiled kernels need and how many of them fit a GPU; no GPU is used.

    resources.py --dry DRY.so --cases BENCH_KERNELS --nvcc NVCC --cubins DIR --output TABLE.md

Registers, spills and static shared memory are what ptxas reports for sm_80 and
sm_90.  The launches of each operation at the official dimensions come from
bench_kernels on a device that runs nothing (test/gpu/dry.cc).  Occupancy is
computed from both by the rules of the CUDA occupancy calculator; the limits
are bytes over the bandwidth and operations over the peak of an H100.
"""

import argparse
import collections
import glob
import json
import os
import re
import subprocess
import sys

BANDWIDTH, PEAK = 3.35e12, 989e12  # of an H100 SXM: bytes/s, bf16 operations/s
ARCHS = {
    "sm_80": {"sms": 108, "shared": 164 * 1024, "warps": 64, "blocks": 32},
    "sm_90": {"sms": 132, "shared": 228 * 1024, "warps": 64, "blocks": 32},
}
Kernel = collections.namedtuple("Kernel", "registers stack stores loads shared")


def compile_all(nvcc, cubins):
    """ptxas' reports, {arch: text}; compiled again only when a source is newer."""
    os.makedirs(cubins, exist_ok=True)
    headers = glob.glob("kernels/cuda/*.cuh") + glob.glob("kernels/cuda/*.h") + ["src/engine/backend.h"]
    newest = max(os.path.getmtime(h) for h in headers)
    text = {}
    for arch in ARCHS:
        text[arch] = ""
        for source in sorted(glob.glob("kernels/cuda/*.cu")):
            report = f"{cubins}/{os.path.basename(source)}.{arch}.txt"
            if not os.path.exists(report) or \
                    os.path.getmtime(report) < max(newest, os.path.getmtime(source)):
                done = subprocess.run(
                    [nvcc, "-std=c++17", "-O3", f"-arch={arch}", "-cubin", "-Xptxas", "-v",
                     "-Isrc/engine", "-Ikernels/cuda", "-o", os.devnull, source],
                    stderr=subprocess.PIPE, text=True, check=False)
                if done.returncode != 0:
                    sys.exit(f"{source}: {done.stderr}")
                with open(report, "w", encoding="utf-8") as f:
                    f.write(done.stderr)
            with open(report, encoding="utf-8") as f:
                text[arch] += f.read()
    return text


def plain(names):
    """Demangled, without parameters, return type and the namespaces of static functions."""
    out = subprocess.run(["c++filt"], input="\n".join(names), stdout=subprocess.PIPE, text=True,
                         check=True).stdout.splitlines()
    result = []
    for name in out:
        name = re.sub(r"\(anonymous namespace\)::|_INTERNAL_\w+::|__nv_static_\w+::", "", name)
        depth = 0
        for i, c in enumerate(name):  # cut at the parameter list
            depth += (c == "<") - (c == ">")
            if c == "(" and depth == 0:
                name = name[:i]
                break
        name = re.sub(r"^(void|static void) ", "", name).strip()
        name = re.sub(r"\((int|bool|unsigned int|unsigned)\)", "", name)
        name = re.sub(r"\b__nv_bfloat16\b", "bf16", name)
        result.append(name.replace("true", "1").replace("false", "0"))
    return result


def read_reports(text):
    """{kernel: Kernel} of one architecture."""
    found = {}
    pattern = re.compile(
        r"Compiling entry function '(\w+)' for '\w+'\n.*?"
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads\n"
        r".*?Used (\d+) registers([^\n]*)", re.S)
    for m in pattern.finditer(text):
        shared = re.search(r"(\d+) bytes smem", m.group(6))
        found[m.group(1)] = Kernel(int(m.group(5)), int(m.group(2)), int(m.group(3)),
                                   int(m.group(4)), int(shared.group(1)) if shared else 0)
    return dict(zip(plain(list(found)), found.values()))


def symbols(library):
    """{offset: name} of functions."""
    lines = subprocess.run(["nm", "--defined-only", library], stdout=subprocess.PIPE, text=True,
                           check=True).stdout.splitlines()
    rows = [line.split() for line in lines]
    rows = [r for r in rows if len(r) == 3 and r[1] in "tTwWuV"]
    return dict(zip((int(r[0], 16) for r in rows), plain([r[2] for r in rows])))


def run_dry(cases, library, arch):
    """[(case, bytes, flops, launches)] in order, as launched for that architecture."""
    env = {**os.environ, "DSOCR_CUDA_LIBRARY": os.path.abspath(library),
           "DSOCR_EMU_CAPABILITY": arch[3:], "DSOCR_EMU_SMS": str(ARCHS[arch]["sms"])}
    done = subprocess.run([cases, "--once", "--device", "cuda:0"], env=env, text=True,
                          stdout=subprocess.PIPE, check=True)
    names = symbols(library)
    result, launches, inside = [], [], False
    for line in done.stdout.splitlines():
        r = json.loads(line)
        if "case" in r:
            launches, inside = [], True
        elif "launch" in r and inside:
            launches.append((names.get(r["launch"], "?"), tuple(r["grid"]), tuple(r["block"]),
                             r["shared"]))
        elif "kernel" in r:
            result.append((r["kernel"], r["bytes"], r["flops"], launches))
            inside = False
    return result


def blocks_per_sm(arch, kernel, threads, dynamic):
    a = ARCHS[arch]
    warps = -(-threads // 32)
    per_warp = -(-kernel.registers * 32 // 256) * 256
    by_registers = 4 * (65536 // 4 // per_warp) // warps if per_warp else a["blocks"]
    shared = kernel.shared + dynamic
    shared = -(-(shared + 1024) // 128) * 128
    return max(0, min(a["blocks"], a["warps"] // warps, by_registers, a["shared"] // shared))


def product(values):
    n = 1
    for v in values:
        n *= v
    return n


def launch_row(case, limit, launch, arch, kernels):
    name, grid, block, dynamic = launch
    threads = product(block)
    k = kernels.get(name)
    fits, share, waves = "?", "?", "?"
    if k is not None:
        n = blocks_per_sm(arch, k, threads, dynamic)
        fits = str(n) if n else "does not fit"
        share = f"{100 * n * -(-threads // 32) // ARCHS[arch]['warps']} %"
        waves = f"{product(grid) / (n * ARCHS[arch]['sms']):.2f}" if n else ""
    size = "x".join(str(g) for g in grid).replace("x1x1", "").removesuffix("x1")
    cells = [case, limit, f"`{name}`", size, threads, dynamic, fits, share, waves]
    return "| " + " | ".join(str(c) for c in cells) + " |"


def launch_table(arch, cases, kernels):
    text = ["", f"## Launches at the official dimensions, bf16, {arch}", "",
            "| operation | limit, us | kernel | grid | threads | dynamic shared | blocks | warps "
            "| waves |", "| --- | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: |"]
    for name, size, flops, launches in cases:
        limit = f"{1e6 * max(size / BANDWIDTH, flops / PEAK):.2f}" if arch == "sm_90" else ""
        for launch in launches:
            text.append(launch_row(name, limit, launch, arch, kernels))
            name = limit = ""
        if not launches:
            text.append(f"| {name} | {limit} | no kernel: a copy by the runtime | | | | | | |")
    return text


def render(cases, kernels):
    text = ["# GPU kernels: compiled resource use", "",
            "Made by `make gpu-resources` with nvcc alone. **Nothing here was measured on a GPU**: "
            "registers and memory are what ptxas reports, occupancy is computed from them, and a "
            "limit is the least time that an H100 needs for the bytes (3.35 TB/s) or the "
            "operations (989 TFLOP/s in bf16) of an operation, whichever is larger.", "",
            "Products of many rows go to cuBLASLt where that is found; what is listed is what "
            "runs without it. Blocks: how many fit a multiprocessor; warps: the share of its 64 "
            "that these are; waves: all blocks of the launch over what fits the whole device "
            "(132 multiprocessors for sm_90, 108 for sm_80).", "",
            "## Kernels", "", "Registers a thread, bytes of stack, bytes spilled (stores + loads), "
            "bytes of static shared memory.", "",
            "| kernel | sm_80: registers | stack | spilled | shared "
            "| sm_90: registers | stack | spilled | shared |",
            "| --- |" + " ---: |" * 8]
    for name in sorted(set(kernels["sm_80"]) | set(kernels["sm_90"])):
        cells = []
        for arch in ARCHS:
            k = kernels[arch].get(name)
            cells += ["", "", "", ""] if k is None else \
                [str(k.registers), str(k.stack), str(k.stores + k.loads), str(k.shared)]
        text.append(f"| `{name}` | " + " | ".join(cells) + " |")
    for arch in reversed(ARCHS):
        text += launch_table(arch, cases[arch], kernels[arch])
    return "\n".join(text) + "\n"


def main():
    p = argparse.ArgumentParser()
    for name in ("dry", "cases", "nvcc", "cubins", "output"):
        p.add_argument("--" + name, required=True)
    o = p.parse_args()
    kernels = {arch: read_reports(text) for arch, text in compile_all(o.nvcc, o.cubins).items()}
    cases = {arch: run_dry(o.cases, o.dry, arch) for arch in ARCHS}
    with open(o.output, "w", encoding="utf-8") as f:
        f.write(render(cases, kernels))
    unknown, unfit = set(), set()
    for arch in ARCHS:
        for name, _, block, dynamic in (x for c in cases[arch] for x in c[3]):
            if name not in kernels[arch]:
                unknown.add(name)
            elif not blocks_per_sm(arch, kernels[arch][name], product(block), dynamic):
                unfit.add(f"{name} on {arch}")
    spilling = sorted(n for n, k in kernels["sm_90"].items() if k.stores + k.loads)
    print(f"{len(kernels['sm_90'])} kernels, {len(cases['sm_90'])} operations; spilling on sm_90: "
          f"{', '.join(spilling) or 'none'}; not found: {', '.join(sorted(unknown)) or 'none'}; "
          f"that do not fit: {', '.join(sorted(unfit)) or 'none'}")
    return 1 if unknown or unfit else 0


if __name__ == "__main__":
    sys.exit(main())
