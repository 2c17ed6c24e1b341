"""The architecture of DeepSeek-OCR for small dimensions.

Module and parameter names follow the official checkpoint, so that state_dict()
is the checkpoint.  Whatever the official code computes is computed here, in the
form that trains fastest on a CPU and on a GPU.
"""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

import fast

BOS_ID, EOS_ID = 0, 1


class LayerNorm(nn.LayerNorm):
    """In bf16 where that is what comes next."""

    def forward(self, x):
        return fast.norm(x.float(), self.weight, self.bias, self.eps) if fast.usable(x) else super().forward(x)


def fused(x):
    """Whether to compute in the form that is faster on a GPU."""
    return x.is_cuda


class LayerNorm2d(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x):  # B C H W
        x = F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), self.weight, self.bias, 1e-6)
        return x.permute(0, 3, 1, 2)


def resize_grid(grid, side):
    """Position embeddings [1, n, n, c] for another side."""
    if grid.shape[1] == side:
        return grid
    grid = F.interpolate(grid.float().permute(0, 3, 1, 2), size=(side, side), mode="bicubic", antialias=True,
                         align_corners=False)
    return grid.permute(0, 2, 3, 1)


def relative_table(n, table):
    """[2 L - 1, d] to [n, n, d]; resized linearly where the side differs."""
    if table.shape[0] != 2 * n - 1:
        table = F.interpolate(table.float().t()[None], size=2 * n - 1, mode="linear")[0].t()
    i = torch.arange(n, device=table.device)
    return table[i[:, None] - i[None] + n - 1]


class SamAttention(nn.Module):
    def __init__(self, dim, heads, side):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, dim // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, dim // heads))

    def forward(self, x):  # B H W C
        """q.k + rel_h + rel_w; where attention takes no such positions, as more channels of q and k in one product."""
        B, H, W, C = x.shape
        d = C // self.heads
        n = B * self.heads
        q, k, v = self.qkv(x).view(B, H * W, 3, self.heads, d).permute(2, 0, 3, 1, 4).reshape(3, n, H * W, d)
        grid = q.view(n, H, W, d)
        rh = torch.einsum("bhwc,hkc->bhwk", grid, relative_table(H, self.rel_pos_h).to(q.dtype))
        rw = torch.einsum("bhwc,wkc->bhwk", grid, relative_table(W, self.rel_pos_w).to(q.dtype))
        if fast.usable(q):
            o = fast.attention(q[None], k[None], v[None], rows=rh.reshape(1, n, H * W, H), columns=rw.reshape(1, n, H * W, W))
            return self.proj(o.view(B, self.heads, H * W, d).transpose(1, 2).reshape(B, H, W, C))
        eye_h = torch.eye(H, dtype=q.dtype, device=q.device).repeat_interleave(W, 0)
        eye_w = torch.eye(W, dtype=q.dtype, device=q.device).repeat(H, 1)
        pad = -(d + H + W) % 8
        q = torch.cat([q * d ** -0.5, rh.reshape(n, H * W, H), rw.reshape(n, H * W, W)], -1)
        k = torch.cat([k, torch.cat([eye_h, eye_w], 1).expand(n, -1, -1)], -1)
        if fused(x):
            q, k = F.pad(q, (0, pad)), F.pad(k, (0, pad))
            o = F.scaled_dot_product_attention(q[None], k[None], v[None], scale=1.0)[0]
        else:
            o = (q @ k.transpose(1, 2)).softmax(-1, dtype=q.dtype) @ v
        return self.proj(o.view(B, self.heads, H * W, d).transpose(1, 2).reshape(B, H, W, C))


