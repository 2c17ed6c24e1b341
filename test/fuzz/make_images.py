#!/usr/bin/env python3
"""Makes the TIFF and WebP pictures in test/fuzz/corpus and writes what Pillow
reads in them to test/unit/image_formats.txt.

They seed the fuzz targets, and test_image_formats compares its pixels with
the list.  Needs Pillow 10.4.0 (what the official code uses), numpy, and
tiffcp, tiffset and webpmux.  Files that Pillow cannot read get the pixels that
are right, with a reason here.
"""

import hashlib
import io
import os
import struct
import subprocess
import warnings

import numpy as np
from PIL import Image, ImageOps

W, H = 37, 23
HERE = os.path.dirname(os.path.abspath(__file__))
TIFF = os.path.join(HERE, "corpus", "tiff")
WEBP = os.path.join(HERE, "corpus", "webp")
LIST = os.path.join(HERE, "..", "unit", "image_formats.txt")
rng = np.random.default_rng(5)
warnings.simplefilter("ignore")


def pixels(w=W, h=H):
    y, x = np.mgrid[0:h, 0:w]
    a = np.stack([x * 7 + y * 3, x * x // 5 + y, y * 11, x * 5 ^ y * 9], -1) % 256
    return a.astype(np.uint8)


A = pixels()
RGB = Image.fromarray(A[..., :3].copy())
RGBA = Image.fromarray(A.copy())
GRAY = Image.fromarray(A[..., 0].copy())
IMAGES = {
    "1": GRAY.convert("1"), "L": GRAY, "P": RGB.quantize(60), "RGB": RGB, "RGBA": RGBA,
    "CMYK": Image.frombytes("CMYK", (W, H), A.tobytes()),
    "I16": Image.fromarray(A[..., 0].astype(np.uint16) * 3),
}


def run(*args):
    subprocess.run(args, check=True, capture_output=True)


def tiff(name):
    return os.path.join(TIFF, name + ".tif")


def by_hand(name, bits, spp, photo, data, w=W, h=H, extra=None, cmap=None, be=False, compression=1,
            more=()):
    """A TIFF of one strip, tag by tag."""
    e = ">" if be else "<"
    code = {3: "H", 4: "I"}
    tags = [(256, 4, [w]), (257, 4, [h]), (258, 3, [bits] * spp), (259, 3, [compression]),
            (262, 3, [photo]), (273, 4, [0]), (277, 3, [spp]), (278, 4, [h]), (279, 4, [len(data)])]
    tags += list(more)
    if extra is not None:
        tags.append((338, 3, extra))
    if cmap is not None:
        tags.append((320, 3, cmap))
    tags.sort()
    blob = b""
    entries = b""
    start = 8 + 2 + 12 * len(tags) + 4
    size = sum(len(v) * (2 if t == 3 else 4) for _, t, v in tags if len(v) * (2 if t == 3 else 4) > 4)
    for tag, kind, values in tags:
        values = [start + size if tag in (273, 513) else v for v in values]
        packed = struct.pack(e + code[kind] * len(values), *values)
        if len(packed) > 4:
            entries += struct.pack(e + "HHII", tag, kind, len(values), start + len(blob))
            blob += packed
        else:
            entries += struct.pack(e + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    with open(tiff(name), "wb") as f:
        f.write((b"MM\0*" if be else b"II*\0") + struct.pack(e + "I", 8))
        f.write(struct.pack(e + "H", len(tags)) + entries + struct.pack(e + "I", 0) + blob + data)


def make_tiffs():
    for mode, compressions in {
            "1": ["raw", "group3", "group4", "tiff_ccitt", "packbits", "tiff_lzw"],
            "L": ["raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "lzma"],
            "P": ["raw", "packbits"], "RGB": ["raw", "tiff_lzw", "tiff_deflate", "jpeg"],
            "RGBA": ["raw"], "CMYK": ["raw", "tiff_lzw"], "I16": ["raw", "tiff_lzw"]}.items():
        for c in compressions:
            IMAGES[mode].save(tiff(f"{mode}-{c}"), compression=None if c == "raw" else c)
    for mode, name, args in [
            ("RGB", "tiles", "-t -w 16 -l 16 -c none"), ("RGB", "tiles-lzw", "-t -w 32 -l 16 -c lzw:2"),
            ("RGB", "planes", "-p separate -c none"), ("RGB", "planes-zip", "-p separate -c zip -r 7"),
            ("RGB", "planes-tiles", "-p separate -t -w 16 -l 16 -c zip"), ("RGB", "big", "-8 -c lzw"),
            ("L", "lsb", "-f lsb2msb -c none"), ("RGB", "be", "-B -c zip:2"), ("I16", "be", "-B -c none"),
            ("RGB", "jpeg-raw", "-c jpeg:r:80 -r 16"), ("RGB", "jpeg-ycc", "-c jpeg:80 -r 16"),
            ("RGB", "jpeg-tiles", "-c jpeg:90 -t -w 32 -l 32"), ("L", "r1", "-r 1 -c packbits"),
            ("1", "fax4-rows", "-c g4 -r 5"), ("1", "fax3-1d", "-c g3:1d"),
            ("1", "fax3-2d", "-c g3:2d:fill"), ("1", "fax4-lsb", "-c g4 -f lsb2msb"),
            ("L", "zstd", "-c zstd"), ("RGB", "webp", "-c webp -r 64"), ("L", "lerc", "-c lerc"), ("P", "tiles", "-t -w 16 -l 16 -c lzw")]:
        run("tiffcp", *args.split(), tiff(f"{mode}-raw"), tiff(f"{mode}-{name}"))
    for name, white in [("L-raw", 0), ("1-group4", 0), ("1-group3", 1), ("L-tiles", 0)]:
        source = tiff(name)
        if name == "L-tiles":
            run("tiffcp", *"-t -w 16 -l 16 -c none".split(), tiff("L-raw"), source)
        run("cp", source, tiff(f"{name}-photo{white}"))
        run("tiffset", "-s", "262", str(white), tiff(f"{name}-photo{white}"))
    for o in range(2, 9):
        run("cp", tiff("RGB-tiff_lzw"), tiff(f"orient{o}"))
        run("tiffset", "-s", "274", str(o), tiff(f"orient{o}"))
    for be in (False, True):
        end = "be" if be else "le"
        word = ">u2" if be else "<u2"
        for bits in (1, 2, 4):
            data = rng.integers(0, 256, (W * bits + 7) // 8 * H).astype(np.uint8).tobytes()
            by_hand(f"gray{bits}-{end}", bits, 1, int(be), data, be=be)
            cmap = rng.integers(0, 65536, 3 << bits).tolist()
            by_hand(f"palette{bits}-{end}", bits, 1, 3, data, cmap=cmap, be=be)
        for spp, photo, extra in [(3, 2, None), (4, 2, [0]), (4, 2, [1]), (4, 2, [2])]:
            data = rng.integers(0, 65536, W * H * spp).astype(word).tobytes()
            by_hand(f"rgb16-{spp}-{extra[0] if extra else 'none'}-{end}", 16, spp, photo, data,
                    extra=extra, be=be)
    data = rng.integers(0, 256, W * H * 4).astype(np.uint8).tobytes()
    by_hand("rgb8-premultiplied", 8, 4, 2, data, extra=[1])
    by_hand("rgb8-alpha", 8, 4, 2, data)
    by_hand("gray8-alpha", 8, 2, 1, data[:W * H * 2], extra=[2])
    by_hand("signed16", 16, 1, 1, data[:W * H * 2], more=[(339, 3, [2])])
    # the older JPEG: a whole stream that a tag points to
    jpeg = io.BytesIO()
    RGB.save(jpeg, "JPEG", quality=90)
    by_hand("old-jpeg", 8, 3, 6, jpeg.getvalue(), compression=6,
            more=[(513, 4, [0]), (514, 4, [len(jpeg.getvalue())])])
    # libtiff converts these; Pillow reads the samples as if they were RGB and full
    gray = np.repeat(A[..., 0].reshape(-1, 1), 3, 1)
    gray[:, 1:] = 128
    by_hand("ycc-full", 8, 3, 6, gray.tobytes(), more=[(530, 3, [1, 1])])
    RGB.save(tiff("pages"), save_all=True, compression="tiff_lzw",
             append_images=[GRAY, IMAGES["1"], Image.fromarray(pixels(11, 31)[..., :3].copy())])
    run("tiffcp", "-8", tiff("pages"), tiff("pages-big"))


def make_webps():
    def path(name):
        return os.path.join(WEBP, name + ".webp")

    for q in (10, 90):
        RGB.save(path(f"lossy{q}"), quality=q)
        RGBA.save(path(f"alpha{q}"), quality=q)
    RGB.save(path("lossless"), lossless=True)
    RGBA.save(path("lossless-alpha"), lossless=True, exact=True)
    IMAGES["P"].convert("RGB").save(path("lossless-palette"), lossless=True)
    RGB.crop((0, 0, 1, 1)).save(path("one"), quality=80)
    for o in (3, 6, 8):
        exif = Image.Exif()
        exif[274] = o
        RGB.save(path(f"exif{o}"), exif=exif.tobytes(), quality=80)
    RGB.save(path("animation"), save_all=True, append_images=[RGB.rotate(180), RGBA], quality=70)
    RGB.crop((0, 0, 10, 8)).save(path("small"), quality=80)
    run("webpmux", "-frame", path("small"), "+100+20+10", "-frame", path("lossy10"), "+100", "-o",
        path("animation-offset"))


def read(path, page):
    im = Image.open(path)
    im.seek(page)
    return ImageOps.exif_transpose(im).convert("RGB")


def right(path):
    """What Pillow does not read."""
    name = os.path.basename(path)[:-4]
    if name in ("L-zstd", "L-lerc"):
        return GRAY.convert("RGB")
    if name == "RGB-webp":
        tags = Image.open(path).tag_v2
        with open(path, "rb") as f:
            f.seek(tags[273][0])
            return Image.open(io.BytesIO(f.read(tags[279][0]))).convert("RGB")
    if name == "ycc-full":
        return GRAY.convert("RGB")
    return None


def main():
    for folder in (TIFF, WEBP):
        os.makedirs(folder, exist_ok=True)
        for f in os.listdir(folder):
            os.unlink(os.path.join(folder, f))
    make_tiffs()
    make_webps()
    with open(LIST, "w") as out:
        for folder in (TIFF, WEBP):
            for f in sorted(os.listdir(folder)):
                path = os.path.join(folder, f)
                known = right(path)
                pages = 1 if known or folder == WEBP else Image.open(path).n_frames
                for page in range(pages):
                    im = known or read(path, page)
                    out.write(f"{os.path.basename(folder)}/{f} {page + 1} {im.width} {im.height} "
                              f"{hashlib.sha256(im.tobytes()).hexdigest()}\n")


if __name__ == "__main__":
    main()
