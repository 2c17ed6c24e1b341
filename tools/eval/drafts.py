#!/usr/bin/env python3
"""drafts.py FOLDER: texts of pages for build/bench/bench_draft, one JSON object a line.

FOLDER holds the pages of sets.py.  Texts of prose are given twice: plain, and with
a reference and a box in front of each paragraph, as the official model writes them.
"""
import glob
import json
import random
import sys

GROUNDED = ("letter", "manual")


def ground(rng, text):
    y, parts = 20, []
    for paragraph in filter(str.strip, text.split("\n\n")):
        bottom = min(999, y + rng.randint(20, 120))
        parts.append(f"<|ref|>text<|/ref|><|det|>[[{rng.randint(40, 90)}, {y}, {rng.randint(850, 960)}, {bottom}]]<|/det|>\n{paragraph}")
        y = min(980, bottom + 8)
    return "\n\n".join(parts)


def main():
    rng = random.Random(7)
    for kind in ("letter", "manual", "scanned", "columns", "layout", "tables", "html-tables"):
        for path in sorted(glob.glob(f"{sys.argv[1]}/{kind}/*.json")):
            text = json.load(open(path, encoding="utf-8"))["text"]
            print(json.dumps({"name": kind, "text": text}))
            if kind in GROUNDED:
                print(json.dumps({"name": f"{kind}, grounded", "text": ground(rng, text)}))


main()
