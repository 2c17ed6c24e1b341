#!/usr/bin/env python3
"""fox.py OUT.svg: how many text tokens fit into the vision tokens of a page?

The experiment of the DeepSeek-OCR paper on Fox pages: pages by the number of
text tokens on them, read with 64 vision tokens (tiny) and with 100 (small), and
how precise that is.  The letters are as large as the text allows, at most 32
pixels, so that they shrink as it grows.  Prints the table in markdown and draws
the plot; --pages keeps the pages, --tokenizer counts in other tokens too.
"""
import argparse
import collections
import glob
import json
import math
import os
import statistics
import sys
import tempfile

from PIL import Image

import metrics
import sets
from run import read_engine

MODES = {"tiny": 64, "small": 100}
STEP = 100
ROOM = 343_000  # characters of one pixel that paragraphs leave on a page of 640 x 640
LARGEST = 32
SEED = sets.data.FREE_SEEDS + (40 << 32)


def make_pages(folder, lowest, count):
    """Pages of lowest to lowest + STEP - 1 tokens: one token of the embedded model is one character."""
    os.makedirs(folder, exist_ok=True)
    renderer = sets.pages.renderer(sets.STATE)
    tok = sets.pages.tokens.Tokens("models/nano/tokenizer.json")
    middle = lowest + STEP // 2
    size = min(LARGEST, math.sqrt(ROOM / middle))
    request = f"text held_text=1 random=0 lead=1.15,1.4 chars={middle},{middle} size={size * .95:.1f},{size:.1f}"
    made = tried = 0
    while made < count and tried < 100 * count:
        for page in renderer.pages(f"{request} seed={SEED + (lowest << 16) + tried}", 20):
            text = page.text()
            # what the vocabulary lacks would be counted as misread
            known = all(c in tok.char for c in text)
            if made < count and known and lowest <= len(tok.encode(text)) < lowest + STEP:
                sets.write(folder, made, Image.fromarray(page.rgb()), text=text, size=page.size)
                made += 1
        tried += 20
    renderer.close()


def with_modes(model, folder):
    """The model in a folder that allows both modes."""
    for name in os.listdir(model):
        if name != "dsocr.json":
            os.symlink(os.path.realpath(f"{model}/{name}"), f"{folder}/{name}")
    with open(f"{model}/dsocr.json", encoding="utf-8") as f:
        settings = json.load(f)
    with open(f"{folder}/dsocr.json", "w", encoding="utf-8") as f:
        json.dump(dict(settings, modes=list(MODES)), f)


def measure(files, read, count_tokens):
    """Means over the pages of one bucket."""
    rows = []
    for f in files:
        with open(f[:-4] + ".json", encoding="utf-8") as t:
            truth = json.load(t)
        text, _ = read.get(f, ("", False))
        wrong, n = metrics.errors(truth["text"], text)
        right, words_read, words = metrics.words(truth["text"], text)
        rows.append(dict(tokens=len(truth["text"]), size=truth["size"], precision=right / max(1, words_read),
                         recall=right / max(1, words), characters=max(0.0, 1 - wrong / max(1, n)),
                         other=count_tokens(truth["text"]) if count_tokens else 0))
    return {k: statistics.mean(r[k] for r in rows) for k in rows[0]} | {"pages": len(rows)}


def percent(x):
    return f"{100 * x:.1f} %"


