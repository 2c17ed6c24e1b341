#!/usr/bin/env python3
"""Tests of looking back at where a line began: tools/train/test_lines.py [CLASS...]"""
import math
import types
import unittest

import numpy as np
import torch

import lines

IGNORE, BREAK = -100, 9


class Lines(unittest.TestCase):
    def test_break_ends_its_line(self):
        ids = np.array([[5, BREAK, 1, 2, BREAK, 3, 4, 0]])
        labels = np.where(np.arange(8) < 2, IGNORE, ids)
        labels[0, 7] = IGNORE
        self.assertEqual(lines.lines(ids, labels, [BREAK], IGNORE).tolist(), [[0, 0, 1, 1, 1, 2, 2, 0]])

    def test_homes(self):
        line = torch.tensor([[0, 0, *[1] * 9, *[2] * 5, 0]])
        there = lines.homes(line)[0]

        def of(i):
            return there[i].nonzero()[:, 0].tolist()
        self.assertEqual([of(i) for i in (0, 1, 2, 16)], [[], [], [], []])
        self.assertEqual(of(3), [2])
        self.assertEqual(of(10), list(range(2, 2 + lines.FIRST)))
        # of the second line the first letters look at those of the line before and at their own
        self.assertEqual(of(11), list(range(2, 2 + lines.FIRST)))
        self.assertEqual(of(13), [*range(2, 2 + lines.FIRST), 11, 12])
        self.assertEqual(of(14), [11, 12, 13])

    def test_homing(self):
        """A head that looks at all alike; one that looks where it should; and nothing of what is ahead counts."""
        line, first, d = torch.tensor([[0, 1, 1, 1, 1, 1]]), 4, 8
        weight = torch.tensor([[9.0, 9, 1, 1, 1, 3]])
        q = torch.zeros(1, lines.HOME_HEAD + 1, 10, d)
        k = torch.zeros(1, lines.HOME_HEAD + 1, 10, d)
        attention = types.SimpleNamespace(kept=(q, k))
        loss, share = lines.homing(attention, lines.homes(line), weight, first)
        # from place 2 one of seven keys, from place 5 four of ten
        shares = [1 / 7, 2 / 8, 3 / 9, 4 / 10]
        self.assertAlmostEqual(float(share), sum(shares) / 4, 4)
        self.assertAlmostEqual(float(loss), -sum(w * math.log(s) for w, s in zip((1, 1, 1, 3), shares)) / 6, 4)
        k[..., 9, 0] = 1e4
        q[..., :9, 0] = 1
        self.assertAlmostEqual(float(lines.homing(attention, lines.homes(line), weight * (torch.arange(6) < 5), first)[0]),
                               -sum(math.log(s) for s in shares[:3]) / 3, 4)
        q[:], k[:] = 0, 0
        q[..., 0] = 100
        k[..., 5:9, 0] = 100
        # of letters, and only of those, the own place is beside the right ones
        shares = [1 / 2, 2 / 3, 3 / 4, 1]
        self.assertAlmostEqual(float(lines.homing(attention, lines.homes(line), weight, first)[1]), sum(shares) / 4, 4)


if __name__ == "__main__":
    unittest.main()
