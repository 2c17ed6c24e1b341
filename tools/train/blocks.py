"""What the encoder learns of blocks: how far they reach, what follows them, and where CLIP looks for that.

Shapes are [B, h, w, ...] by patches unless said; by_cells() groups them.  Cells
that decide count for half: those where a block begins, as its box is read there,
and those of lines behind which another block follows, as readers get lost there.
"""
import math
from functools import partial

import torch
import torch.nn.functional as F

POINTING = {"next": 1, "top": 2, "bottom": 3, "right": 4}  # heads of CLIP's last layer that are told where to look
EDGE_BINS = 80  # along a side of the view, half a patch of 640
EDGE_REACH = 5  # patches, as far as patches tell edges
FOLLOW_BINS = 64  # patches along a side of the largest view that is one
MOST = 4096  # patches that edges and follow are asked for at a time: neighbours say the same
SLOTS = 512  # on a CPU products are compiled for each shape, so that few shapes are faster than small ones


def by_cells(want):
    """[B, h, w, n] of patches to [B, h / 4, w / 4, 16, n]"""
    B, h, w, n = want.shape
    return want.reshape(B, h // 4, 4, w // 4, 4, n).transpose(2, 3).reshape(B, h // 4, w // 4, 16, n)


def filled(known):
    """Indices of what is known, at most MOST by chance, filled up to a multiple of SLOTS, and how many they are."""
    i = known.reshape(-1).nonzero()[:, 0]
    if i.shape[0] > MOST:
        i = i[torch.randperm(i.shape[0], device=i.device)[:MOST]]
    return F.pad(i, (0, -i.shape[0] % SLOTS)), i.shape[0]


def edges(naming, features, want):
    """
    Cross entropy and mean error of where the block of each patch ends on its four
    sides; want [..., 4] in shares of the view, NaN where there is no block.  What
    lies between the middles of two bins belongs to both.
    """
    i, n = filled(~torch.isnan(want[..., 0]))
    want = want.reshape(-1, 4)[i[:n]]
    z = naming(features, i)[:n].view(n, 4, EDGE_BINS).log_softmax(-1)
    at = (want * EDGE_BINS - 0.5).clamp(0, EDGE_BINS - 1)
    low = at.long()
    both = torch.stack([low, (low + 1).clamp(max=EDGE_BINS - 1)], -1)
    share = torch.stack([low + 1 - at, at - low], -1)
    error = ((z.detach().argmax(-1) + 0.5) / EDGE_BINS - want).abs().mean()
    return -(z.gather(-1, both) * share).sum() / max(1, 4 * n), error


def begins(want):
    """Whether the block of each patch of [B, h, w, 4] begins in the patch's own cell; where there is none, no."""
    first = corner(want, (0, 0))
    cell = [own // 4 for own in own_places(want)]
    return (first[..., 0] // 4 == cell[0]) & (first[..., 1] // 4 == cell[1]) & (first[..., 0] >= 0)


def by_halves(loss, want, nothing, known, mask):
    """loss() of cells where a mask of patches counts for half of what is known; and its figures there and elsewhere."""
    masks = mask, ~mask
    parts = [loss(by_cells(want.masked_fill(~m[..., None], nothing))) for m in masks]
    halves = sum(bool((m & known).any()) for m in masks)
    return (parts[0][0] + parts[1][0]) / max(1, halves), parts[0][1], parts[1][1]


def edges_of_blocks(naming, features, want):
    """
    edges() of cells, where those count for half of it that a block begins in: the
    decoder looks there when it writes the box.  Mean errors of those and of the others.
    """
    return by_halves(partial(edges, naming, features), want, math.nan, ~torch.isnan(want[..., 0]), begins(want))


def begun(want):
    """Box of the first block that begins in each cell, [B, h, w, 4] by patches to [B, h / 4, w / 4, 4]; NaN where none does."""
    own = by_cells(want.masked_fill(~begins(want)[..., None], math.nan))
    at = (~torch.isnan(own[..., 0])).long().argmax(-1)
    return own.gather(3, at[..., None, None].expand(*at.shape, 1, 4))[..., 0, :]


def boxes_of_text(cell, sub, boxed, want):
    """Boxes [B, L, 4] that are written with each character that is boxed and has a place, where its block begins; else NaN."""
    columns = want.shape[2] // 4 + 1
    page = torch.arange(len(cell), device=cell.device)[:, None]
    known = boxed & (cell >= 0)
    cell, sub = cell.clamp(min=0), sub.clamp(min=0)
    box = want[page, cell // columns * 4 + sub // 4, cell % columns * 4 + sub % 4]
    return box.masked_fill(~known[..., None], math.nan)


def spelling(module, states, boxes):
    """
    Cross entropy of hundreds and tens of the four numbers that a box [..., 4] is written as,
    and how often both are right.  What tells edges has to be turned into digits early, so
    that who looks at a block's beginning finds what to write.
    """
    i, n = filled(~torch.isnan(boxes[..., 0]))
    number = (boxes.reshape(-1, 4)[i[:n]] * 999).round().long()
    want = torch.stack([number // 100, number // 10 % 10], -1)
    chosen = states.flatten(0, -2)[i].float()
    z = module(F.rms_norm(chosen, chosen.shape[-1:]))[:n].float().view(n, 4, 2, 10)
    with torch.no_grad():
        right = (z.argmax(-1) == want).all(-1).float().mean()
    return F.cross_entropy(z.flatten(0, 2), want.flatten(), reduction="sum") / max(1, 8 * n), right


def classified(naming, features, want, classes):
    """Cross entropy of the classes want [..., n] of each patch, -1 where there are none, and how often all n are right."""
    i, n = filled(want[..., 0] >= 0)
    each = want.shape[-1]
    want = want.reshape(-1, each)[i[:n]].long()
    z = naming(features, i)[:n].view(n, each, classes)
    with torch.no_grad():
        right = (z.argmax(-1) == want).all(-1).float().mean()
    return F.cross_entropy(z.flatten(0, 1), want.flatten(), reduction="sum") / max(1, each * n), right


def following(naming, features, want):
    """classified() of row and column of the patch where reading goes on after the line of each patch."""
    return classified(naming, features, want, FOLLOW_BINS)


def leaps(follow, edge):
    """Whether reading goes on in another block after the line of each patch of [B, h, w, ...]: few do, and there readers get lost."""
    page = torch.arange(len(follow), device=follow.device)[:, None, None]
    there = edge[page, follow[..., 0].clamp(min=0).long(), follow[..., 1].clamp(min=0).long()]
    known = (follow[..., 0] >= 0) & ~torch.isnan(edge[..., 0]) & ~torch.isnan(there[..., 0])
    return known & (there != edge).any(-1)


def following_blocks(naming, features, follow, edge):
    """following() of cells, where leaps count for half of it; how often it is right at leaps, and elsewhere."""
    return by_halves(partial(following, naming, features), follow, -1, follow[..., 0] >= 0, leaps(follow, edge))


def pointing(attention, head, want, first=None):
    """
    Cross entropy, and how often it is right, of the cell that a guided head of CLIP
    looks at from the cell of each patch; want [B, h, w, 2] is row and column of a
    patch there, -1 where there is none.  Patches that are first count for half of it.
    """
    q, k = (x[:, head].float() for x in attention.kept)
    columns = want.shape[2] // 4
    want = by_cells(want).flatten(1, 2)
    known = want[..., 0] >= 0
    want = 1 + (want[..., 0] // 4 * columns + want[..., 1] // 4).long().clamp(min=0)
    z = (q[:, 1:] @ k.transpose(1, 2) * q.shape[-1] ** -0.5).log_softmax(-1)
    with torch.no_grad():
        right = (z.argmax(-1, keepdim=True) == want)[known].float().mean()
    each = -z.gather(-1, want)
    if first is None:
        return each[known].sum() / known.sum().clamp(min=1), right
    first = by_cells(first[..., None]).flatten(1, 2)[..., 0]
    parts = [each[mask].mean() for mask in (known & first, known & ~first) if mask.any()]
    return sum(parts) / max(1, len(parts)), right


def corner(edges, sides):
    """Patch at the corner of the block of each patch, inside it: row and column as pointing() wants them; sides: (top or bottom, left or right)"""
    inside = 0.6  # patches: half of a letter
    patches = torch.tensor([edges.shape[1], edges.shape[2]], device=edges.device)
    first = edges[..., [1, 0]] * patches + inside
    last = torch.maximum(edges[..., [3, 2]] * patches - inside, first)
    at = torch.stack([(first, last)[side][..., i] for i, side in enumerate(sides)], -1)
    known = (edges[..., 2:] > edges[..., :2]).any(-1, keepdim=True)  # a point has no corners
    return torch.where(known, at.nan_to_num(0).clamp(min=0).minimum(patches - 1), -1).long()


def own_places(want):
    """Row and column of each patch of [B, h, w, n]"""
    return torch.meshgrid(*(torch.arange(n, device=want.device) for n in want.shape[1:3]), indexing="ij")


def edges_from_patches(want):
    """
    Edges as seen from the middle of each patch, no farther than EDGE_REACH: SAM tells
    places from each other, but hardly where on the page they are; that is CLIP's part.
    """
    row, column = own_places(want)
    patches = torch.tensor([want.shape[2], want.shape[1]] * 2, device=want.device)
    away = want * patches - torch.stack([column, row, column, row], -1) - 0.5
    return (away / (2 * EDGE_REACH) + 0.5).clamp(0, 1)


def follow_from_patches(want):
    """As edges_from_patches(), for following()"""
    away = want - torch.stack(own_places(want), -1) + FOLLOW_BINS // 2
    return torch.where(want >= 0, away.clamp(0, FOLLOW_BINS - 1), -1)


def directing(model, batch, out):
    """
    Where CLIP's guided heads look: at what follows, at where the first and the last
    line of the own block begin, and at its upper right corner.  Without this its cells
    hardly know how far their block reaches.
    """
    attention = model.model.vision_model.transformer.layers[-1].self_attn
    wants = {"next": (batch["follow"],)} if "follow" in batch else {}
    if "edge" in batch and "follow" in batch:
        wants["next"] += (leaps(batch["follow"], batch["edge"]),)
    if "edge" in batch:
        top, bottom, right = (corner(batch["edge"], sides) for sides in ((0, 0), (1, 0), (0, 1)))
        first = begins(batch["edge"])
        wants.update(top=(top,), bottom=(bottom, first), right=(right, first))
    total = 0.0
    for name, want in wants.items():
        loss, out[name] = pointing(attention, POINTING[name], *want)
        total = total + loss
    return total
