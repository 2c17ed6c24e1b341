"""Batches out of the renderer.

Which view the batches of step s have is the same on all ranks, so that none
waits for another.  Batches come in groups of the same mix, sorted by length:
pages of a batch are about equally long.  Everything follows from the seed and
the number of the group, so that a run goes on where it stopped.
"""
import random

import numpy as np
import torch

import pages
import tokens
from lines import lines
from walks import bonds_by_patch, named, origins, ranks_by_patch

GROUP = 3  # batches
TILE_CELLS = 10  # in a row of a tile
CROSSED = 3  # letters behind a border that count more
FREE_SEEDS = 1 << 62  # from here on seeds belong to evaluation


def stage_of(plan, seen, number=None):
    if number is not None:
        return plan["stages"][number]
    return next(s for s in plan["stages"] if seen < s["until"])


def choose(stage, seed, group):
    rows = stage["mix"]
    return random.Random(f"{seed}/{group}").choices(rows, [r["p"] for r in rows])[0]


def kind_of(row):
    return row["request"].split()[0]


def name_of(row):
    """How the curve calls the batches of a row of the plan: size and kind of the pages, g = with boxes, unread = for the encoder"""
    kind = kind_of(row)
    kind += "g" if "grounded=1" in row["request"] else ""
    return f"{row['view'][0]}x{row['view'][1]} {kind}" + (" unread" if row.get("unread") else "")


def prompt_of(page, task):
    """What is asked about a page: to locate is to locate what its answer begins with."""
    prompt = tokens.PROMPTS[task]
    return prompt % page.subject() if task == "locate" else prompt


