#!/usr/bin/env python3
"""Tests of what the encoder learns of blocks: tools/train/test_blocks.py [CLASS...]"""
import math
import unittest

import torch

import blocks
import model
import names


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
        seen = blocks.edges_from_patches(want)
        self.assertEqual(int((~torch.isnan(seen)).sum()), 4)
        # patches from the middle of the patch: 1.5 to the left, too far up and to the right, 0.5 down
        for got, away in zip(seen[0, 10, 20].tolist(), (-1.5, -5, 5, 0.5)):
            self.assertAlmostEqual((got - 0.5) * 2 * blocks.EDGE_REACH, away, 4)

    def test_edges_of_another_view(self):
        want = torch.full((1, 20, 20, 4), math.nan)
        want[0, 10, 10] = torch.tensor([0.5, 0.5, 11 / 20, 11 / 20])
        for got, away in zip(blocks.edges_from_patches(want)[0, 10, 10].tolist(), (-0.5, -0.5, 0.5, 0.5)):
            self.assertAlmostEqual((got - 0.5) * 2 * blocks.EDGE_REACH, away, 4)

    def test_follow(self):
        want = torch.full((1, 40, 40, 2), -1, dtype=torch.int16)
        want[0, 3, 30] = torch.tensor([4, 2])
        want[0, 0, 39] = torch.tensor([39, 0])
        seen = blocks.follow_from_patches(want)
        self.assertEqual(seen[0, 3, 30].tolist(), [32 + 1, 32 - 28])
        self.assertEqual(seen[0, 0, 39].tolist(), [63, 0])
        self.assertEqual(int((seen >= 0).sum()), 4)


