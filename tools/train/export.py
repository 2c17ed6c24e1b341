#!/usr/bin/env python3
"""export.py OUT: the average weights of a state or a parcel as a model folder in bf16.

Everything else in the folder is that of models/nano, with the sizes and the
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


def averages(a, run):
    memory = {"values": torch.zeros(run.flat.size), "average": torch.zeros(run.flat.size)}
    if os.path.exists(a.source + "/state.pt"):
        saved = torch.load(a.source + "/state.pt", map_location="cpu", weights_only=True)
        memory["average"], counters = saved["values" if a.raw else "average"], saved["counters"]
    else:
        content, named = state.read_parcel(a.source)
        run.load_named(memory["average"], named["weights" if a.raw else "average"])
        counters = content["counters"]
    return *run.split(memory["average"]), counters


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out")
    p.add_argument("--source", default=os.environ.get("DSOCR_TRAIN", "var/train"), help="folder with state.pt or a parcel")
    p.add_argument("--raw", action="store_true", help="the last weights instead of their average")
    p.add_argument("--helpers", help="file for the helpers, which only training wants, instead of OUT/helpers.safetensors")
    a = p.parse_args()
    a.seed = 0
    os.makedirs(a.out, exist_ok=True)
    tok = state.tokenizer_for(DEFAULT_CHECKPOINT + "/tokenizer.json", a.out + "/tokenizer.json")
    run = Run(a, tok)
    weights, helpers, counters = averages(a, run)
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
