#!/usr/bin/env python3
"""Trains nano; goes on where it stopped.

On a CPU two single-threaded ranks share parameters and gradients in memory.
With --device cuda one rank is fed by --workers processes.  The state folder:
  state.pt     everything to go on        log.jsonl   the curve
  PAUSE        while it exists, no CPU is used
  STOP         ends the run at the next step, after saving
See README.md beside this file.
"""
import argparse
import json
import math
import os
import signal
import time

import torch
import torch.multiprocessing as mp

import data
import fast
import state
import tokens
from bank import Bank
from losses import Helpers, compute
from model import NanoOCR, look_at_neighbours, make_config
from optimizer import Flat, Optimizer

HERE = os.path.dirname(os.path.abspath(__file__))
DEFAULT_CHECKPOINT = os.path.join(HERE, "../../models/nano")
HELPERS = os.path.join(HERE, "helpers.safetensors")  # of that checkpoint
BARRIER_SECONDS = 3600  # a rank that is this late is gone: others may have the machine, but not for so long
DECAY = 0.02  # of matrices, times the rate
WARM_UP = 40  # steps after a start without the optimizer's state
HELPERS_FIRST = 200  # steps in which new helpers learn alone, so that they do not spoil a trained model
HELPERS_RATE = 0.002  # of these steps: at the rate of a run they would know nothing after them


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--state", default=os.environ.get("DSOCR_TRAIN", "var/train"))
    p.add_argument("--start", help="checkpoint folder, parcel folder, state file or 'nothing', if there is no state yet")
    p.add_argument("--plan", default=os.path.join(HERE, "plan.json"))
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--device", default="cpu")
    p.add_argument("--world", type=int, default=2, help="ranks on a CPU")
    p.add_argument("--workers", type=int, default=0, help="processes that make pages; 0 = each rank for itself")
    p.add_argument("--scale", type=float, default=1.0, help="batches larger than the plan's by this")
    p.add_argument("--minutes", type=float, default=1e9, help="stop after so long")
    p.add_argument("--steps", type=int, default=1 << 60, help="stop after so many steps more")
    p.add_argument("--cool", type=float, default=0.0, help="last share of the minutes or steps over which the rate falls to 0")
    p.add_argument("--rate", type=float, help="instead of the plan's")
    p.add_argument("--save-seconds", type=float, default=300)
    p.add_argument("--log-steps", type=int, default=20)
    p.add_argument("--stage", type=int, help="number of the plan's stage, instead of that of the pages seen")
    p.add_argument("--parcel", help="folder to leave a parcel in at the end")
    return p.parse_args()


class Run:
    """Model, flat memory and counters, the same on every rank."""

    def __init__(self, a, tok):
        self.tok = tok
        config = make_config(tok.size)
        torch.manual_seed(a.seed)
        self.model = NanoOCR(config)
        neck = config["vision_config"]["width"]["sam_vit_b"]["neck_channels"]
        self.helpers = Helpers(neck, config["language_config"]["hidden_size"], len(tok.classes) + 1)
        named = [(n, p) for n, p in self.model.named_parameters() if "patch_embedding" not in n]
        named += [("helpers." + n, p) for n, p in self.helpers.named_parameters()]
        self.flat = Flat(named)

    def split(self, values):
        """Named tensors of the checkpoint and of the helpers."""
        both = self.flat.named(values)
        weights = {n: v for n, v in both.items() if not n.startswith("helpers.")}
        for n, v in self.model.state_dict().items():
            weights.setdefault(n, v)
        return weights, {n[8:]: v for n, v in both.items() if n.startswith("helpers.")}

    def load_named(self, values, both):
        for name, p, at in self.flat.items:
            values[at:at + p.numel()].copy_(both[name].reshape(-1))


