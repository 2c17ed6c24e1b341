#!/usr/bin/env python3
"""sets.py OUT [SET...]: pages to evaluate on, as PNG files with what is on them.

Text is held out of training in all sets.  The sets of the generator show single
properties (size, typeface, scan); the others come from toolchains that training
never uses: PDF manuals through poppler, groff, pango, weasyprint, LibreOffice.
Each page is NNN.png and NNN.json: {"text": ..., "size": ..., "boxes": ...}.
"""
import argparse
import glob
import gzip
import html
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import unicodedata

from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../train"))
import data  # noqa: E402
import pages  # noqa: E402

STATE = os.environ.get("DSOCR_TRAIN", "var/train")
PLAIN = "held_text=1 lead=1.15,1.5 chars=150,450 random=0.5 size=18,32"
# The place in this list is part of the seed: new sets go to its end.
GENERATED = {
    "columns": "columns held_text=1 held_fonts=1 size=16,24 chars=300,700 rich=0.5",
    "layout": "columns grounded=1 held_text=1 held_fonts=1 size=16,26 chars=150,500 rich=0.7",
    "scanned": f"text {PLAIN} effects=1 skew=2 rescale=0.5",
    "seen": f"text {PLAIN}",
    "tables": "table held_text=1 held_fonts=1 size=18,28 chars=100,450",
    "unseen": f"text {PLAIN} held_fonts=1",
    "charts": "chart held_text=1 held_fonts=1 size=16,26",
    "molecules": "molecule held_text=1 held_fonts=1 size=16,26",
    "geometry": "geometry held_text=1 held_fonts=1 size=16,26",
    "equations": "equations held_text=1 held_fonts=1 size=18,28 chars=60,350",
    "scenes": "scene held_text=1 held_fonts=1 size=18,28",
    "locate": "locate held_text=1 held_fonts=1 size=18,28 chars=60,350",
}
UNSEEN = ["Caladea", "Open Sans", "Gentium Plus", "Vollkorn", "Clear Sans", "Courier Prime", "Cabin", "PT Serif", "B612"]
MANUALS = ["/usr/share/developers-reference/developers-reference.pdf", "/usr/share/doc/gnuplot/gnuplot.pdf",
           "/usr/share/doc/debmake-doc/debmake-doc.en.pdf", "/usr/share/doc/debmake-doc/debmake-doc.de.pdf",
           "/usr/share/doc/debian-history/docs/project-history.en.pdf",
           "/usr/share/doc/debian-history/docs/project-history.fr.pdf",
           "/usr/share/doc/debian/FAQ/debian-faq.en.pdf.gz"]


def write(out, i, image, **truth):
    image.save(f"{out}/{i:03}.png")
    with open(f"{out}/{i:03}.json", "w", encoding="utf-8") as f:
        json.dump(truth, f, ensure_ascii=False)


def generated(out, count, name):
    renderer = pages.renderer(STATE)
    seed = data.FREE_SEEDS + (list(GENERATED).index(name) << 32)
    for i, page in enumerate(renderer.pages(f"{GENERATED[name]} seed={seed}", count)):
        write(out, i, Image.fromarray(page.rgb()), text=page.text(), size=page.size)
    renderer.close()


def held_prose(rng, least, wanted=None):
    lines = open(f"{STATE}/pack/held/prose.txt", encoding="utf-8").read().split("\n")[:-1]
    lines = list(filter(wanted, lines))
    chosen = []
    while sum(map(len, chosen)) < least:
        chosen.append(rng.choice(lines))
    return chosen


def pango_page(text, family, size):
    """A page of 640 x 640 by cairo, with kerning and ligatures; None if the text is too long"""
    with tempfile.TemporaryDirectory() as tmp:
        open(tmp + "/t.txt", "w", encoding="utf-8").write(text)
        subprocess.run(["pango-view", "-q", "--pixels", "--width=600", "--margin=20", f"--font={family} {size}",
                        "-o", tmp + "/t.png", tmp + "/t.txt"], check=True, stderr=subprocess.DEVNULL)
        drawn = Image.open(tmp + "/t.png").convert("RGB")
    page = Image.new("RGB", (640, 640), "white")
    page.paste(drawn, (0, 0))
    return page if drawn.height <= 640 else None


