"""Pages of 640 x 640 pixels with 300 characters: read in SQL and by Tesseract."""
import os
import random
import re
import subprocess
import time

CHARACTERS = 300
SIDE = 640
PIXELS = 30
FONTS = ("dejavu/DejaVuSans.ttf", "dejavu/DejaVuSerif.ttf")


def sentences(folder):
    out = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".txt"):
            with open(os.path.join(folder, name), encoding="utf-8") as f:
                out += re.findall(r"[A-Z][^.!?]*[.!?]", " ".join(f.read().split()))
    return out


def draw(samples, folder, pages):
    """Files of a page each, and what stands on it: sentences of the sample pages in other orders."""
    from PIL import Image, ImageDraw, ImageFont
    os.makedirs(folder, exist_ok=True)
    choice, out = random.Random(300), []
    for page in range(pages):
        font = ImageFont.truetype("/usr/share/fonts/truetype/" + FONTS[page % len(FONTS)], PIXELS)
        words = []
        while len(" ".join(words)) < CHARACTERS:
            words += choice.choice(sentences(samples)).split()
        while len(" ".join(words)) > CHARACTERS:
            words.pop()
        image = Image.new("RGB", (SIDE, SIDE), "white")
        pen, lines = ImageDraw.Draw(image), [""]
        for word in words:
            longer = f"{lines[-1]} {word}".strip()
            if font.getlength(longer) <= SIDE - 40:
                lines[-1] = longer
            else:
                lines.append(word)
        for i, line in enumerate(lines):
            pen.text((20, 20 + i * PIXELS * 5 // 4), line, "black", font=font)
        path = os.path.join(folder, f"{page}.png")
        image.save(path)
        os.chmod(path, 0o644)
        out.append((path, " ".join(words)))
    return out


def distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def wrong(pages, texts):
    """Share of characters read wrongly."""
    pairs = [(p[1], " ".join(t.split())) for p, t in zip(pages, texts)]
    return sum(distance(a, b) for a, b in pairs) / sum(len(a) for a, _ in pairs)


def ticks(pid):
    """Processor time of a process and of the children it has waited for, in clock ticks; its parent."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            fields = f.read().rpartition(")")[2].split()
    except OSError:
        return 0, 0
    return sum(map(int, fields[11:15])), int(fields[1])


def family(root):
    """Processor seconds of a process and of everything below it."""
    all_ = {int(p): ticks(p) for p in os.listdir("/proc") if p.isdigit()}
    inside, grown = {root}, True
    while grown:
        more = {p for p, (_, parent) in all_.items() if parent in inside} - inside
        inside |= more
        grown = bool(more)
    return sum(all_[p][0] for p in inside if p in all_) / os.sysconf("SC_CLK_TCK"), inside


class Server:
    """A running server with the extension; pages lie in a table."""

    def __init__(self, psql, socket, data, pages):
        self.command = [psql, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", socket, "-U", "postgres"]
        self.pages = pages
        with open(os.path.join(data, "postmaster.pid"), encoding="utf-8") as f:
            self.postmaster = int(f.readline())
        rows = ", ".join(f"({i}, pg_read_binary_file('{p}'))" for i, (p, _) in enumerate(pages))
        self.ask("CREATE EXTENSION IF NOT EXISTS dsocr; DROP TABLE IF EXISTS scans; "
                 f"CREATE TABLE scans AS SELECT * FROM (VALUES {rows}) v(id, image)")
        self.ask("SELECT dsocr_text(image, mode => 'small') FROM scans LIMIT 1")

    def ask(self, sql):
        done = subprocess.run([*self.command, "-c", sql], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout

    def run(self):
        start, cpu = time.perf_counter(), family(self.postmaster)[0]
        text = self.ask("SELECT string_agg(t, chr(30) ORDER BY id) FROM "
                        "(SELECT id, dsocr_text(image, mode => 'small') FROM scans) s(id, t)")
        wall = time.perf_counter() - start
        texts = text.rstrip("\n").split(chr(30))
        return {"wall_s": wall, "cpu_s": family(self.postmaster)[0] - cpu, "n": len(texts),
                "wrong": wrong(self.pages, texts), "characters": sum(map(len, texts)) / len(texts)}

    def resident_mb(self):
        """The engine's memory at its peak."""
        for pid in family(self.postmaster)[1]:
            try:
                with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
                    name = f.read().strip()
                with open(f"/proc/{pid}/status", encoding="utf-8") as f:
                    peak = re.search(r"VmHWM:\s+(\d+)", f.read())
            except OSError:
                continue
            if name == "dsocr-engine" and peak:
                return int(peak.group(1)) / 1024
        return 0.0


class Tesseract:
    """All pages in one call, so that its data is read once."""

    def __init__(self, folder, pages, threads):
        self.pages, self.list = pages, os.path.join(folder, "list.txt")
        self.environment = dict(os.environ, OMP_THREAD_LIMIT=str(threads))
        with open(self.list, "w", encoding="utf-8") as f:
            f.writelines(p + "\n" for p, _ in pages)

    def run(self):
        start, before = time.perf_counter(), os.times()
        done = subprocess.run(["tesseract", self.list, "stdout", "-l", "eng"], capture_output=True,
                              text=True, env=self.environment, check=True)
        wall, after = time.perf_counter() - start, os.times()
        texts = done.stdout.split("\f")[:len(self.pages)]
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return {"wall_s": wall, "cpu_s": cpu, "n": len(texts), "wrong": wrong(self.pages, texts)}
