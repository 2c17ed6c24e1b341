"""Pages from the renderer, and the labels that training wants.

A request is a line for render/main.c; the pages that come back depend on the
line alone.
"""
import os
import re
import subprocess

import numpy as np

import tokens

HEADER = np.dtype([("magic", "<u4"), ("n_units", "<u4"), ("w", "<u2"), ("h", "<u2"), ("global", "<u2"),
                   ("family", "<u2"), ("size", "<f4"), ("paper", "u1", 3), ("ink", "u1", 3), ("unused", "u1", 6),
                   ("seed", "<u8")])
MAGIC = 0x47504F44
PATCH, CELL = 16, 64
PATCH_SLOTS = 3
IGNORE = -100
DRAWINGS = ("molecule", "geometry")
DET, DET_END = (tokens.TAG_BASE + tokens.TAGS.index(t) for t in ("<|det|>", "<|/det|>"))


class Page:
    """One frame: gray pixels where 255 is paper and 0 is ink, and the units of the target."""

    def __init__(self, header, view, overview, codes, boxes):
        self.paper, self.ink = header["paper"], header["ink"]
        self.family, self.size, self.seed = int(header["family"]), float(header["size"]), int(header["seed"])
        self.view, self.overview, self.codes, self.boxes = view, overview, codes, boxes

    def text(self):
        return "".join(chr(c) if c < tokens.TAG_BASE else tokens.TAGS[c - tokens.TAG_BASE] for c in self.codes)

    def subject(self):
        """What the first reference of the target names."""
        return self.text().split("<|ref|>", 1)[1].split("<|/ref|>", 1)[0]

    def rgb(self, pixels=None):
        """[h, w, 3] bytes, as a user's picture."""
        gray = (self.view if pixels is None else pixels)[:, :, None].astype(np.float32) / 255
        ink = self.ink.astype(np.float32)
        return (ink + gray * (self.paper - ink) + 0.5).astype(np.uint8)


class Renderer:
    """The renderer as a process; it waits when nobody reads."""

    def __init__(self, program, pack):
        self.process = subprocess.Popen([program, pack], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1 << 20)

    def _read(self, dtype, count):
        data = self.process.stdout.read(np.dtype(dtype).itemsize * count)
        if len(data) != np.dtype(dtype).itemsize * count:
            raise RuntimeError("the renderer ended")
        return np.frombuffer(data, dtype)

    def ask(self, request, count):
        self.process.stdin.write(f"{request} n={count}\n".encode())
        self.process.stdin.flush()

    def take(self):
        header = self._read(HEADER, 1)[0]
        if header["magic"] != MAGIC:
            raise RuntimeError("the renderer is out of step")
        w, h, g, n = (int(header[k]) for k in ("w", "h", "global", "n_units"))
        view = self._read(np.uint8, w * h).reshape(h, w)
        overview = self._read(np.uint8, g * g).reshape(g, g) if g else None
        return Page(header, view, overview, self._read("<u4", n), self._read("<f4", n * 4).reshape(n, 4))

    def pages(self, request, count):
        self.ask(request, count)
        return [self.take() for _ in range(count)]

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def renderer(state=None):
    """The renderer and its pack in the state folder."""
    state = state or os.environ.get("DSOCR_TRAIN", "var/train")
    return Renderer(os.path.join(state, "render"), os.path.join(state, "pack"))


