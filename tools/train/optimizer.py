"""Muon for the hidden matrices, Adam for everything else, on flat memory.

All parameters lie in one flat tensor, matrices of the same shape side by side:
a group of them is a view, and so are gradients, averages and the optimizer's
own state.  Ranks share this memory; each updates its part.
"""
import math

import torch


class Flat:
    """The order of all parameters in flat memory; makes parameters views of it."""

    def __init__(self, named):
        matrices, rest = {}, []
        for name, p in named:
            hidden = p.ndim == 2 and min(p.shape) >= 64
            if hidden and not any(k in name for k in ("embed", "lm_head", "pos", "helpers", "gate.weight")):
                matrices.setdefault(tuple(p.shape), []).append((name, p))
            else:
                rest.append((name, p))
        self.items, self.groups, at = [], [], 0
        for shape in sorted(matrices):
            for i in range(0, len(matrices[shape]), 8):
                part = matrices[shape][i:i + 8]
                self.groups.append((at, len(part), shape))
                for name, p in part:
                    self.items.append((name, p, at))
                    at += p.numel()
        self.rest = at
        for name, p in rest:
            self.items.append((name, p, at))
            at += p.numel()
        self.size = at

    def attach(self, values, gradients):
        """Parameters become views of values, their gradients of gradients."""
        for _, p, at in self.items:
            p.data = values[at:at + p.numel()].view(p.shape)
            p.grad = gradients[at:at + p.numel()].view(p.shape)

    def gather(self, values):
        for _, p, at in self.items:
            values[at:at + p.numel()].copy_(p.detach().reshape(-1))

    def named(self, values):
        return {name: values[at:at + p.numel()].view(p.shape) for name, p, at in self.items}


@torch.no_grad()
def orthogonal(g):
    """[n, r, c] to matrices with all singular values near 1 (Newton and Schulz), in bf16"""
    x = g.bfloat16()
    x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7).bfloat16()
    turned = x.shape[1] > x.shape[2]
    if turned:
        x = x.transpose(1, 2).contiguous()
    for _ in range(5):
        a = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.transpose(1, 2) if turned else x


class Optimizer:
    def __init__(self, flat, rank, world):
        self.flat = flat
        load, self.mine = [0.0] * world, []
        cost = lambda g: g[1] * min(g[2]) ** 2 * max(g[2])
        for group in sorted(flat.groups, key=cost, reverse=True):
            least = load.index(min(load))
            load[least] += cost(group)
            if least == rank:
                self.mine.append(group)
        size = flat.size - flat.rest
        self.part = (flat.rest + size * rank // world, flat.rest + size * (rank + 1) // world)

    @torch.no_grad()
    def step(self, values, gradient, momentum, second, t, rate, decay, beta1=0.9, beta2=0.98):
        """
        t counts from 1; momentum and second are flat; second is used by Adam's part only.
        Matrices without any gradient stay: Muon would repeat its last step at full length.
        """
        for at, n, (r, c) in self.mine:
            view = lambda v: v[at:at + n * r * c].view(n, r, c)
            if not view(gradient).any():
                continue
            m = view(momentum).mul_(0.95).add_(view(gradient))
            u = orthogonal(view(gradient) + 0.95 * m)
            view(values).mul_(1 - rate * decay).sub_(u.float(), alpha=0.2 * math.sqrt(max(r, c)) * rate)
        a, b = self.part
        g, m, v = gradient[a:b], momentum[a:b], second[a - self.flat.rest:b - self.flat.rest]
        m.mul_(beta1).add_(g, alpha=1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        values[a:b].addcdiv_(m / (1 - beta1 ** t), (v / (1 - beta2 ** t)).sqrt_().add_(1e-8), value=-rate)

    def parts(self):
        """Ranges of flat memory that are this rank's."""
        return [(at, at + n * r * c) for at, n, (r, c) in self.mine] + [self.part]
