#!/usr/bin/env python3
"""Tests of the helpers' losses: tools/train/test_losses.py [CLASS...]"""
import math
import unittest

import torch

import bank
import blocks
import guides
import losses
import model
import names


class Telling(unittest.TestCase):
    def test_row_and_column(self):
        cell = torch.tensor([[-1, 5, 21 * 11 + 19], [0, -1, -1]])
        weight = torch.tensor([[9.0, 1, 3], [1, 9, 9]])
        states = torch.zeros(2, 3, guides.ROWS + guides.COLUMNS)
        for b, i, row, column in ((0, 1, 0, 5), (0, 2, 11, 19), (1, 0, 0, 0)):
            states[b, i, row] = states[b, i, guides.ROWS + column] = 50
        loss, right = guides.telling(torch.nn.Identity(), states, cell, weight, 20)
        self.assertLess(float(loss), 1e-6)
        self.assertEqual(float(right), 1)
        states[0, 2, 12] = 60  # a row too far down
        loss, right = guides.telling(torch.nn.Identity(), states, cell, weight, 20)
        self.assertAlmostEqual(float(loss), 10 * 3 / 5, 3)
        self.assertAlmostEqual(float(right), 2 / 3, 4)


class Silent(torch.nn.Module):
    """A helper that does not know."""

    def __init__(self, classes):
        super().__init__()
        self.classes = classes

    def forward(self, features, chosen):
        return torch.zeros(len(chosen), self.classes)


class Laying(unittest.TestCase):
    WEIGHTS = dict(patch=0, cell=1.0, edge=1.0, follow=1.0, point=1.0, spell=0.0)

    def setUp(self):
        torch.manual_seed(1)
        self.net, self.helpers = model.NanoOCR(model.make_config(400)).train(), losses.Helpers(128, 320, 10)
        self.helpers.edge[0], self.helpers.follow[0] = Silent(4 * blocks.EDGE_BINS), Silent(2 * blocks.FOLLOW_BINS)
        self.bank = bank.Bank(1)
        self.bank.DRAWN = 2
        self.bank.random.sample = lambda pages, n: pages[-n:]
        self.addCleanup(setattr, names, "EMPTY_SHARE", names.EMPTY_SHARE)
        names.EMPTY_SHARE = 0
        self.addCleanup(setattr, blocks, "MOST", blocks.MOST)
        blocks.MOST = 1 << 20

    def batch(self, side):
        edge = torch.rand(2, side, side, 4)
        edge[0, 4:8, 8:20] = torch.tensor([8, 4, 20, 8]) / side
        edge[1] = math.nan
        return dict(patch=torch.randint(0, 10, (2, side, side, 3)), follow=torch.randint(0, side, (2, side, side, 2)), edge=edge)

    def test_is_seeing_of_cells(self):
        """On pages just seen it is the same loss but for what patches tell, which here is nothing."""
        batch = self.batch(40)
        with torch.no_grad():
            _, cells, patches = self.net.encode(torch.randn(2, 3, 640, 640))
            want = losses.seeing(self.helpers, batch, self.WEIGHTS, cells, patches, batch["patch"], {})
            want += blocks.directing(self.net, batch, {}) - math.log(blocks.EDGE_BINS) - math.log(blocks.FOLLOW_BINS)
            self.assertEqual(bank.laying(self.net, self.helpers, batch, self.WEIGHTS, self.bank), 0)
            got = bank.laying(self.net, self.helpers, batch, self.WEIGHTS, self.bank)
        self.assertAlmostEqual(float(got), float(want), 3)

    def test_keeps_pages_of_one_size(self):
        self.bank.PAGES = 3
        with torch.no_grad():
            for side in (20, 40, 20, 40, 40):
                self.net.encode(torch.randn(2, 3, 16 * side, 16 * side))
                bank.laying(self.net, self.helpers, self.batch(side), self.WEIGHTS, self.bank)
        self.assertEqual(len(self.bank.pages), 3)

    def test_teaches_what_comes_behind_sam(self):
        batch = self.batch(40)
        with torch.no_grad():
            self.net.encode(torch.randn(2, 3, 640, 640))
            bank.laying(self.net, self.helpers, batch, self.WEIGHTS, self.bank)
        bank.laying(self.net, self.helpers, batch, dict(self.WEIGHTS, spell=1.0), self.bank).backward()
        learning = {".".join(n.split(".")[1:3]) for n, p in self.net.named_parameters() if p.grad is not None and p.grad.any()}
        self.assertEqual({n for n in learning if n.startswith(("sam", "vision", "projector", "layers"))},
                         {"vision_model.embeddings", "vision_model.pre_layrnorm", "vision_model.transformer", "projector.layers",
                          "layers.0", "layers.1"})


class Counting(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(1)
        self.net = model.NanoOCR(model.make_config(400))
        self.helpers = losses.Helpers(128, 320, 10)
        self.bank = bank.Bank(1)

    def test_keeps_views_of_two_sizes(self):
        self.assertIsNone(self.bank.draw())
        self.bank.keep(torch.zeros(5, 5, 5, 320))
        self.bank.keep(torch.ones(60, 10, 10, 320))
        self.assertIsNone(self.bank.draw())
        self.bank.keep(torch.ones(1, 16, 16, 320))
        for _ in range(50):
            tiles, rows, columns, overview = self.bank.draw()
            self.assertEqual(tiles.shape, (rows * columns, 10, 10, 320))
            self.assertTrue(2 <= rows * columns <= 9 and overview.shape == (1, 16, 16, 320))
        self.assertEqual(len(self.bank.tiles), bank.Bank.KEPT)

    def test_is_placing_of_a_page_of_tiles(self):
        """The same loss as that of the page whose views these are."""
        image, overview = torch.randn(1, 3, 640, 1280), torch.randn(1, 3, 1024, 1024)
        with torch.no_grad():
            grids, cells, _ = self.net.encode(image, overview)
            visual = self.net.sequence(grids)
            _, hidden = self.net.decode(visual, torch.ones(1, 4, dtype=torch.long), guides.KEPT)
            self.bank.SHAPES = [(1, 2)]
            self.bank.random.choices = lambda tiles, k: tiles[-k:]
            self.bank.keep(cells)
            self.bank.keep(self.net.view_features(overview)[0])
            where = guides.places([(10, 20), (16, 16)], "cpu")
            want = sum(guides.placing(self.helpers.place, hidden[i][:, 1:visual.shape[1]], where)[0] for i in guides.PLACING_LAYERS)
            self.assertEqual(visual.shape[1], where.shape[1] + 1)
            self.assertAlmostEqual(float(bank.counting(self.net, self.helpers, self.bank)[0]), float(want), 4)


if __name__ == "__main__":
    unittest.main()
