#!/usr/bin/env python3
"""Tests of the helpers' losses: tools/train/test_losses.py [CLASS...]"""
import math
import unittest

import torch

import losses
import model


class Said(torch.nn.Module):
    """A helper that says what it is told to, for the patches that are asked for."""

    def __init__(self, scores):
        super().__init__()
        self.scores = scores.flatten(0, -2)

    def forward(self, features, chosen):
        return self.scores[chosen]


class FromPatches(unittest.TestCase):
    def test_edges(self):
        want = torch.full((1, 40, 40, 4), math.nan)
        want[0, 10, 20] = torch.tensor([19 / 40, 0.0, 1.0, 11 / 40])
        seen = losses.edges_from_patches(want)
        self.assertEqual(int((~torch.isnan(seen)).sum()), 4)
        # patches from the middle of the patch: 1.5 to the left, too far up and to the right, 0.5 down
        for got, away in zip(seen[0, 10, 20].tolist(), (-1.5, -5, 5, 0.5)):
            self.assertAlmostEqual((got - 0.5) * 2 * losses.EDGE_REACH, away, 4)

    def test_edges_of_another_view(self):
        want = torch.full((1, 20, 20, 4), math.nan)
        want[0, 10, 10] = torch.tensor([0.5, 0.5, 11 / 20, 11 / 20])
        for got, away in zip(losses.edges_from_patches(want)[0, 10, 10].tolist(), (-0.5, -0.5, 0.5, 0.5)):
            self.assertAlmostEqual((got - 0.5) * 2 * losses.EDGE_REACH, away, 4)

    def test_follow(self):
        want = torch.full((1, 40, 40, 2), -1, dtype=torch.int16)
        want[0, 3, 30] = torch.tensor([4, 2])
        want[0, 0, 39] = torch.tensor([39, 0])
        seen = losses.follow_from_patches(want)
        self.assertEqual(seen[0, 3, 30].tolist(), [32 + 1, 32 - 28])
        self.assertEqual(seen[0, 0, 39].tolist(), [63, 0])
        self.assertEqual(int((seen >= 0).sum()), 4)