def rounded(length):
    """A little longer, so that lengths recur: on a CPU products are compiled for each shape."""
    step = 16 if length <= 128 else 32 if length <= 512 else 64
    return -(-length // step) * step


def weigh(ids, labels, tok):
    """
    How much each label counts: where a line, a cell of a table or a block begins
    and ends decides what becomes of all that follows.  Of a box's numbers the
    hundreds count more; the last digit stands for less than a pixel.
    """
    weight = 1 + 3 * (labels == tokens.EOS_ID) + np.isin(labels, tok.breaks)
    weight[:, 1:] += 3 * np.isin(ids[:, :-1], tok.breaks)
    inside = np.cumsum(ids == tok.tag["<|det|>"], 1) > np.cumsum(ids == tok.tag["<|/det|>"], 1)
    digit = np.pad(inside & np.isin(ids, tok.digits), ((0, 0), (0, 2)))
    hundreds, tens, ones = digit[:, 2:] & digit[:, 1:-1], digit[:, 1:-1] & ~digit[:, 2:], ~digit[:, 1:-1]
    weight = weight + digit[:, :-2] * (2 * hundreds + 1 * tens - 0.7 * ones)
    return weight.astype(np.float32)


def boxed(ids, tok):
    """Whether each token is part of what is said of a block before its text."""
    return torch.cumsum(ids == tok.tag["<|ref|>"], 1) > torch.cumsum(ids == tok.tag["<|/det|>"], 1)


def crossings(cell, columns):
    """
    The first letters behind a border between tiles, as 1: there the next cell is
    another tile's first, which looks like the beginning of a line.
    """
    tile = np.where(cell >= 0, cell % (columns + 1) // TILE_CELLS, -1)
    over = (tile[:, 1:] > tile[:, :-1]) & (tile[:, :-1] >= 0)
    behind = np.zeros(cell.shape, bool)
    for i in range(1, 1 + CROSSED):
        behind[:, i:] |= over[:, :over.shape[1] + 1 - i]
    return behind & (cell >= 0)


def depths(cell, columns):
    """
    How many tiles down each letter is, and what is not placed as the letter before it.
    Few pages are so long, and there lines are lost most often.
    """
    return np.maximum.accumulate(np.maximum(cell, 0), 1) // ((columns + 1) * TILE_CELLS)


def collate(samples, prompts, tok):
    """samples: (page, ids, cell, sub, patch, follow); ids get their prompt before them and the end after them"""
    length = 1 + rounded(max(len(p) + len(s[1]) for p, s in zip(prompts, samples)))
    b = len(samples)
    ids = np.full((b, length), tokens.PAD_ID, np.int64)
    labels = np.full((b, length), pages.IGNORE, np.int64)
    cell = np.full((b, length), -1, np.int64)
    sub = np.full((b, length), -1, np.int64)
    for i, (_, t, c, s, *_) in enumerate(samples):
        n, p = len(t), len(prompts[i])
        ids[i, :p] = prompts[i]
        ids[i, p:p + n] = labels[i, p:p + n] = t
        ids[i, p + n] = labels[i, p + n] = tokens.EOS_ID
        cell[i, p:p + n], sub[i, p:p + n] = c, s
    weight = weigh(ids, labels, tok)
    if samples[0][0].overview is not None:
        columns = samples[0][0].view.shape[1] // 64
        weight = (weight + 3 * crossings(cell, columns)) * (1 + depths(cell, columns)).astype(np.float32)
    batch = dict(view=np.stack([s[0].view for s in samples]), paper=np.stack([s[0].paper for s in samples]),
                 ink=np.stack([s[0].ink for s in samples]), patch=np.stack([s[4] for s in samples]),
                 ids=ids, labels=labels, cell=cell, sub=sub, weight=weight, line=lines(ids, labels, tok.lines, pages.IGNORE))
    if samples[0][0].overview is not None:
        batch["overview"] = np.stack([s[0].overview for s in samples])
    else:
        batch["follow"] = np.stack([s[5] for s in samples])
    return {k: torch.from_numpy(v) for k, v in batch.items()}


class Source:
    """The groups of one worker: number first, first + stride, ..."""

    def __init__(self, program, pack, tok, seed, rank, scale=1.0):
        self.renderer = pages.Renderer(program, pack)
        self.labels = pages.Labels(tok)
        self.tok, self.seed, self.rank, self.scale = tok, seed, rank, scale
        self.asked = {}

    def _size(self, row):
        return max(1, int(row["batch"] * self.scale))

    def ask(self, row, group):
        """Lets the renderer begin; take() wants the same order."""
        w, h = row["view"]
        first = (self.seed * 1_000_003 + group * 64 + self.rank) * 65_536 % FREE_SEEDS
        request = f"{row['request']} w={w} h={h} global={row.get('overview', 0)} seed={first}"
        self.renderer.ask(request, self._size(row) * GROUP)

    def take(self, row, group):
        n, kind = self._size(row), kind_of(row)
        samples = []
        for _ in range(n * GROUP):
            page = self.renderer.take()
            samples.append((page, *self.labels.of(page, kind)))
        samples.sort(key=lambda s: len(s[1]))
        prompts = [self.tok.encode(prompt_of(s[0], row["task"])) for s in samples]
        rng = random.Random(f"{self.seed}/{group}/order")
        order = rng.sample(range(GROUP), GROUP)
        batches = [collate(samples[i * n:(i + 1) * n], prompts[i * n:(i + 1) * n], self.tok) for i in order]
        if kind == "geometry" or row["task"] == "markdown" and "overview" not in row:
            edges = self.labels.corners if kind == "geometry" else self.labels.edges
            for i, batch in zip(order, batches):
                batch["edge"] = torch.from_numpy(np.stack([edges(s[0]) for s in samples[i * n:(i + 1) * n]]))
                if row["task"] == "markdown":
                    batch["boxed"] = boxed(batch["ids"], self.tok)
        if kind == "molecule":
            for i, batch in zip(order, batches):
                for name, of in (("bond", bonds_by_patch), ("rank", ranks_by_patch)):
                    batch[name] = torch.from_numpy(np.stack([of(s[0], pages.PATCH) for s in samples[i * n:(i + 1) * n]]))
                for name, of in (("origin", origins), ("named", named)):
                    batch[name] = torch.from_numpy(of(batch["ids"].numpy(), batch["labels"].numpy(), self.tok, pages.IGNORE))
        frozen = rng.random() < row.get("frozen", 0)
        for batch in batches:
            if kind in pages.DRAWINGS:
                del batch["line"]
            batch["name"] = torch.frombuffer(bytearray(name_of(row).encode()), dtype=torch.uint8)
            if frozen:
                batch["frozen"] = torch.ones(1)
            if row.get("unread"):
                batch["unread"] = torch.ones(1)
        return batches


class Stream(torch.utils.data.IterableDataset):
    """For many worker processes: worker i makes groups first + i, first + i + workers, ..."""

    def __init__(self, program, pack, tok_path, seed, stage, first, scale):
        self.arguments = (program, pack, tok_path, seed, stage, first, scale)

    def __iter__(self):
        program, pack, tok_path, seed, stage, first, scale = self.arguments
        info = torch.utils.data.get_worker_info()
        torch.set_num_threads(1)
        source = Source(program, pack, tokens.Tokens(tok_path), seed, 0, scale)
        group = first + info.id
        while True:
            row = choose(stage, seed, group)
            source.ask(row, group)
            for batch in source.take(row, group):
                yield batch
            group += info.num_workers
