"""What is trained on: the next token, and helpers that the checkpoint does not keep.

The helpers make reading learnable in hours instead of weeks: the encoder names
the characters of each patch and of each cell, how far its block reaches and where
reading goes on after its line; some heads of the decoder are told which cell the
next character is in; hidden states tell where in that cell it is, and where on the
page that and each other cell is.
"""
import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

import fast
import tokens
from blocks import (EDGE_BINS, FOLLOW_BINS, SLOTS, begun, boxes_of_text, by_cells, directing, edges, edges_from_patches,
                    edges_of_blocks, follow_from_patches, following, following_blocks, spelling)
from lines import HOME_LAYER, homing
from model import tiles_of, woven
from pages import IGNORE, PATCH_SLOTS

GUIDED = {1: 2, 2: 3, 3: 4}  # decoder layer: heads that are told where to look
POINTER_LAYER = 2
PLACING_LAYERS = (0, 1)  # after which the decoder knows where on the page each cell is, and the box that begins there
TELLING_LAYERS = (1, 2)  # after which it knows where the next character is, and the box that is being written
ROWS, COLUMNS = 72, 48  # rows of an overview count from OVERVIEW_ROWS on
OVERVIEW_ROWS = 48
KEPT = (*PLACING_LAYERS, *(i for i in GUIDED if i not in PLACING_LAYERS))
EMPTY_SHARE = 0.06  # of the empty slots are trained on
TILED = 3  # times as much does it count where a head looks in a page of tiles, which has many more cells
SCORES = 1 << 27  # of guided heads at a time, so that long pages fit in memory


class Naming(nn.Module):
    """Scores of classes for each patch, out of its features or of those of its cell."""

    def __init__(self, inputs, patches, width, classes):
        super().__init__()
        self.width = width
        self.first = nn.Linear(inputs, patches * width)
        self.second = nn.Linear(width, classes)

    def forward(self, features, chosen):
        return self.second(F.gelu(self.first(features).reshape(-1, self.width)[chosen])).float()


class Helpers(nn.Module):
    def __init__(self, neck, hidden, classes):
        super().__init__()
        self.p1 = nn.Linear(neck, PATCH_SLOTS * 64)
        self.p2 = nn.Linear(64, classes)
        self.c1 = nn.Linear(hidden, 16 * PATCH_SLOTS * 48)
        self.c2 = nn.Linear(48, classes)
        self.sub = nn.Linear(hidden, 16)
        self.edge = nn.ModuleList([Naming(neck, 1, 64, 4 * EDGE_BINS), Naming(hidden, 16, 48, 4 * EDGE_BINS)])
        self.follow = nn.ModuleList([Naming(neck, 1, 64, 2 * FOLLOW_BINS), Naming(hidden, 16, 48, 2 * FOLLOW_BINS)])
        self.place = nn.Linear(hidden, ROWS + COLUMNS)
        self.digits = nn.Linear(hidden, 4 * 2 * 10)


def choose_slots(labels):
    """
    Indices of all slots with a character and of a few without, and their
    labels; filled up to a multiple of SLOTS with what is not counted.
    """
    labels = labels.reshape(-1)
    take = (labels > 0) | (torch.rand(labels.shape[0], device=labels.device) < EMPTY_SHARE)
    i = take.nonzero()[:, 0]
    more = -i.shape[0] % SLOTS
    return F.pad(i, (0, more)), F.pad(labels[i].long(), (0, more), value=IGNORE)


def naming(first, second, features, labels, width):
    i, want = choose_slots(labels)
    z = second(F.gelu(first(features).reshape(-1, width)[i]))
    with torch.no_grad():
        seen = want > 0
        right = (z[seen].argmax(-1) == want[seen]).float().mean()
    return F.cross_entropy(z.float(), want, ignore_index=IGNORE), right


def places(grids, device):
    """Row and column of each cell and line end of the visual sequence; grids: (rows, columns) of the page and of its overview"""
    parts = []
    for (h, w), first in zip(grids, (0, OVERVIEW_ROWS)):
        row, column = torch.arange(first, first + h), torch.arange(w + 1)
        parts.append(torch.stack([row.repeat_interleave(w + 1), column.repeat(h)]))
    return torch.cat(parts, 1).to(device)


def placing(module, states, where):
    """
    Cross entropy of row and column, and how often both are right.  A tile's
    cells do not know which tile they are of, so that the decoder has to count.
    """
    z = module(states).float()
    row, column = z[..., :ROWS].transpose(1, 2), z[..., ROWS:].transpose(1, 2)
    want = where[:, None].expand(2, z.shape[0], -1)
    with torch.no_grad():
        right = ((row.argmax(1) == want[0]) & (column.argmax(1) == want[1])).float().mean()
    return F.cross_entropy(row, want[0]) + F.cross_entropy(column, want[1]), right