class Edges(unittest.TestCase):
    def scores(self, want):
        """The best there are: shares of the two bins beside each edge"""
        at = (want * losses.EDGE_BINS - 0.5).clamp(0, losses.EDGE_BINS - 1).nan_to_num()
        bins = torch.arange(losses.EDGE_BINS)
        return (1 - (bins - at[..., None]).abs()).clamp(min=1e-9).log().flatten(-2)

    def test_between_bins(self):
        torch.manual_seed(1)
        want = torch.rand(2, 8, 8, 4)
        want[0, :4] = math.nan
        best, error = losses.edges(Said(self.scores(want)), None, want)
        self.assertLess(float(error), 0.5 / losses.EDGE_BINS)
        moved, far = losses.edges(Said(self.scores((want + 0.1) % 1)), None, want)
        self.assertGreater(float(far), 0.09)
        self.assertGreater(float(moved), float(best) + 1)

    def test_no_block(self):
        want = torch.full((1, 8, 8, 4), math.nan)
        loss, _ = losses.edges(losses.Naming(16, 1, 8, 4 * losses.EDGE_BINS), torch.randn(1, 8, 8, 16), want)
        self.assertEqual(float(loss), 0)

    def test_first_cells_count_for_half(self):
        """Of the block of 4 by 6 patches from the second row and column on, 9 are in the cell where it begins."""
        want = torch.full((1, 8, 8, 4), math.nan)
        want[0, 1:5, 1:7] = torch.tensor([1, 1, 7, 5]) / 8
        first = losses.begins(want)
        self.assertEqual(first[0].nonzero().tolist(), [[y, x] for y in (1, 2, 3) for x in (1, 2, 3)])
        moved = want + 0.1 * first[..., None]
        grouped = losses.by_cells(want)
        _, begin, edge = losses.edges_of_blocks(Said(losses.by_cells(self.scores(moved))), None, want)
        self.assertLess(abs(float(begin) - 0.1), 0.6 / losses.EDGE_BINS)
        self.assertLess(float(edge), 0.6 / losses.EDGE_BINS)
        worse = [losses.edges_of_blocks(Said(losses.by_cells(self.scores(want + 0.1 * mask[..., None]))), None, want)[0]
                 for mask in (first, ~first)]
        self.assertAlmostEqual(float(worse[0]), float(worse[1]), 1)
        best = losses.edges_of_blocks(Said(self.scores(grouped)), None, want)[0]
        self.assertGreater(float(worse[0]), float(best) + 1)
        points = torch.full((1, 8, 8, 4), math.nan)
        points[0, 2, 2] = 0.3
        self.assertFalse(bool(losses.begins(points).any()))
        loss, begin, _ = losses.edges_of_blocks(Said(self.scores(losses.by_cells(points))), None, points)
        self.assertTrue(math.isnan(float(begin)))
        self.assertAlmostEqual(float(loss), float(losses.edges(Said(self.scores(points)), None, points)[0]), 4)

    def test_many_patches(self):
        """Of more than MOST some by chance are asked for, each once."""
        want = torch.full((4, 40, 40), True)
        want[0, 0] = False
        i, n = losses.filled(want)
        self.assertEqual((n, len(i), len(set(i.tolist()))), (losses.MOST,) * 3)
        self.assertTrue(bool(want.flatten()[i].all()))
        self.assertNotEqual(i.tolist(), losses.filled(want)[0].tolist())

    def test_patches_of_cells(self):
        """A cell's features name its patches in the order in which by_cells() has them."""
        naming = losses.Naming(3, 16, 5, 7)
        features = torch.randn(2, 2, 3, 3)
        want = torch.arange(2 * 8 * 12).view(2, 8, 12, 1)
        i = torch.arange(2 * 8 * 12)
        of = torch.nn.functional.gelu(naming.first(features).view(2, 2, 3, 16, 5))
        grouped = losses.by_cells(want)
        for b, y, x in ((0, 0, 0), (1, 5, 11), (0, 7, 2)):
            at = (grouped == want[b, y, x]).flatten().nonzero().item()
            self.assertTrue(torch.allclose(naming(features, i)[at], naming.second(of[b, y // 4, x // 4, y % 4 * 4 + x % 4])))


class Following(unittest.TestCase):
    def test_rows_and_columns(self):
        want = torch.full((1, 8, 8, 2), -1, dtype=torch.int16)
        want[0, 2, 3] = torch.tensor([4, 1])
        want[0, 4, 1] = torch.tensor([4, 7])
        scores = torch.zeros(1, 8, 8, 2 * losses.FOLLOW_BINS)
        scores[..., 4] = 50
        scores[..., losses.FOLLOW_BINS + 1] = 50
        loss, right = losses.following(Said(scores), None, want)
        self.assertEqual(float(right), 0.5)
        self.assertAlmostEqual(float(loss), 50 / 4, 3)
        self.assertEqual(float(losses.following(Said(scores), None, torch.full_like(want, -1))[0]), 0)


    def test_leaps_count_for_half(self):
        edge = torch.full((2, 8, 8, 4), math.nan)
        edge[:, :3] = torch.tensor([0, 0, 1, 3 / 8])
        edge[:, 4:] = torch.tensor([0, 0.5, 1, 1])
        want = torch.full((2, 8, 8, 2), -1, dtype=torch.int16)
        want[0, 0, 1:4] = torch.tensor([1, 1])
        want[1, 2, 5] = torch.tensor([4, 1])
        want[1, 6, 6] = torch.tensor([3, 1])  # where no block is
        self.assertEqual(losses.leaps(want, edge).nonzero().tolist(), [[1, 2, 5]])
        scores = torch.zeros(2, 8, 8, 2 * losses.FOLLOW_BINS)
        scores[..., 1] = scores[..., losses.FOLLOW_BINS + 1] = 50
        loss, leap, follow = losses.following_blocks(Said(losses.by_cells(scores)), None, want, edge)
        self.assertEqual((float(leap), float(follow)), (0, 0.75))
        self.assertAlmostEqual(float(loss), (50 / 2 + 50 / 8) / 2, 3)
        nowhere = torch.full_like(edge, math.nan)
        loss, leap, follow = losses.following_blocks(Said(losses.by_cells(scores)), None, want, nowhere)
        self.assertAlmostEqual(float(loss), 100 / 10, 3)
        self.assertAlmostEqual(float(follow), 3 / 5, 4)


class Pointing(unittest.TestCase):
    def test_corners(self):
        edges = torch.full((1, 40, 40, 4), math.nan)
        edges[0, 10, 20] = torch.tensor([4, 8, 36, 16]) / 40
        edges[0, 11, 20] = torch.tensor([4, 8, 36, 8.5]) / 40  # less than a letter high
        edges[0, 12, 20] = torch.tensor([4, 8, 4, 8]) / 40  # a point
        top, bottom = losses.corner(edges, (0, 0)), losses.corner(edges, (1, 0))
        self.assertEqual(top[0, 10, 20].tolist(), [8, 4])
        self.assertEqual(bottom[0, 10, 20].tolist(), [15, 4])
        self.assertEqual(losses.corner(edges, (1, 1))[0, 10, 20].tolist(), [15, 35])
        self.assertEqual(bottom[0, 11, 20].tolist(), [8, 4])
        self.assertEqual(int((top >= 0).all(-1).sum()), 2)

    def test_where_a_head_looks(self):
        net = model.NanoOCR(model.make_config(400))
        attention = net.model.vision_model.transformer.layers[-1].self_attn
        net.train()
        with torch.no_grad():
            net.encode(torch.randn(2, 3, 128, 128))
        q, k = attention.kept
        self.assertEqual(q.shape, (2, 5, 1 + 4, 64))
        attention.kept = torch.zeros_like(q), torch.eye(5, 64).expand_as(k).clone()
        attention.kept[0][:, 1, 1 + 2, 1 + 1] = 80  # the third cell looks at the second: 10 more than at the others
        want = torch.full((2, 8, 8, 2), -1, dtype=torch.int16)
        want[1, 5, 2] = torch.tensor([3, 6])
        loss, right = losses.pointing(attention, 1, want)
        self.assertEqual(float(right), 1)
        self.assertAlmostEqual(float(loss), math.log(1 + 4 * math.exp(-10)), 4)
        want[0, 0, 0] = torch.tensor([3, 6])
        loss, right = losses.pointing(attention, 1, want)
        self.assertEqual(float(right), 0.5)
        self.assertAlmostEqual(float(loss), math.log(5) / 2, 3)
        self.assertEqual(float(losses.pointing(attention, 1, torch.full_like(want, -1))[0]), 0)
        want[0, 0, 1] = torch.tensor([3, 6])
        first = torch.zeros(2, 8, 8, dtype=torch.bool)
        first[0, 0, 1] = first[0, 7, 7] = True
        loss, right = losses.pointing(attention, 1, want, first)
        self.assertAlmostEqual(float(right), 1 / 3, 4)
        self.assertAlmostEqual(float(loss), (math.log(5) + math.log(5) / 2) / 2, 3)
        self.assertEqual(float(losses.pointing(attention, 1, torch.full_like(want, -1), first)[0]), 0)


class Telling(unittest.TestCase):
    def test_row_and_column(self):
        cell = torch.tensor([[-1, 5, 21 * 11 + 19], [0, -1, -1]])
        weight = torch.tensor([[9.0, 1, 3], [1, 9, 9]])
        states = torch.zeros(2, 3, losses.ROWS + losses.COLUMNS)
        for b, i, row, column in ((0, 1, 0, 5), (0, 2, 11, 19), (1, 0, 0, 0)):
            states[b, i, row] = states[b, i, losses.ROWS + column] = 50
        loss, right = losses.telling(torch.nn.Identity(), states, cell, weight, 20)
        self.assertLess(float(loss), 1e-6)
        self.assertEqual(float(right), 1)
        states[0, 2, 12] = 60  # a row too far down
        loss, right = losses.telling(torch.nn.Identity(), states, cell, weight, 20)
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
    WEIGHTS = dict(patch=0, cell=1.0, edge=1.0, follow=1.0, point=1.0)

    def setUp(self):
        torch.manual_seed(1)
        self.net, self.helpers = model.NanoOCR(model.make_config(400)).train(), losses.Helpers(128, 320, 10)
        self.helpers.edge[0], self.helpers.follow[0] = Silent(4 * losses.EDGE_BINS), Silent(2 * losses.FOLLOW_BINS)
        self.bank = losses.Bank(1)
        self.bank.DRAWN = 2
        self.bank.random.sample = lambda pages, n: pages[-n:]
        self.addCleanup(setattr, losses, "EMPTY_SHARE", losses.EMPTY_SHARE)
        losses.EMPTY_SHARE = 0
        self.addCleanup(setattr, losses, "MOST", losses.MOST)
        losses.MOST = 1 << 20

    def batch(self, side):
        edge = torch.rand(2, side, side, 4)
        edge[1] = math.nan
        return dict(patch=torch.randint(0, 10, (2, side, side, 3)), follow=torch.randint(0, side, (2, side, side, 2)), edge=edge)

    def test_is_seeing_of_cells(self):
        """On pages just seen it is the same loss but for what patches tell, which here is nothing."""
        batch = self.batch(40)
        with torch.no_grad():
            _, cells, patches = self.net.encode(torch.randn(2, 3, 640, 640))
            want = losses.seeing(self.helpers, batch, self.WEIGHTS, cells, patches, batch["patch"], {})
            want += losses.directing(self.net, batch, {}) - math.log(losses.EDGE_BINS) - math.log(losses.FOLLOW_BINS)
            self.assertEqual(losses.laying(self.net, self.helpers, batch, self.WEIGHTS, self.bank), 0)
            got = losses.laying(self.net, self.helpers, batch, self.WEIGHTS, self.bank)
        self.assertAlmostEqual(float(got), float(want), 3)

    def test_keeps_pages_of_one_size(self):
        self.bank.PAGES = 3
        with torch.no_grad():
            for side in (20, 40, 20, 40, 40):
                self.net.encode(torch.randn(2, 3, 16 * side, 16 * side))
                losses.laying(self.net, self.helpers, self.batch(side), self.WEIGHTS, self.bank)
        self.assertEqual(len(self.bank.pages), 3)

    def test_teaches_clip_alone(self):
        batch = self.batch(40)
        with torch.no_grad():
            self.net.encode(torch.randn(2, 3, 640, 640))
            losses.laying(self.net, self.helpers, batch, self.WEIGHTS, self.bank)
        losses.laying(self.net, self.helpers, batch, self.WEIGHTS, self.bank).backward()
        learning = {n.split(".")[1] for n, p in self.net.named_parameters() if p.grad is not None}
        self.assertEqual(learning, {"vision_model", "projector"})


class Counting(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(1)
        self.net = model.NanoOCR(model.make_config(400))
        self.helpers = losses.Helpers(128, 320, 10)
        self.bank = losses.Bank(1)

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
        self.assertEqual(len(self.bank.tiles), losses.Bank.KEPT)

    def test_is_placing_of_a_page_of_tiles(self):
        """The same loss as that of the page whose views these are."""
        image, overview = torch.randn(1, 3, 640, 1280), torch.randn(1, 3, 1024, 1024)
        with torch.no_grad():
            grids, cells, _ = self.net.encode(image, overview)
            visual = self.net.sequence(grids)
            _, hidden = self.net.decode(visual, torch.ones(1, 4, dtype=torch.long), losses.KEPT)
            self.bank.SHAPES = [(1, 2)]
            self.bank.random.choices = lambda tiles, k: tiles[-k:]
            self.bank.keep(cells)
            self.bank.keep(self.net.view_features(overview)[0])
            where = losses.places([(10, 20), (16, 16)], "cpu")
            want = sum(losses.placing(self.helpers.place, hidden[i][:, 1:visual.shape[1]], where)[0] for i in losses.PLACING_LAYERS)
            self.assertEqual(visual.shape[1], where.shape[1] + 1)
            self.assertAlmostEqual(float(losses.counting(self.net, self.helpers, self.bank)[0]), float(want), 4)


if __name__ == "__main__":
    unittest.main()
