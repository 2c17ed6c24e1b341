#!/usr/bin/env python3
"""pack.py OUT: what pages are made of, in one folder of a few megabytes.

Fonts are cut down to the characters of the tokenizer; words come from
spelling dictionaries, prose from documentation, all of Debian packages that
tools/train/packages lists.  Words and prose are split into what is trained on
and what is held out for tests.  The result depends on the installed packages
only.
"""
import glob
import gzip
import hashlib
import html
import os
import random
import re
import sys

from fontTools import subset
from fontTools.ttLib import TTFont

import tokens

HERE = os.path.dirname(os.path.abspath(__file__))
WORDS = {"train": 3000, "held": 1000}
ACCENTED_WORDS = 1800  # of those to train on, where there are so many: letters that are rare in prose
ENGLISH_BYTES, OTHER_BYTES, HELD_BYTES = 2_500_000, 150_000, 600_000
# English first: the renderer takes file 0 for addresses and identifiers.
LATIN = ("fr de_DE_frami es_ES it_IT pt_PT nl_NL pl_PL cs_CZ sv_SE da_DK nb_NO hu_HU ro_RO hr_HR sl_SI sk_SK lt_LT lv_LV "
         "tr_TR is_IS ca_ES id_ID eu_ES gl_ES").split()
OTHER = "el_GR ru_RU uk_UA bg_BG".split()
ENGLISH_PROSE = ["/usr/share/doc/postgresql-doc-15/html/*.html", "/usr/share/debian-reference/*.en.html",
                 "/usr/share/doc/python3.11/html/**/*.html", "/usr/share/common-licenses/*"]
GUIDE = "/usr/share/doc/installation-guide-amd64/%s/*.html"
OTHER_PROSE = {
    "ru": [GUIDE % "ru", "/usr/share/doc/aptitude/html/ru/*.html", "/usr/share/doc/developers-reference-ru/**/*.html"],
    "el": [GUIDE % "el", "/usr/share/gimp/2.0/help/el/*.html"],
    "cs": [GUIDE % "cs", "/usr/share/doc/aptitude/html/cs/*.html"],
    "es": [GUIDE % "es", "/usr/share/doc/aptitude/html/es/*.html"],
    "nl": [GUIDE % "nl", "/usr/share/doc/aptitude/html/nl/*.html"],
    "it": [GUIDE % "it", "/usr/share/doc/developers-reference-it/**/*.html"],
    "fi": ["/usr/share/doc/aptitude/html/fi/*.html"],
    "de": [GUIDE % "de", "/usr/share/debian-reference/*.de.html"],
    "fr": [GUIDE % "fr", "/usr/share/debian-reference/*.fr.html"],
    "pt": [GUIDE % "pt", "/usr/share/debian-reference/*.pt.html"],
    **{name: [GUIDE % name] for name in "ca da id ro sv".split()},
}
HELD_PROSE = ["/usr/share/doc/debian-history/**/*.html", "/usr/share/doc/debian/FAQ/**/*.en.html"]


def pack_fonts(out):
    installed = {}
    for path in sorted(glob.glob("/usr/share/fonts/**/*.[to]tf", recursive=True)):
        installed[os.path.basename(path).rsplit(".", 1)[0]] = path
    options = subset.Options(layout_features=[], hinting=False, desubroutinize=True, notdef_outline=True,
                             name_IDs=[1], legacy_kern=False, drop_tables=["GSUB", "GPOS", "GDEF", "kern", "DSIG", "FFTM"])
    codes = [ord(c) for c in tokens.CHARSET]
    missing = []
    with open(f"{out}/fonts.txt", "w") as listing:
        for line in open(f"{HERE}/fonts"):
            if line.startswith("#"):
                continue
            split, name, *stems = line.rstrip("\n").split("|")
            if any(s != "-" and s not in installed for s in stems):
                missing.append(name)
                continue
            files = []
            for stem in stems:
                if stem == "-":
                    files.append("-")
                    continue
                font = TTFont(installed[stem])
                cut = subset.Subsetter(options)
                cut.populate(unicodes=codes)
                cut.subset(font)
                target = "fonts/" + stem.replace(" ", "") + os.path.splitext(installed[stem])[1]
                font.save(f"{out}/{target}")
                files.append(target)
            listing.write("\t".join([name, split] + files) + "\n")
    if missing:
        sys.exit("not installed (see tools/train/packages): " + ", ".join(missing))


