#!/usr/bin/env python3
"""Tests of the training code: tools/train/test_train.py [CLASS...]

They need what `tools/train/run setup` makes.  DEVICE=cuda runs the model's tests
there; ENGINE names a dsocr-engine, with which the model is compared.
"""
import argparse
import contextlib
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import numpy as np
import torch
import torch.nn.functional as F

import data
import export
import fast
import losses
import model
import pages
import state
import tokens
import train
from bank import Bank

HERE = os.path.dirname(os.path.abspath(__file__))
NANO = os.path.join(HERE, "../../models/nano")
STATE = os.environ.get("DSOCR_TRAIN", "var/train")
DEVICE = os.environ.get("DEVICE", "cpu")
WEIGHTS = dict(patch=0.4, cell=0.8, guide=0.3, sub=0.4, edge=0.5, follow=0.25, bond=0.5, rank=0.2, point=0.15, place=0.1, tell=0.1, home=0.1, spell=0.2, count=0.3, moe=0.01)


def read_plan():
    with open(HERE + "/plan.json") as f:
        return json.load(f)


def tokenizer(folder):
    return state.tokenizer_for(NANO + "/tokenizer.json", folder + "/tokenizer.json")


class Tokenizer(unittest.TestCase):
    def test_agrees_with_the_library(self):
        from tokenizers import Tokenizer as Library
        with tempfile.TemporaryDirectory() as tmp:
            mine, theirs = tokenizer(tmp), Library.from_file(tmp + "/tokenizer.json")
        text = "".join(sorted(tokens.CHARSET)) + " 12,345.67€\n\n- x\n<table><tr><td>Łódź</td></tr></table> Ψ Я ☑"
        self.assertEqual(mine.encode(text), theirs.encode(text, add_special_tokens=False).ids)
        self.assertEqual(mine.decode(mine.encode(text)), text)

    def test_reads_the_first_checkpoint(self):
        old = tokens.Tokens(NANO + "/tokenizer.json")
        self.assertEqual(old.decode(old.encode("Ex\n\n1 é")), "Ex\n\n1 é")


class Rendered(unittest.TestCase):
    """With a renderer and a tokenizer."""

    def setUp(self):
        self.renderer = pages.renderer(STATE)
        self.addCleanup(self.renderer.close)
        self.tmp = tempfile.TemporaryDirectory()
        self.addCleanup(self.tmp.cleanup)
        self.tok = tokenizer(self.tmp.name)


