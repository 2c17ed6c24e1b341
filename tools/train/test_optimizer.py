#!/usr/bin/env python3
"""Tests of the optimizer: tools/train/test_optimizer.py [CLASS...]"""
import unittest

import torch

import optimizer


class Orthogonal(unittest.TestCase):
    def test_singular_values(self):
        torch.manual_seed(1)
        for shape in ((3, 128, 64), (1, 64, 200), (2, 96, 160)):
            s = torch.linalg.svdvals(optimizer.orthogonal(torch.randn(shape)).float())
            self.assertEqual(s.shape, (shape[0], min(shape[1:])))
            self.assertTrue(0.3 < float(s.min()) and float(s.max()) < 1.4, (float(s.min()), float(s.max())))


class Step(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(1)
        self.named = [(n, torch.nn.Parameter(torch.randn(s))) for n, s in
                      (("tall", (128, 64)), ("wide", (64, 128)), ("norm", (64,)), ("lm_head", (70, 64)))]
        self.flat = optimizer.Flat(self.named)
        self.memory = {k: torch.zeros(self.flat.size) for k in ("values", "gradients", "momentum")}
        self.memory["second"] = torch.zeros(self.flat.size - self.flat.rest)
        self.flat.gather(self.memory["values"])
        self.flat.attach(self.memory["values"], self.memory["gradients"])

    def step(self, t, world=1):
        for rank in range(world):
            optimizer.Optimizer(self.flat, rank, world).step(
                self.memory["values"], self.memory["gradients"], self.memory["momentum"], self.memory["second"], t, 0.01, 0.1)

    def named_copy(self):
        return {n: p.detach().clone() for n, p in self.named}

    def test_all_move_by_the_rate(self):
        before = self.named_copy()
        self.memory["gradients"].normal_()
        self.step(1)
        for n, p in self.named:
            moved = float((p - before[n]).square().mean().sqrt())
            self.assertTrue(0.0005 < moved < 0.02, (n, moved))

    def test_ranks_share_the_work(self):
        self.memory["gradients"].normal_()
        start = {k: v.clone() for k, v in self.memory.items()}
        self.step(1)
        alone = self.memory["values"].clone()
        for k, v in start.items():
            self.memory[k].copy_(v)
        self.step(1, world=2)
        self.assertTrue(torch.equal(self.memory["values"], alone))

    def test_without_a_gradient_a_matrix_stays(self):
        self.memory["gradients"].normal_()
        self.step(1)
        before, momentum = self.named_copy(), self.memory["momentum"].clone()
        dict(self.named)["tall"].grad.zero_()
        self.step(2)
        after = self.named_copy()
        self.assertTrue(torch.equal(before["tall"], after["tall"]))
        self.assertFalse(torch.equal(before["wide"], after["wide"]))
        kept = self.flat.named(momentum)["tall"]
        self.assertTrue(torch.equal(kept, self.flat.named(self.memory["momentum"])["tall"]))


if __name__ == "__main__":
    unittest.main()