class SamMLP(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.lin1 = nn.Linear(dim, 4 * dim)
        self.lin2 = nn.Linear(4 * dim, dim)

    def forward(self, x):
        h = self.lin1(x)
        return self.lin2(fast.gelu(h) if fast.usable(h) else F.gelu(h))


class SamBlock(nn.Module):
    def __init__(self, dim, heads, window, side):
        super().__init__()
        self.window = window
        self.norm1 = LayerNorm(dim, eps=1e-6)
        self.norm2 = LayerNorm(dim, eps=1e-6)
        self.attn = SamAttention(dim, heads, window or side)
        self.mlp = SamMLP(dim)

    def forward(self, x):
        B, H, W, C = x.shape
        y = self.norm1(x)
        w = self.window
        if w:
            ph, pw = -H % w, -W % w
            y = F.pad(y, (0, 0, 0, pw, 0, ph))
            nh, nw = (H + ph) // w, (W + pw) // w
            y = y.view(B, nh, w, nw, w, C).transpose(2, 3).reshape(-1, w, w, C)
            y = self.attn(y).view(B, nh, nw, w, w, C).transpose(2, 3)
            y = y.reshape(B, H + ph, W + pw, C)[:, :H, :W]
        else:
            y = self.attn(y)
        x = x + y
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, 16, 16)


class Sam(nn.Module):
    def __init__(self, c, image_size):
        super().__init__()
        dim, neck, side = c["width"], c.get("neck_channels", 256), image_size // 16
        a, b = c["downsample_channels"]
        self.patch_embed = PatchEmbed(dim)
        self.pos_embed = nn.Parameter(torch.randn(1, side, side, dim) * 0.02)
        self.blocks = nn.ModuleList([
            SamBlock(dim, c["heads"], 0 if i in c["global_attn_indexes"] else 14, side) for i in range(c["layers"])])
        self.neck = nn.Sequential(nn.Conv2d(dim, neck, 1, bias=False), LayerNorm2d(neck),
                                  nn.Conv2d(neck, neck, 3, padding=1, bias=False), LayerNorm2d(neck))
        self.net_2 = nn.Conv2d(neck, a, 3, 2, 1, bias=False)
        self.net_3 = nn.Conv2d(a, b, 3, 2, 1, bias=False)
        self.kept = None  # what the last call gave to CLIP, for Bank

    def forward(self, image):
        """B 3 S S to compressed features [B, b, S/64, S/64] and patch features [B, neck, S/16, S/16]"""
        p = self.patch_embed.proj
        B, _, H, W = image.shape
        h, w = H // 16, W // 16
        x = image.view(B, 3, h, 16, w, 16).permute(0, 2, 4, 1, 3, 5).reshape(B, h, w, 768)
        x = F.linear(x, p.weight.view(p.weight.shape[0], -1), p.bias) + resize_grid(self.pos_embed, h)
        for block in self.blocks:
            x = block(x)
        patches = self.neck(x.permute(0, 3, 1, 2))
        x = self.net_3(self.net_2(patches))
        self.kept = x.detach() if self.training else None
        return x, patches


