"""The model of dsocr in PyTorch, as one writes it there: the other side of
the benchmark.

Written from the paper (arXiv 2510.18234) and the formulas in
docs/; weights are read by their official names or drawn at random.  It runs
in eager mode, under torch.compile and in CUDA graphs, and on a CPU, where
peer_check.py compares it with the reference data.
"""

import json
import math
import struct

import torch
import torch.nn.functional as F


class Config:
    """Dimensions, from a config.json of the official schema."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            c = json.load(f)
        v = c["vision_config"]
        sam = v["width"]["sam_vit_b"]
        clip = v["width"]["clip-l-14-224"]
        lm = c["language_config"]
        self.image_size = v["image_size"]
        self.patch = 16
        self.sam_width = sam["width"]
        self.sam_layers = sam["layers"]
        self.sam_heads = sam["heads"]
        self.sam_global = sam["global_attn_indexes"]
        self.sam_window = sam.get("window_size", 14)
        self.neck = sam.get("neck_channels", 256)
        self.net2, self.net3 = sam["downsample_channels"]
        self.clip_width = clip["width"]
        self.clip_layers = clip["layers"]
        self.clip_heads = clip["heads"]
        self.clip_grid = clip["image_size"] // clip["patch_size"]
        self.projector_in = c["projector_config"]["input_dim"]
        self.hidden = lm["hidden_size"]
        self.layers = lm["num_hidden_layers"]
        self.heads = lm["num_attention_heads"]
        self.head_dim = self.hidden // self.heads
        self.dense_inter = lm["intermediate_size"]
        self.inter = lm["moe_intermediate_size"]
        self.experts = lm["n_routed_experts"]
        self.top = lm["num_experts_per_tok"]
        self.shared = lm["n_shared_experts"] or 0
        self.first_dense = lm["first_k_dense_replace"]
        self.vocab = lm["vocab_size"]
        self.eps = lm.get("rms_norm_eps", 1e-6)
        self.theta = lm.get("rope_theta", 10000.0)


def official_config():
    """The official dimensions, for runs without any file."""
    c = Config.__new__(Config)
    c.__dict__.update(
        image_size=1024, patch=16, sam_width=768, sam_layers=12, sam_heads=12,
        sam_global=[2, 5, 8, 11], sam_window=14, neck=256, net2=512, net3=1024,
        clip_width=1024, clip_layers=24, clip_heads=16, clip_grid=16,
        projector_in=2048, hidden=1280, layers=12, heads=10, head_dim=128,
        dense_inter=6848, inter=896, experts=64, top=6, shared=2, first_dense=1,
        vocab=129280, eps=1e-6, theta=10000.0)
    return c


class Stored:
    """Tensors of one safetensors file by name."""

    DTYPES = {"BF16": torch.bfloat16, "F32": torch.float32, "I32": torch.int32,
              "I64": torch.int64}

    def __init__(self, path, device, dtype):
        with open(path, "rb") as f:
            n = struct.unpack("<Q", f.read(8))[0]
            self.header = json.loads(f.read(n))
        self.path, self.start = path, 8 + n
        self.device, self.dtype = device, dtype

    def get(self, name, *shape):
        h = self.header[name]
        a, b = h["data_offsets"]
        with open(self.path, "rb") as f:
            f.seek(self.start + a)
            raw = bytearray(f.read(b - a))
        t = torch.frombuffer(raw, dtype=self.DTYPES[h["dtype"]]).reshape(h["shape"])
        assert not shape or list(shape) == h["shape"], (name, shape, h["shape"])
        return t.to(self.device, self.dtype)


class Random:
    """Weights of the right shapes; deviation 1 / sqrt(inputs), norms about 1."""

    def __init__(self, device, dtype, seed=1):
        self.device, self.dtype = device, dtype
        self.generator = torch.Generator(device=device).manual_seed(seed)

    def get(self, name, *shape):
        t = torch.empty(shape, device=self.device, dtype=self.dtype)
        inputs = math.prod(shape[1:]) if len(shape) > 1 else 0
        t.normal_(0, inputs ** -0.5 if inputs else 0.1, generator=self.generator)
        if "norm" in name and name.endswith("weight"):
            t += 1
        return t


def resized_position(table, side):
    """[1, S, S, C] to [1, side, side, C], in fp32."""
    if table.shape[1] == side:
        return table
    t = F.interpolate(table.permute(0, 3, 1, 2).float(), (side, side), mode="bicubic",
                      antialias=True, align_corners=False)
    return t.permute(0, 2, 3, 1).to(table.dtype)


def relative_table(table, side):
    """Rows i - j + side - 1 of the table, resized when it is for another side: [side, side, d]"""
    if table.shape[0] != 2 * side - 1:
        table = F.interpolate(table.float().t()[None], 2 * side - 1, mode="linear",
                              align_corners=False)[0].t().to(table.dtype)
    i = torch.arange(side, device=table.device)
    return table[i[:, None] - i[None, :] + side - 1]


class Encoder:
    def __init__(self, c, weights):
        self.c = c
        g = weights.get
        w, s = c.sam_width, c.image_size // c.patch
        m = "model.sam_model."
        self.patch_w = g(m + "patch_embed.proj.weight", w, 3, c.patch, c.patch)
        self.patch_b = g(m + "patch_embed.proj.bias", w)
        self.pos = g(m + "pos_embed", 1, s, s, w)
        d = w // c.sam_heads
        self.sam = []
        for i in range(c.sam_layers):
            p = f"{m}blocks.{i}."
            rows = 2 * (s if i in c.sam_global else c.sam_window) - 1
            self.sam.append(dict(
                n1=(g(p + "norm1.weight", w), g(p + "norm1.bias", w)),
                qkv=(g(p + "attn.qkv.weight", 3 * w, w), g(p + "attn.qkv.bias", 3 * w)),
                rel_h=g(p + "attn.rel_pos_h", rows, d), rel_w=g(p + "attn.rel_pos_w", rows, d),
                proj=(g(p + "attn.proj.weight", w, w), g(p + "attn.proj.bias", w)),
                n2=(g(p + "norm2.weight", w), g(p + "norm2.bias", w)),
                fc1=(g(p + "mlp.lin1.weight", 4 * w, w), g(p + "mlp.lin1.bias", 4 * w)),
                fc2=(g(p + "mlp.lin2.weight", w, 4 * w), g(p + "mlp.lin2.bias", w)),
                window=0 if i in c.sam_global else c.sam_window))
        n = c.neck
        self.neck = [g(m + "neck.0.weight", n, w, 1, 1),
                     (g(m + "neck.1.weight", n), g(m + "neck.1.bias", n)),
                     g(m + "neck.2.weight", n, n, 3, 3),
                     (g(m + "neck.3.weight", n), g(m + "neck.3.bias", n))]
        self.net2 = g(m + "net_2.weight", c.net2, n, 3, 3)
        self.net3 = g(m + "net_3.weight", c.net3, c.net2, 3, 3)
        m, w = "model.vision_model.", c.clip_width
        self.cls = g(m + "embeddings.class_embedding", w)
        self.clip_pos = g(m + "embeddings.position_embedding.weight", c.clip_grid ** 2 + 1, w)
        self.pre = (g(m + "pre_layrnorm.weight", w), g(m + "pre_layrnorm.bias", w))
        self.clip = []
        for i in range(c.clip_layers):
            p = f"{m}transformer.layers.{i}."
            self.clip.append(dict(
                n1=(g(p + "layer_norm1.weight", w), g(p + "layer_norm1.bias", w)),
                qkv=(g(p + "self_attn.qkv_proj.weight", 3 * w, w),
                     g(p + "self_attn.qkv_proj.bias", 3 * w)),
                proj=(g(p + "self_attn.out_proj.weight", w, w), g(p + "self_attn.out_proj.bias", w)),
                n2=(g(p + "layer_norm2.weight", w), g(p + "layer_norm2.bias", w)),
                fc1=(g(p + "mlp.fc1.weight", 4 * w, w), g(p + "mlp.fc1.bias", 4 * w)),
                fc2=(g(p + "mlp.fc2.weight", w, 4 * w), g(p + "mlp.fc2.bias", w))))
        self.projector = (g("model.projector.layers.weight", c.hidden, c.projector_in),
                          g("model.projector.layers.bias", c.hidden))
        self.newline = g("model.image_newline", c.hidden)
        self.separator = g("model.view_seperator", c.hidden)
        self.tables = {}

    def table(self, kind, i, side):
        """Position tables of a side, made once: they are constants of a mode."""
        key = (kind, i, side)
        if key not in self.tables:
            if kind == "pos":
                t = resized_position(self.pos, side)
            elif kind == "clip":
                n = self.c.clip_grid
                grid = resized_position(self.clip_pos[1:].reshape(1, n, n, -1), side)
                t = torch.cat([self.clip_pos[:1], grid.reshape(side * side, -1)])
            else:
                t = relative_table(self.sam[i][kind], side)
            self.tables[key] = t
        return self.tables[key]

    def sam_attention(self, i, x):
        """x [B, h, h, C]; relative terms are added to the scores as a mask."""
        b, s, _, w = x.shape
        heads = self.c.sam_heads
        layer = self.sam[i]
        q, k, v = F.linear(x, *layer["qkv"]).reshape(b, s * s, 3, heads, w // heads) \
            .permute(2, 0, 3, 1, 4)
        grid = q.reshape(b, heads, s, s, w // heads)
        h = torch.einsum("bnhwc,hkc->bnhwk", grid, self.table("rel_h", i, s))
        t = torch.einsum("bnhwc,wkc->bnhwk", grid, self.table("rel_w", i, s))
        mask = (h[..., :, None] + t[..., None, :]).reshape(b, heads, s * s, s * s)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return F.linear(y.transpose(1, 2).reshape(b, s, s, w), *layer["proj"])

    def sam_block(self, i, x):
        layer = self.sam[i]
        v, s, _, w = x.shape
        n = F.layer_norm(x, (w,), *layer["n1"], 1e-6)
        win = layer["window"]
        if win:
            pad = -s % win
            k = (s + pad) // win
            n = F.pad(n, (0, 0, 0, pad, 0, pad)).reshape(v, k, win, k, win, w) \
                .transpose(2, 3).reshape(v * k * k, win, win, w)
            n = self.sam_attention(i, n).reshape(v, k, k, win, win, w).transpose(2, 3) \
                .reshape(v, s + pad, s + pad, w)[:, :s, :s]
        else:
            n = self.sam_attention(i, n)
        x = x + n
        n = F.layer_norm(x, (w,), *layer["n2"], 1e-6)
        return x + F.linear(F.gelu(F.linear(n, *layer["fc1"])), *layer["fc2"])

    def run_sam(self, pixels, see):
        """[V, 3, S, S] to [V, net3, s/4, s/4]"""
        c = self.c
        x = F.conv2d(pixels, self.patch_w, self.patch_b, stride=c.patch).permute(0, 2, 3, 1)
        see("sam.patch_embed", x)
        x = x + self.table("pos", 0, x.shape[1])
        for i in range(c.sam_layers):
            x = self.sam_block(i, x)
            see(f"sam.block.{i}", x)
        x = F.linear(x, self.neck[0][:, :, 0, 0])
        x = F.layer_norm(x, (c.neck,), *self.neck[1], 1e-6).permute(0, 3, 1, 2)
        x = F.conv2d(x, self.neck[2], padding=1).permute(0, 2, 3, 1)
        x = F.layer_norm(x, (c.neck,), *self.neck[3], 1e-6).permute(0, 3, 1, 2)
        see("sam.neck", x)
        x = F.conv2d(x, self.net2, stride=2, padding=1)
        see("sam.net_2", x)
        x = F.conv2d(x, self.net3, stride=2, padding=1)
        see("sam.net_3", x)
        return x

    def run_clip(self, features, see):
        """[V, s^2, w] to [V, 1 + s^2, w]"""
        v, n, w = features.shape
        heads = self.c.clip_heads
        x = torch.cat([self.cls.expand(v, 1, w), features], 1) \
            + self.table("clip", 0, math.isqrt(n))
        see("clip.embeddings", x)
        x = F.layer_norm(x, (w,), *self.pre, 1e-5)
        see("clip.pre_layrnorm", x)
        for i, layer in enumerate(self.clip):
            h = F.layer_norm(x, (w,), *layer["n1"], 1e-5)
            q, k, u = F.linear(h, *layer["qkv"]).reshape(v, n + 1, 3, heads, w // heads) \
                .permute(2, 0, 3, 1, 4)
            h = F.scaled_dot_product_attention(q, k, u).transpose(1, 2).reshape(v, n + 1, w)
            x = x + F.linear(h, *layer["proj"])
            h = F.linear(F.layer_norm(x, (w,), *layer["n2"], 1e-5), *layer["fc1"])
            x = x + F.linear(h * torch.sigmoid(1.702 * h), *layer["fc2"])
            see(f"clip.layer.{i}", x)
        return x

    def __call__(self, pixels, see=lambda name, x: None):
        """[V, 3, S, S] to vision tokens [V, s^2, hidden]"""
        sam = self.run_sam(pixels, see).flatten(2).transpose(1, 2)
        x = torch.cat([self.run_clip(sam, see)[:, 1:], sam], -1)
        see("concat", x)
        x = F.linear(x, *self.projector)
        see("projector", x)
        return x


def grouped_product(x, w, ends):
    """Rows of x, sorted by group, times w[group]^T; ends[group] is the last row + 1."""
    f = getattr(F, "grouped_mm", None) or torch._grouped_mm
    return f(x, w.transpose(1, 2), offs=ends)


class Decoder:
    def __init__(self, c, weights):
        self.c = c
        g = weights.get
        h = c.hidden
        self.embed = g("model.embed_tokens.weight", c.vocab, h)
        self.norm = g("model.norm.weight", h)
        self.head = g("lm_head.weight", c.vocab, h)
        self.layers = []
        for i in range(c.layers):
            p = f"model.layers.{i}."

            def mlp(name, n):
                return (torch.cat([g(name + "gate_proj.weight", n, h),
                                   g(name + "up_proj.weight", n, h)]),
                        g(name + "down_proj.weight", h, n))

            a = p + "self_attn."
            layer = dict(n1=g(p + "input_layernorm.weight", h),
                         n2=g(p + "post_attention_layernorm.weight", h),
                         qkv=torch.cat([g(a + f"{k}_proj.weight", h, h) for k in "qkv"]),
                         o=g(a + "o_proj.weight", h, h))
            if i < c.first_dense:
                layer["mlp"] = mlp(p + "mlp.", c.dense_inter)
            else:
                layer["gate"] = g(p + "mlp.gate.weight", c.experts, h).float()
                if c.shared:
                    layer["mlp"] = mlp(p + "mlp.shared_experts.", c.shared * c.inter)
                layer["up"] = torch.empty(c.experts, 2 * c.inter, h, device=self.norm.device,
                                          dtype=self.norm.dtype)
                layer["down"] = torch.empty(c.experts, h, c.inter, device=self.norm.device,
                                            dtype=self.norm.dtype)
                for e in range(c.experts):
                    layer["up"][e], layer["down"][e] = mlp(f"{p}mlp.experts.{e}.", c.inter)
            self.layers.append(layer)
        d = c.head_dim
        self.freq = c.theta ** (-torch.arange(0, d, 2, device=self.norm.device).float() / d)

    def rms(self, x, w):
        f = x.float()
        return (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + self.c.eps)).to(x.dtype) * w

    def rotate(self, x, cos, sin):
        """x [B, heads, n, d]"""
        a, b = x.chunk(2, -1)
        return (x * cos + torch.cat([-b, a], -1) * sin).to(x.dtype)

    def angles(self, positions):
        """positions [n] or [B, n] to cos, sin [.., 1, n, d] that fit [B, heads, n, d]"""
        t = positions[..., None].float() * self.freq
        t = torch.cat([t, t], -1)
        if positions.dim() == 2:
            t = t[:, None]
        return t.cos(), t.sin()

    @staticmethod
    def swiglu(x, weights):
        a, b = F.linear(x, weights[0]).chunk(2, -1)
        return F.linear(F.silu(a) * b, weights[1])

    def route(self, layer, x):
        p = F.linear(x.float(), layer["gate"]).softmax(-1)
        return torch.topk(p, self.c.top, dim=-1)

    def experts_loop(self, layer, x, weights, ids):
        """As the reference does it: rows sorted by expert, a loop over the experts that have some."""
        flat = ids.flatten()
        order = flat.argsort()
        counts = torch.bincount(flat, minlength=self.c.experts).tolist()
        rows = x[order // self.c.top]
        parts, at = [], 0
        for e, n in enumerate(counts):
            if n:
                parts.append(self.swiglu(rows[at:at + n], (layer["up"][e], layer["down"][e])))
            at += n
        out = torch.empty_like(rows)
        out[order] = torch.cat(parts)
        return (out.view(*ids.shape, -1).float() * weights[..., None]).sum(1).to(x.dtype)

    def experts_grouped(self, layer, x, weights, ids):
        """No host in between: one grouped product for all experts."""
        flat = ids.flatten()
        order = flat.argsort(stable=True)
        one = torch.arange(self.c.experts, device=x.device)
        ends = (flat[:, None] == one).sum(0).cumsum(0).to(torch.int32)
        rows = x[order // self.c.top]
        a, b = grouped_product(rows, layer["up"], ends).chunk(2, -1)
        y = grouped_product(F.silu(a) * b, layer["down"], ends)
        out = torch.empty_like(y)
        out[order] = y
        return (out.view(*ids.shape, -1).float() * weights[..., None]).sum(1).to(x.dtype)

    def experts_dense(self, layer, x, weights, ids):
        """All experts for all rows; as good as any for few rows, and needs nothing new."""
        n, e = x.shape[0], self.c.experts
        share = torch.zeros(n, e, device=x.device).scatter_(1, ids, weights)
        a, b = torch.einsum("nh,eih->eni", x, layer["up"]).chunk(2, -1)
        y = torch.bmm(F.silu(a) * b, layer["down"].transpose(1, 2))
        return torch.einsum("enh,ne->nh", y.float(), share).to(x.dtype)

    def mlp(self, i, layer, x, how, see_router):
        if "gate" not in layer:
            return self.swiglu(x, layer["mlp"])
        shape = x.shape
        rows = x.reshape(-1, shape[-1])
        weights, ids = self.route(layer, rows)
        see_router(i, ids, weights)
        y = getattr(self, "experts_" + how)(layer, rows, weights, ids).reshape(shape)
        if "mlp" in layer:
            y = y + self.swiglu(x, layer["mlp"])
        return y

    def run(self, x, positions, attend, how="loop", see=lambda name, x: None,
            see_router=lambda i, ids, weights: None):
        """x [B, n, hidden]; attend(layer number, q, k, v) works on [B, heads, n, d]"""
        c = self.c
        cos, sin = self.angles(positions)
        for i, layer in enumerate(self.layers):
            b, n, _ = x.shape
            q, k, v = F.linear(self.rms(x, layer["n1"]), layer["qkv"]) \
                .reshape(b, n, 3, c.heads, c.head_dim).permute(2, 0, 3, 1, 4)
            y = attend(i, self.rotate(q, cos, sin), self.rotate(k, cos, sin), v)
            y = F.linear(y.transpose(1, 2).reshape(b, n, -1), layer["o"])
            see(f"lm.attn.{i}", y)
            x = x + y
            x = x + self.mlp(i, layer, self.rms(x, layer["n2"]), how, see_router)
            see(f"lm.layer.{i}", x)
        x = self.rms(x, self.norm)
        see("lm.norm", x)
        return x

    def prefill(self, x, cache=None, **more):
        """x [1, n, hidden]: logits of the last position [vocab]; keys and values go to cache."""

        def attend(i, q, k, v):
            if cache is not None:
                cache[i, 0, :, :, :k.shape[2]] = k
                cache[i, 1, :, :, :k.shape[2]] = v
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

        x = self.run(x, torch.arange(x.shape[1], device=x.device), attend, **more)
        return F.linear(x[:, -1], self.head)[0].float()

    def new_cache(self, batch, positions):
        """[layers, 2, batch, heads, positions, d]"""
        c = self.c
        return torch.zeros(c.layers, 2, batch, c.heads, positions, c.head_dim,
                           device=self.norm.device, dtype=self.norm.dtype)

    def decode(self, ids, position, cache, how="loop"):
        """ids [B], position [1] of all of them: next ids [B] and their logits [B, vocab]"""
        mask = torch.arange(cache.shape[4], device=ids.device)[None, None, None] <= position

        def attend(i, q, k, v):
            cache[i, 0].index_copy_(2, position, k)
            cache[i, 1].index_copy_(2, position, v)
            return F.scaled_dot_product_attention(q, cache[i, 0], cache[i, 1], attn_mask=mask)

        x = self.run(F.embedding(ids, self.embed)[:, None], position, attend, how)
        logits = F.linear(x[:, 0], self.head).float()
        return logits.argmax(-1), logits