def telling(module, states, cell, weight, columns):
    """
    Weighted cross entropy of row and column of the next character's cell, out of what is
    known where that character is decided, and how often both are right.  With it what is
    written next can look on from there, a line down if need be.
    """
    known = cell >= 0
    cell, weight = cell[known], weight[known]
    row, column = module(states[known]).float().split([ROWS, COLUMNS], 1)
    where = cell // (columns + 1), cell % (columns + 1)
    with torch.no_grad():
        right = ((row.argmax(1) == where[0]) & (column.argmax(1) == where[1])).float().mean()
    each = F.cross_entropy(row, where[0], reduction="none") + F.cross_entropy(column, where[1], reduction="none")
    return (each * weight).sum() / (weight.sum() + 1e-6), right


class Bank:
    """
    Views of the last steps: cells, to count pages of tiles without encoding so many,
    and pages as CLIP got them, to teach it their layout without running SAM again.
    """

    KEPT = 48
    PAGES, DRAWN = 512, 16
    SPELLED = 6  # of those drawn go on to the decoder's first layers
    SHAPES = [(3, 2)] * 4 + [(r, c) for r in range(1, 5) for c in range(1, 5) if 2 <= r * c <= 9]

    def __init__(self, seed):
        self.tiles, self.overviews, self.pages, self.random = [], [], [], random.Random(seed)

    def keep(self, cells):
        """cells: [views, h, w, d]"""
        side = cells.shape[1:3]
        kind = self.tiles if side == (10, 10) else self.overviews if side == (16, 16) else []
        kind.extend(cells.unbind())
        del kind[:-self.KEPT]

    def draw(self):
        """Tiles [n, 10, 10, d] of a page that never was, their rows and columns, and an overview [1, 16, 16, d]; or None"""
        if not self.tiles or not self.overviews:
            return None
        rows, columns = self.random.choice(self.SHAPES)
        tiles = torch.stack(self.random.choices(self.tiles, k=rows * columns))
        return tiles, rows, columns, self.random.choice(self.overviews)[None]


    def keep_pages(self, seen, names, follow, edge):
        """seen: [pages, c, n, n]; only those of small mode, so that they go together"""
        if seen.shape[2] == 10:
            self.pages.extend(zip(seen, names, follow, edge))
            del self.pages[:-self.PAGES]

    def draw_pages(self):
        """As keep_pages() got them, or None while there are few"""
        if len(self.pages) < 2 * self.DRAWN:
            return None
        return [torch.stack(part) for part in zip(*self.random.sample(self.pages, self.DRAWN))]


def first_states(model, grids):
    """States of the visual sequence, between its beginning and its end, after each of PLACING_LAYERS"""
    x = model.sequence(grids)
    x = torch.cat([model.model.embed_tokens.weight[tokens.BOS_ID].expand(len(x), 1, -1).float(), x.float()], 1)
    cos, sin = model.rotary(0, x.shape[1], x)
    states = []
    for i in range(max(PLACING_LAYERS) + 1):
        x = model.model.layers[i](x, cos, sin)
        if i in PLACING_LAYERS:
            states.append(x)
    return states


def spelling_cells(module, states, edge):
    """spelling() of the cells of a page, out of states of its visual sequence and what may come behind it"""
    boxes = F.pad(begun(edge), (0, 0, 0, 1), value=math.nan).flatten(1, 2)  # with the ends of rows
    return sum(spelling(module, x[:, 1:1 + boxes.shape[1]], boxes)[0] for x in states)


def laying(model, helpers, batch, weights, bank):
    """
    seeing() and directing() of CLIP alone, on pages of the last steps: it has to learn
    how far blocks reach and what follows what, from far fewer places than there are letters.
    The decoder's first layers learn to spell the boxes of some.
    """
    seen, follow = model.model.sam_model.kept, batch["follow"]
    edge = batch.get("edge", torch.full((*follow.shape[:3], 4), math.nan, device=follow.device))
    bank.keep_pages(seen, batch["patch"], follow, edge)
    drawn = bank.draw_pages()
    if drawn is None:
        return 0.0
    seen, names, follow, edge = drawn
    cells = model.cells(seen)
    loss, _ = naming(helpers.c1, helpers.c2, cells, by_cells(names), 48)
    total = weights["cell"] * loss
    total = total + weights["edge"] * edges_of_blocks(helpers.edge[1], cells, edge)[0]
    total = total + weights["follow"] * following_blocks(helpers.follow[1], cells, follow, edge)[0]
    of = (~torch.isnan(edge[..., 0])).flatten(1).any(1).nonzero()[:bank.SPELLED, 0]
    if len(of):
        total = total + weights["spell"] * spelling_cells(helpers.digits, first_states(model, [cells[of]]), edge[of])
    return total + weights["point"] * directing(model, dict(follow=follow, edge=edge), {})


