#!/usr/bin/env python3
"""loops.py [--folder var/eval] [--read var/read.json] TOKENIZER...: what the loop detector cuts.

Legitimate texts that repeat, and loops, through build/bench/bench_loop with
the tokenizers given.  Without a truth folder and kept readings of run.py only
the texts made here are used.  Prints tables in markdown.
"""
import argparse
import glob
import json
import os
import random
import statistics
import subprocess

SENTENCE = "The committee met on Tuesday and agreed the minutes. "
SYLLABLES = "ba cor de fil gu ha in jo ker lam mo nus or pe qua rit son tel um ver".split()


class Texts:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.legit = []
        self.loops = []

    def words(self, n):
        return " ".join("".join(self.rng.choice(SYLLABLES) for _ in range(self.rng.randint(1, 3))) for _ in range(n))

    def add(self, kind, text):
        self.legit.append((kind, text))

    def loop(self, kind, text):
        head = self.words(60) + "\n\n"
        self.loops.append((kind, head + text, len(head)))


def table(rows, cells):
    return "<table>" + "".join("<tr>" + "".join(f"<td>{c}</td>" for c in cells(i)) + "</tr>" for i in range(rows)) + "</table>"


def tables(t):
    r = t.rng
    for n in (1, 2, 5, 8):
        t.add("tables of 200 rows, equal cells", table(200, lambda i: [""] * n))
        t.add("tables of 200 rows, equal cells", table(200, lambda i: ["0"] * n))
        t.add("tables of 200 rows, equal cells", table(200, lambda i: ["n/a"] * n))
        t.add("tables of 200 rows, numbered", table(200, lambda i: [i + 1] + ["0.00"] * n))
        t.add("tables of 200 rows, numbered", table(200, lambda i: [i + 1] + [""] * n))
        t.add("tables of 200 rows, other numbers", table(200, lambda i: [f"{r.random() * 1000:.2f}" for _ in range(n)]))
        t.add("tables of 200 rows, yes or no", table(200, lambda i: [r.choice(["Yes", "No"]) for _ in range(n)]))
    t.add("tables, 60 equal columns", table(20, lambda i: ["0"] * 60))
    t.add("tables in markdown, 100 rows", "\n".join(f"| {i} | yes | 0 |" for i in range(1, 101)))


def lists(t):
    r = t.rng
    t.add("lists", "\n".join(f"{i}. {t.words(8)}" for i in range(1, 201)))
    t.add("lists, 100 empty entries", "\n".join(f"{i}." for i in range(1, 101)))
    t.add("lists, 100 empty entries", "\n".join(f"{i}. A B C D" for i in range(1, 101)))
    t.add("columns of equal values", "\n".join("0" for _ in range(100)))
    t.add("columns of equal values", "\n".join("Yes" for _ in range(32)))
    for n in (30, 60, 100):
        for dot in (".", ". "):
            t.add("contents, dot leaders", "\n".join(
                f"{i // 5 + 1}.{i % 5 + 1} {t.words(r.randint(2, 7))} {dot * r.randint(15, 60)} {2 * i}" for i in range(n)))
        t.add("contents, dot leaders", "\n".join(f"Chapter {i + 1} {'.' * 60} {12 * i + 1}" for i in range(n)))
    for width, n in ((80, 25), (60, 60)):
        t.add("forms and ruled paper", "\n".join("_" * width for _ in range(n)))
    t.add("forms and ruled paper", "\n".join(f"{t.words(1)}: {'_' * r.randint(20, 60)}" for _ in range(40)))
    for text, n in (("Erika Mustermann\nHeidestraße 17\n51147 Köln\n\n", 30), (t.words(25) + "\n\n", 10), (t.words(60) + "\n\n", 4)):
        t.add("labels, cards, vouchers", text * n)
    t.add("refrains", "".join("\n".join(t.words(8) for _ in range(4)) + "\n\n" + (SENTENCE + "\n") * 3 for _ in range(5)))


def code(t):
    r = t.rng
    t.add("listings", "int a[] = {\n" + ("\t" + "0, " * 16 + "\n") * 16 + "};")
    t.add("listings", "{" + ", ".join("0" for _ in range(100)) + "}")
    t.add("listings", "{" + ", ".join(str(r.randint(0, 255)) for _ in range(400)) + "}")
    t.add("listings", "".join(f"{i * 16:08x}  " + " ".join(f"{r.randint(0, 255):02x}" for _ in range(16)) + "\n" for i in range(60)))
    t.add("listings", "".join(f"{i * 16:08x}  " + " ".join("00" for _ in range(16)) + "\n" for i in range(30)))
    t.add("listings", "\n".join(f"\t{r.choice(['mov', 'add', 'sub', 'cmp'])} e{r.choice('abcd')}x, [rbp-{4 * r.randint(0, 9)}]"
                                for _ in range(80)))
    t.add("listings", "\n".join(f"2024-05-{1 + i // 24:02} {i % 24:02}:{r.randint(0, 59):02} INFO job {r.randint(1, 99999)} done in "
                                f"{r.randint(1, 900)} ms" for i in range(100)))
    for n in (5, 10, 20):
        for cell in (lambda i, j: "0", lambda i, j: str(int(i == j)), lambda i, j: f"a_{{{i}{j}}}"):
            t.add("matrices", "\\begin{pmatrix}" + " \\\\ ".join(" & ".join(cell(i, j) for j in range(n)) for i in range(n)) +
                  "\\end{pmatrix}")
    t.add("columns of numbers", "\n".join(" ".join(str(i * j) for j in range(1, 21)) for i in range(1, 21)))
    t.add("columns of numbers", "\n".join(" ".join(f"{r.randint(0, 9999):04}" for _ in range(10)) for _ in range(100)))