def table(results, other):
    head = ["text tokens", "pages", "letters"] + (["official tokens"] if other else [])
    for vision in MODES.values():
        head += [f"{vision} vision tokens: precision", "recall", "right characters", "text/vision"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for lowest, by_mode in results.items():
        first = next(iter(by_mode.values()))
        row = [f"{lowest}-{lowest + STEP - 1}", str(first["pages"]), f"{first['size']:.0f} px"]
        row += [f"{first['other']:.0f}"] if other else []
        for mode, m in by_mode.items():
            row += [percent(m["precision"]), percent(m["recall"]), percent(m["characters"]),
                    f"{m['tokens'] / MODES[mode]:.1f}×"]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


W, H, LEFT, TOP, RIGHT, BOTTOM = 640, 360, 60, 20, 20, 50
INK = {"tiny": "#b5541c", "small": "#1f5fa8"}


def plot(results):
    """Precision against text tokens for each vision token, as SVG that looks the same everywhere."""
    most = max(m["tokens"] / MODES[mode] for r in results.values() for mode, m in r.items())
    top = math.ceil(most)
    x = lambda v: LEFT + (W - LEFT - RIGHT) * v / top
    y = lambda v: H - BOTTOM - (H - TOP - BOTTOM) * v
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {H}" font-family="sans-serif" font-size="13">',
           f'<rect width="{W}" height="{H}" fill="white"/>']
    say = lambda px, py, text, anchor="middle", more="": out.append(
        f'<text x="{px:.1f}" y="{py:.1f}" text-anchor="{anchor}"{more}>{text}</text>')
    for i in range(0, 101, 20):
        out.append(f'<path d="M{LEFT} {y(i / 100):.1f}H{W - RIGHT}" stroke="{"#444" if i == 0 else "#ddd"}"/>')
        say(LEFT - 8, y(i / 100) + 4, f"{i} %", "end")
    for i in range(0, top + 1, max(1, top // 10)):
        say(x(i), H - BOTTOM + 18, f"{i}×")
    say((LEFT + W - RIGHT) / 2, H - 10, "text tokens for each vision token")
    say(16, (TOP + H - BOTTOM) / 2, "precision", more=f' transform="rotate(-90 16 {(TOP + H - BOTTOM) / 2:.1f})"')
    for i, mode in enumerate(MODES):
        points = [(x(r[mode]["tokens"] / MODES[mode]), y(r[mode]["precision"])) for r in results.values()]
        out.append(f'<polyline points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}" fill="none" stroke="{INK[mode]}" '
                   'stroke-width="2"/>')
        out += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{INK[mode]}"/>' for a, b in points]
        out.append(f'<circle cx="{W - RIGHT - 150}" cy="{TOP + 14 + 20 * i}" r="4" fill="{INK[mode]}"/>')
        say(W - RIGHT - 140, TOP + 18 + 20 * i, f"{MODES[mode]} vision tokens ({mode})", "start")
    return "\n".join(out + ["</svg>"]) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out")
    p.add_argument("--pages", help="folder of the pages; those that are there are read again")
    p.add_argument("--count", type=int, default=20, help="of each bucket")
    p.add_argument("--lowest", type=int, default=100)
    p.add_argument("--highest", type=int, default=1000)
    p.add_argument("--engine", default="./dsocr-engine")
    p.add_argument("--model", default="models/nano")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--tokenizer", help="tokenizer.json of another model")
    a = p.parse_args()
    count_tokens = None
    if a.tokenizer:
        from tokenizers import Tokenizer
        other = Tokenizer.from_file(a.tokenizer)
        count_tokens = lambda text: len(other.encode(text, add_special_tokens=False).ids)
    results = collections.OrderedDict()
    with tempfile.TemporaryDirectory() as tmp, tempfile.TemporaryDirectory() as model:
        with_modes(a.model, model)
        a.model = model
        for lowest in range(a.lowest, a.highest, STEP):
            folder = f"{a.pages or tmp}/{lowest}"
            if not os.path.isdir(folder):
                make_pages(folder, lowest, a.count)
            files = sorted(glob.glob(folder + "/*.png"))
            if not files:
                sys.exit(f"no pages of {lowest} tokens")
            results[lowest] = {m: measure(files, read_engine(a, files, m, "text"), count_tokens) for m in MODES}
    with open(a.out, "w", encoding="utf-8") as f:
        f.write(plot(results))
    print(table(results, count_tokens), end="")


if __name__ == "__main__":
    main()