def begin(a, run, memory):
    """Fills memory from the state folder or from where a new run starts; returns the counters."""
    counters = dict(step=0, group=0, pages=0, chars=0, seconds=0.0, t=0, seed=a.seed)
    path = os.path.join(a.state, "state.pt")
    if os.path.exists(path) and not a.start:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        for k in ("values", "average", "momentum", "second"):
            memory[k].copy_(saved[k])
        return saved["counters"]
    start = a.start or DEFAULT_CHECKPOINT
    if os.path.isdir(start) and os.path.exists(start + "/parcel.0"):
        content, named = state.read_parcel(start)
        run.load_named(memory["values"], named["weights"])
        run.load_named(memory["average"], named["average"])
        counters.update(content["counters"], t=0)
        return counters
    if start == "nothing":
        look_at_neighbours(run.model)
    elif os.path.isdir(start):
        old = tokens.Tokens(start + "/tokenizer.json")
        helpers, before = state.read_helpers(HELPERS if start == DEFAULT_CHECKPOINT else start + "/helpers.safetensors")
        state.adopt(state.read_checkpoint(start), helpers, run.model, run.helpers, old, run.tok)
        counters.update(before, t=0)
        fresh = sorted(set(run.helpers.state_dict()) - set(helpers))
        if fresh:
            counters.update(alone=counters["step"] + HELPERS_FIRST, fresh=fresh)
    else:
        # a file with average weights and helpers, of the tokenizer beside it or of models/nano
        saved = torch.load(start, map_location="cpu", weights_only=False)
        beside = os.path.join(os.path.dirname(start), "tokenizer.json")
        old = tokens.Tokens(beside if os.path.exists(beside) else DEFAULT_CHECKPOINT + "/tokenizer.json")
        state.adopt(saved["ema"], saved["aux"], run.model, run.helpers, old, run.tok)
    run.flat.gather(memory["values"])
    memory["average"].copy_(memory["values"])
    return counters


def write_state(a, memory, counters, device):
    content = {k: memory[k] if device == "cpu" else memory[k].cpu() for k in ("values", "average", "momentum", "second")}
    state.save(os.path.join(a.state, "state.pt"), dict(content, counters=counters))


class CpuFeed:
    """Asks for the next group before the current one is used up."""

    def __init__(self, a, tok, rank, plan, counters):
        self.plan, self.seed, self.stage = plan, counters["seed"], a.stage
        self.source = data.Source(f"{a.state}/render", f"{a.state}/pack", tok, self.seed, rank, a.scale)
        self.ready, self.group, self.asked = [], counters["group"], None

    def _ask(self, seen):
        self.asked = data.choose(data.stage_of(self.plan, seen, self.stage), self.seed, self.group)
        self.source.ask(self.asked, self.group)

    def next(self, seen):
        if not self.ready:
            if self.asked is None:
                self._ask(seen)
            self.ready = self.source.take(self.asked, self.group)
            self.group += 1
            self._ask(seen)
        return self.ready.pop(0)