def loops(t):
    r = t.rng
    for name, unit in (("a sentence", SENTENCE), ("a line", SENTENCE.strip() + "\n"), ("a word", "very "),
                       ("a sign", "0, "), ("line feeds", "\n"), ("underscores", "_"), ("a short line", "Yes\n"),
                       ("a paragraph of 50 words", t.words(50) + "\n\n"), ("a paragraph of 130 words", t.words(130) + "\n\n"),
                       ("table cells", "<td>0</td>"), ("table rows", "<tr><td>1</td><td>2</td></tr>"),
                       ("blocks", "<|ref|>text<|/ref|><|det|>[[10, 20, 30, 40]]<|/det|>\nabc\n\n")):
        t.loop(name, unit * (30000 // len(unit) + 1))
    for name, form, n in (("lines that count", "Item {i}\n", 1500), ("long lines that count", "Figure {i}: " + SENTENCE.strip() + "\n", 1000),
                          ("numbers that count", "{i}, ", 3000), ("rows that count", "<tr><td>{i}</td><td>0.00</td></tr>", 1000),
                          ("rows of other numbers", "<tr><td>{a}</td><td>{b}</td></tr>", 1000),
                          ("lines of other numbers", "Total {a} of {b}\n", 1000)):
        t.loop(name, "".join(form.format(i=i, a=r.randint(1, 999), b=r.randint(1, 9999)) for i in range(1, n)))
    for name, end in (("a sentence, one word varied", ". "), ("a line, one word varied", ".\n")):
        parts = []
        for _ in range(400):
            words = SENTENCE.split()
            k = r.randrange(len(words) - 1)
            words[k] = r.choice([words[k] + ",", words[k].upper(), "the " + words[k], words[k][:-1]])
            parts.append(" ".join(words)[:-1] + end)
        t.loop(name, "".join(parts))


def real(t, folder, read):
    for path in sorted(glob.glob("test/samples/*.txt")):
        t.add("samples", open(path, encoding="utf-8").read())
    for path in sorted(glob.glob(f"{folder}/*/*.json")) if folder else []:
        t.add("pages of sets.py, what is on them", json.load(open(path, encoding="utf-8"))["text"])
    for path in ["build/golden/output/cases.jsonl", "../shared/golden/output/cases.jsonl"]:
        if os.path.exists(path):
            for line in open(path, encoding="utf-8"):
                t.add("texts of the reference data", json.loads(line)["text"])
            break
    for s in json.load(open(read, encoding="utf-8")) if read else []:
        for page in s["pages"]:
            if not page["ended"]:
                t.loops.append(("pages that the embedded model did not end", page["read"], 0))
            elif page["wrong"] < page["chars"]:
                t.add("pages that the embedded model ended", page["read"])


def detect(tokenizer, texts):
    lines = "".join(json.dumps(dict(name=str(i), text=x[1])) + "\n" for i, x in enumerate(texts))
    done = subprocess.run(["build/bench/bench_loop", tokenizer], input=lines, capture_output=True, text=True, check=True)
    return [tuple(map(int, line.split("\t")[1:])) for line in done.stdout.splitlines()], done.stderr.strip()


def groups(texts, seen):
    out = {}
    for text, s in zip(texts, seen):
        out.setdefault(text[0], []).append(s)
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--folder")
    p.add_argument("--read")
    p.add_argument("tokenizers", nargs="+")
    a = p.parse_args()
    t = Texts(5)
    for make in (tables, lists, code, loops):
        make(t)
    real(t, a.folder, a.read)
    for tokenizer in a.tokenizers:
        seen, time = detect(tokenizer, t.legit)
        print(f"\n{tokenizer}: {time}\n\n| legitimate | texts | tokens | longest | cut |\n| --- | --- | --- | --- | --- |")
        for kind, found in groups(t.legit, seen).items():
            print(f"| {kind} | {len(found)} | {sum(f[0] for f in found)} | {max(f[0] for f in found)} | {sum(f[1] >= 0 for f in found)} |")
        seen, time = detect(tokenizer, t.loops)
        print("\n| loop of | texts | seen | tokens until it is seen |\n| --- | --- | --- | --- |")
        for kind, found in groups(t.loops, seen).items():
            late = [f[1] - f[2] for f in found if f[1] >= 0]
            print(f"| {kind} | {len(found)} | {len(late)} | {f'{statistics.median(late):.0f}' if late else ''} |")


if __name__ == "__main__":
    main()