def counting(model, helpers, bank):
    """
    placing() on a page made of random views.  The decoder has to count a page's
    cells by where they are in the sequence, whatever is in them, and of a real page
    of so many tiles the encoder's part costs most.
    """
    drawn = bank.draw()
    if drawn is None:
        return 0.0, torch.tensor(math.nan)
    tiles, rows, columns, overview = drawn
    grids = [woven(tiles, rows, columns), overview]
    where = places([g.shape[1:3] for g in grids], tiles.device)
    found = [placing(helpers.place, states[:, 1:-1], where) for states in first_states(model, grids)]
    return sum(loss for loss, _ in found), found[-1][1]


def guidance(model, cell, weight, first):
    """Weighted cross entropy of where the guided heads look, and how often the first of them is right."""
    total = 0.0
    for layer, heads in GUIDED.items():
        q, k = model.model.layers[layer].self_attn.kept
        q, k = q[:, :heads, first:], k[:, :heads, 1:first - 1]  # B heads L d, B heads visual d
        pages = max(1, SCORES // (heads * q.shape[2] * k.shape[2]))
        loss, right, count, total_weight = 0.0, 0.0, 0, 0.0
        for b in range(0, q.shape[0], pages):
            want = cell[b:b + pages]
            where = want >= 0
            want, much = want[where], weight[b:b + pages][where]
            s = (q[b:b + pages] @ k[b:b + pages].transpose(2, 3)).transpose(1, 2)[where]
            s = s.float() * q.shape[-1] ** -0.5
            each = F.cross_entropy(s.flatten(0, 1), want.repeat_interleave(heads), reduction="none")
            loss = loss + (each.view(-1, heads).mean(1) * much).sum()
            total_weight = total_weight + much.sum()
            count += want.numel()
            if layer == POINTER_LAYER:
                with torch.no_grad():
                    right = right + (s[:, 0].argmax(-1) == want).float().sum()
        total = total + loss / (total_weight + 1e-6)
        if layer == POINTER_LAYER:
            share = right / max(1, count)
    return total / len(GUIDED), share


def pixels(gray, paper, ink):
    """[B, H, W] bytes and the colours of 255 and 0 to [B, 3, H, W] as the engine normalises"""
    if fast.usable(gray):
        return fast.pixels(gray, paper, ink)
    g = gray[:, None].float() / 255
    paper, ink = paper.float()[:, :, None, None], ink.float()[:, :, None, None]
    return (ink + g * (paper - ink)).round_().div_(127.5).sub_(1.0)


def seeing(helpers, batch, weights, cells, patches, names, out):
    """What patches and cells tell: characters, edges of blocks, where reading goes on.  Figures go to out."""
    near, total = patches.permute(0, 2, 3, 1), 0.0
    if weights["patch"] > 0:
        out["patch"], out["pacc"] = naming(helpers.p1, helpers.p2, near, names, 64)
        total = total + weights["patch"] * out["patch"]
    if weights["cell"] > 0:
        out["cell"], out["cacc"] = naming(helpers.c1, helpers.c2, cells, by_cells(names), 48)
        total = total + weights["cell"] * out["cell"]
    if "edge" in batch:
        of_near, _ = edges(helpers.edge[0], near, edges_from_patches(batch["edge"]))
        of_far, out["begin"], out["edge"] = edges_of_blocks(helpers.edge[1], cells, batch["edge"])
        out["edgeloss"] = of_near + of_far
        total = total + weights["edge"] * out["edgeloss"]
    if "follow" in batch:
        of_near, _ = following(helpers.follow[0], near, follow_from_patches(batch["follow"]))
        if "edge" in batch:
            of_far, out["leap"], out["follow"] = following_blocks(helpers.follow[1], cells, batch["follow"], batch["edge"])
        else:
            of_far, out["follow"] = following(helpers.follow[1], cells, by_cells(batch["follow"]))
        out["followloss"] = of_near + of_far
        total = total + weights["follow"] * out["followloss"]
    return total


def writing(logits, labels, weight, out):
    """The next character."""
    mask = labels != IGNORE
    z, want, weight = logits[mask].float(), labels[mask], weight[mask]
    out["lm"] = (F.cross_entropy(z, want, reduction="none") * weight).sum() / weight.sum()
    with torch.no_grad():
        out["acc"] = (z.argmax(-1) == want).float().mean()
    return out["lm"]


def looking(model, helpers, batch, weights, hidden, first, out):
    """Which cell the guided heads look at for the next character, the place in it, and where the line began."""
    cell, weight = batch["cell"][:, 1:], batch["weight"][:, 1:]
    out["guide"], out["gacc"] = guidance(model, cell, weight, first)
    z = helpers.sub(hidden[POINTER_LAYER][:, first:])[cell >= 0]
    want = batch["sub"][:, 1:][cell >= 0]
    out["sub"] = F.cross_entropy(z.float(), want)
    with torch.no_grad():
        out["sacc"] = (z.argmax(-1) == want).float().mean()
    told = [telling(helpers.place, hidden[i][:, first:], cell, weight, batch["view"].shape[2] // 64) for i in TELLING_LAYERS]
    out["tell"], out["told"] = sum(loss for loss, _ in told), told[-1][1]
    where = weights["guide"] * out["guide"] + weights["tell"] * out["tell"]
    if "line" in batch:
        attention = model.model.layers[HOME_LAYER].self_attn
        out["back"], out["home"] = homing(attention, batch["line"][:, 1:], weight, first)
        where = where + weights["home"] * out["back"]
    return where * (TILED if "overview" in batch else 1) + weights["sub"] * out["sub"]


def boxing(helpers, batch, hidden, first, out):
    """spelling() of the cells that are looked at, and where a box is being written."""
    total = spelling_cells(helpers.digits, [hidden[i] for i in PLACING_LAYERS], batch["edge"])
    boxes = boxes_of_text(*(batch[k][:, 1:] for k in ("cell", "sub", "boxed")), batch["edge"])
    for i in TELLING_LAYERS:
        loss, out["spelled"] = spelling(helpers.digits, hidden[i][:, first:], boxes)
        total = total + loss
    out["spell"] = total
    return total


def reading(model, helpers, batch, weights, grids, out):
    """What the decoder makes of the cells of a page and of its overview.  Figures go to out."""
    visual = model.sequence(grids)
    first = 1 + visual.shape[1]
    logits, hidden = model.decode(visual, batch["ids"][:, :-1], KEPT)
    total = writing(logits, batch["labels"][:, 1:], batch["weight"][:, 1:], out)
    total = total + weights["moe"] * sum(layer.mlp.balance for layer in model.model.layers if hasattr(layer.mlp, "balance"))
    if weights["place"] > 0:
        where = places([g.shape[1:3] for g in grids], visual.device)
        found = [placing(helpers.place, hidden[i][:, 1:first - 1], where) for i in PLACING_LAYERS]
        out["place"], out["where"] = found[0][0] + found[1][0], found[1][1]
        total = total + weights["place"] * out["place"]
    if weights["guide"] > 0:
        total = total + looking(model, helpers, batch, weights, hidden, first, out)
    if "boxed" in batch:
        total = total + weights["spell"] * boxing(helpers, batch, hidden, first, out)
    return total


def compute(model, helpers, batch, weights, bank=None):
    """
    Total loss and figures to log; with a bank there is counting in every step that
    reads.  Of a batch with "unread" only the encoder learns, of one with "frozen"
    only the decoder.
    """
    out, total = {}, 0.0
    overview, frozen = batch.get("overview"), "frozen" in batch
    with torch.autocast(batch["view"].device.type, torch.bfloat16):
        image = pixels(batch["view"], batch["paper"], batch["ink"])
        names = batch["patch"]
        if overview is not None:
            overview = pixels(overview, batch["paper"], batch["ink"])
            names = tiles_of(names, model.TILE // 16, model.TILE // 16)
        grids, cells, patches = model.encode(image, overview, frozen)
        if not frozen:
            total = total + seeing(helpers, batch, weights, cells, patches, names, out)
            total = total + weights["point"] * directing(model, batch, out)
            if bank is not None and "follow" in batch:
                total = total + laying(model, helpers, batch, weights, bank)
        if "unread" not in batch:
            total = total + reading(model, helpers, batch, weights, grids, out)
            if bank is not None:
                # the last, as the layers it runs forget what they kept of the page
                bank.keep(cells.detach())
                loss, out["counted"] = counting(model, helpers, bank)
                total = total + weights["count"] * loss
    return total, {k: v.detach() for k, v in out.items()}
