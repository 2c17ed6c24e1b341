#!/usr/bin/env python3
"""Tests of what is learned of molecules: tools/train/test_walks.py [CLASS...]"""
import math
import types
import unittest

import numpy as np
import torch
import torch.nn.functional as F

import walks

IGNORE = -100


class Letters:
    @staticmethod
    def decode(ids):
        return "".join(map(chr, ids))


class Walks(unittest.TestCase):
    def of(self, text):
        return " ".join("-" if i < 0 else text[i] + str(i) for i in walks.walk(text)[0])

    def test_chain(self):
        self.assertEqual(self.of("CC=O"), "- C0 C1 C1")

    def test_two_letters_are_one_atom(self):
        self.assertEqual(self.of("CClN"), "- C0 C1 C1")

    def test_branches_come_back(self):
        self.assertEqual(self.of("N(C(O)F)S"), "- N0 N0 C2 C2 O4 C2 F6 N0")

    def test_rings_and_charges(self):
        # a digit is of the atom before it, what is in brackets of the one that stands in them
        self.assertEqual(self.of("C1[NH2+]CC1"), "- C0 C0 C0 N3 N3 N3 N3 N3 C8 C9")

    def test_bonds(self):
        self.assertEqual(walks.walk("CClN")[2], [(0, 1, 1), (1, 3, 1)])
        self.assertEqual(walks.walk("N(=C(O)F)#S")[2], [(0, 3, 2), (3, 5, 1), (3, 7, 1), (0, 10, 3)])
        # hydrogens of a charged atom are none of their own; a ring's bond is said where the ring ends
        self.assertEqual(walks.walk("C1[NH2+]CC=1")[2], [(0, 3, 1), (3, 8, 1), (8, 9, 1), (0, 9, 2)])
        self.assertEqual(walks.walk("C1CC1C1CC1")[2], [(0, 2, 1), (2, 3, 1), (0, 3, 1), (3, 5, 1), (5, 7, 1), (7, 8, 1), (5, 8, 1)])

    def test_bonds_by_patch(self):
        """Atoms at the corners of a triangle, the last one seen as a letter."""
        boxes = np.array([[20, 20, 20, 20], [-1] * 4, [52, 20, 52, 20], [30, 45, 42, 55], [-1] * 4], np.float32)
        page = types.SimpleNamespace(view=np.zeros((64, 96)), boxes=boxes[[0, 1, 1, 2, 3, 4]], text=lambda: "C1=CO1")
        out = walks.bonds_by_patch(page, 16)
        self.assertEqual(out.shape, (4, 6, walks.SECTORS))
        self.assertEqual((out[..., 0] >= 0).sum(), 3)

        def ways(row, column):
            return {int(i): int(out[row, column, i]) for i in out[row, column].nonzero()[0]}
        self.assertEqual([ways(1, 1), ways(1, 3), ways(3, 2)], [{0: 2, 2: 1}, {6: 2, 4: 1}, {8: 1, 10: 1}])
        ranks = walks.ranks_by_patch(page, 16)[..., 0]
        self.assertEqual((ranks >= 0).sum(), 3)
        self.assertEqual([ranks[1, 1], ranks[1, 3], ranks[3, 2]], [0, 1, 2])

    def test_knowing(self):
        want = torch.full((1, 4, 4, walks.SECTORS), -1)
        want[0, 1, 2], want[0, 3, 3] = 0, 0
        want[0, 1, 2, 5], want[0, 3, 3, 0] = 2, 3
        scores = F.one_hot(want.clamp(min=0), walks.ORDERS).float()
        scores[0, 3, 3, 0] = 0

        def naming(features, i):
            return 50 * features.reshape(-1, walks.SECTORS * walks.ORDERS)[i]
        loss, right = walks.knowing(naming, scores, want, walks.ORDERS)
        self.assertEqual(float(right), 0.5)
        self.assertAlmostEqual(float(loss), math.log(4) / 24, 5)

    def test_atoms(self):
        text = "C[NH3+]Cl[Cl-][SH]Br"
        self.assertEqual([text[i:i + 2] for i in walks.walk(text)[1]], ["C[", "NH", "Cl", "Cl", "SH", "Br"])

    def test_numbering(self):
        want = torch.tensor([[-1, 0, 1], [-1, -1, 2]])
        states = F.one_hot(want.clamp(min=0), 32).float()
        states[1, 2] = 1
        loss, right = walks.numbering(lambda x: 50 * x, states, want)
        self.assertAlmostEqual(float(loss), math.log(32) / 3, 4)
        self.assertAlmostEqual(float(right), 2 / 3, 5)

    def test_origins_and_sights(self):
        ids = np.array([[63, 63, *map(ord, "CN(O)"), 2, 0]])
        labels = np.where((np.arange(9) < 2) | (np.arange(9) > 7), IGNORE, ids)
        origin = walks.origins(ids, labels, Letters, IGNORE)
        self.assertEqual(origin.tolist(), [[0, 0, 0, 2, 3, 3, 5, 3, 0]])
        self.assertEqual(walks.named(ids, labels, Letters, IGNORE).tolist(), [[-1, -1, 0, 1, 2, 2, 3, 3, -1]])
        there = walks.sights(torch.from_numpy(origin))[0]
        self.assertEqual([row.nonzero()[:, 0].tolist() for row in there], [[], [], [], [2], [3], [3], [5], [3], []])


if __name__ == "__main__":
    unittest.main()