def pango(out, count):
    """Prose in unseen typefaces."""
    rng = random.Random(7)
    for i in range(count):
        size = rng.randint(18, 32)
        room = int(560 * 560 / (size * size * 0.75))
        text = "\n".join(held_prose(rng, 60))[:min(room, rng.randint(150, 450))].rsplit(" ", 1)[0]
        page = pango_page(text, rng.choice(UNSEEN), size)
        if page:
            write(out, i, page, text=text, size=size)


def languages(out, count):
    """Words of one language on each page, in an unseen typeface that has all their letters."""
    rng = random.Random(19)
    files = sorted(glob.glob(f"{STATE}/pack/held/words.*.txt") + glob.glob(f"{STATE}/pack/held/other/words.*.txt"))
    for i in range(count):
        words = open(files[i % len(files)], encoding="utf-8").read().split()
        size = rng.randint(20, 28)
        text = " ".join(rng.choice(words) for _ in range(rng.randint(20, 35)))
        page = pango_page(text, rng.choice(["Open Sans", "Gentium Plus"]), size)
        if page:
            write(out, i, page, text=text, size=size, language=files[i % len(files)][-6:-4])


def pdf_page(path, number, dpi):
    with tempfile.TemporaryDirectory() as tmp:
        chosen = ["-f", str(number), "-l", str(number)]
        subprocess.run(["pdftoppm", *chosen, "-r", str(dpi), "-png", "-singlefile", path, tmp + "/p"], check=True)
        text = subprocess.run(["pdftotext", *chosen, path, "-"], check=True, capture_output=True).stdout.decode()
        image = Image.open(tmp + "/p.png").convert("RGB")
        image.load()
    return image, text.replace("\f", "").strip()


def manual(out, count):
    """A4 and letter pages at 150 dpi; pdftotext says what is on them."""
    rng = random.Random(11)
    with tempfile.TemporaryDirectory() as tmp:
        files = []
        for path in MANUALS:
            if path.endswith(".gz"):
                plain = tmp + "/" + os.path.basename(path)[:-3]
                open(plain, "wb").write(gzip.open(path).read())
                path = plain
            info = subprocess.run(["pdfinfo", path], capture_output=True, check=True).stdout.decode()
            files.append((path, int(re.search(r"Pages:\s+(\d+)", info).group(1))))
        i = 0
        seen = set()
        while i < count:
            path, n = rng.choice(files)
            number = rng.randint(5, n)
            if (path, number) in seen:
                continue
            seen.add((path, number))
            image, text = pdf_page(path, number, 150)
            if len(text) > 400:
                write(out, i, image, text=text, size=0, source=f"{os.path.basename(path)} {number}")
                i += 1


def groff_writes(line):
    """Whether its PostScript typefaces have all letters; others it leaves out."""
    return all(c < "\u0100" or unicodedata.category(c)[0] == "P" for c in line)


def letter(out, count):
    """Letters by groff, A4 at 150 dpi."""
    rng = random.Random(13)
    for i in range(count):
        point = rng.choice([10, 11, 12, 12])
        source = [f".nr PS {point}", f".nr VS {point + 3}", f".fam {rng.choice('THPBN')}", ".ll 16c", ".pl 29.7c", ".nr HY 0"]
        for p in held_prose(rng, rng.randint(500, 1800), groff_writes):
            source += [".LP", p.replace("\\", "").lstrip(".'")]
        with tempfile.TemporaryDirectory() as tmp:
            open(tmp + "/l.ms", "w", encoding="utf-8").write("\n".join(source) + "\n")
            with open(tmp + "/l.pdf", "wb") as f:
                subprocess.run(["groff", "-K", "utf-8", "-ms", "-Tpdf", "-P-pa4", tmp + "/l.ms"], stdout=f, check=True,
                               stderr=subprocess.DEVNULL)
            image, text = pdf_page(tmp + "/l.pdf", 1, 150)
        write(out, i, image, text=text, size=point * 150 / 72)


