"""What is trained on: the next token, and helpers that the checkpoint does not keep.

The helpers make reading learnable in hours instead of weeks: the encoder names
the characters of each patch and of each cell and how far its block reaches; some
heads of the decoder are told which cell the next character is in; hidden states
tell where in that cell it is, and where on the page each cell.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

import fast
from model import tiles_of
from pages import IGNORE, PATCH_SLOTS

GUIDED = {1: 2, 2: 4, 3: 4}  # decoder layer: heads that are told where to look
POINTER_LAYER = 2
PLACING_LAYERS = (0, 1)  # after which the decoder knows where on the page each cell is
ROWS, COLUMNS = 72, 48  # rows of an overview count from OVERVIEW_ROWS on
OVERVIEW_ROWS = 48
KEPT = (*PLACING_LAYERS, *(i for i in GUIDED if i not in PLACING_LAYERS))
EMPTY_SHARE = 0.06  # of the empty slots are trained on
SLOTS = 512  # on a CPU products are compiled for each shape, so that few shapes are faster than small ones
SCORES = 1 << 27  # of guided heads at a time, so that long pages fit in memory


class Helpers(nn.Module):
    def __init__(self, neck, hidden, classes):
        super().__init__()
        self.p1 = nn.Linear(neck, PATCH_SLOTS * 64)
        self.p2 = nn.Linear(64, classes)
        self.c1 = nn.Linear(hidden, 16 * PATCH_SLOTS * 48)
        self.c2 = nn.Linear(48, classes)
        self.sub = nn.Linear(hidden, 16)
        self.edge = nn.Linear(hidden, 16 * 4)
        self.place = nn.Linear(hidden, ROWS + COLUMNS)


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


def edges(module, cells, want):
    """
    Smooth error and mean error of where the block of each patch ends on its four
    sides; want [B, h, w, 4] in shares of the view, NaN where there is no block.
    """
    B, h, w, _ = want.shape
    z = module(F.layer_norm(cells.float(), cells.shape[-1:])).float()
    # Adam's step is as large for a weight of any scale: without the factor the edges jump about
    z = 0.5 + 0.1 * z.view(B, h // 4, w // 4, 4, 4, 4).transpose(2, 3).reshape(B, h, w, 4)
    known = ~torch.isnan(want)
    z, want = z[known], want[known]
    return F.smooth_l1_loss(z, want, beta=0.1), (z.detach() - want).abs().mean()


def places(image, overview):
    """Row and column of each cell and line end of the visual sequence"""
    parts = []
    for view, first in ((image, 0), (overview, OVERVIEW_ROWS)):
        if view is not None:
            h, w = view.shape[2] // 64, view.shape[3] // 64
            row, column = torch.arange(first, first + h), torch.arange(w + 1)
            parts.append(torch.stack([row.repeat_interleave(w + 1), column.repeat(h)]))
    return torch.cat(parts, 1).to(image.device)


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


def compute(model, helpers, batch, weights):
    """Total loss and figures to log."""
    out = {}
    overview, frozen = batch.get("overview"), "frozen" in batch
    with torch.autocast(batch["view"].device.type, torch.bfloat16):
        image = pixels(batch["view"], batch["paper"], batch["ink"])
        if overview is not None:
            overview = pixels(overview, batch["paper"], batch["ink"])
        logits, cells, patches, hidden, first = model(image, overview, batch["ids"][:, :-1], KEPT, frozen)
        labels = batch["labels"][:, 1:]
        mask = labels != IGNORE
        z, want, weight = logits[mask].float(), labels[mask], batch["weight"][:, 1:][mask]
        total = out["lm"] = (F.cross_entropy(z, want, reduction="none") * weight).sum() / weight.sum()
        with torch.no_grad():
            out["acc"] = (z.argmax(-1) == want).float().mean()
        names = batch["patch"]
        if overview is not None:
            names = tiles_of(names, model.TILE // 16, model.TILE // 16)
        if weights["patch"] > 0 and not frozen:
            out["patch"], out["pacc"] = naming(helpers.p1, helpers.p2, patches.permute(0, 2, 3, 1), names, 64)
            total = total + weights["patch"] * out["patch"]
        if weights["cell"] > 0 and not frozen:
            B, h, w, s = names.shape
            grouped = names.view(B, h // 4, 4, w // 4, 4, s).permute(0, 1, 3, 2, 4, 5)
            out["cell"], out["cacc"] = naming(helpers.c1, helpers.c2, cells, grouped, 48)
            total = total + weights["cell"] * out["cell"]
        if "edge" in batch and not frozen:
            loss, out["edge"] = edges(helpers.edge, cells, batch["edge"])
            total = total + weights["edge"] * loss
        if weights["place"] > 0:
            where = places(image, overview)
            found = [placing(helpers.place, hidden[i][:, 1:first - 1], where) for i in PLACING_LAYERS]
            out["place"], out["where"] = found[0][0] + found[1][0], found[1][1]
            total = total + weights["place"] * out["place"]
        if weights["guide"] > 0:
            guide, out["gacc"] = guidance(model, batch["cell"][:, 1:], batch["weight"][:, 1:], first)
            out["guide"] = guide
            where = batch["cell"][:, 1:] >= 0
            z = helpers.sub(hidden[POINTER_LAYER][:, first:])[where]
            want = batch["sub"][:, 1:][where]
            out["sub"] = F.cross_entropy(z.float(), want)
            with torch.no_grad():
                out["sacc"] = (z.argmax(-1) == want).float().mean()
            total = total + weights["guide"] * guide + weights["sub"] * out["sub"]
        balance = sum(layer.mlp.balance for layer in model.model.layers if hasattr(layer.mlp, "balance"))
        total = total + weights["moe"] * balance
    return total, {k: v.detach() for k, v in out.items()}
