"""What is trained on: the next token, and helpers that the checkpoint does not keep.

The helpers make reading learnable in hours instead of weeks: the encoder names
the characters of each patch and of each cell, how far its block reaches and where
reading goes on after its line; some heads of the decoder are told which cell the
next character is in; hidden states tell where in that cell it is, and where on the
page that and each other cell is.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

import fast
from bank import counting, laying
from blocks import (EDGE_BINS, FOLLOW_BINS, boxes_of_text, by_cells, directing, edges, edges_from_patches, edges_of_blocks,
                    follow_from_patches, following, following_blocks, spelling)
from guides import (COLUMNS, KEPT, PLACING_LAYERS, ROWS, TELLING_LAYERS, guidance, places, placing, spelling_cells,
                    telling)
from lines import HOME_LAYER, homes, homing
from model import tiles_of
from names import Naming, naming
from pages import IGNORE, PATCH_SLOTS
from walks import ORDERS, RANKS, SECTORS, knowing, numbering, sights

TILED = 3  # times as much does it count where a head looks in a page of tiles, which has many more cells


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
        self.bond = nn.ModuleList([Naming(neck, 1, 64, SECTORS * ORDERS), Naming(hidden, 16, 48, SECTORS * ORDERS)])
        self.rank = Naming(hidden, 16, 48, RANKS)
        self.named = nn.Linear(hidden, RANKS)


def pixels(gray, paper, ink):
    """[B, H, W] bytes and the colours of 255 and 0 to [B, 3, H, W] as the engine normalises"""
    if fast.usable(gray):
        return fast.pixels(gray, paper, ink)
    g = gray[:, None].float() / 255
    paper, ink = paper.float()[:, :, None, None], ink.float()[:, :, None, None]
    return (ink + g * (paper - ink)).round_().div_(127.5).sub_(1.0)


def seeing(helpers, batch, weights, cells, patches, names, out):
    """What patches and cells tell: characters, edges of blocks, where reading goes on, bonds.  Figures go to out."""
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
    if "bond" in batch:
        of_near, out["pbond"] = knowing(helpers.bond[0], near, batch["bond"], ORDERS)
        of_far, out["cbond"] = knowing(helpers.bond[1], cells, by_cells(batch["bond"]), ORDERS)
        rank, out["rank"] = knowing(helpers.rank, cells, by_cells(batch["rank"]), RANKS)
        total = total + weights["bond"] * (of_near + of_far) + weights["rank"] * rank
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
    """Which cell the guided heads look at for the next character, the place in it, and where the line or the bond began."""
    cell, weight = batch["cell"][:, 1:], batch["weight"][:, 1:]
    out["guide"], out["gacc"] = guidance(model, cell, weight, first)
    want = batch["sub"][:, 1:][cell >= 0]
    early, z = (helpers.sub(hidden[i][:, first:])[cell >= 0].float() for i in TELLING_LAYERS)
    out["sub"] = F.cross_entropy(z, want)
    with torch.no_grad():
        out["sacc"] = (z.argmax(-1) == want).float().mean()
    told = [telling(helpers.place, hidden[i][:, first:], cell, weight, batch["view"].shape[2] // 64) for i in TELLING_LAYERS]
    # with the place in the cell, so that who looks back at a line knows its height to a quarter of a cell
    out["tell"], out["told"] = sum(loss for loss, _ in told) + F.cross_entropy(early, want), told[-1][1]
    where = weights["guide"] * out["guide"] + weights["tell"] * out["tell"]
    there = homes(batch["line"]) if "line" in batch else sights(batch["origin"]) if "origin" in batch else None
    if there is not None:
        attention = model.model.layers[HOME_LAYER].self_attn
        out["back"], out["home"] = homing(attention, there[:, 1:, 1:], weight, first)
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
    if "named" in batch:
        counts = [numbering(helpers.named, hidden[i][:, first:], batch["named"][:, 1:]) for i in PLACING_LAYERS]
        out["named"] = counts[-1][1]
        total = total + weights["rank"] * sum(loss for loss, _ in counts)
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
