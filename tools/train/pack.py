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
PROSE_BYTES = {"train": 4_000_000, "held": 600_000}
# English first: the renderer takes file 0 for addresses and identifiers.
LATIN = ("fr de_DE_frami es_ES it_IT pt_PT nl_NL pl_PL cs_CZ sv_SE da_DK nb_NO hu_HU ro_RO hr_HR sl_SI sk_SK lt_LT lv_LV "
         "tr_TR is_IS ca_ES id_ID eu_ES gl_ES").split()
OTHER = "el_GR ru_RU uk_UA bg_BG".split()
TRAIN_PROSE = ["/usr/share/doc/postgresql-doc-15/html/*.html", "/usr/share/debian-reference/*.en.html",
               "/usr/share/doc/python3.11/html/**/*.html", "/usr/share/common-licenses/*"]
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


def pack_words(out):
    lists = {"00-en": [w.strip() for w in open("/usr/share/dict/american-english")]}
    for name in LATIN:
        lists["latin-" + name[:2]] = dictionary(name)
    for name in OTHER:
        lists["other-" + name[:2]] = dictionary(name)
    for name, words in lists.items():
        good = sorted({w for w in words if 1 < len(w) < 15 and set(w) <= tokens.CHARSET and not re.search(r"[\d_.]", w)})
        random.Random(name).shuffle(good)
        for split in WORDS:
            mine = [w for w in good if held_out(w) == (split == "held")][:WORDS[split]]
            prefix = "other/" if name.startswith("other") else ""
            with open(f"{out}/{split}/{prefix}words.{name}.txt", "w") as f:
                f.write("\n".join(mine) + "\n")


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


def pack_prose(out):
    for split, patterns in (("train", TRAIN_PROSE), ("held", HELD_PROSE)):
        files = sorted({f for p in patterns for f in glob.glob(p, recursive=True)})
        random.Random(1).shuffle(files)
        seen, size = set(), 0
        with open(f"{out}/{split}/prose.txt", "w") as f:
            for path in files:
                for p in paragraphs(path):
                    if 30 < len(p) < 3000 and set(p) <= tokens.CHARSET and p not in seen:
                        seen.add(p)
                        size += len(p.encode()) + 1
                        f.write(p + "\n")
                if size > PROSE_BYTES[split]:
                    break
        if size < PROSE_BYTES[split] / 4:
            sys.exit(f"too little {split} prose: are the packages of tools/train/packages installed?")


def main():
    out = sys.argv[1]
    for folder in ("fonts", "train/other", "held/other"):
        os.makedirs(f"{out}/{folder}", exist_ok=True)
    pack_words(out)
    pack_prose(out)
    pack_fonts(out)


if __name__ == "__main__":
    main()