def html_tables(out, count):
    """Tables by weasyprint, in typefaces of the training and others."""
    import weasyprint
    rng = random.Random(17)
    words = open(f"{STATE}/pack/held/words.00-en.txt", encoding="utf-8").read().split()
    for i in range(count):
        rows, columns, size = rng.randint(3, 7), rng.randint(2, 4), rng.randint(18, 26)
        cell = lambda r, c: (rng.choice(words) if r == 0 or c == 0 else
                             rng.choice([str(rng.randint(0, 9999)), f"{rng.uniform(0, 900):.2f}", rng.choice(words)]))
        body = [[cell(r, c) for c in range(columns)] for r in range(rows)]
        border = rng.choice(["border: 1px solid black", "border-bottom: 1px solid #888", ""])
        page = (f"<style>@page{{size:640px 640px;margin:20px}}body{{font:{size}px '{rng.choice(UNSEEN + ['Liberation Sans'])}'}}"
                f"td{{padding:{rng.randint(2, 8)}px {rng.randint(6, 14)}px;{border}}}table{{border-collapse:collapse}}</style><table>")
        page += "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in r) + "</tr>" for r in body) + "</table>"
        with tempfile.TemporaryDirectory() as tmp:
            weasyprint.HTML(string=page).write_pdf(tmp + "/t.pdf")
            image, _ = pdf_page(tmp + "/t.pdf", 1, 96)
        text = "<table>" + "".join("<tr>" + "".join(f"<td>{c}</td>" for c in r) + "</tr>" for r in body) + "</table>"
        write(out, i, image, text=text, size=size)


STYLE = """<style:style style:name="{name}" style:family="paragraph">
<style:paragraph-properties fo:margin-bottom="{below}pt" fo:text-align="{align}" fo:hyphenate="false"/>
<style:text-properties style:font-name="{font}" fo:font-size="{size}pt" fo:font-weight="{weight}"/></style:style>"""
OFFICE = """<?xml version="1.0" encoding="UTF-8"?>
<office:document xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" office:version="1.2"
 xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0" xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"
 xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" xmlns:fo="urn:oasis:names:tc:opendocument:xmlns:xsl-fo-compatible:1.0"
 xmlns:svg="urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0"
 office:mimetype="application/vnd.oasis.opendocument.text">
<office:font-face-decls><style:font-face style:name="{font}" svg:font-family="'{font}'"/></office:font-face-decls>
<office:automatic-styles>{styles}
<style:style style:name="cell" style:family="table-cell"><style:table-cell-properties fo:padding="3pt" fo:border="{border}"/></style:style>
<style:page-layout style:name="p"><style:page-layout-properties fo:page-width="{width}" fo:page-height="{height}" fo:margin="{margin}"/>
</style:page-layout></office:automatic-styles>
<office:master-styles><style:master-page style:name="Standard" style:page-layout-name="p"/></office:master-styles>
<office:body><office:text>{body}</office:text></office:body></office:document>
"""


