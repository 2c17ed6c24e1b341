#!/usr/bin/env python3
"""export.py OUT: the average weights of a state or a parcel as a model folder in bf16.

Of several sources it takes the mean: the ends of two falls of the learning rate
read better together than each.  Everything else in the folder is that of models/nano, with the sizes and the
tokenizer of the run.
"""
import argparse
import json
import os
import shutil

import torch
from safetensors.torch import save_file

import state
from model import make_config
from train import DEFAULT_CHECKPOINT, Run


def averages(folder, raw, run):
    """Values of all weights in flat memory, and the counters"""
    if os.path.exists(folder + "/state.pt"):
        saved = torch.load(folder + "/state.pt", map_location="cpu", weights_only=True)
        return saved["values" if raw else "average"], saved["counters"]
    content, named = state.read_parcel(folder)
    values = torch.zeros(run.flat.size)
    run.load_named(values, named["weights" if raw else "average"])
    return values, content["counters"]


def mean(sources, raw, run):
    """Of all sources, FOLDER or FOLDER=SHARE, and the counters of the one that saw most pages"""
    parts = [(*averages(folder, raw, run), float(share or 1)) for folder, _, share in (s.partition("=") for s in sources)]
    total = sum(share for *_, share in parts)
    values = sum(values * (share / total) for values, _, share in parts)
    return values, max((counters for _, counters, _ in parts), key=lambda c: c["pages"])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out")
    p.add_argument("--source", action="append", help="folder with state.pt or a parcel, or several, each FOLDER=SHARE")
    p.add_argument("--raw", action="store_true", help="the last weights instead of their average")
    p.add_argument("--helpers", help="file for the helpers, which only training wants, instead of OUT/helpers.safetensors")
    a = p.parse_args()
    a.seed = 0
    os.makedirs(a.out, exist_ok=True)
    tok = state.tokenizer_for(DEFAULT_CHECKPOINT + "/tokenizer.json", a.out + "/tokenizer.json")
    run = Run(a, tok)
    values, counters = mean(a.source or [os.environ.get("DSOCR_TRAIN", "var/train")], a.raw, run)
    weights, helpers = run.split(values)
    weights = {k: v.detach().to(torch.bfloat16).contiguous().clone() for k, v in weights.items()}
    weights["model.vision_model.embeddings.patch_embedding.weight"].zero_()
    save_file(weights, a.out + "/model.safetensors", metadata={"format": "pt"})
    state.write_helpers(a.helpers or a.out + "/helpers.safetensors", helpers, counters)
    size = sum(v.numel() * 2 for v in weights.values())
    write = lambda name, content: json.dump(content, open(f"{a.out}/{name}", "w", encoding="utf-8"), indent=1,
                                            ensure_ascii=False)
    write("config.json", make_config(tok.size))
    write("model.safetensors.index.json",
          dict(metadata=dict(total_size=size), weight_map={k: "model.safetensors" for k in sorted(weights)}))
    for name in ("special_tokens_map.json", "processor_config.json", "dsocr.json"):
        shutil.copy(f"{DEFAULT_CHECKPOINT}/{name}", f"{a.out}/{name}")
    settings = json.load(open(DEFAULT_CHECKPOINT + "/tokenizer_config.json", encoding="utf-8"))
    keys = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    settings["added_tokens_decoder"] = {str(t["id"]): {k: t[k] for k in keys} for t in tok.json["added_tokens"]}
    write("tokenizer_config.json", settings)
    print(f"{len(weights)} tensors, {size / 1e6:.2f} MB, {counters['pages']} pages, step {counters['step']}")


if __name__ == "__main__":
    main()
