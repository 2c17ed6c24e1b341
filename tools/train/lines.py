"""Where a line began: what the decoder looks back at.

Cells are found by the letters before them, which fits many.  What tells them
apart is the line that is being written: the states that decided its first
letters know its row and the column where it began, and those of the line before
where the next one is to begin.  One head is told to look at them.
"""
import numpy as np
import torch

HOME_LAYER, HOME_HEAD = 2, 3
FIRST = 7  # letters of a line that are looked back at
NEW = 3  # letters after which the own line is known


def lines(ids, labels, breaks, ignore):
    """Number of the line that each label stands in, from 1, where a break ends its own; 0 where there is no label.  All [pages, length]"""
    known = labels != ignore
    ended = np.cumsum(np.isin(ids, breaks) & known, 1)
    return ((1 + np.pad(ended, ((0, 0), (1, 0)))[:, :-1]) * known).astype(np.int16)


def homes(line):
    """
    Whether the state that decides a letter is to look back at that of another one,
    [pages, length, length]: those of the first letters of its line, or of the line
    before where its own has hardly begun.
    """
    line = line.long()
    at = torch.arange(line.shape[1], device=line.device)
    new = torch.ones_like(line, dtype=torch.bool)
    new[:, 1:] = line[:, 1:] != line[:, :-1]
    place = at - torch.where(new, at, 0).cummax(1).values
    first = ((line > 0) & (place < FIRST))[:, None]
    own = line[:, None] == line[:, :, None]
    before = (line[:, None] == line[:, :, None] - 1) & (place < NEW)[:, :, None]
    return first & (own | before) & (at[:, None] > at)


def homing(attention, there, weight, first):
    """
    Weighted cross entropy of looking back at there, as homes() says it, and what share of the look
    goes there.  weight [pages, length] is that of the labels; before the states that decide them
    there are first others.
    """
    q, k = (x[:, HOME_HEAD] for x in attention.kept)
    s = (q[:, first:] @ k.transpose(1, 2)).float() * q.shape[-1] ** -0.5
    length = s.shape[1]
    ahead = torch.ones(length, length, dtype=torch.bool, device=s.device).triu(1)
    s[:, :, first:].masked_fill_(ahead, -torch.inf)
    known = there.any(-1)
    mass = s[:, :, first:].masked_fill(~there, -torch.inf)[known].logsumexp(-1) - s[known].logsumexp(-1)
    weight = weight[known]
    return -(mass * weight).sum() / (weight.sum() + 1e-6), mass.detach().exp().mean()
