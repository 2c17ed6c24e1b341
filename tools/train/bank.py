"""Second lessons from views of the last steps, without running SAM on them again."""
import math
import random

import torch

from blocks import by_cells, directing, edges_of_blocks, following_blocks
from guides import first_states, places, placing, spelling_cells
from model import woven
from names import naming


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
