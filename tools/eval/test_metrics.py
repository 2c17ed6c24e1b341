#!/usr/bin/env python3
"""Tests of the measures."""
import importlib.util
import unittest
import xml.etree.ElementTree

import fox
import metrics
import run

BLOCK = "<|ref|>text<|/ref|><|det|>[[0, 0, 100, 100]]<|/det|>\nx"
FOUND = "<|ref|>a dog<|/ref|><|det|>[[100, 100, 300, 200]]<|/det|>"
FIGURE = ("{'Line': {'line': ['(0, 0) -- (4, 0)'], 'line_type': ['-'], 'line_endpoint': ['A: (0, 0)', 'B: (4, 0)']}, "
          "'Circle': {'circle_center': ['(2, 0)'], 'radius': [2]}}")
TABLE = "<table><tr><td>a</td><td>b</td></tr></table>"


class Measures(unittest.TestCase):
    def test_blanks_and_markup_do_not_count(self):
        self.assertEqual(metrics.errors("# A  b\nc", "A b c"), (0, 5))
        self.assertEqual(metrics.errors("- ﬁne", "• fine"), (0, 4))
        self.assertEqual(metrics.errors("abc", ""), (3, 3))

    def test_order(self):
        pages = "a b c\n\nd e f\n\ng h i", "d e f\n\na b c\n\ng h i"
        self.assertEqual(metrics.order(pages[0], pages[0]), 0)
        self.assertAlmostEqual(metrics.order(*pages), 2 / 3)
        self.assertEqual(metrics.order("abc\n\ndef", "zzz"), 1)
        self.assertIsNone(metrics.order("abc", "abc"))

    def test_tables(self):
        self.assertEqual(metrics.right_cells(TABLE, TABLE), (2, 2))
        self.assertEqual(metrics.right_cells(TABLE, TABLE.replace(">b<", ">c<")), (1, 2))
        self.assertEqual(metrics.right_cells(TABLE, "a b"), (0, 2))
        self.assertEqual(metrics.table_distance(TABLE, TABLE), 0)
        self.assertGreater(metrics.table_distance(TABLE, TABLE.replace(">b<", ">c<")), 0)

    def test_boxes(self):
        self.assertEqual(metrics.right_boxes(BLOCK, BLOCK), (1, 1))
        self.assertEqual(metrics.right_boxes(BLOCK, BLOCK.replace("text", "title")), (0, 1))
        self.assertEqual(metrics.right_boxes(BLOCK, BLOCK.replace("[[0, 0", "[[60, 0")), (0, 1))
        self.assertEqual(metrics.right_boxes(BLOCK, "[[1, 2]]"), (0, 1))

    def test_words(self):
        self.assertEqual(metrics.words("the cat the dog", "the  the the\ncat x"), (3, 5, 4))
        self.assertEqual(metrics.words("a", ""), (0, 0, 1))

    def test_locating(self):
        self.assertEqual(metrics.right_boxes(FOUND, FOUND), (1, 1))
        self.assertEqual(metrics.right_boxes(FOUND, FOUND.replace("300, 200", "150, 200")), (0, 1))

    def test_geometry(self):
        n = len(metrics.geometry(FIGURE))
        self.assertEqual(n, 4)
        right = lambda read: metrics.right_things(metrics.geometry(FIGURE), metrics.geometry(read))
        self.assertEqual(right(FIGURE.replace("(0, 0) -- (4, 0)", "(4,0) -- (0.0,0)")), (4, 4))
        self.assertEqual(right(FIGURE.replace("'-'", "'--'")), (3, 4))
        self.assertEqual(right(FIGURE.replace("[2]", "[3]")), (3, 4))
        self.assertEqual(right(FIGURE.replace("A: (0", "B: (0")), (3, 4))
        for broken in ("", "x", FIGURE[:-3], "{'Line': 3}", "[" * 5000, "{'Line': {'line': [1], 'line_type': ['-']}}"):
            self.assertEqual(right(broken), (0, 4), broken[:20])

    def test_equations(self):
        self.assertEqual(metrics.equations(r"a \[ \alpha b \leq \frac{1}{2} \] b \[x^{2}\]"),
                         [r"\alpha b\leq\frac{1}{2}", "x^{2}"])
        self.assertEqual(metrics.equations(r"\[ \pi  \times {\pi }\]"), metrics.equations(r"\[\pi\times{\pi}\]"))
        self.assertNotEqual(metrics.equations(r"\[\pi x\]"), metrics.equations(r"\[\pi y\]"))

    def test_sentences(self):
        self.assertEqual(metrics.right_things(metrics.sentences("One shape. A star."), metrics.sentences("A star.")), (1, 2))

    @unittest.skipUnless(importlib.util.find_spec("rdkit"), "no RDKit")
    def test_molecules(self):
        self.assertEqual(metrics.right_molecule("c1ccccc1O", " C1=CC=CC=C1O\n"), (1, 1))
        self.assertEqual(metrics.right_molecule("CCO", "COC"), (0, 1))
        for broken in ("", "C1CC", "text"):
            self.assertEqual(metrics.right_molecule("CCO", broken), (0, 1))
        self.assertEqual(metrics.atoms("C1=CC=CC=C1[NH3+]"), 7)

    def test_molecules_by_atoms(self):
        pages = [dict(wrong=1, chars=10, order=None, ended=True, atoms=n, right=(int(n < 6), 1)) for n in range(2, 12)]
        rows = run.by_size("molecules", "small", pages)
        # of 6 to 9 atoms there are too few to say
        self.assertEqual([(r[0], r[2], r[-2]) for r in run.by_size("molecules", "small", pages + pages[:1])],
                         [("molecules, 2 to 5 atoms", "5", "100.0 %")])
        self.assertEqual(rows, [])


class Fox(unittest.TestCase):
    def test_table_and_plot(self):
        m = dict(tokens=320.0, size=20.0, precision=0.5, recall=0.4, characters=0.9, other=80.0, pages=3)
        results = {300: {"tiny": m, "small": dict(m, precision=1.0)}}
        rows = fox.table(results, True).splitlines()
        self.assertEqual([r.count("|") for r in rows], [13] * 3)
        self.assertIn("| 300-399 | 3 | 20 px | 80 | 50.0 % | 40.0 % | 90.0 % | 5.0× | 100.0 % |", rows[2])
        root = xml.etree.ElementTree.fromstring(fox.plot(results))
        lines = root.findall("{http://www.w3.org/2000/svg}polyline")
        # 100 % lies at the upper edge, 50 % in the middle
        self.assertEqual([float(p.get("points").split(",")[1]) for p in lines],
                         [(fox.TOP + fox.H - fox.BOTTOM) / 2, fox.TOP])


if __name__ == "__main__":
    unittest.main()