class ProcessFeed:
    """
    Pages by many processes, for a GPU, in the order in which they are ready.
    The stage is that of the beginning: such runs are short.
    """

    def __init__(self, a, plan, counters):
        stage = data.stage_of(plan, counters["pages"], a.stage)
        stream = data.Stream(f"{a.state}/render", f"{a.state}/pack", f"{a.state}/tokenizer.json", counters["seed"], stage,
                             counters["group"], a.scale)
        self.loader = iter(torch.utils.data.DataLoader(stream, batch_size=None, num_workers=a.workers, prefetch_factor=3,
                                                       pin_memory=a.device != "cpu", in_order=False))
        self.ready = []
        self.taken, self.first, self.workers = 0, counters["group"], a.workers

    @property
    def group(self):
        """The workers take turns, about: a group that none of them has begun, or next to it."""
        return self.first + self.workers * (self.taken // (data.GROUP * self.workers) + 1)

    def next(self, seen):
        self.taken += 1
        return next(self.loader)


class Log:
    def __init__(self, path):
        self.file, self.sums = open(path, "a"), {}

    def add(self, view, figures):
        """A figure that a batch does not have, such as the letters named where there are none, is NaN and not counted."""
        s = self.sums.setdefault(view, {})
        for k, v in figures.items():
            total, n = s.get(k, (0, 0))
            s[k] = total + torch.nan_to_num(v), n + ~torch.isnan(v)

    def write(self, record):
        for view, s in sorted(self.sums.items()):
            record[view] = {k: round(float(total) / int(n), 4) for k, (total, n) in s.items() if int(n)}
        self.sums = {}
        print(json.dumps(record), flush=True)
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()


def rate_of(a, base, warm, step, began):
    rate = base * min(1.0, (warm + 1) / WARM_UP)
    if a.cool > 0:
        done = max(step / a.steps, (time.time() - began) / 60 / a.minutes)
        rate *= min(1.0, max(0.0, (1 - done) / a.cool))
    return rate


def mean_gradient(gradients, parts, squares, rank, meet):
    """The mean of all ranks' gradients into those of the first, each rank in its parts; returns its norm."""
    world = gradients.shape[0]
    total = 0.0
    for i, k in parts:
        mean = gradients[0][i:k]
        for other in gradients[1:]:
            mean.add_(other[i:k])
        if world > 1:
            mean.div_(world)
        total += float(mean.square().sum(dtype=torch.float32) if mean.is_cuda else mean.dot(mean))
    squares[rank] = total
    meet()
    return math.sqrt(float(squares.sum()))


def wait_while_paused(folder):
    while os.path.exists(folder + "/PAUSE") and not os.path.exists(folder + "/STOP"):
        time.sleep(1)


def choose_learners(run, counters):
    """Who learns in this step: new helpers alone at first, then everything.  Returns whether they are alone."""
    alone = counters["step"] < counters.get("alone", 0)
    run.model.requires_grad_(not alone)
    for name, p in run.helpers.named_parameters():
        p.requires_grad_(not alone or name in counters["fresh"])
    return alone


def work(rank, world, a, memory, counters, barrier):
    torch.set_num_threads(1 if a.device == "cpu" else 8)
    torch.set_flush_denormal(True)
    if a.device == "cpu":
        fast.load(a.state + "/fast")
    tok = tokens.Tokens(f"{a.state}/tokenizer.json")
    run = Run(a, tok)
    values, gradients = memory["values"], memory["gradients"]
    run.model.to(a.device)
    run.helpers.to(a.device)
    run.flat.attach(values, gradients[rank])
    run.model.train()
    optimizer = Optimizer(run.flat, rank, world)
    plan = json.load(open(a.plan))
    feed = ProcessFeed(a, plan, counters) if a.workers else CpuFeed(a, tok, rank, plan, counters)
    log = Log(a.state + "/log.jsonl") if rank == 0 else None
    bank = Bank(counters["step"] * 64 + rank)
    parent = os.getppid()
    if world > 1:
        for s in (signal.SIGTERM, signal.SIGINT):
            signal.signal(s, signal.SIG_IGN)
    meet = (lambda: barrier.wait(BARRIER_SECONDS)) if barrier else lambda: None
    began = last_save = last = time.time()
    first_step = counters["step"]
    while True:
        if rank == 0:
            wait_while_paused(a.state)
            over = time.time() - began > a.minutes * 60 or counters["step"] - first_step >= a.steps
            orphan = world > 1 and os.getppid() != parent
            memory["stop"][0] = orphan or over or os.path.exists(a.state + "/STOP")
        meet()
        if memory["stop"][0]:
            break
        stage = data.stage_of(plan, counters["pages"], a.stage)
        batch = feed.next(counters["pages"])
        view = bytes(batch.pop("name").tolist()).decode()
        counters["pages"] += len(batch["ids"]) * world
        kind = "unread" if "unread" in batch else "chars"
        counters[kind] = counters.get(kind, 0) + int((batch["cell"] >= 0).sum()) * world
        batch = {k: v.to(a.device, non_blocking=True) for k, v in batch.items()}
        alone = choose_learners(run, counters)
        gradients[rank].zero_()
        torch.manual_seed(counters["step"] * 64 + rank)
        try:
            loss, figures = compute(run.model, run.helpers, batch, plan["weights"], bank)
            if loss.requires_grad:  # not so where new helpers are alone and the page has nothing for them
                loss.backward()
        except torch.cuda.OutOfMemoryError:
            print(f"not enough memory for {view}, {len(batch['ids'])} pages", flush=True)
            loss = figures = None
            gradients[rank].zero_()
            torch.cuda.empty_cache()
            continue
        meet()
        norm = mean_gradient(gradients, optimizer.parts(), memory["squares"], rank, meet)
        rate = rate_of(a, a.rate or stage["rate"], counters["t"], counters["step"] - first_step, began)
        rate = HELPERS_RATE if alone else rate
        counters["t"] += 1
        if math.isfinite(norm):
            for i, k in optimizer.parts():
                gradients[0][i:k].mul_(min(1.0, plan["clip"] / (norm + 1e-6)))
            optimizer.step(values, gradients[0], memory["momentum"], memory["second"], counters["t"], rate,
                           0.0 if alone else DECAY)
            keep = min(plan["ema"], 1 - 1 / (counters["t"] / 4 + 2))
            for i, k in optimizer.parts():
                memory["average"][i:k].lerp_(values[i:k], 1 - keep)
        meet()
        now = time.time()
        counters["step"] += 1
        counters["seconds"] += now - last
        counters["group"] = feed.group - bool(feed.ready)
        last = now
        if rank == 0:
            log.add(view, figures)
            if counters["step"] % a.log_steps == 0:
                log.write(dict(step=counters["step"], pages=counters["pages"], chars=counters["chars"],
                               unread=counters.get("unread", 0),
                               minutes=round(counters["seconds"] / 60, 2), rate=round(rate, 6),
                               norm=round(norm, 3)))
            if now - last_save > a.save_seconds:
                write_state(a, memory, counters, a.device)
                last_save = time.time()
    if rank == 0:
        write_state(a, memory, counters, a.device)
        if a.parcel:
            state.write_parcel(a.parcel, dict(counters=counters),
                               dict(weights=run.flat.named(values), average=run.flat.named(memory["average"])))


def main():
    a = arguments()
    os.makedirs(a.state, exist_ok=True)
    if os.path.exists(a.state + "/STOP"):
        os.remove(a.state + "/STOP")
    tok = state.tokenizer_for(DEFAULT_CHECKPOINT + "/tokenizer.json", a.state + "/tokenizer.json")
    run = Run(a, tok)
    world = a.world if a.device == "cpu" and not a.workers else 1
    size = run.flat.size
    memory = {k: torch.zeros(size) for k in ("values", "average", "momentum")}
    memory["second"] = torch.zeros(size - run.flat.rest)
    counters = begin(a, run, memory)
    memory["gradients"] = torch.zeros(world, size)
    del run
    if a.device == "cpu":
        fast.load(a.state + "/fast")  # compiled once, before the ranks want it
    memory["stop"] = torch.zeros(1, dtype=torch.int32)
    memory["squares"] = torch.zeros(world, dtype=torch.float64)
    for s in (signal.SIGTERM, signal.SIGINT):
        signal.signal(s, lambda *_: open(a.state + "/STOP", "w").close())
    if world > 1:
        for v in memory.values():
            v.share_memory_()
        barrier = mp.get_context("spawn").Barrier(world)
        mp.spawn(work, (world, a, memory, counters, barrier), nprocs=world)
    else:
        memory = {k: v if k in ("stop", "squares") else v.to(a.device) for k, v in memory.items()}
        work(0, 1, a, memory, counters, None)


if __name__ == "__main__":
    main()
