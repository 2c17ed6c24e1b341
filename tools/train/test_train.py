#!/usr/bin/env python3
"""Tests of the training code: tools/train/test_train.py [CLASS...]

They need what `tools/train/run setup` makes.  DEVICE=cuda runs the model's tests
there; ENGINE names a dsocr-engine, with which the model is compared.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import numpy as np
import torch

import data
import losses
import model
import pages
import state
import tokens

HERE = os.path.dirname(os.path.abspath(__file__))
NANO = os.path.join(HERE, "../../models/nano")
STATE = os.environ.get("DSOCR_TRAIN", "var/train")
DEVICE = os.environ.get("DEVICE", "cpu")
WEIGHTS = dict(patch=0.4, cell=0.8, guide=0.3, sub=0.4, moe=0.01)


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


class Pages(unittest.TestCase):
    REQUEST = "columns seed=77 w=640 h=640 grounded=1 rich=0.8 effects=1 skew=2 rescale=0.5 chars=200,600"

    def setUp(self):
        self.renderer = pages.renderer(STATE)
        self.addCleanup(self.renderer.close)
        self.tmp = tempfile.TemporaryDirectory()
        self.addCleanup(self.tmp.cleanup)
        self.tok = tokenizer(self.tmp.name)

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
            ids, cell, sub, patch = labels.of(page)
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
                    dict(view=[1280, 640], overview=448, task="free", request="text size=30,36 chars=50,100")]
        for row in rows:
            source.ask(dict(row, batch=1), 0)
            batch = source.take(dict(row, batch=1), 0)[0]
            batch = {k: v.to(DEVICE) for k, v in batch.items()}
            loss, _ = losses.compute(net, helpers, batch, WEIGHTS)
            net.zero_grad()
            loss.backward()
            norm = sum(float(p.grad.norm()) for p in net.parameters() if p.grad is not None)
            self.assertTrue(np.isfinite(norm) and norm > 0, row)


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


class Resuming(unittest.TestCase):
    def train(self, folder, *options):
        subprocess.run([sys.executable, HERE + "/train.py", "--state", folder, "--plan", folder + "/plan.json", *options],
                       check=True, stdout=subprocess.DEVNULL)
        return torch.load(folder + "/state.pt", weights_only=True)

    def folder(self):
        tmp = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, tmp)
        for name in ("pack", "render"):
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
        for options in (["--world", "2"], ["--workers", "2"]):
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
