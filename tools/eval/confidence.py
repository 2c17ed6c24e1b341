#!/usr/bin/env python3
"""confidence.py FOLDER [SET...]: does the model know what it does not know?

Reads the pages of sets.py with dsocr-engine and compares the confidence of
each line and page with its wrong characters.  Prints tables in markdown;
--json keeps what was read, --again measures it once more.
"""
import argparse
import bisect
import glob
import json
import statistics
import subprocess
import sys
import unicodedata

from rapidfuzz.distance import Levenshtein

BINS = [0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0001]


def read_pages(a, files):
    out = []
    for i in range(0, len(files), 50):
        command = [a.engine, "ocr", "--model", a.model, "--mode", a.mode, "--task", "text", "--threads",
                   str(a.threads), "--json", *files[i:i + 50]]
        done = subprocess.run(command, capture_output=True)
        if not done.stdout:
            sys.exit("dsocr-engine: " + done.stderr.decode(errors="replace"))
        out += [json.loads(line) for line in done.stdout.decode().splitlines()]
    return [r for r in out if "raw" in r]


def lines_of(result):
    """Texts with lines: (text, lines), the prefix and each block."""
    yield result["prefix"], result["prefix_lines"]
    for block in result["blocks"]:
        yield block["content"], block["lines"]


def blank(c):
    return " " if c.isspace() else c


def wrong_characters(read, truth):
    """Errors at each character of what was read; all blanks are alike, and missing ones do not count."""
    wrong = [0.0] * (len(read) + 1)
    a, b = "".join(map(blank, read)), "".join(map(blank, truth))
    for tag, i1, i2, j1, j2 in Levenshtein.opcodes(a, b):
        if tag == "equal":
            continue
        errors = max(len(a[i1:i2].replace(" ", "")), len(b[j1:j2].replace(" ", "")))
        places = [i for i in range(i1, i2) if a[i] != " "] or [min(i1, len(read) - 1) if read else 0]
        for i in places:
            wrong[i] += errors / len(places)
    return wrong


def measure(result, truth):
    """(confidence, characters, wrong) of each line, and of the page."""
    truth = unicodedata.normalize("NFC", truth)
    lines = []
    text = ""
    for content, spans in lines_of(result):
        content = content.encode()
        for start, length, confidence in spans:
            piece = unicodedata.normalize("NFC", content[start:start + length].decode(errors="replace"))
            lines.append((len(text), len(piece), confidence))
            text += piece + "\n"
    wrong = wrong_characters(text, truth)
    rows = [(c, sum(not x.isspace() for x in text[at:at + n]), sum(wrong[at:at + n + 1])) for at, n, c in lines]
    total = sum(not x.isspace() for x in truth)
    return rows, (result["confidence"], total, sum(wrong))


def ranks(values):
    order = sorted(values)
    return [(bisect.bisect_left(order, v) + bisect.bisect_right(order, v) + 1) / 2 for v in values]


def rank_correlation(x, y):
    a, b = ranks(x), ranks(y)
    return statistics.correlation(a, b) if len(set(a)) > 1 and len(set(b)) > 1 else float("nan")


def rate(rows):
    return sum(r[2] for r in rows) / max(1, sum(r[1] for r in rows))


def percent(x):
    return f"{100 * x:.1f} %"


def reliability(what, rows):
    print(f"\n| confidence of the {what} | {what}s | mean confidence | wrong characters | {what}s without an error |\n"
          "| --- | --- | --- | --- | --- |")
    for lo, hi in zip(BINS, BINS[1:]):
        part = [r for r in rows if lo <= r[0] < hi]
        if part:
            print(f"| {lo:.2f} to {min(hi, 1):.2f} | {len(part)} | {statistics.mean(r[0] for r in part):.3f} | "
                  f"{percent(rate(part))} | {percent(sum(r[2] < 0.5 for r in part) / len(part))} |")


def catches(what, rows, limit):
    low = [r for r in rows if r[0] < limit]
    bad = [r for r in rows if r[2] >= 0.5]
    both = [r for r in low if r[2] >= 0.5]
    wrong = sum(r[2] for r in rows)
    return [what, f"< {limit}", f"{len(low)} of {len(rows)}", percent(len(both) / max(1, len(bad))),
            percent(len(both) / max(1, len(low))), percent(sum(r[2] for r in low) / max(1e-9, wrong)),
            percent(rate([r for r in rows if r[0] >= limit]))]


def report(name, lines, pages):
    print(f"\n### {name}: {len(pages)} pages, {len(lines)} lines, {percent(rate(pages))} of the characters wrong")
    reliability("line", lines)
    reliability("page", pages)
    print("\n| | rank correlation of confidence and character error |\n| --- | --- |")
    for what, rows in (("lines", lines), ("pages", pages)):
        print(f"| {what} | {rank_correlation([r[0] for r in rows], [r[2] / max(1, r[1]) for r in rows]):.2f} |")
    print("\n| | confidence | selected | of those with errors | of the selected have errors | of all wrong characters |"
          " wrong among the rest |\n|" + " --- |" * 7)
    for what, rows in (("lines", lines), ("pages", pages)):
        for limit in (0.7, 0.8, 0.9, 0.95):
            print("| " + " | ".join(catches(what, rows, limit)) + " |")


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("folder")
    p.add_argument("sets", nargs="*", default=["seen", "unseen"])
    p.add_argument("--engine", default="./dsocr-engine")
    p.add_argument("--model", default="models/nano")
    p.add_argument("--mode", default="auto")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--limit", type=int, default=200)
    p.add_argument("--json", help="keeps what was read")
    p.add_argument("--again", help="measures what --json has kept")
    a = p.parse_args()
    kept = json.load(open(a.again, encoding="utf-8")) if a.again else {}
    for name in a.sets:
        if name not in kept:
            kept[name] = read_pages(a, sorted(glob.glob(f"{a.folder}/{name}/*.png"))[:a.limit])
        lines, pages = [], []
        for result in kept[name]:
            with open(result["file"][:-4] + ".json", encoding="utf-8") as f:
                rows, page = measure(result, json.load(f)["text"])
            lines += rows
            pages.append(page)
        report(name, lines, pages)
    if a.json:
        with open(a.json, "w", encoding="utf-8") as f:
            json.dump(kept, f, ensure_ascii=False)


if __name__ == "__main__":
    main()
