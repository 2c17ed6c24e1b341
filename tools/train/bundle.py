#!/usr/bin/env python3
"""bundle.py STATE OUT: the averages of a state in the smallest form, to start from on another machine."""
import argparse
import sys

import torch

import state
import tokens
from train import Run


def main():
    folder, out = sys.argv[1:]
    saved = torch.load(folder + "/state.pt", map_location="cpu", weights_only=True)
    run = Run(argparse.Namespace(seed=0), tokens.Tokens(folder + "/tokenizer.json"))
    state.write_small_parcel(out, dict(counters=saved["counters"]), run.flat.named(saved["average"]))


if __name__ == "__main__":
    main()
