#!/usr/bin/env python3
"""Draw the sample pages: 640 x 640 pixels, black on white, one column.

    make.py FOLDER

Needs Pillow 10.4 and the fonts of Debian's fonts-liberation, fonts-dejavu,
fonts-freefont-ttf and fonts-crosextra-carlito.  The pages in this folder came
from it; NAME.txt is the text as it stands on the page.
"""
import glob
import os
import sys

from PIL import Image, ImageDraw, ImageFont

SIDE = 640

# name: font, size in pixels, leading, left, top, right edge, format, paragraphs
PAGES = {
    "letter": ("Carlito-Regular", 36, 1.25, 7, 12, 574, "png", """\
Dear Mrs Fowler,

your boat has been moved to the north pier, because the old wall will be repaired in March. The fee for the winter is due on Friday and \
can be paid at the office.

Yours sincerely,
Thomas Reed, Harbour Office"""),
    "log": ("FreeSerif", 30, 1.25, 8, 35, 594, "png", """\
Harbour log, 14 March 2024

06:30 The ferry left in thick fog
09:15 Two fishing boats came in
11:40 Wind from the north, rising
16:05 The ferry is back on time

All boats are safe in the harbour."""),
    "notice": ("LiberationSans-Regular", 30, 1.25, 20, 18, 600, "png", """\
The library is closed from Monday to Thursday, because new shelves are being built in the reading room.

Books can be returned at the front desk of the town hall. We open again on Friday at 10:00."""),
    "receipt": ("Carlito-Regular", 29, 1.5, 26, 40, 628, "png", """\
Receipt from the corner shop

Two loaves of bread 3.20
Butter and cheese 7.75
One pound of coffee 8.90
Apples and pears 4.15

Total amount paid 24.00

Thank you for your visit"""),
    "recipe": ("DejaVuSans", 33, 1.25, 26, 27, 593, "jpg", """\
Apple cake for six people

Mix the butter with the sugar, then add three eggs and the flour. Cut four apples into thin slices and lay them on the dough.

Bake it for 45 minutes and let the cake rest before you cut it."""),
}


def load(stem, size):
    for path in glob.glob("/usr/share/fonts/**/*.[to]tf", recursive=True):
        if os.path.basename(path).rsplit(".", 1)[0] == stem:
            return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
    sys.exit(f"no font {stem}")


def wrap(font, text, width):
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if line and font.getlength(longer) > width:
            lines.append(line)
            longer = word
        line = longer
    return lines + [line]


def draw(stem, size, leading, left, top, right, text):
    """The page and its text with the line breaks it got."""
    font = load(stem, size)
    page = Image.new("L", (SIDE, SIDE), 255)
    pen = ImageDraw.Draw(page)
    y, blocks = top, []
    for block in text.split("\n\n"):
        lines = [part for line in block.split("\n") for part in wrap(font, line, right - left)]
        for line in lines:
            if y + size * 1.1 > SIDE:
                sys.exit(f"does not fit: {line}")
            pen.text((left, y + size * 0.95), line, font=font, fill=0, anchor="ls")
            y += size * leading
        y += size * leading * 0.7
        blocks.append("\n".join(lines))
    return page, "\n\n".join(blocks)


def main(folder):
    os.makedirs(folder, exist_ok=True)
    for name, (stem, size, leading, left, top, right, kind, text) in PAGES.items():
        page, text = draw(stem, size, leading, left, top, right, text)
        options = {"quality": 90} if kind == "jpg" else {"optimize": True}
        page.convert("RGB").save(os.path.join(folder, f"{name}.{kind}"), **options)
        with open(os.path.join(folder, f"{name}.txt"), "w", encoding="utf-8") as f:
            f.write(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