class Pages(Rendered):
    REQUEST = "columns seed=77 w=640 h=640 grounded=1 rich=0.8 effects=1 skew=2 rescale=0.5 chars=200,600"

    def test_a_page_follows_from_its_request(self):
        first = self.renderer.pages(self.REQUEST, 3)
        self.renderer.pages("text seed=5", 2)
        again = self.renderer.pages(self.REQUEST.replace("seed=77", "seed=79"), 1)[0]
        self.assertEqual(first[2].text(), again.text())
        np.testing.assert_array_equal(first[2].view, again.view)
        self.assertNotEqual(first[0].text(), first[1].text())

    def test_ids_spell_the_text(self):
        labels = pages.Labels(self.tok)
        for page in self.renderer.pages(self.REQUEST, 20):
            ids, cell, sub, *_ = labels.of(page)
            self.assertEqual(self.tok.decode(ids.tolist()), page.text())
            self.assertEqual(ids.tolist(), self.tok.encode(page.text()))
            self.assertLess(cell.max(), 110)
            self.assertLess(sub.max(), 16)

    def test_boxes_stand_where_the_ink_is(self):
        for page in self.renderer.pages("text seed=3 w=320 h=320 size=24,24 rescale=1 effects=1 skew=2", 20):
            paper = np.median(page.view)
            for code, (x0, y0, x1, y1) in zip(page.codes, page.boxes):
                if chr(code) in "MWXKBDEHNRA08" and 2 < x0 and x1 < 318 and 2 < y0 and y1 < 318:
                    part = page.view[int(y0):int(y1) + 1, int(x0):int(x1) + 1]
                    self.assertGreater(paper - part.min(), 40, chr(code))

    def test_pages_that_begin_further_down(self):
        begins = [np.median([page.boxes[page.boxes[:, 2] >= 0, 1].min() for page in self.renderer.pages(request, 40)])
                  for request in ("text seed=3 w=640 h=640 chars=20,40", "text seed=3 w=640 h=640 chars=20,40 low=1")]
        self.assertLess(begins[0], 100)
        self.assertGreater(begins[1], 150)

    def test_edges_of_blocks(self):
        labels = pages.Labels(self.tok)
        for page in self.renderer.pages(self.REQUEST.replace("columns", "columns rich=0.9"), 20):
            edges = labels.edges(page)
            self.assertEqual(edges.shape, (40, 40, 4))
            found = {tuple(np.rint(e * 999).astype(int)) for e in edges.reshape(-1, 4) if not np.isnan(e[0])}
            want = [tuple(map(int, b)) for b in re.findall(r"\[\[(\d+), (\d+), (\d+), (\d+)\]\]", page.text())]
            self.assertTrue(want)
            near = lambda a, b: max(abs(min(max(x, 0), 999) - y) for x, y in zip(a, b)) <= 1
            for f in found:
                self.assertTrue(any(near(f, b) for b in want), (f, want))
            # the letters of a block, but for the few that stand where another begins, are in it
            inside = block = 0
            for code, (x0, y0, x1, y1) in zip(page.codes, page.boxes):
                if 32 < code < tokens.TAG_BASE and x1 > x0 and 0 <= x0 < 640 and 0 <= y0 < 640:
                    e = edges[int(y0 + y1) // 2 // 16 % 40, int(x0 + x1) // 2 // 16 % 40] * 640
                    inside += e[0] - 2 <= x0 and e[1] - 3 <= y0 and x1 <= e[2] + 2 and y1 <= e[3] + 3
                    block += 1
            self.assertGreater(inside, 0.9 * block, page.text())

    def test_where_reading_goes_on(self):
        labels = pages.Labels(self.tok)
        for kind in ("text rich=0.5", "table", "columns grounded=1"):
            for page in self.renderer.pages(kind + " seed=5 w=640 h=640 size=18,24 chars=100,500", 10):
                follow = labels.of(page)[-1]
                runs = [[]]
                for code, (x0, y0, x1, y1) in zip(page.codes, page.boxes):
                    if code == 10 or code >= tokens.TAG_BASE:
                        runs.append([])
                    elif code > 32 and 0 <= x0 < x1 < 640 and 0 <= y0 < y1 < 640:
                        runs[-1].append((int(y0 + y1) // 32, int(x0 + x1) // 32))
                runs = [r for r in runs if r]
                # a patch that two lines share says what follows one of them
                right = sum(tuple(follow[at]) == b[0] for a, b in zip(runs, runs[1:]) for at in a)
                self.assertGreaterEqual(right, 0.85 * sum(map(len, runs[:-1])), page.text())
                alone = set(runs[-1]).difference(*runs[:-1]) if runs else ()
                self.assertTrue(all(follow[at][0] == -1 for at in alone))

    def test_lines_and_their_boxes(self):
        request = "seed=31 w=640 h=640 chars=100,500 rich=0.5 size=16,24"
        for plain, page in zip(self.renderer.pages("text " + request, 20), self.renderer.pages("lines " + request, 20)):
            np.testing.assert_array_equal(plain.view, page.view)
            lines = re.findall(r"(?m)^<\|ref\|>(.+?)<\|/ref\|><\|det\|>\[\[(\d+), (\d+), (\d+), (\d+)\]\]<\|/det\|>$", page.text())
            self.assertEqual(len(lines), page.text().count("\n") + 1)
            without = re.sub(r"(?m)^#+ |</?t\w+>|\s", "", plain.text())
            self.assertEqual(re.sub(r"\s", "", "".join(t for t, *_ in lines)), without)
            for _, x0, y0, x1, y1 in lines:
                self.assertTrue(int(x0) < int(x1) and int(y0) < int(y1))

    def test_what_counts_more(self):
        ids = np.array([self.tok.encode("<|ref|>a<|/ref|><|det|>[[123, 45, 6]]<|/det|>\nb7<td>8</td><td>")])
        weight = data.weigh(ids, ids, self.tok)[0]
        each = dict(zip([self.tok.decode([i]) for i in ids[0]], weight))
        np.testing.assert_allclose([each[c] for c in "123456"], [3, 2, 0.3, 2, 0.3, 0.3])
        self.assertEqual([each[c] for c in "78["], [1, 1, 1])
        self.assertEqual([each[c] for c in "ab"], [4, 4])
        self.assertEqual([each["</td>"], weight[-1]], [2, 4])

    def test_letters_behind_a_border(self):
        cell = np.array([[-1, 8, 9, 9, 10, 10, 10, 10, 11, 21, 30, 31, 32, -1]])
        self.assertEqual(data.crossings(cell, 20).astype(int).tolist(), [[0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1, 0]])

    def test_how_far_down(self):
        cell = np.array([[-1, 8, 209, -1, 210, 250, -1, 240, 420, -1]])
        self.assertEqual(data.depths(cell, 20).tolist(), [[0, 0, 0, 0, 1, 1, 1, 1, 2, 2]])

    def test_tiles_come_with_an_overview(self):
        page = self.renderer.pages("text seed=1 w=1280 h=1920 global=1024 size=20,30", 1)[0]
        self.assertEqual(page.overview.shape, (1024, 1024))
        self.assertEqual(int(page.overview[500, 3]), 127)


class Fused(unittest.TestCase):
    """What is computed in another way on a GPU gives the same."""

    def compare(self, module, x):
        plain = module(x)
        was, model.fused = model.fused, lambda x: not was(x)
        try:
            other = module(x)
        finally:
            model.fused = was
        self.assertLess(float((plain - other).abs().max()), 2e-3 * float(plain.abs().max()))

    def test_attention(self):
        torch.manual_seed(1)
        attention = model.SamAttention(128, 4, 14).to(DEVICE)
        torch.nn.init.normal_(attention.rel_pos_h, std=0.3)
        torch.nn.init.normal_(attention.rel_pos_w, std=0.3)
        self.compare(attention, torch.randn(3, 14, 14, 128, device=DEVICE))

    def test_experts(self):
        torch.manual_seed(1)
        config = model.make_config(400)["language_config"]
        self.compare(model.MoE(config).to(DEVICE), torch.randn(2, 50, config["hidden_size"], device=DEVICE))

    def test_whole_step(self):
        """Every kind of batch goes through, and the gradients are finite."""
        with tempfile.TemporaryDirectory() as tmp:
            tok = tokenizer(tmp)
        net = model.NanoOCR(model.make_config(tok.size)).to(DEVICE)
        helpers = losses.Helpers(128, 320, len(tok.classes) + 1).to(DEVICE)
        source = data.Source(f"{STATE}/render", f"{STATE}/pack", tok, 1, 0)
        self.addCleanup(source.renderer.close)
        rows = [r for s in read_plan()["stages"] for r in s["mix"]]
        if DEVICE == "cpu":
            # the same paths, but small
            rows = [dict(view=[192, 192], task="free", request="text size=20,30 chars=20,40"),
                    dict(view=[320, 320], task="markdown", request="columns grounded=1 size=16,20 chars=50,100"),
                    dict(view=[320, 320], task="figure", request="molecule size=14,18"),
                    dict(view=[320, 320], task="figure", request="geometry size=14,18"),
                    dict(view=[320, 320], task="free", request="equations size=16,20 chars=40,80"),
                    dict(view=[320, 320], task="describe", request="scene size=14,18"),
                    dict(view=[320, 320], task="locate", request="locate size=16,20 chars=40,80"),
                    dict(view=[1280, 640], overview=448, task="free", request="text size=30,36 chars=50,100")]
        if not os.path.exists(f"{STATE}/pack/train/molecules.txt"):
            # made without RDKit, for stages that have no molecules
            rows = [r for r in rows if not r["request"].startswith("molecule")]
        bank = Bank(1)
        bank.keep(torch.randn(2, 16, 16, 320, device=DEVICE))
        for row in [dict(rows[-1], frozen=1), dict(rows[0], unread=True), *rows]:
            source.ask(dict(row, batch=1), 0)
            batch = source.take(dict(row, batch=1), 0)[0]
            batch = {k: v.to(DEVICE) for k, v in batch.items()}
            loss, figures = losses.compute(net, helpers, batch, WEIGHTS, bank)
            net.zero_grad()
            loss.backward()
            norms = {n: float(p.grad.norm()) for n, p in net.named_parameters() if p.grad is not None}
            self.assertTrue(np.isfinite(sum(norms.values())) and sum(norms.values()) > 0, row)
            blocks = row["task"] == "markdown" or row["request"].startswith("geometry")
            self.assertEqual("edge" in figures, blocks and "overview" not in row)
            self.assertEqual("acc" in figures and bool(torch.isfinite(figures["counted"])), "unread" not in row)
            self.assertEqual("follow" in figures, "overview" not in row)
            encoder = sum(v for n, v in norms.items() if "sam_model" in n or "vision_model" in n)
            self.assertEqual(encoder > 0, "frozen" not in batch, row)
            decoder = sum(v for n, v in norms.items() if n.startswith(("model.layers", "lm_head")))
            self.assertEqual(decoder > 0, "unread" not in batch, row)


class Fast(unittest.TestCase):
    """Operations that are compiled for the tile unit give what PyTorch gives, and so do their gradients."""

    @classmethod
    def setUpClass(cls):
        if not fast.load(STATE + "/fast"):
            raise unittest.SkipTest("no tile unit, or no compiler")

    def setUp(self):
        torch.manual_seed(1)

    def compare(self, mine, plain, inputs, most=1e-2):
        """inputs: bf16 tensors, the same values in fp32 for the plain form"""
        a = [x.detach().requires_grad_() for x in inputs]
        b = [x.detach().float().requires_grad_() for x in inputs]
        out, want = mine(*a), plain(*b)
        g = torch.randn(want.shape).to(out.dtype)
        out.backward(g)
        want.backward(g.float())
        for x, y in [(out, want)] + [(x.grad, y.grad) for x, y in zip(a, b)]:
            self.assertLess(float((x.float() - y).norm() / y.norm()), most)

    def test_attention(self):
        for b, h, t, d, e, causal in ((1, 2, 3, 64, 64, True), (2, 3, 101, 64, 64, False), (2, 5, 427, 64, 64, True),
                                      (1, 2, 900, 64, 64, True), (9, 4, 196, 60, 32, False), (1, 2, 400, 72, 32, False)):
            def plain(q, k, v):
                s = q @ k.transpose(2, 3) * d ** -0.5
                return (s + torch.full((t, t), -math.inf).triu(1) * causal if causal else s).softmax(-1) @ v
            make = lambda n: torch.randn(b, t, h, n).bfloat16().transpose(1, 2)
            self.compare(lambda q, k, v: fast.attention(q, k, v, causal), plain, [make(d), make(d), make(e)])

    def test_attention_over_a_grid(self):
        for b, h, y, x, d in ((3, 4, 14, 14, 32), (1, 2, 5, 37, 32), (2, 1, 40, 40, 32)):
            def plain(q, k, v, rows, columns):
                s = (q @ k.transpose(2, 3) * d ** -0.5).unflatten(3, (y, x)) + rows[..., None] + columns[..., None, :]
                return s.flatten(3).softmax(-1) @ v
            make = lambda n: torch.randn(b, y * x, h, n).bfloat16().transpose(1, 2)
            self.compare(lambda q, k, v, r, c: fast.attention(q, k, v, rows=r, columns=c), plain,
                         [make(d), make(d), make(d), make(y), make(x)])

    def test_norms(self):
        make = lambda *n: torch.randn(*n)
        self.compare(lambda x, w, b: fast.norm(x, w, b, 1e-6), lambda x, w, b: F.layer_norm(x, (128,), w, b, 1e-6),
                     [make(3, 7, 128) + 1, make(128), make(128)])
        self.compare(lambda x, w: fast.norm(x, w, None, 1e-6),
                     lambda x, w: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * w, [make(5, 320), make(320)])

    def test_activations(self):
        make = lambda: (torch.randn(7, 37) * 4).bfloat16()
        self.compare(fast.gelu, F.gelu, [make()])
        self.compare(fast.swiglu, lambda a, b: F.silu(a) * b, [make(), make()])

    def test_rotation(self):
        x = torch.randn(2, 9, 5 * 64).bfloat16()
        angle = torch.randn(9, 32).repeat(1, 2)
        cos, sin = angle.cos(), angle.sin()
        self.compare(lambda x: fast.rotate(x, cos, sin),
                     lambda x: model.rotate(x.view(2, 9, 5, 64), cos[:, None], sin[:, None]).reshape(2, 9, -1), [x])

    def test_pixels(self):
        gray, paper, ink = (torch.randint(0, 256, n, dtype=torch.uint8) for n in ((2, 64, 48), (2, 3), (2, 3)))
        want = losses.pixels(gray, paper, ink).bfloat16()
        self.assertTrue(torch.equal(fast.pixels(gray, paper, ink), want))

    def test_gradients_of_a_step(self):
        with tempfile.TemporaryDirectory() as tmp:
            tok = tokenizer(tmp)
        torch.manual_seed(1)
        net = model.NanoOCR(model.make_config(tok.size))
        helpers = losses.Helpers(128, 320, len(tok.classes) + 1)
        source = data.Source(f"{STATE}/render", f"{STATE}/pack", tok, 1, 0)
        self.addCleanup(source.renderer.close)
        for row in (dict(view=[320, 320], batch=2, task="free", request="text size=16,20 chars=50,200"),
                    dict(view=[1280, 640], batch=1, overview=448, task="free", request="text size=30,36 chars=50,100")):
            source.ask(row, 0)
            batch = source.take(row, 0)[0]
            gradients = []
            for plainly in (False, True):
                was = fast._module
                fast._module = None if plainly else was
                torch.manual_seed(2)
                net.zero_grad()
                losses.compute(net, helpers, batch, WEIGHTS)[0].backward()
                fast._module = was
                gradients.append({n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None})
            a, b = (torch.cat([g.flatten() for g in x.values()]).double() for x in gradients)
            self.assertEqual(list(gradients[0]), list(gradients[1]))
            self.assertGreater(float(F.cosine_similarity(a, b, 0)), 0.99)


class Parcels(unittest.TestCase):
    def test_round_trip(self):
        torch.manual_seed(1)
        average = {"a.weight": torch.randn(70, 90), "b": torch.randn(5)}
        with tempfile.TemporaryDirectory() as tmp:
            state.write_parcel(tmp, {"counters": {"step": 3}}, dict(weights=average, average=average))
            content, named = state.read_parcel(tmp)
            self.assertEqual(content["counters"], {"step": 3})
            for k, v in average.items():
                self.assertTrue(torch.equal(named["weights"][k], v.bfloat16().float()))
            state.write_small_parcel(tmp, {"counters": {"step": 3}}, average)
            content, named = state.read_parcel(tmp)
            for k, v in average.items():
                self.assertLess(float((named["average"][k] - v).abs().max()), float(v.abs().max()) / 250)


class Exports(unittest.TestCase):
    def test_mean_of_states(self):
        with tempfile.TemporaryDirectory() as tmp:
            for name, value, seen in (("a", 1.0, 20), ("b", 3.0, 10)):
                os.mkdir(f"{tmp}/{name}")
                torch.save(dict(values=torch.full((4,), value), average=torch.full((4,), -value), counters=dict(pages=seen)),
                           f"{tmp}/{name}/state.pt")
            for sources, raw, want in (([f"{tmp}/a"], True, 1), ([f"{tmp}/a=1", f"{tmp}/b=3"], True, 2.5),
                                       ([f"{tmp}/b", f"{tmp}/a"], False, -2)):
                values, counters = export.mean(sources, raw, None)
                self.assertEqual(values.tolist(), [want] * 4)
            self.assertEqual(counters["pages"], 20)


class Beginning(unittest.TestCase):
    def arguments(self, folder):
        return argparse.Namespace(state=folder, start=folder, seed=1)

    def test_a_model_and_its_helpers(self):
        with tempfile.TemporaryDirectory() as tmp:
            tok = tokenizer(tmp)
            run = train.Run(self.arguments(tmp), tok)
            for name in ("model.safetensors", "tokenizer.json"):
                shutil.copy(f"{NANO}/{name}", f"{tmp}/{name}")
            memory = {k: torch.zeros(run.flat.size) for k in ("values", "average")}
            counters = train.begin(self.arguments(tmp), run, memory)
            self.assertEqual((counters["step"], counters["alone"]), (0, train.HELPERS_FIRST))
            helpers = {k: torch.randn(v.shape).bfloat16().float() for k, v in run.helpers.state_dict().items()}
            state.write_helpers(tmp + "/helpers.safetensors", helpers, {"step": 7, "group": 5, "seed": 3, "t": 7})
            counters = train.begin(self.arguments(tmp), run, memory)
            self.assertEqual([counters.get(k) for k in ("step", "group", "seed", "t", "alone")], [7, 5, 3, 0, None])
            for k, v in run.split(memory["values"])[1].items():
                self.assertTrue(torch.equal(v, helpers[k]), k)

            # of another version: one helper is missing, one is no more
            del helpers["place.weight"]
            helpers["gone.weight"] = torch.ones(3)
            state.write_helpers(tmp + "/helpers.safetensors", helpers, {"step": 7})
            counters = train.begin(self.arguments(tmp), run, memory)
            self.assertEqual(counters["alone"], 7 + train.HELPERS_FIRST)
            learners = lambda: {n for n, p in (*run.model.named_parameters(), *run.helpers.named_parameters()) if p.requires_grad}
            self.assertTrue(train.choose_learners(run, counters))
            self.assertEqual(learners(), {"place.weight"})
            counters["step"] = counters["alone"]
            self.assertFalse(train.choose_learners(run, counters))
            self.assertEqual(learners(), {n for m in (run.model, run.helpers) for n, _ in m.named_parameters()})

    def test_no_file_no_helpers(self):
        self.assertEqual(state.read_helpers("/nonexistent"), ({}, {}))


class Curve(unittest.TestCase):
    def test_figures_that_a_batch_does_not_have(self):
        with tempfile.TemporaryDirectory() as tmp, contextlib.redirect_stdout(io.StringIO()):
            log = train.Log(tmp + "/log.jsonl")
            for lm, acc in ((1.0, 0.5), (2.0, math.nan)):
                log.add("v", dict(lm=torch.tensor(lm), acc=torch.tensor(acc), none=torch.tensor(math.nan)))
            log.write({})
            log.file.close()
            with open(tmp + "/log.jsonl") as f:
                self.assertEqual(json.loads(f.read()), {"v": {"lm": 1.5, "acc": 0.5}})


class Resuming(unittest.TestCase):
    def train(self, folder, *options):
        subprocess.run([sys.executable, HERE + "/train.py", "--state", folder, "--plan", folder + "/plan.json", *options],
                       check=True, stdout=subprocess.DEVNULL)
        return torch.load(folder + "/state.pt", weights_only=True)

    def folder(self):
        tmp = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, tmp)
        fast.load(STATE + "/fast")
        for name in ("pack", "render", "fast"):
            os.symlink(os.path.realpath(f"{STATE}/{name}"), f"{tmp}/{name}")
        plan = read_plan()
        row = dict(p=1, view=[192, 192], batch=2, task="free", request="text size=20,30 chars=20,40")
        plan["stages"] = [dict(until=1 << 40, rate=0.001, mix=[row])]
        with open(tmp + "/plan.json", "w") as f:
            json.dump(plan, f)
        return tmp

    def test_goes_on_as_if_nothing_had_happened(self):
        a, b = self.folder(), self.folder()
        whole = self.train(a, "--world", "1", "--steps", "6", "--start", "nothing")
        self.train(b, "--world", "1", "--steps", "3", "--start", "nothing")
        halves = self.train(b, "--world", "1", "--steps", "3")
        self.assertEqual(whole["counters"]["pages"], halves["counters"]["pages"])
        for k in ("values", "average", "momentum", "second"):
            self.assertTrue(torch.equal(whole[k], halves[k]), k)

    def test_two_ranks_and_processes(self):
        for options in (["--world", "2", "--start", "nothing"], ["--workers", "2", "--start", "nothing"]):
            saved = self.train(self.folder(), "--steps", "2", *options)
            self.assertTrue(bool(torch.isfinite(saved["values"]).all()))
            self.assertEqual(saved["counters"]["step"], 2)


@unittest.skipUnless(os.environ.get("ENGINE"), "no ENGINE")
class Engine(unittest.TestCase):
    """The engine computes what is trained."""

    def read(self, folder, image, mode):
        command = [os.environ["ENGINE"], "ocr", "--model", folder, "--mode", mode, "--task", "text", "--precision", "fp32",
                   "--no-repeat", "0,0", "--max-tokens", "200", "--json", image]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["raw"]

    def test_reads_the_same(self):
        from PIL import Image
        tok = tokens.Tokens(NANO + "/tokenizer.json")
        net = model.NanoOCR(model.make_config(tok.size))
        net.load_state_dict(state.read_checkpoint(NANO))
        net.eval()
        renderer = pages.renderer(STATE)
        self.addCleanup(renderer.close)
        prompt = tok.encode(tokens.PROMPTS["free"])
        for request, mode in (("w=640 h=640 size=28,34 chars=60,120", "small"),
                              ("w=1280 h=1280 global=1024 size=28,34 chars=60,120", "gundam")):
            page = renderer.pages(f"text seed=9 {request}", 1)[0]
            with tempfile.TemporaryDirectory() as tmp:
                Image.fromarray(page.rgb()).save(tmp + "/p.png")
                theirs = self.read(NANO, tmp + "/p.png", mode)
            tensor = lambda x: torch.from_numpy(np.array(x))[None]
            colours = tensor(page.paper), tensor(page.ink)
            view = losses.pixels(tensor(page.view), *colours)
            overview = None
            if mode == "gundam":
                whole = Image.fromarray(page.rgb()).resize((1024, 1024), Image.BICUBIC)
                overview = tensor(whole).permute(0, 3, 1, 2).float() / 127.5 - 1
            ids = net.generate(view.bfloat16().float(), overview if overview is None else overview.bfloat16().float(), prompt, 200)[0]
            self.assertEqual(tok.decode(ids), theirs)


if __name__ == "__main__":
    unittest.main()
