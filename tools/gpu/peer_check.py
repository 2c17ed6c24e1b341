#!/usr/bin/env python3
"""Compare peer_model.py with the reference data, on a CPU, in fp32:

    peer_check.py GOLDEN/tiny-a [CASE...]

GOLDEN/images must lie beside it.  Needs PyTorch and Pillow.  Every stage of
every case is compared, the expert variants with each other, and decoding
against a static cache with the reference's greedy tokens.
"""

import json
import os
import sys

import torch
from PIL import Image, ImageOps

import peer_model

TOLERANCE = 1e-4  # of the rms; the decoder's 3e-4
passed = failed = 0


def check(ok, what):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print("FAIL", what)


def views(path, case):
    """Tiles [P, 3, S, S] or None, and the global view [1, 3, S, S], as in the official code."""
    image = ImageOps.exif_transpose(Image.open(path))
    image = image.convert("RGB")
    mode = case["mode"]
    base, size = mode["base_size"], mode["image_size"]
    columns, rows = case["crop_grid"]
    tiles = None
    if mode["crop_mode"] and columns * rows > 1:
        tile = size if mode["variant"] == "vllm" else 640
        big = image.resize((columns * tile, rows * tile))
        tiles = [big.crop((x * tile, y * tile, (x + 1) * tile, (y + 1) * tile))
                 for y in range(rows) for x in range(columns)]
    if not mode["crop_mode"]:
        if size <= 640:
            image = image.resize((size, size))
        base = size
    whole = ImageOps.pad(image, (base, base), color=(127, 127, 127))

    def pixels(list_):
        t = torch.stack([torch.frombuffer(bytearray(v.tobytes()), dtype=torch.uint8)
                         .reshape(v.height, v.width, 3).permute(2, 0, 1) for v in list_])
        return ((t.float() / 255 - 0.5) / 0.5).bfloat16().float()

    return pixels(tiles) if tiles else None, pixels([whole])


class Case:
    def __init__(self, folder, name):
        with open(f"{folder}/cases/{name}.json", encoding="utf-8") as f:
            self.json = json.load(f)
        self.stored = peer_model.Stored(f"{folder}/cases/{name}.safetensors", "cpu",
                                        torch.float32)
        self.name = name

    def compare(self, stage, got, tolerance):
        if stage not in self.json["stages"]:
            return
        info = self.json["stages"][stage]
        want = self.stored.get(stage).flatten()
        if info["stored"] == "positions":
            got = got.reshape(-1, got.shape[-1])[self.json["positions"]]
        got = got.flatten()
        if info["stored"] == "sub":
            at = torch.arange(len(want)) * len(got) // len(want)
            got = got[at]
        worst = (got - want).abs().max().item() / max(info.get("rms", 1), 1e-12)
        check(got.shape == want.shape and worst <= tolerance,
              f"{self.name} {stage}: {worst:.2g}")


def woven(tiles, columns, rows, newline):
    """[P, n, h] tiles to one picture's rows, newline behind each row of tokens."""
    p, n, h = tiles.shape
    s = int(n ** 0.5)
    t = tiles.reshape(rows, columns, s, s, h).permute(0, 2, 1, 3, 4) \
        .reshape(rows * s, columns * s, h)
    return torch.cat([t, newline.expand(rows * s, 1, h)], 1).reshape(-1, h)


def run_case(folder, name, encoder, decoder):
    case = Case(folder, name)
    c = case.json
    tiles, whole = views(f"{folder}/../images/{c['image']}", c)
    parts = []
    for kind, pixels in (("local", tiles), ("global", whole)):
        if pixels is None:
            continue

        def see(stage, x):
            case.compare(f"{kind}.{stage}", x, TOLERANCE)

        case.compare(f"pixel.{kind}", pixels, 0)
        tokens = encoder(pixels, see)
        grid = c["crop_grid"] if kind == "local" else (1, 1)
        parts.append(woven(tokens, *grid, encoder.newline))
    image = torch.cat(parts + [encoder.separator[None]])
    ids = torch.tensor(c["input_ids"])
    x = decoder.embed[ids]
    start, length = c["image_token_runs"][0]
    check(length == len(image), f"{name}: {len(image)} image tokens")
    x[start:start + length] = image
    case.compare("inputs_embeds", x, TOLERANCE)

    steps = min(16, len(c["generate"]["plain"]["ids"]))
    logits = {}
    for how in ("loop", "dense") + (("grouped",) if has_grouped() else ()):
        cache = decoder.new_cache(2, len(ids) + steps)
        one = cache[:, :, :1]
        see = (lambda stage, y: case.compare(stage, y, 3 * TOLERANCE)) if how == "loop" \
            else lambda stage, y: None
        logits[how] = [decoder.prefill(x[None], one, how=how, see=see)]
        cache[:, :, 1:] = one
        for t in range(steps - 1):
            step = torch.tensor(c["generate"]["plain"]["ids"][t]).repeat(2)
            both = decoder.decode(step, torch.tensor([len(ids) + t]), cache, how)[1]
            check(torch.allclose(both[0], both[1], atol=1e-4), f"{name}: rows differ")
            logits[how].append(both[0])
    case.compare("logits", logits["loop"][0], 3 * TOLERANCE)
    rms = case.json["stages"]["logits"]["rms"]
    top = case.stored.get("gen.top5.logits")
    top_ids = case.stored.get("gen.top5.ids").long()
    for how, list_ in logits.items():
        for t, l in enumerate(list_):
            worst = (l[top_ids[t]] - top[t]).abs().max().item() / rms
            check(worst <= 1e-3, f"{name} {how} step {t}: {worst:.2g}")


def has_grouped():
    """grouped_mm of this PyTorch, in fp32 on a CPU: recent ones only."""
    try:
        x = torch.randn(4, 16)
        w = torch.randn(2, 16, 16)
        y = peer_model.grouped_product(x, w, torch.tensor([1, 4], dtype=torch.int32))
        want = torch.cat([x[:1] @ w[0].t(), x[1:] @ w[1].t()])
        return torch.allclose(y, want, atol=1e-4)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False


def main():
    folder = sys.argv[1]
    names = sys.argv[2:] or sorted(f[:-5] for f in os.listdir(folder + "/cases")
                                   if f.endswith(".json") and not f.startswith("c90"))
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    config = peer_model.Config(folder + "/config.json")
    with open(folder + "/model.safetensors.index.json", encoding="utf-8") as f:
        files = set(json.load(f)["weight_map"].values())
    assert len(files) == 1
    weights = peer_model.Stored(f"{folder}/{files.pop()}", "cpu", torch.float32)
    encoder = peer_model.Encoder(config, weights)
    decoder = peer_model.Decoder(config, weights)
    print(f"PyTorch {torch.__version__}, grouped products on this device: {has_grouped()}")
    for name in names:
        run_case(folder, name, encoder, decoder)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
