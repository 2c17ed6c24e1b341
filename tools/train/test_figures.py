#!/usr/bin/env python3
"""Tests of the pages with figures, and of the plan: tools/train/test_figures.py [CLASS...]

They need what `tools/train/run setup` makes.
"""
import ast
import importlib.util
import re
import unittest

import numpy as np

import data
import pages
import tokens
import walks
from test_train import STATE, Rendered, read_plan


class Figures(Rendered):
    """What is not only text: the target agrees with what is drawn."""

    def pages(self, request, count=30):
        return self.renderer.pages(f"{request} w=512 h=512 size=18,26 chars=60,300 seed=11", count)

    def test_pages_follow_from_their_requests(self):
        texts = set()
        for kind in ("equations", "equations grounded=1", "geometry", "locate", "molecule", "scene"):
            first = self.pages(kind + " effects=0.5 skew=2", 4)
            again = self.pages(kind + " effects=0.5 skew=2", 4)
            for a, b in zip(first, again):
                self.assertEqual(a.text(), b.text())
                np.testing.assert_array_equal(a.view, b.view)
                np.testing.assert_array_equal(a.boxes, b.boxes)
                ids, *_ = pages.Labels(self.tok).of(a)
                self.assertEqual(ids.tolist(), self.tok.encode(a.text()))
                texts.add(a.text())
        self.assertEqual(len(texts), 24)

    def darkest(self, page, x, y, around=3):
        x, y = int(x), int(y)
        return int(page.view[max(0, y - around):y + around + 1, max(0, x - around):x + around + 1].min())

    @staticmethod
    def atoms(page):
        """Indices of the first letters of a molecule's atoms"""
        return [i for i, c in enumerate(page.text()) if c.isupper() and page.boxes[i, 2] >= 0]

    def test_molecules(self):
        lengths = set()
        for page in self.pages("molecule"):
            placed = page.boxes[self.atoms(page)]
            atoms = len(re.findall(r"\[[^]]*\]|Cl|Br|[A-Z]", page.text()))
            self.assertEqual(len(np.unique(placed, axis=0)), atoms)
            for x0, y0, x1, y1 in placed:
                # a corner of a chain has no letter, but lines that meet
                self.assertLess(self.darkest(page, (x0 + x1) / 2, (y0 + y1) / 2, max(8, int(x1 - x0) // 2)), 128)
            lengths.add(atoms)
        self.assertGreater(len(lengths), 8)

    def test_molecules_by_patch(self):
        """Each atom is named where it is, whether or not it is written there, and says which comes next."""
        right = total = 0
        for page in self.pages("molecule"):
            at = self.atoms(page)
            *_, patch, follow = pages.Labels(self.tok).of(page, "molecule")
            where = [(int(y0 + y1) // 32, int(x0 + x1) // 32) for x0, y0, x1, y1 in page.boxes[at]]
            for i, (row, column) in enumerate(where):
                self.assertIn(self.tok.classes[chr(page.codes[at[i]])], patch[row, column])
                if where.count((row, column)) == 1 and i + 1 < len(where):
                    # where two atoms are in a patch, the later one counts
                    right += tuple(follow[row, column]) == where[i + 1]
                    total += 1
        self.assertGreater(right, 0.97 * total)

    @unittest.skipUnless(importlib.util.find_spec("rdkit"), "no RDKit")
    def test_short_molecules(self):
        from rdkit import Chem
        for page in self.renderer.pages("molecule w=192 h=192 size=15,22 chars=1,12 seed=11", 24):
            self.assertLessEqual(len(Chem.MolToSmiles(Chem.MolFromSmiles(page.text()))), 12)

    @unittest.skipUnless(importlib.util.find_spec("rdkit"), "no RDKit")
    def test_bonds_of_molecules(self):
        """The bonds of each atom's patch are those of RDKit, where no other atom is in that patch."""
        from rdkit import Chem
        for page in self.pages("molecule"):
            mol = Chem.MolFromSmiles(page.text())
            Chem.Kekulize(mol, clearAromaticFlags=True)
            ways = walks.bonds_by_patch(page, pages.PATCH)
            _, at, _ = walks.walk(page.text())
            where = [(int(y0 + y1) // 32, int(x0 + x1) // 32) for x0, y0, x1, y1 in page.boxes[at]]
            self.assertEqual(len(where), mol.GetNumAtoms())
            for atom, place in zip(mol.GetAtoms(), where):
                if where.count(place) == 1:
                    orders = sorted(int(b.GetBondTypeAsDouble()) for b in atom.GetBonds())
                    self.assertEqual(sorted(ways[place][ways[place] > 0]), orders, page.text())

    @unittest.skipUnless(importlib.util.find_spec("rdkit"), "no RDKit")
    def test_molecules_are_what_is_drawn(self):
        from rdkit import Chem
        with open(f"{STATE}/pack/train/molecules.txt", encoding="utf-8") as f:
            known = {line.split("\t")[0] for line in f}
        for page in self.pages("molecule", 200):
            self.assertIn(Chem.MolToSmiles(Chem.MolFromSmiles(page.text())), known, page.text())

    @unittest.skipUnless(importlib.util.find_spec("rdkit"), "no RDKit")
    def test_molecules_are_what_the_files_say(self):
        from rdkit import Chem
        with open(f"{STATE}/pack/train/molecules.txt", encoding="utf-8") as f:
            trained = {line.split("\t")[0] for line in f}
        with open(f"{STATE}/pack/held/molecules.txt", encoding="utf-8") as f:
            held = [line.rstrip("\n").split("\t") for line in f]
        self.assertFalse(trained & {h[0] for h in held})
        for smiles, atoms, bonds in held[:300]:
            mol = Chem.RWMol()
            for atom in atoms.split(" "):
                _, _, element, hydrogens, charge = atom.split(",")
                a = Chem.Atom(element)
                a.SetFormalCharge(int(charge))
                a.SetNumExplicitHs(int(hydrogens))
                a.SetNoImplicit(True)
                mol.AddAtom(a)
            for bond in bonds.split(" "):
                a, b, order, _ = map(int, bond.split(","))
                mol.AddBond(a, b, {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}[order])
            Chem.SanitizeMol(mol)
            self.assertEqual(Chem.MolToSmiles(Chem.RemoveHs(mol)), smiles)

    def test_geometry(self):
        circles = dashes = 0
        for page in self.pages("geometry", 60):
            figure = ast.literal_eval(page.text())
            point = lambda s: ast.literal_eval(s.strip())
            lines = [tuple(map(point, line.split("--"))) for line in figure["Line"]["line"]]
            ends = [point(e.split(":")[1]) for e in figure["Line"]["line_endpoint"]]
            self.assertEqual(len(lines), len(figure["Line"]["line_type"]))
            self.assertEqual(len(set(ends)), len(ends))
            self.assertEqual(len(set(lines)), len(lines))
            spots = []
            for (a, b), kind in zip(lines, figure["Line"]["line_type"]):
                self.assertIn(kind, ("-", "--"))
                dashes += kind == "--"
                self.assertTrue(a in ends and b in ends)
                self.assertLess((-a[1], a[0]), (-b[1], b[0]))
                spots += [((a[0] * k + b[0] * (9 - k)) / 9, (a[1] * k + b[1] * (9 - k)) / 9) for k in range(10)] * (kind == "-")
            for centre, radius in zip(figure.get("Circle", {}).get("circle_center", []), figure.get("Circle", {}).get("radius", [])):
                circles += 1
                x, y = point(centre)
                spots += [(x + radius, y), (x - radius, y), (x, y + radius), (x, y - radius)]
            for x, y in spots:
                self.assertLessEqual(max(abs(x), abs(y)), 10)
                self.assertLess(self.darkest(page, 256 + x * 512 / 24, 256 - y * 512 / 24), 160, page.text())
        self.assertGreater(circles, 5)
        self.assertGreater(dashes, 5)

    def test_corners_of_geometry(self):
        for page in self.pages("geometry"):
            corners = pages.Labels(self.tok).corners(page).reshape(-1, 4)
            found = [tuple(c) for c in corners if not np.isnan(c[0])]
            want = re.findall(r"\((-?\d+), (-?\d+)\)", page.text())
            self.assertEqual({(round(24 * x - 12), round(12 - 24 * y)) for x, y, *_ in found}, {tuple(map(int, w)) for w in want})
            self.assertTrue(all(c[:2] == c[2:] for c in found))

    def test_equations(self):
        commands = set()
        for page in self.pages("equations"):
            text = page.text()
            self.assertIn("\\[ ", text)
            for equation in text.split("\\[ ")[1:]:
                equation, rest = equation.split(" \\]")
                self.assertEqual(equation.count("{"), equation.count("}"))
                commands |= set(re.findall(r"\\[A-Za-z]+", equation))
        self.assertLessEqual({"\\frac", "\\sqrt", "\\sum", "\\tag"}, commands)
        for page in self.pages("equations grounded=1", 5):
            self.assertIn("<|ref|>equation<|/ref|><|det|>[[", page.text())

    def test_scenes(self):
        numbers = dict(one=1, two=2, three=3, four=4, five=5)
        for page in self.pages("scene"):
            first, *rest = page.text().split(". ")
            self.assertEqual(len(rest), numbers[first.split()[3]])
            self.assertTrue(page.text().endswith("."))
            seen = {tuple(b) for b in page.boxes if b[2] >= 0 and b[0] == b[2]}
            self.assertEqual(len(seen), len(rest))
            # nothing that is only told is named in a patch
            patch = pages.Labels(self.tok).of(page)[3]
            labels = sum(map(len, re.findall(r"labelled (\S+)", page.text())))
            self.assertLessEqual(np.count_nonzero(patch), labels)

    def test_charts(self):
        """What is told of a chart is what its data says."""
        kinds = set()
        for data_page, told in zip(self.pages("chart"), self.pages("chart describe=1")):
            np.testing.assert_array_equal(data_page.view, told.view)
            rows = [re.findall(r"<td>(.*?)</td>", r) for r in re.findall(r"<tr>(.*?)</tr>", data_page.text())]
            series = rows.pop(0)[1:] if rows[0][0] == "" else [""]
            values = {}
            for i, name in enumerate(series):
                for row in rows:
                    values.setdefault(int(row[i + 1]), row[0] + (f" of {name}" if name else ""))
            count = sum(len(r) - 1 for r in rows)
            self.assertTrue(told.text().endswith(
                (f" Its series are {', '.join(series[:-1])} and {series[-1]}." if len(series) > 1 else "") +
                f" The largest value is {max(values)} at {values[max(values)]}."
                f" The smallest value is {min(values)} at {values[min(values)]}."), told.text())
            found = re.match(r"The image shows a (bar|line|pie) chart of (\d+) values\.", told.text())
            self.assertEqual(int(found[2]), count)
            kinds.add(found[1])
        self.assertEqual(kinds, {"bar", "line", "pie"})

    def test_locating(self):
        shapes = 0
        for page in self.pages("locate", 40):
            found = re.fullmatch(r"<\|ref\|>([^<]+)<\|/ref\|><\|det\|>\[\[(\d+), (\d+), (\d+), (\d+)\]\]<\|/det\|>", page.text())
            self.assertTrue(found, page.text())
            subject, (x0, y0, x1, y1) = found[1], (int(v) * 512 / 999 for v in found.groups()[1:])
            self.assertEqual(page.subject(), subject)
            self.assertEqual(data.prompt_of(page, "locate"), f"\nLocate <|ref|>{subject}<|/ref|> in the image.")
            shapes += subject.split()[0] in ("solid", "gray", "outlined")
            inside = page.view[int(y0) + 1:int(y1), int(x0) + 1:int(x1)]
            self.assertLess(inside.min(), 180)
            if subject.startswith("solid"):
                # the shape fills its box, and ends at its edges
                self.assertLess(inside.mean(), 200)
                self.assertGreater(page.view[int(y0) - 3, int(x0) + 3], 200)
        self.assertTrue(5 < shapes < 35)

    def test_prompts_of_different_length(self):
        source = data.Source(f"{STATE}/render", f"{STATE}/pack", self.tok, 1, 0)
        self.addCleanup(source.renderer.close)
        row = dict(view=[320, 320], batch=4, task="locate", request="locate size=16,20 chars=30,60")
        source.ask(row, 0)
        prompts = set()
        for batch in source.take(row, 0):
            for ids, labels, cell in zip(batch["ids"], batch["labels"], batch["cell"]):
                target = [i for i in labels.tolist() if i != pages.IGNORE]
                first = int((labels != pages.IGNORE).nonzero()[0])
                self.assertEqual(ids[first:first + len(target)].tolist(), target)
                self.assertEqual(target[-1], tokens.EOS_ID)
                prompts.add(self.tok.decode(ids[:first].tolist()))
                self.assertIn(self.tok.decode(target[1:-1]).split("<|/ref|>")[0], self.tok.decode(ids[:first].tolist()))
                self.assertEqual(cell[:first].max(), -1)
        self.assertGreater(len({len(p) for p in prompts}), 1)

    def test_plan_has_all_prompts(self):
        plan = read_plan()
        self.assertEqual({r["task"] for r in plan["stages"][-1]["mix"]}, set(tokens.PROMPTS))
        untils = [s["until"] for s in plan["stages"]]
        self.assertEqual(untils, sorted(untils))
        for stage in plan["stages"]:
            self.assertAlmostEqual(sum(r["p"] for r in stage["mix"]), 1)
            for row in stage["mix"]:
                w, h = row["view"]
                page = self.renderer.pages(f"{row['request']} w={w} h={h} global={row.get('overview', 0)} seed=3", 1)[0]
                self.assertGreater(len(page.codes), 3)


if __name__ == "__main__":
    unittest.main()
