"""Molecules as a walk along their bonds, which is what their SMILES writes down.

The encoder names the bonds that leave each atom, so that the decoder knows which
ways there are, and the how many-th of the walk it is: of all the corners that are
carbons, the text tells no more than how many it has named.  Behind a bracket or a
ring's digit the walk goes on from an atom that was written long before: which one,
only counting of brackets tells.  The head that looks back at where lines began is
told to look at that atom, and states of the decoder know how many atoms are written.
"""
import numpy as np
import torch
import torch.nn.functional as F

from blocks import classified

SECTORS = 12  # of the directions that bonds go to, the first to the right, on towards the lower edge
ORDERS = 4  # none, single, double, triple
RANKS = 32


def walk(text):
    """
    Of a SMILES as smiles.c writes it: for each character the atom from which the walk goes on, -1 for
    the first; the atoms; and bonds as (atom, atom, order).  Atoms are the indices of their first letters.
    """
    sources, atoms, bonds = [], [], []
    here, order, branches, rings, inside = -1, 1, [], {}, False
    for i, c in enumerate(text):
        sources.append(here)
        if c in ("[", "]"):
            inside = c == "["
        elif c in ("=", "#"):
            order = 2 + "=#".index(c)
        elif c == "(":
            branches.append(here)
        elif c == ")":
            here = branches.pop()
        elif c.isupper() and not (inside and text[i - 1] != "["):  # within brackets hydrogens follow the atom
            if here >= 0:
                bonds.append((here, i, order))
            atoms.append(i)
            here, order = i, 1
        elif c.isdigit() and not inside:
            if c in rings:
                bonds.append((rings.pop(c), here, order))
                order = 1
            else:
                rings[c] = here
    return sources, atoms, bonds


def bonds_by_patch(page, patch):
    """Order of the bond that leaves the atom of each patch to each sector [ph, pw, SECTORS], -1 where there is no atom."""
    out = np.full((page.view.shape[0] // patch, page.view.shape[1] // patch, SECTORS), -1, np.int8)
    middle = (page.boxes[:, :2] + page.boxes[:, 2:]) / 2
    row, column = (np.clip(middle[:, axis] // patch, 0, out.shape[1 - axis] - 1).astype(int) for axis in (1, 0))
    _, _, found = walk(page.text())
    for a, b, _ in found:
        out[row[[a, b]], column[[a, b]]] = 0
    for a, b, order in found:
        for here, there in ((a, b), (b, a)):
            x, y = middle[there] - middle[here]
            out[row[here], column[here], round(np.arctan2(y, x) / (2 * np.pi) * SECTORS) % SECTORS] = order
    return out


def ranks_by_patch(page, patch):
    """Which atom of the walk, from 0, stands in each patch [ph, pw, 1], -1 where there is none; where two do, the later one"""
    out = np.full((page.view.shape[0] // patch, page.view.shape[1] // patch, 1), -1, np.int8)
    _, found, _ = walk(page.text())
    middle = (page.boxes[found, :2] + page.boxes[found, 2:]) / 2
    for rank, (x, y) in enumerate(np.clip(middle // patch, 0, [[out.shape[1] - 1, out.shape[0] - 1]]).astype(int)):
        out[y, x] = min(rank, RANKS - 1)
    return out


def knowing(naming, features, want, classes):
    """classified() of features of one scale: those of patches are a hundredth of those of cells."""
    return classified(naming, F.rms_norm(features.float(), features.shape[-1:]), want, classes)


def origins(ids, labels, tok, ignore):
    """Where among the labels the atom stands that each one is bound to, 0 where there is none.  All [pages, length]"""
    out = np.zeros(ids.shape, np.int16)
    for page in range(len(ids)):
        at = np.flatnonzero(labels[page] != ignore)
        found = np.array(walk([tok.decode([i]) for i in ids[page, at]])[0], int)
        out[page, at] = np.where(found >= 0, at[found], 0)
    return out


def named(ids, labels, tok, ignore):
    """How many atoms are written before each label, -1 where there is none.  All [pages, length]"""
    out = np.full(ids.shape, -1, np.int8)
    for page in range(len(ids)):
        at = np.flatnonzero(labels[page] != ignore)
        first = np.zeros(len(at), int)
        first[walk([tok.decode([i]) for i in ids[page, at]])[1]] = 1
        out[page, at] = np.minimum(np.cumsum(first) - first, RANKS - 1)
    return out


def numbering(module, states, want):
    """Cross entropy of what named() says of each state's label, and how often it is right."""
    known = want >= 0
    z = module(F.rms_norm(states[known].float(), states.shape[-1:]))
    want = want[known].long()
    with torch.no_grad():
        right = (z.argmax(-1) == want).float().mean()
    return F.cross_entropy(z.float(), want), right


def sights(origin):
    """homes() of lines.py for the labels of molecules"""
    at = torch.arange(origin.shape[1], device=origin.device)
    return (origin[:, :, None] == at) & (origin > 0)[:, :, None]
