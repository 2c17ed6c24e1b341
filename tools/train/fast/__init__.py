"""Fused operations for CPUs with products in bf16 (AVX-512, or AMX), compiled on first use.

Everything here is also said in plain PyTorch where it is used; without such a
CPU or a compiler that is what runs.  DSOCR_FAST=no does without, too.
"""
import os
import sys

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
FLAGS = ["-O3", "-march=icelake-server", "-mavx512bf16", "-mamx-tile", "-mamx-bf16", "-mprefer-vector-width=512",
         "-fno-math-errno", "-fno-trapping-math"]
_module = None


def _can():
    if os.environ.get("DSOCR_FAST") == "no" or not os.path.exists("/proc/cpuinfo"):
        return False
    with open("/proc/cpuinfo") as f:
        flags = f.read()
    return "avx512_bf16" in flags and "avx512_vbmi2" in flags


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
        except (RuntimeError, OSError, ImportError) as e:
            print(f"no fused operations: {e}", file=sys.stderr)
            return False
        if m.allowed():
            _module = m
    return _module is not None


def usable(x):
    """Whether x, which goes into products in bf16 or is about to, can be given to the operations below."""
    if _module is None or x.is_cuda:
        return False
    return x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, rows, columns, causal, scale):
        o, sums = _module.attention_forward(q, k, v, rows, columns, causal, scale)
        ctx.save_for_backward(q, k, v, rows, columns, o, sums)
        ctx.how = causal, scale
        return o

    @staticmethod
    def backward(ctx, g):
        g = g if g.stride(-1) == 1 else g.contiguous()
        out = _module.attention_backward(g, *ctx.saved_tensors, *ctx.how)
        return *out, *[None] * (7 - len(out))


def attention(q, k, v, causal=False, rows=None, columns=None):
    """
    softmax(q k' / sqrt(d)) v for q and k [B, H, T, d], v [B, H, T, e]; over a grid with
    rows [B, H, T, y] and columns [B, H, T, x], T = x y, added to the scores of its keys
    """
    return _Attention.apply(q, k, v, rows, columns, causal, q.shape[-1] ** -0.5)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, b, eps):
        x = x.contiguous()
        y, stats = _module.norm_forward(x, w, b, eps)
        ctx.save_for_backward(x, w, stats)
        ctx.centred = b is not None
        return y

    @staticmethod
    def backward(ctx, g):
        x, w, stats = ctx.saved_tensors
        dx, dw, db = _module.norm_backward(g.contiguous(), x, w, stats, ctx.centred)
        return dx, dw, db if ctx.centred else None, None


def norm(x, w, b, eps):
    """LayerNorm, without b RMSNorm, of the last channels of x in fp32; bf16"""
    return _Norm.apply(x, w, b, eps)


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return _module.gelu_forward(x)

    @staticmethod
    def backward(ctx, g):
        return _module.gelu_backward(g.contiguous(), *ctx.saved_tensors)


gelu = _Gelu.apply


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return _module.swiglu_forward(a, b)

    @staticmethod
    def backward(ctx, g):
        return tuple(_module.swiglu_backward(g.contiguous(), *ctx.saved_tensors))


swiglu = _SwiGLU.apply


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return _module.rotate(x, cos, sin, 1.0)

    @staticmethod
    def backward(ctx, g):
        return _module.rotate(g.contiguous(), *ctx.saved_tensors, -1.0), None, None


def rotate(x, cos, sin):
    """Rotary positions for x [B, T, heads * d] by the angles of cos and sin [T, d] in fp32"""
    return _Rotate.apply(x, cos, sin)


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, rows, places):
        ctx.save_for_backward(places)
        return _module.experts_spread(x, rows)

    @staticmethod
    def backward(ctx, g):
        return _module.experts_gather(g.contiguous(), *ctx.saved_tensors, None), None, None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y, places, weight):
        ctx.save_for_backward(y, places, weight)
        return _module.experts_gather(y, places, weight)

    @staticmethod
    def backward(ctx, g):
        y, places, weight = ctx.saved_tensors
        dy, dw = _module.experts_gather_backward(g.contiguous(), y, places, weight)
        return dy, None, dw


def mixture(x, index, weight, experts):
    """Sum of weight [n, k] times experts index [n, k] of x [n, c] in bf16; fp32"""
    rows, places, counts = _module.experts_plan(index, len(experts))
    parts = _Spread.apply(x, rows, places).split(counts.tolist())
    y = torch.cat([expert(part) for expert, part in zip(experts, parts)])
    return _Gather.apply(y, places, weight.contiguous())


def pixels(gray, paper, ink):
    """[B, H, W] bytes and the colours of 255 and 0 to [B, 3, H, W] in bf16, normalised as the engine does"""
    return _module.pixels(gray, paper.contiguous(), ink.contiguous())
