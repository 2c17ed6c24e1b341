#!/usr/bin/env python3
"""Tests of what is said of confidences."""
import unittest

import confidence


def result(text, lines):
    return dict(prefix=text, prefix_lines=lines, blocks=[], confidence=0.5)


class Confidences(unittest.TestCase):
    def test_errors_are_counted_in_their_line(self):
        text = "first line\nsecond lime\nthird line"
        lines, page = confidence.measure(result(text, [[0, 10, 0.9], [11, 11, 0.6], [23, 10, 0.8]]),
                                         "first line second line\nthird line")
        self.assertEqual([r[1] for r in lines], [9, 10, 9])
        self.assertEqual([round(r[2], 6) for r in lines], [0, 1, 0])
        self.assertEqual(page, (0.5, 28, 1.0))

    def test_bytes_are_no_characters(self):
        text = "äöü\nx"
        lines, _ = confidence.measure(result(text, [[0, 6, 1], [7, 1, 1]]), "äou\nx")
        self.assertEqual([(r[1], r[2]) for r in lines], [(3, 2.0), (1, 0)])

    def test_nothing_read(self):
        lines, page = confidence.measure(result("", []), "abc")
        self.assertEqual((lines, page), ([], (0.5, 3, 3.0)))

    def test_rank_correlation(self):
        self.assertAlmostEqual(confidence.rank_correlation([1, 2, 3, 9], [9, 7, 5, 1]), -1)
        self.assertAlmostEqual(confidence.rank_correlation([1, 1, 2, 2], [1, 1, 5, 5]), 1)

    def test_what_a_limit_catches(self):
        rows = [(0.5, 10, 5), (0.95, 10, 1), (0.99, 10, 0), (0.8, 10, 0)]
        row = confidence.catches("lines", rows, 0.9)
        self.assertEqual(row[2:], ["2 of 4", "50.0 %", "50.0 %", "83.3 %", "5.0 %"])


if __name__ == "__main__":
    unittest.main()
