"""Fused operations for CPUs with a tile unit (AMX), compiled on first use.

Everything here is also said in plain PyTorch where it is used; without such a
CPU or a compiler that is what runs.  DSOCR_FAST=no does without, too.
"""
import os
import sys

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
FLAGS = ["-O3", "-march=sapphirerapids", "-fno-math-errno", "-fno-trapping-math"]
_module = None


def _can():
    if os.environ.get("DSOCR_FAST") == "no" or not os.path.exists("/proc/cpuinfo"):
        return False
    flags = open("/proc/cpuinfo").read()
    return all(f in flags for f in ("amx_bf16", "amx_tile", "avx512_bf16"))


def load(folder):
    """Compiles into folder, or takes what is there; returns whether fused operations are used."""
    global _module
    if _module is None and _can():
        from torch.utils import cpp_extension
        folder = os.path.abspath(folder)
        os.makedirs(folder, exist_ok=True)
        # beside the interpreter may be the only place with ninja
        os.environ["PATH"] += os.pathsep + os.path.dirname(sys.executable)
        sources = sorted(os.path.join(HERE, f) for f in os.listdir(HERE) if f.endswith(".cpp"))
        try:
            m = cpp_extension.load("dsocr_fast", sources, extra_cflags=FLAGS, build_directory=folder)
        except (RuntimeError, OSError) as e:
            print(f"no fused operations: {e}", file=sys.stderr)
            return False
        if m.allowed():
            _module = m
    return _module is not None


def usable(x):
    return _module is not None and not x.is_cuda and x.dtype == torch.bfloat16


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, causal, scale):
        o, sums = _module.attention_forward(q, k, v, causal, scale)
        ctx.save_for_backward(q, k, v, o, sums)
        ctx.how = causal, scale
        return o

    @staticmethod
    def backward(ctx, g):
        q, k, v, o, sums = ctx.saved_tensors
        return *_module.attention_backward(g if g.stride(-1) == 1 else g.contiguous(), q, k, v, o, sums, *ctx.how), None, None


def attention(q, k, v, causal=False, scale=None):
    """softmax(q k' scale) v for q and k [B, H, T, d], v [B, H, T, e]"""
    return _Attention.apply(q, k, v, causal, q.shape[-1] ** -0.5 if scale is None else scale)
