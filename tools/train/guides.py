"""Where the decoder is told to look, and what its states are asked to know: where each cell is, and the next character."""
import math

import torch
import torch.nn.functional as F

import tokens
from blocks import begun, spelling

GUIDED = {1: 2, 2: 3, 3: 4}  # decoder layer: heads that are told where to look
POINTER_LAYER = 2
PLACING_LAYERS = (0, 1)  # after which the decoder knows where on the page each cell is, and the box that begins there
TELLING_LAYERS = (1, 2)  # after which it knows where the next character is, and the box that is being written
ROWS, COLUMNS = 72, 48  # rows of an overview count from OVERVIEW_ROWS on
OVERVIEW_ROWS = 48
KEPT = (*PLACING_LAYERS, *(i for i in GUIDED if i not in PLACING_LAYERS))
SCORES = 1 << 27  # of guided heads at a time, so that long pages fit in memory


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
