#!/usr/bin/env python3
"""Tests of the measures."""
import unittest

import metrics

BLOCK = "<|ref|>text<|/ref|><|det|>[[0, 0, 100, 100]]<|/det|>\nx"
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


if __name__ == "__main__":
    unittest.main()
