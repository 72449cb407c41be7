# SPDX-License-Identifier: MIT
"""Tests of scripts/bench --report: ratios, means, marks and failures of fixed figures."""

import unittest

from support import ScriptTest

from sample import FAILED, Sample, Writer

MIB = 1 << 20


class ReportTest(ScriptTest):
    def report(self, figures, metric="wall_seconds", **further):
        """The report on `figures`: one for each row, allocator and round; None is a failure."""
        writer = Writer(self.path("raw.csv"), ["command: scripts/bench"])
        for row, allocators in figures.items():
            for allocator, values in allocators.items():
                for number, value in enumerate(values, 1):
                    sample = Sample(row, "workloads", allocator, number, **further)
                    setattr(sample, metric, value)
                    if value is None:
                        sample.status, sample.detail = FAILED, "ended with status 1"
                    writer.add(sample)
        writer.close()
        status, output, errors = self.drive("--report", self.path("raw.csv"))
        self.assertEqual((status, errors), (0, ""))
        return output

    def test_a_table_shows_ratios_least_figures_and_spread(self):
        text = self.report({
            "a/1": {"glibc": [2.0, 2.2], "slabmalloc": [3.0, 2.4], "jemalloc": [4.0]},
            "b/1": {"glibc": [1.0], "slabmalloc": [1.09], "jemalloc": [0.5, None]},
            "c/1": {"glibc": [4.0], "slabmalloc": [2.0], "jemalloc": [None]}})
        self.assertRegex(text, r"\A# command: scripts/bench\n\nWALL TIME relative to the best")
        # slabmalloc stands first.
        self.assertRegex(text, r"\nrow +slabmalloc +glibc +jemalloc +slabmalloc +best peer +peer ")
        self.assertRegex(text, r"\na/1 +1\.20! +1\.00 +2\.00 +2\.400 +2\.000 +glibc +25 % +10 %\n")
        self.assertRegex(text, r"\nb/1 +2\.18! +2\.00 +1\.00 +1\.090 +0\.500 +jemalloc +0 % +0 %\n")
        self.assertRegex(text, r"\nc/1 +0\.50 +1\.00 +- +2\.000 +4\.000 +glibc +0 % +0 %\n")
        points = {line.index(".", 10) for line in text.splitlines() if line[:4] in ("a/1 ", "c/1 ")}
        self.assertEqual(len(points), 1, "a mark moves the figure")
        # Over the rows that have a figure.
        self.assertRegex(text, r"\ngeometric mean +1\.09 +1\.26 +1\.41\n")
        self.assertRegex(text, r"\nwall time +1\.09 +1\.26 +1\.41\n")
        self.assertIn("\n2 of 3 rows beyond the target (!): a/1, b/1\n", text)
        self.assertRegex(text, r"\n2 failed runs:\nb/1, jemalloc, round 2: failed: ended .*\nc/1, ")
        self.assertNotIn("PEAK MEMORY", text)
        self.assertTrue(text.isascii() and "\x1b" not in text and " \n" not in text)

    def test_held_memory_stands_beside_the_least_possible(self):
        text = self.report({"sparse/1": {"glibc": [26 * MIB], "slabmalloc": [24 * MIB, 25 * MIB]}},
                           "least_bytes", live_bytes=7 * MIB, held_bytes=36 * MIB,
                           trimmed_bytes=30 * MIB).partition("to the least possible")[2]
        self.assertRegex(text, r"\nsparse/1 +slabmalloc +7\.0 +24\.0 +36\.0 +1\.50 +30\.0 +1\.25\n")
        self.assertRegex(text, r"\nsparse/1 +glibc +7\.0 +26\.0 +36\.0 +1\.38 +30\.0 +1\.15\n")

    def test_no_cell_is_cut_however_wide_the_table_is(self):
        names = ["slabmalloc", *(f"allocator-of-a-long-name-{number}" for number in range(9))]
        text = self.report({"a-pattern-of-a-long-name/16": {name: [1.0] for name in names}})
        self.assertRegex(text, r"\nrow +" + " +".join(names))
        self.assertRegex(text, r"\na-pattern-of-a-long-name/16( +1\.00!?){10} ")
        self.assertIn("Every run succeeded", text)

    def test_each_target_has_its_mark(self):
        for seconds, peer, marked in ((0.94, "glibc", False), (0.96, "glibc", True),
                                      (1.03, "unchecked", False), (1.04, "unchecked", True)):
            text = self.report({"a/1": {"slabmalloc": [seconds], peer: [1.0]}})
            self.assertRegex(text, rf"\nwall time +{seconds:.2f}{'!' if marked else ''} ")
        for mebibytes, marked in ((6.4, False), (6.6, True)):
            held = {"slabmalloc": [int(mebibytes * MIB)], "glibc": [8 * MIB]}
            text = self.report({"a/1": held}, "after_bytes", peak_bytes=100 * MIB)
            self.assertIn(f"\n{int(marked)} of 1 row beyond", text.partition("MEMORY HELD")[2])
        for own, marked in ((10.9, False), (11.1, True)):
            held = {"slabmalloc": [int(own * MIB)], "glibc": [10 * MIB], "jemalloc": [90 * MIB]}
            text = self.report({"a/1": held}, "held_bytes").partition("95 % WAS FREED")[2]
            self.assertRegex(text, rf"\na/1 +{own / 10:.2f}{'!' if marked else ''} +1.00 +9.00 ")
        text = self.report({"a/1": {"slabmalloc": [None], "glibc": [1.0]}})
        self.assertIn("1 of 1 row beyond", text)
        rows = {"large/1": 1.04, "pair-64/1": 1.04, "producer-consumer/2": 0.8, "start": 1.06}
        text = self.report({row: {"slabmalloc": [own], "glibc": [1.0], "jemalloc": [1.0]}
                            for row, own in rows.items()})
        self.assertIn("\n3 of 4 rows beyond the target (!): pair-64/1, producer-consumer", text)


if __name__ == "__main__":
    unittest.main()
