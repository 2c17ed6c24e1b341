#!/usr/bin/env python3
"""run.py: reads the pages of sets.py with dsocr-engine and with Tesseract, and measures.

Prints one row for each set, reader and mode; --json keeps every page.
"""
import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
import tempfile

import metrics

MODES = {"manual": ["gundam", "small"], "letter": ["gundam", "small"], "office-a4": ["gundam", "small"]}
TASKS = {"layout": "markdown", "charts": "figure", "molecules": "figure", "geometry": "figure", "scenes": "describe",
         "locate": "locate"}
# What else is counted on the pages of a set.
RIGHT = {
    "molecules": metrics.right_molecule,
    "geometry": lambda truth, read: metrics.right_things(metrics.geometry(truth), metrics.geometry(read)),
    "equations": lambda truth, read: metrics.right_things(metrics.equations(truth), metrics.equations(read)),
    "scenes": lambda truth, read: metrics.right_things(metrics.sentences(truth), metrics.sentences(read)),
}


def subject_of(file):
    """What is to be located on a page: what its truth begins with."""
    with open(file[:-4] + ".json", encoding="utf-8") as f:
        return metrics.boxes(json.load(f)["text"])[0][0]


def read_engine(a, files, mode, task):
    out = {}
    together = 1 if task == "locate" else 50
    for i in range(0, len(files), together):
        command = [a.engine, "ocr", "--model", a.model, "--mode", mode, "--task", task, "--threads", str(a.threads)]
        command += ["--prompt", subject_of(files[i])] if task == "locate" else []
        command += ["--json", *files[i:i + together]]
        done = subprocess.run(command, capture_output=True)
        if not done.stdout:
            sys.exit("dsocr-engine: " + done.stderr.decode(errors="replace"))
        for line in done.stdout.decode(errors="replace").splitlines():
            r = json.loads(line)
            out[r["file"]] = (r.get("raw", ""), r.get("finish") == "stop")
    return out


def read_tesseract(files):
    out = {}
    environment = dict(os.environ, OMP_THREAD_LIMIT="1")
    for f in files:
        with tempfile.NamedTemporaryFile() as t:
            done = subprocess.run(["tesseract", f, "stdout", "-l", "Latin"], stdout=t, stderr=subprocess.PIPE,
                                  env=environment)
            if done.returncode:
                sys.exit("tesseract: " + done.stderr.decode(errors="replace"))
            t.seek(0)
            out[f] = (t.read().decode(errors="replace"), True)
    return out


def measure(files, read, name=""):
    pages = []
    for f in files:
        with open(f[:-4] + ".json", encoding="utf-8") as t:
            truth = json.load(t)
        text, ended = read.get(f, ("", False))
        wrong, n = metrics.errors(truth["text"], text)
        page = dict(file=f, size=truth["size"], wrong=wrong, chars=n, ended=ended, read=text)
        if "language" in truth:
            page["language"] = truth["language"]
        page["order"] = metrics.order(truth["text"], text)
        if "<table>" in truth["text"]:
            page["cells"] = metrics.right_cells(truth["text"], text)
            page["table"] = metrics.table_distance(truth["text"], text)
        if "<|det|>" in truth["text"]:
            page["boxes"] = metrics.right_boxes(truth["text"], text)
        if name == "molecules":
            page["atoms"] = metrics.atoms(truth["text"])
        if name in RIGHT:
            page["right"] = RIGHT[name](truth["text"], text)
        pages.append(page)
    return pages


def share(pairs):
    pairs = [p for p in pairs if p]
    return f"{100 * sum(p[0] for p in pairs) / max(1, sum(p[1] for p in pairs)):.1f} %" if pairs else ""


def row(name, reader, pages):
    each = [p["wrong"] / max(1, p["chars"]) for p in pages]
    order = [p["order"] for p in pages if p["order"] is not None]
    tables = [p["table"] for p in pages if "table" in p]
    chars = sum(p["chars"] for p in pages)
    # a box alone has no characters
    rates = [f"{100 * sum(p['wrong'] for p in pages) / chars:.1f} %", f"{100 * statistics.median(each):.1f} %"] if chars else ["", ""]
    return [name, reader, str(len(pages)), f"{chars / len(pages):.0f}", *rates,
            f"{statistics.mean(order):.2f}" if order else "",
            share([p.get("cells") for p in pages]), f"{statistics.mean(tables):.2f}" if tables else "",
            share([p.get("boxes") for p in pages]), share([p.get("right") for p in pages]),
            str(sum(not p["ended"] or p["wrong"] > p["chars"] > 0 for p in pages))]


def by_range(name, reader, pages, what, ranges, unit):
    """Rows of pages of which something is in a range, the first of its numbers and those up to the second; of no range with few."""
    parts = [(lo, hi, [p for p in pages if lo <= p[what] < hi]) for lo, hi in ranges]
    return [row(f"{name}, {lo} to {hi - 1} {unit}", reader, part) for lo, hi, part in parts if len(part) > 4]


def by_size(name, reader, pages):
    if name in ("seen", "unseen", "scanned", "pango", "office"):
        return by_range(name, reader, pages, "size", ((14, 18), (18, 20), (20, 23), (23, 27), (27, 33)), "px")
    if name == "molecules":
        return by_range(name, reader, pages, "atoms", ((2, 6), (6, 10), (10, 16), (16, 33)), "atoms")
    return []


def by_language(name, reader, pages):
    found = sorted({p["language"] for p in pages if "language" in p})
    return [row(f"{name}, {l}", reader, [p for p in pages if p.get("language") == l]) for l in found]


def show(name, reader, pages):
    for r in [row(name, reader, pages), *by_size(name, reader, pages), *by_language(name, reader, pages)]:
        print("| " + " | ".join(r) + " |", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("folder")
    p.add_argument("sets", nargs="*")
    p.add_argument("--engine", default="./dsocr-engine")
    p.add_argument("--model", default="models/nano")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--limit", type=int, default=200)
    p.add_argument("--no-tesseract", action="store_true")
    p.add_argument("--no-engine", action="store_true")
    p.add_argument("--json", help="keeps what was read")
    p.add_argument("--again", help="measures what --json has kept")
    a = p.parse_args()
    names = a.sets or sorted(os.listdir(a.folder))
    head = ["pages", "reader", "n", "chars", "CER", "median", "order", "cells", "table", "boxes", "right", "lost"]
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head), flush=True)
    kept = []
    for s in json.load(open(a.again, encoding="utf-8")) if a.again else []:
        files = [p["file"] for p in s["pages"]]
        show(s["set"], s["reader"], measure(files, {p["file"]: (p["read"], p["ended"]) for p in s["pages"]}, s["set"]))
    for name in [] if a.again else names:
        files = sorted(glob.glob(f"{a.folder}/{name}/*.png"))[:a.limit]
        modes = [] if a.no_engine else MODES.get(name, ["small"])
        readers = [(m, lambda m=m: read_engine(a, files, m, TASKS.get(name, "text"))) for m in modes]
        if not a.no_tesseract:
            readers.append(("Tesseract", lambda: read_tesseract(files)))
        for reader, read in readers:
            pages = measure(files, read(), name)
            show(name, reader, pages)
            kept.append(dict(set=name, reader=reader, pages=pages))
    if a.json:
        with open(a.json, "w", encoding="utf-8") as f:
            json.dump(kept, f, ensure_ascii=False)


if __name__ == "__main__":
    main()
