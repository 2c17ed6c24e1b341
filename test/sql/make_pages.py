#!/usr/bin/env python3
"""Write the statements that fill table page of the regression tests.

    make_pages.py > pages.inc

Readable pages are drawn with Pillow in DejaVu Sans; the broken ones are made
byte by byte.  The output is checked in: the tests need neither Python nor fonts.
"""
import base64
import io
import struct
import textwrap
import zlib

from PIL import Image, ImageDraw, ImageFont

FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"


def page(lines, size=(640, 640), px=32):
    image = Image.new("L", size, 255)
    draw = ImageDraw.Draw(image)
    font = ImageFont.truetype(FONT, px)
    for i, line in enumerate(lines):
        draw.text((30, 30 + i * px * 14 // 10), line, fill=0, font=font)
    return image


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, rows, bits=8, colour=0):
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )


LETTER = ["The old house stood on a hill", "above the river. In summer the", "garden was full of roses."]
NOTE = ["The ship reached the harbour", "before the storm began."]
PAGES = {
    "letter": encoded(page(LETTER).quantize(16), "PNG", optimize=True),
    "letter.jpg": encoded(page(LETTER), "JPEG", quality=85),
    "note": encoded(page(NOTE, px=28).quantize(16), "PNG", optimize=True),
    "wide": encoded(page(LETTER, (1280, 640)).quantize(16), "PNG", optimize=True),
    "1x1": png(1, 1, b"\x00\xff"),
    "40000x2": png(40000, 2, (b"\x00" + b"\xff" * 5000) * 2, bits=1),
    "0x0": png(0, 0, b""),
    "1000000x1000000": png(1000000, 1000000, b"\x00" * 1000),
    "wrong crc": None,
    "truncated png": None,
    "truncated jpeg": None,
}
letter = PAGES["letter"]
PAGES["wrong crc"] = letter[:29] + bytes([letter[29] ^ 1]) + letter[30:]
PAGES["truncated png"] = letter[: len(letter) // 2]
PAGES["truncated jpeg"] = PAGES["letter.jpg"][:300]

print("-- Written by make_pages.py.")
for name, data in PAGES.items():
    text = "\n".join(textwrap.wrap(base64.b64encode(data).decode(), 96))
    print(f"INSERT INTO page VALUES ('{name}', pg_catalog.decode('\n{text}', 'base64'));")