def write_lines(path, lines):
    with open(path, "w") as f:
        f.write("\n".join(lines) + "\n")


def held_out(word):
    return hashlib.sha256(word.encode()).digest()[0] % 5 == 0


def dictionary(name):
    path = f"/usr/share/hunspell/{name}.dic"
    with open(path.replace(".dic", ".aff"), "rb") as f:
        found = re.search(rb"^SET\s+(\S+)", f.read(), re.M)
    encoding = found.group(1).decode() if found else "iso8859-1"
    if encoding.upper().startswith("ISO8859"):
        encoding = encoding.upper().replace("ISO8859", "ISO-8859")
    with open(path, encoding=encoding, errors="ignore") as f:
        return [re.split(r"[/\s]", line)[0] for line in f][1:]


def is_accented(word):
    return not word.isascii()


def pack_words(out):
    lists = {"00-en": [w.strip() for w in open("/usr/share/dict/american-english")]}
    for name in LATIN:
        lists["latin-" + name[:2]] = dictionary(name)
    for name in OTHER:
        lists["other-" + name[:2]] = dictionary(name)
    other = {}
    for name, words in lists.items():
        good = sorted({w for w in words if 1 < len(w) < 15 and set(w) <= tokens.CHARSET and not re.search(r"[\d_.]", w)})
        random.Random(name).shuffle(good)
        held = [w for w in good if held_out(w)][:WORDS["held"]]
        mine = [w for w in good if not held_out(w)]
        mine = sorted(mine, key=is_accented, reverse=True)[:ACCENTED_WORDS] + [w for w in mine if not is_accented(w)]
        mine = list(dict.fromkeys(mine))[:WORDS["train"]]
        if name.startswith("other"):
            write_lines(f"{out}/held/other/words.{name}.txt", held)
            other[name[6:]] = mine
        else:
            write_lines(f"{out}/held/words.{name}.txt", held)
            write_lines(f"{out}/train/words.{name}.txt", mine)
    # one list a script: there is much more text in Latin letters
    write_lines(f"{out}/train/words.greek.txt", other.pop("el"))
    write_lines(f"{out}/train/words.cyrillic.txt", [w for words in other.values() for w in words])


def paragraphs(path):
    opened = gzip.open if path.endswith(".gz") else open
    with opened(path, "rt", errors="ignore") as f:
        text = f.read()
    if ".html" in path:
        text = re.sub(r"(?s)<(script|style|pre).*?</\1>", " ", text)
        parts = re.findall(r"(?s)<(?:p|li|dd|h1|h2|h3)\b[^>]*>(.*?)</(?:p|li|dd|h1|h2|h3)>", text)
        parts = [html.unescape(re.sub(r"<[^>]+>", " ", p)) for p in parts]
    else:
        parts = re.split(r"\n\s*\n", text)
    return [re.sub(r"\s+", " ", p).strip() for p in parts]


def prose(patterns, size, seen):
    """Paragraphs of these files that have not been seen, of so many bytes or as many as there are."""
    files = sorted({f for p in patterns for f in glob.glob(p, recursive=True)})
    random.Random(1).shuffle(files)
    lines = []
    for path in files:
        for p in paragraphs(path):
            if 30 < len(p) < 3000 and set(p) <= tokens.CHARSET and p not in seen:
                seen.add(p)
                size -= len(p.encode()) + 1
                lines.append(p)
        if size < 0:
            break
    if not lines or size > 600_000:
        sys.exit(f"too little prose in {patterns}: are the packages of tools/train/packages installed?")
    return lines


def pack_prose(out):
    seen = set()
    write_lines(f"{out}/held/prose.txt", prose(HELD_PROSE, HELD_BYTES, seen))
    lines = prose(ENGLISH_PROSE, ENGLISH_BYTES, seen)
    for name, patterns in OTHER_PROSE.items():
        lines += prose(patterns, OTHER_BYTES * (3 if name == "ru" else 1), seen)
    write_lines(f"{out}/train/prose.txt", lines)


def main():
    out = sys.argv[1]
    for folder in ("fonts", "train", "held/other"):
        os.makedirs(f"{out}/{folder}", exist_ok=True)
    pack_words(out)
    pack_prose(out)
    pack_fonts(out)


if __name__ == "__main__":
    main()