class ClipAttention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv_proj = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)
        self.kept = None  # q and k of the last call, for the guided heads

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv_proj(x).view(B, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        self.kept = (q, k) if self.training else None
        attend = fast.attention if fast.usable(q) else F.scaled_dot_product_attention
        return self.out_proj(attend(q, k, v).transpose(1, 2).reshape(B, T, C))


class ClipMLP(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x):
        h = self.fc1(x)
        return self.fc2(h * torch.sigmoid(1.702 * h))


class ClipBlock(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.self_attn = ClipAttention(dim, heads)
        self.mlp = ClipMLP(dim)
        self.layer_norm1 = LayerNorm(dim, eps=1e-5)
        self.layer_norm2 = LayerNorm(dim, eps=1e-5)

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class ClipEmbeddings(nn.Module):
    def __init__(self, dim, image, patch):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(dim) * 0.02)
        # in the format, but not used: the patches come from SAM
        self.patch_embedding = nn.Conv2d(3, dim, patch, patch, bias=False)
        self.position_embedding = nn.Embedding((image // patch) ** 2 + 1, dim)
        nn.init.normal_(self.position_embedding.weight, std=0.02)


class Layers(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)


class Clip(nn.Module):
    def __init__(self, c):
        super().__init__()
        dim = c["width"]
        self.embeddings = ClipEmbeddings(dim, c["image_size"], c["patch_size"])
        self.pre_layrnorm = nn.LayerNorm(dim, eps=1e-5)
        self.transformer = Layers([ClipBlock(dim, c["heads"]) for _ in range(c["layers"])])

    def forward(self, f):  # B C h w
        B, C, h, w = f.shape
        e = self.embeddings
        x = torch.cat([e.class_embedding.to(f.dtype).expand(B, 1, C), f.flatten(2).transpose(1, 2)], 1)
        table = e.position_embedding.weight
        n = math.isqrt(table.shape[0] - 1)
        grid = resize_grid(table[1:].view(1, n, n, C), h).reshape(h * w, C)
        x = self.pre_layrnorm(x + torch.cat([table[:1], grid.to(table.dtype)]))
        for layer in self.transformer.layers:
            x = layer(x)
        return x[:, 1:]


class RMSNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        y = x.float()
        if fast.usable(x):
            return fast.norm(y, self.weight, None, 1e-6)
        return y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class SwiGLU(nn.Module):
    def __init__(self, dim, inner):
        super().__init__()
        self.gate_proj = nn.Linear(dim, inner, bias=False)
        self.up_proj = nn.Linear(dim, inner, bias=False)
        self.down_proj = nn.Linear(inner, dim, bias=False)

    def forward(self, x):
        gate, up = self.gate_proj(x), self.up_proj(x)
        return self.down_proj(fast.swiglu(gate, up) if fast.usable(gate) else F.silu(gate) * up)


class Gate(nn.Module):
    def __init__(self, dim, n):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n, dim) * dim ** -0.5)


class MoE(nn.Module):
    def __init__(self, c):
        super().__init__()
        dim, inner = c["hidden_size"], c["moe_intermediate_size"]
        self.k, self.n = c["num_experts_per_tok"], c["n_routed_experts"]
        self.gate = Gate(dim, self.n)
        self.experts = nn.ModuleList([SwiGLU(dim, inner) for _ in range(self.n)])
        self.shared_experts = SwiGLU(dim, inner * c["n_shared_experts"])
        self.balance = 0.0

    def forward(self, x):
        B, T, C = x.shape
        x = x.reshape(-1, C)
        with torch.autocast(x.device.type, enabled=False):
            scores = F.linear(x.float(), self.gate.weight.float()).softmax(-1)
        weight, index = scores.topk(self.k, -1)
        if self.training:
            load = F.one_hot(index, self.n).sum(1).float().mean(0) / self.k
            self.balance = self.n * (load * scores.mean(0)).sum()
        out = self.shared_experts(x).float()
        if fused(x):
            # a few small experts: all of them for all tokens is cheaper than waiting for the sizes of the groups
            chosen = torch.zeros_like(scores).scatter(1, index, weight)
            for e, expert in enumerate(self.experts):
                out = out + expert(x).float() * chosen[:, e, None]
        elif fast.usable(x):
            out = out + fast.mixture(x, index, weight, self.experts)
        else:
            for e, expert in enumerate(self.experts):
                token, slot = (index == e).nonzero(as_tuple=True)
                if token.numel():
                    out = out.index_add(0, token, expert(x[token]).float() * weight[token, slot, None])
        return out.view(B, T, C)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        dim = c["hidden_size"]
        self.heads = c["num_attention_heads"]
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        self.kept = None  # q and k of the last call, for the guided heads

    def forward(self, x, cos, sin, cache=None, keep=False):
        B, T, C = x.shape
        q, k, v = (p(x) for p in (self.q_proj, self.k_proj, self.v_proj))
        early = fast.usable(q)
        if early:
            q, k = fast.rotate(q, cos, sin), fast.rotate(k, cos, sin)
        q, k, v = (y.view(B, T, self.heads, -1).transpose(1, 2) for y in (q, k, v))
        if not early:
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        self.kept = (q, k) if keep else None
        causal = True
        if cache is not None:
            if "k" in cache:
                k, v = torch.cat([cache["k"], k], 2), torch.cat([cache["v"], v], 2)
                causal = False
            cache["k"], cache["v"] = k, v
        if causal and fast.usable(q):
            o = fast.attention(q, k, v, True)
        else:
            o = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.o_proj(o.transpose(1, 2).reshape(B, T, C))


def working_type(x):
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class DecoderLayer(nn.Module):
    def __init__(self, c, i):
        super().__init__()
        dim = c["hidden_size"]
        self.self_attn = Attention(c)
        self.mlp = SwiGLU(dim, c["intermediate_size"]) if i < c["first_k_dense_replace"] else MoE(c)
        self.input_layernorm = RMSNorm(dim)
        self.post_attention_layernorm = RMSNorm(dim)

    def forward(self, x, cos, sin, cache=None, keep=False):
        kind = working_type(x)
        x = x + self.self_attn(self.input_layernorm(x).to(kind), cos, sin, cache, keep)
        return x + self.mlp(self.post_attention_layernorm(x).to(kind))


class Projector(nn.Module):
    def __init__(self, inner, outer):
        super().__init__()
        self.layers = nn.Linear(inner, outer)


class Core(nn.Module):
    def __init__(self, config):
        super().__init__()
        c, v = config["language_config"], config["vision_config"]
        dim = c["hidden_size"]
        self.sam_model = Sam(v["width"]["sam_vit_b"], v["image_size"])
        self.vision_model = Clip(v["width"]["clip-l-14-224"])
        self.projector = Projector(config["projector_config"]["input_dim"], dim)
        self.image_newline = nn.Parameter(torch.randn(dim) * dim ** -0.5)
        self.view_seperator = nn.Parameter(torch.randn(dim) * dim ** -0.5)
        self.embed_tokens = nn.Embedding(c["vocab_size"], dim)
        nn.init.normal_(self.embed_tokens.weight, std=0.3)
        self.layers = nn.ModuleList([DecoderLayer(c, i) for i in range(c["num_hidden_layers"])])
        self.norm = RMSNorm(dim)


def tiles_of(x, th, tw):
    """[B, rows, columns, ...] to [B * tiles, th, tw, ...], row by row"""
    B, H, W = x.shape[:3]
    rest = x.shape[3:]
    x = x.reshape(B, H // th, th, W // tw, tw, *rest)
    return x.transpose(2, 3).reshape(-1, th, tw, *rest)


def woven(x, rows, columns):
    """[B * tiles, n, n, c] to [B, rows * n, columns * n, c]"""
    n, c = x.shape[1], x.shape[-1]
    return x.view(-1, rows, columns, n, n, c).transpose(2, 3).reshape(-1, rows * n, columns * n, c)


class NanoOCR(nn.Module):
    TILE = 640

    def __init__(self, config):
        super().__init__()
        self.config = config
        c = config["language_config"]
        self.model = Core(config)
        self.lm_head = nn.Linear(c["hidden_size"], c["vocab_size"], bias=False)
        self.head_dim = c["hidden_size"] // c["num_attention_heads"]
        depth = 2 * c["num_hidden_layers"]
        for name, m in self.named_modules():
            if isinstance(m, nn.Linear):
                wide = 1.0 if "proj" in name.split(".")[-1] else 0.7
                nn.init.normal_(m.weight, std=m.in_features ** -0.5 * wide)
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
                if name.endswith(("o_proj", "down_proj", "lin2", "fc2", "out_proj", "attn.proj")):
                    m.weight.data *= depth ** -0.5
        nn.init.normal_(self.lm_head.weight, std=0.5 * c["hidden_size"] ** -0.5)

    def view_features(self, image):
        """[B, 3, S, S] to cell features [B, n, n, d] and patch features [B, neck, S/16, S/16]"""
        x, patches = self.model.sam_model(image)
        return self.cells(x), patches

    def cells(self, x):
        """SAM's [B, c, n, n] to cell features [B, n, n, d]"""
        m = self.model
        clip = m.vision_model(x)
        f = torch.cat([clip, x.flatten(2).transpose(1, 2).to(clip.dtype)], -1)
        f = m.projector.layers(f)
        n = x.shape[-1]
        return f.view(-1, n, n, f.shape[-1])

    def with_newlines(self, grid):
        B, h, w, d = grid.shape
        line = self.model.image_newline.to(grid.dtype).expand(B, h, 1, d)
        return torch.cat([grid, line], 2).reshape(B, -1, d)

    def sequence(self, grids):
        """Grids of cells [B, h, w, d], the overview last, to the visual sequence"""
        parts = [self.with_newlines(g) for g in grids]
        parts.append(self.model.view_seperator.to(grids[0].dtype).expand(grids[0].shape[0], 1, -1))
        return torch.cat(parts, 1)

    def encode(self, image, overview=None, frozen=False):
        """
        [B, 3, H, W], and [B, 3, G, G] of tiled pages, to what sequence() wants,
        cells and patch features of the views.  A frozen encoder learns nothing.
        """
        B, _, H, W = image.shape
        t = self.TILE
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            if overview is None:
                cells, patches = self.view_features(image)
                grids = [cells]
            else:
                cells, patches = self.view_features(tiles_of(image.permute(0, 2, 3, 1), t, t).permute(0, 3, 1, 2))
                grids = [woven(cells, H // t, W // t), self.view_features(overview)[0]]
        return grids, cells, patches

    def rotary(self, first, count, like):
        i = torch.arange(0, self.head_dim, 2, device=like.device).float() / self.head_dim
        a = torch.arange(first, first + count, device=like.device).float()[:, None] * (10000.0 ** -i)[None]
        a = torch.cat([a, a], -1)
        kind = torch.float32 if fast.usable(like) else working_type(like)
        return a.cos().to(kind), a.sin().to(kind)

    def decode(self, visual, ids, keep=()):
        """ids [B, L] after the visual sequence; logits of all L positions, states of the whole after the layers in keep"""
        e = self.model.embed_tokens
        B = visual.shape[0]
        x = torch.cat([e.weight[BOS_ID].expand(B, 1, -1).float(), visual.float(), e(ids).float()], 1)
        first = 1 + visual.shape[1]
        cos, sin = self.rotary(0, x.shape[1], x)
        hidden = {}
        for i, layer in enumerate(self.model.layers):
            x = layer(x, cos, sin, None, i in keep)
            if i in keep:
                hidden[i] = x
        return self.lm_head(self.model.norm(x[:, first:])), hidden

    @torch.no_grad()
    def generate(self, image, overview, prompt, most=1024):
        """Greedy, all pages with the same prompt."""
        visual = self.sequence(self.encode(image, overview)[0])
        e = self.model.embed_tokens
        B = visual.shape[0]
        start = e(torch.tensor(prompt, device=visual.device)).expand(B, -1, -1)
        x = torch.cat([e.weight[BOS_ID].expand(B, 1, -1), visual.to(e.weight.dtype), start], 1)
        caches = [{} for _ in self.model.layers]
        done = torch.zeros(B, dtype=torch.bool, device=visual.device)
        position, out = 0, []
        for _ in range(most):
            cos, sin = self.rotary(position, x.shape[1], x)
            position += x.shape[1]
            for layer, cache in zip(self.model.layers, caches):
                x = layer(x, cos, sin, cache)
            token = self.lm_head(self.model.norm(x[:, -1]).to(self.lm_head.weight.dtype)).argmax(-1)
            token = token.masked_fill(done, EOS_ID)
            out.append(token)
            done |= token == EOS_ID
            if done.all():
                break
            x = e(token)[:, None]
        rows = torch.stack(out, 1).tolist()
        return [r[:r.index(EOS_ID)] if EOS_ID in r else r for r in rows]


def make_config(vocabulary, sam=(128, 4, 4, [3]), neck=128, down=(224, 320), clip=(5, 2), image=640, hidden=320, heads=5,
                layers=4, dense=896, moe=256, experts=4, top=2, shared=1):
    """config.json with the official keys."""
    width, sam_heads, sam_layers, wide = sam
    language = dict(
        architectures=["DeepseekV2ForCausalLM"], bos_token_id=0, eos_token_id=1, first_k_dense_replace=1,
        hidden_size=hidden, intermediate_size=dense, kv_lora_rank=None, lm_head=True, max_position_embeddings=4096,
        moe_intermediate_size=moe, n_group=1, n_routed_experts=experts, n_shared_experts=shared,
        num_attention_heads=heads, num_experts_per_tok=top, num_hidden_layers=layers, num_key_value_heads=heads,
        q_lora_rank=None, qk_nope_head_dim=0, qk_rope_head_dim=0, rm_head=False, topk_group=1, topk_method="greedy",
        torch_dtype="bfloat16", use_mla=False, v_head_dim=0, vocab_size=vocabulary)
    vision = {
        "clip-l-14-224": dict(heads=clip[0], image_size=20, layers=clip[1], patch_size=2, width=down[1]),
        "sam_vit_b": dict(downsample_channels=list(down), global_attn_indexes=list(wide), heads=sam_heads,
                          layers=sam_layers, width=width, neck_channels=neck)}
    top_level = {k: v for k, v in language.items() if k not in ("architectures", "torch_dtype")}
    return dict(
        _name_or_path="nano", candidate_resolutions=[[image, image]], global_view_pos="head",
        architectures=["DeepseekOCRForCausalLM"], language_config=language, model_type="deepseek_vl_v2",
        projector_config=dict(input_dim=2 * down[1], model_type="mlp_projector", n_embed=hidden, projector_type="linear"),
        tile_tag="2D", torch_dtype="bfloat16",
        vision_config=dict(image_size=image, mlp_ratio=4.0, model_name="deeplip_b_l", model_type="vision", width=vision),
        **top_level)


@torch.no_grad()
def look_at_neighbours(model, sharpness=1.5):
    """Lets each head of a fresh SAM begin as a soft look at the patch to its left, right, top or bottom."""
    for block in model.model.sam_model.blocks:
        attn = block.attn
        channels = attn.proj.in_features
        d = channels // attn.heads
        n = (attn.rel_pos_h.shape[0] + 1) // 2
        far = torch.arange(2 * n - 1).float() - (n - 1)
        attn.rel_pos_h.zero_()
        attn.rel_pos_w.zero_()
        # -a (far + o)^2 = -a far^2 - 2 a o far + a constant that the softmax takes away
        attn.rel_pos_h[:, 0] = attn.rel_pos_w[:, 0] = (-far ** 2).clamp(min=-20)
        attn.rel_pos_h[:, 1] = far.clamp(-6, 6)
        attn.rel_pos_w[:, 2] = far.clamp(-6, 6)
        a = sharpness if block.window else sharpness / 2
        for h in range(attn.heads):
            oy, ox = [(0, -1), (0, 1), (-1, 0), (1, 0)][h % 4]
            for j, v in ((0, a), (1, -2 * a * oy), (2, -2 * a * ox)):
                attn.qkv.bias[h * d + j] = v
                attn.qkv.weight[h * d + j].mul_(0.1)
                attn.qkv.weight[channels + h * d + j].mul_(0.1)