def office_body(rng, words, most):
    """Paragraphs, headings, lists and tables as OpenDocument and as the model writes them."""
    xml, text = [], []
    paragraph = lambda style, s: f'<text:p text:style-name="{style}">{html.escape(s)}</text:p>'
    while sum(map(len, text)) < most:
        room = most - sum(map(len, text))
        kind = rng.random()
        if kind < 0.2:
            s = " ".join(rng.choice(words) for _ in range(rng.randint(1, 4)))
            xml.append(paragraph("large", s))
            text.append("# " + s)
        elif kind < 0.35:
            items = [" ".join(rng.choice(words) for _ in range(rng.randint(1, 5))) for _ in range(rng.randint(2, 4))]
            xml.append("".join(paragraph("body", "• " + s) for s in items))
            text.append("\n".join("- " + s for s in items))
        elif kind < 0.5:
            columns = rng.randint(2, 3)
            rows = [[rng.choice(words) if r == 0 or c == 0 else str(rng.randint(0, 9999)) for c in range(columns)]
                    for r in range(rng.randint(2, 5))]
            cell = lambda s: f'<table:table-cell table:style-name="cell">{paragraph("cells", s)}</table:table-cell>'
            xml.append(f'<table:table><table:table-column table:number-columns-repeated="{columns}"/>' +
                       "".join("<table:table-row>" + "".join(map(cell, r)) + "</table:table-row>" for r in rows) +
                       "</table:table>" + paragraph("body", ""))
            text.append("<table>" + "".join("<tr>" + "".join(f"<td>{c}</td>" for c in r) + "</tr>" for r in rows) + "</table>")
        else:
            s = held_prose(rng, 40)[0][:min(room, 400)].rsplit(" ", 1)[0].strip()
            xml.append(paragraph("body", s))
            text.append(s)
    return "".join(xml), "\n\n".join(text)


def office(out, count, a4=False):
    """LibreOffice Writer: 640 x 640 pixels in letters of 18 to 32 pixels, or A4 at 150 dpi."""
    rng = random.Random(23 if a4 else 19)
    words = open(f"{STATE}/pack/held/words.00-en.txt", encoding="utf-8").read().split()
    made = 0
    while made < count:
        with tempfile.TemporaryDirectory() as tmp:
            truth = []
            for i in range(min(25, 2 * (count - made) + 2)):
                size = rng.choice([10, 11, 12]) * 150 / 72 if a4 else rng.randint(18, 32)
                point = size * 72 / (150 if a4 else 96)
                font = rng.choice(UNSEEN + ["Liberation Serif"])
                style = lambda name, factor, below, weight="normal": STYLE.format(
                    name=name, font=font, size=round(point * factor, 1), below=round(point * below, 1), weight=weight,
                    align=rng.choice(["start", "start", "justify"]) if name == "body" else "start")
                styles = style("body", 1, .6) + style("large", 1.6, .5, "bold") + style("cells", 1, 0)
                most = rng.randint(700, 1800) if a4 else min(rng.randint(120, 400), int(560 * 560 / (size * size)))
                xml, text = office_body(rng, words, most)
                width, height, margin = ("21cm", "29.7cm", "2cm") if a4 else ("480pt", "480pt", "18pt")
                with open(f"{tmp}/{i}.fodt", "w", encoding="utf-8") as f:
                    f.write(OFFICE.format(font=font, styles=styles, border=rng.choice(["none", "0.5pt solid #000000"]),
                                          width=width, height=height, margin=margin, body=xml))
                truth.append((f"{tmp}/{i}", text, size))
            subprocess.run(["soffice", "--headless", f"-env:UserInstallation=file://{tmp}/profile", "--convert-to", "pdf",
                            "--outdir", tmp] + [t[0] + ".fodt" for t in truth], check=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
            for path, text, size in truth:
                info = subprocess.run(["pdfinfo", path + ".pdf"], capture_output=True, check=True).stdout.decode()
                # a page that runs over is not all on the picture
                if made < count and re.search(r"Pages:\s+1\n", info):
                    write(out, made, pdf_page(path + ".pdf", 1, 150 if a4 else 96)[0], text=text, size=size)
                    made += 1


OTHERS = {"pango": pango, "languages": languages, "manual": manual, "letter": letter, "html-tables": html_tables, "office": office,
          "office-a4": lambda out, count: office(out, count, a4=True)}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out")
    p.add_argument("sets", nargs="*", default=list(GENERATED) + list(OTHERS))
    p.add_argument("--count", type=int, default=200)
    a = p.parse_args()
    for name in a.sets:
        folder = f"{a.out}/{name}"
        os.makedirs(folder, exist_ok=True)
        if name in GENERATED:
            generated(folder, a.count, name)
        else:
            OTHERS[name](folder, a.count)
        print(name, len([f for f in os.listdir(folder) if f.endswith(".png")]), flush=True)


if __name__ == "__main__":
    main()