class Edges(unittest.TestCase):
    def scores(self, want):
        """The best there are: shares of the two bins beside each edge"""
        at = (want * blocks.EDGE_BINS - 0.5).clamp(0, blocks.EDGE_BINS - 1).nan_to_num()
        bins = torch.arange(blocks.EDGE_BINS)
        return (1 - (bins - at[..., None]).abs()).clamp(min=1e-9).log().flatten(-2)

    def test_between_bins(self):
        torch.manual_seed(1)
        want = torch.rand(2, 8, 8, 4)
        want[0, :4] = math.nan
        best, error = blocks.edges(Said(self.scores(want)), None, want)
        self.assertLess(float(error), 0.5 / blocks.EDGE_BINS)
        moved, far = blocks.edges(Said(self.scores((want + 0.1) % 1)), None, want)
        self.assertGreater(float(far), 0.09)
        self.assertGreater(float(moved), float(best) + 1)

    def test_no_block(self):
        want = torch.full((1, 8, 8, 4), math.nan)
        loss, _ = blocks.edges(names.Naming(16, 1, 8, 4 * blocks.EDGE_BINS), torch.randn(1, 8, 8, 16), want)
        self.assertEqual(float(loss), 0)

    def test_first_cells_count_for_half(self):
        """Of the block of 4 by 6 patches from the second row and column on, 9 are in the cell where it begins."""
        want = torch.full((1, 8, 8, 4), math.nan)
        want[0, 1:5, 1:7] = torch.tensor([1, 1, 7, 5]) / 8
        first = blocks.begins(want)
        self.assertEqual(first[0].nonzero().tolist(), [[y, x] for y in (1, 2, 3) for x in (1, 2, 3)])
        moved = want + 0.1 * first[..., None]
        grouped = blocks.by_cells(want)
        _, begin, edge = blocks.edges_of_blocks(Said(blocks.by_cells(self.scores(moved))), None, want)
        self.assertLess(abs(float(begin) - 0.1), 0.6 / blocks.EDGE_BINS)
        self.assertLess(float(edge), 0.6 / blocks.EDGE_BINS)
        worse = [blocks.edges_of_blocks(Said(blocks.by_cells(self.scores(want + 0.1 * mask[..., None]))), None, want)[0]
                 for mask in (first, ~first)]
        self.assertAlmostEqual(float(worse[0]), float(worse[1]), 1)
        best = blocks.edges_of_blocks(Said(self.scores(grouped)), None, want)[0]
        self.assertGreater(float(worse[0]), float(best) + 1)
        points = torch.full((1, 8, 8, 4), math.nan)
        points[0, 2, 2] = 0.3
        self.assertFalse(bool(blocks.begins(points).any()))
        loss, begin, _ = blocks.edges_of_blocks(Said(self.scores(blocks.by_cells(points))), None, points)
        self.assertTrue(math.isnan(float(begin)))
        self.assertAlmostEqual(float(loss), float(blocks.edges(Said(self.scores(points)), None, points)[0]), 4)

    def test_many_patches(self):
        """Of more than MOST some by chance are asked for, each once."""
        want = torch.full((4, 40, 40), True)
        want[0, 0] = False
        i, n = blocks.filled(want)
        self.assertEqual((n, len(i), len(set(i.tolist()))), (blocks.MOST,) * 3)
        self.assertTrue(bool(want.flatten()[i].all()))
        self.assertNotEqual(i.tolist(), blocks.filled(want)[0].tolist())

    def test_patches_of_cells(self):
        """A cell's features name its patches in the order in which by_cells() has them."""
        naming = names.Naming(3, 16, 5, 7)
        features = torch.randn(2, 2, 3, 3)
        want = torch.arange(2 * 8 * 12).view(2, 8, 12, 1)
        i = torch.arange(2 * 8 * 12)
        of = torch.nn.functional.gelu(naming.first(features).view(2, 2, 3, 16, 5))
        grouped = blocks.by_cells(want)
        for b, y, x in ((0, 0, 0), (1, 5, 11), (0, 7, 2)):
            at = (grouped == want[b, y, x]).flatten().nonzero().item()
            self.assertTrue(torch.allclose(naming(features, i)[at], naming.second(of[b, y // 4, x // 4, y % 4 * 4 + x % 4])))


class Following(unittest.TestCase):
    def test_rows_and_columns(self):
        want = torch.full((1, 8, 8, 2), -1, dtype=torch.int16)
        want[0, 2, 3] = torch.tensor([4, 1])
        want[0, 4, 1] = torch.tensor([4, 7])
        scores = torch.zeros(1, 8, 8, 2 * blocks.FOLLOW_BINS)
        scores[..., 4] = 50
        scores[..., blocks.FOLLOW_BINS + 1] = 50
        loss, right = blocks.following(Said(scores), None, want)
        self.assertEqual(float(right), 0.5)
        self.assertAlmostEqual(float(loss), 50 / 4, 3)
        self.assertEqual(float(blocks.following(Said(scores), None, torch.full_like(want, -1))[0]), 0)

    def test_leaps_count_for_half(self):
        edge = torch.full((2, 8, 8, 4), math.nan)
        edge[:, :3] = torch.tensor([0, 0, 1, 3 / 8])
        edge[:, 4:] = torch.tensor([0, 0.5, 1, 1])
        want = torch.full((2, 8, 8, 2), -1, dtype=torch.int16)
        want[0, 0, 1:4] = torch.tensor([1, 1])
        want[1, 2, 5] = torch.tensor([4, 1])
        want[1, 6, 6] = torch.tensor([3, 1])  # where no block is
        self.assertEqual(blocks.leaps(want, edge).nonzero().tolist(), [[1, 2, 5]])
        scores = torch.zeros(2, 8, 8, 2 * blocks.FOLLOW_BINS)
        scores[..., 1] = scores[..., blocks.FOLLOW_BINS + 1] = 50
        loss, leap, follow = blocks.following_blocks(Said(blocks.by_cells(scores)), None, want, edge)
        self.assertEqual((float(leap), float(follow)), (0, 0.75))
        self.assertAlmostEqual(float(loss), (50 / 2 + 50 / 8) / 2, 3)
        nowhere = torch.full_like(edge, math.nan)
        loss, leap, follow = blocks.following_blocks(Said(blocks.by_cells(scores)), None, want, nowhere)
        self.assertAlmostEqual(float(loss), 100 / 10, 3)
        self.assertAlmostEqual(float(follow), 3 / 5, 4)


class Pointing(unittest.TestCase):
    def test_corners(self):
        edges = torch.full((1, 40, 40, 4), math.nan)
        edges[0, 10, 20] = torch.tensor([4, 8, 36, 16]) / 40
        edges[0, 11, 20] = torch.tensor([4, 8, 36, 8.5]) / 40  # less than a letter high
        edges[0, 12, 20] = torch.tensor([4, 8, 4, 8]) / 40  # a point
        top, bottom = blocks.corner(edges, (0, 0)), blocks.corner(edges, (1, 0))
        self.assertEqual(top[0, 10, 20].tolist(), [8, 4])
        self.assertEqual(bottom[0, 10, 20].tolist(), [15, 4])
        self.assertEqual(blocks.corner(edges, (1, 1))[0, 10, 20].tolist(), [15, 35])
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
        loss, right = blocks.pointing(attention, 1, want)
        self.assertEqual(float(right), 1)
        self.assertAlmostEqual(float(loss), math.log(1 + 4 * math.exp(-10)), 4)
        want[0, 0, 0] = torch.tensor([3, 6])
        loss, right = blocks.pointing(attention, 1, want)
        self.assertEqual(float(right), 0.5)
        self.assertAlmostEqual(float(loss), math.log(5) / 2, 3)
        self.assertEqual(float(blocks.pointing(attention, 1, torch.full_like(want, -1))[0]), 0)
        want[0, 0, 1] = torch.tensor([3, 6])
        first = torch.zeros(2, 8, 8, dtype=torch.bool)
        first[0, 0, 1] = first[0, 7, 7] = True
        loss, right = blocks.pointing(attention, 1, want, first)
        self.assertAlmostEqual(float(right), 1 / 3, 4)
        self.assertAlmostEqual(float(loss), (math.log(5) + math.log(5) / 2) / 2, 3)
        self.assertEqual(float(blocks.pointing(attention, 1, torch.full_like(want, -1), first)[0]), 0)


class Spelling(unittest.TestCase):
    """A page of 8 x 8 patches with a block from row 1, another beside it, and one that begins in the same cell as the first."""

    def setUp(self):
        self.want = torch.full((1, 8, 8, 4), math.nan)
        self.boxes = [torch.tensor(b) / 999 for b in ([0, 125, 499, 200], [500, 130, 999, 640], [125, 380, 490, 999])]
        self.want[0, 1:2, 0:4] = self.boxes[0]
        self.want[0, 1:6, 4:8] = self.boxes[1]
        self.want[0, 3:8, 1:4] = self.boxes[2]

    def test_first_block_of_a_cell(self):
        got = blocks.begun(self.want)
        self.assertEqual(got.shape, (1, 2, 2, 4))
        self.assertTrue(torch.equal(got[0, 0, 0], self.boxes[0]) and torch.equal(got[0, 0, 1], self.boxes[1]))
        self.assertTrue(torch.isnan(got[0, 1]).all())

    def test_box_that_is_written(self):
        # two cells and a line end in a row; the third block begins in the first cell, four patches by four
        cell = torch.tensor([[-1, 0, 0, 1, 0]])
        sub = torch.tensor([[-1, 4, 13, 4, 13]])
        boxed = torch.tensor([[True, True, True, True, False]])
        got = blocks.boxes_of_text(cell, sub, boxed, self.want)[0]
        self.assertTrue(torch.isnan(got[[0, 4]]).all())
        for at, box in ((1, 0), (2, 2), (3, 1)):
            self.assertTrue(torch.equal(got[at], self.boxes[box]), at)

    def test_digits(self):
        boxes = torch.stack([self.boxes[0], torch.full((4,), math.nan), self.boxes[2]])
        z = torch.zeros(3, 4, 2, 10)
        for i, digits in ((0, "0012 4920"), (2, "1238 4999")):
            for j, d in enumerate(digits.replace(" ", "")):
                z[i].view(8, 10)[j, int(d)] = 60

        class Spelled(torch.nn.Module):
            def forward(self, chosen):
                return z.flatten(1)[(chosen[:, 0] > 0).long() * 2]
        states = torch.tensor([[-1.0, 1], [0, 1], [1, 1]])
        loss, right = blocks.spelling(Spelled(), states, boxes)
        self.assertEqual((round(float(loss), 4), float(right)), (0, 1))
        z[2, 3, 1] = 0  # one of sixteen digits is not known
        loss, right = blocks.spelling(Spelled(), states, boxes)
        self.assertAlmostEqual(float(loss), math.log(10) / 16, 4)
        self.assertAlmostEqual(float(right), 7 / 8, 5)


if __name__ == "__main__":
    unittest.main()