class Labels:
    """Turns pages into arrays; tables over all codes keep Python loops out of it."""

    def __init__(self, tok):
        top = tokens.TAG_BASE + len(tokens.TAGS)
        self.tok = tok
        self.id = np.full(top, -1, np.int32)
        self.kind = np.zeros(top, np.int32)
        for code, number in tok.by_code.items():
            self.id[code] = number
        for c, number in tok.classes.items():
            if c != " ":
                self.kind[ord(c)] = number

    def edges(self, page):
        """Left, top, right and bottom of the block of each patch as shares of the view [ph, pw, 4]; NaN where there is none"""
        h, w = page.view.shape
        out = np.full((h // PATCH, w // PATCH, 4), np.nan, np.float32)
        for i in np.flatnonzero(page.codes == DET):
            n = int(np.argmax(page.codes[i:] == DET_END))
            box = [int(v) / 999 for v in re.findall(r"\d+", "".join(map(chr, page.codes[i + 1:i + n])))]
            x0, y0, x1, y1 = (int(v * side) // PATCH for v, side in zip(box, (w, h, w, h)))
            out[y0:y1 + 1, x0:x1 + 1] = box
        return out

    @staticmethod
    def corners(page):
        """As edges(), of the points that a geometry's target tells without standing there: each is its own block."""
        h, w = page.view.shape
        out = np.full((h // PATCH, w // PATCH, 4), np.nan, np.float32)
        for x, y in page.boxes[(page.codes == ord("(")) & (page.boxes[:, 2] >= 0), :2]:
            if 0 <= x < w and 0 <= y < h:
                out[int(y) // PATCH, int(x) // PATCH] = x / w, y / h, x / w, y / h
        return out

    @staticmethod
    def follow(runs, px, py, shape):
        """
        Row and column of the patch where reading goes on after the line, table cell,
        block or atom of each patch [ph, pw, 2], -1 where there is none; runs [n]
        counts them, for the characters that are in patches px, py.
        """
        out = np.full((*shape, 2), -1, np.int16)
        begins = np.flatnonzero(np.diff(runs, prepend=-1))
        after = np.searchsorted(begins, np.arange(len(runs)), side="right")
        has = after < len(begins)
        to = begins[after[has]]
        out[py[has], px[has]] = np.stack([py[to], px[to]], 1)
        return out

    def of(self, page, kind="text"):
        """
        ids [n], cell in the visual sequence [n] or -1, sub-cell 0..15 [n], and for each patch its
        classes [ph, pw, slots] and what follows it [ph, pw, 2]; kind is that of the request
        """
        h, w = page.view.shape
        codes, boxes = page.codes, page.boxes
        # an empty line is one token
        newline = codes == 10
        first = np.zeros(len(codes), bool)
        i = 0
        for i in np.flatnonzero(newline[:-1] & newline[1:]):
            first[i] = i == 0 or not first[i - 1]
        keep = np.ones(len(codes), bool)
        keep[1:] &= ~first[:-1]
        ids = self.id[codes]
        ids[first] = self.tok.blank_line
        codes, boxes, ids = codes[keep], boxes[keep], ids[keep]
        known = ids >= 0
        codes, boxes, ids = codes[known], boxes[known], ids[known]

        cx, cy = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
        placed = (boxes[:, 2] >= 0) & (cx > -CELL) & (cy > -CELL)
        px = np.clip(cx // PATCH, 0, w // PATCH - 1).astype(np.int64)
        py = np.clip(cy // PATCH, 0, h // PATCH - 1).astype(np.int64)
        cell = np.where(placed, (py // 4) * (w // CELL + 1) + px // 4, -1)
        sub = np.where(placed, (py % 4) * 4 + px % 4, -1)

        # only characters are to be seen in a patch: the box of "nothing" says where a table cell begins, and one without
        # area where to look for what is not written there; but the first character for such a place in a drawing, where a
        # "C" is a corner of a molecule, is its name
        seen = placed & (self.kind[codes] > 0)
        if kind in DRAWINGS:
            seen[1:] &= (boxes[1:] != boxes[:-1]).any(1) | (boxes[1:, 2] > boxes[1:, 0])
        else:
            seen &= boxes[:, 2] > boxes[:, 0]
        patch = np.zeros((h // PATCH, w // PATCH, PATCH_SLOTS), np.int32)
        flat = (py * (w // PATCH) + px)[seen]
        order = np.argsort(flat, kind="stable")
        at = flat[order]
        rank = np.arange(len(at)) - np.searchsorted(at, at)
        fits = rank < PATCH_SLOTS
        patch.reshape(-1, PATCH_SLOTS)[at[fits], rank[fits]] = self.kind[codes[seen]][order][fits]
        atoms = (codes >= ord("A")) & (codes <= ord("Z"))
        runs = np.cumsum(atoms if kind == "molecule" else (codes == 10) | (codes >= tokens.TAG_BASE))
        if kind == "molecule":
            seen &= atoms
        return ids, cell, sub, patch, self.follow(runs[seen], px[seen], py[seen], patch.shape[:2])
