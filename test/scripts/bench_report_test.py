# SPDX-License-Identifier: MIT
"""Tests of scripts/bench --report: ratios, means, marks and failures of fixed figures."""

import random
import re
import unittest

from support import ScriptTest

from sample import FAILED, Sample, Writer

MIB = 1 << 20


class ReportTest(ScriptTest):
    def report(self, figures, metric="wall_seconds", comments=("command: scripts/bench",),
               **further):
        """The report on `figures`: one for each row, allocator and round; None is a failure."""
        writer = Writer(self.path("raw.csv"), comments)
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

    def test_means_come_first_and_then_ratios_and_least_figures(self):
        text = self.report({
            "a/1": {"glibc": [2.0, 2.2, 2.0], "slabmalloc": [3.0, 2.5, 3.0],
                    "jemalloc": [4.0, 4.0, 4.0]},
            "b/1": {"glibc": [1.0, 1.0, 1.0], "slabmalloc": [1.09, 1.1, 1.1],
                    "jemalloc": [0.5, 0.5, None]},
            "c/1": {"glibc": [4.0, 4.0, 4.0], "slabmalloc": [2.0, 2.0, 2.0],
                    "jemalloc": [None]}})
        self.assertRegex(text, r"\A# command: scripts/bench\n\nGEOMETRIC MEANS relative")
        means, _, rows = text.partition("\nWALL TIME relative to the best peer\n")
        # Over the rows that have a figure. slabmalloc stands first.
        self.assertRegex(means, r"\ngeometric mean +slabmalloc +glibc +jemalloc\n")
        self.assertRegex(means, r"\nwall time +1\.11 +1\.26 +1\.41\n +[\d.]+-[\d.]+ ")
        self.assertRegex(means, r"\n3 rounds measured;")
        self.assertRegex(rows, r"\nrow +slabmalloc +glibc +jemalloc +least s +least s +peer +first")
        self.assertRegex(rows, r"\na/1 +1\.25! +1\.00 +2\.00 +2\.500 +2\.000 +glibc +glibc\n")
        # Two rounds of jemalloc in b/1: nothing says how far it may be off.
        self.assertRegex(rows, r"\nb/1 +2\.18 +2\.00 +1\.00 +1\.090 +0\.500 +jemalloc +-\n")
        self.assertRegex(rows, r"\nc/1 +0\.50 +1\.00 +- +2\.000 +4\.000 +glibc +slabmalloc\n")
        points = {line.index(".", 10) for line in rows.splitlines() if line[:4] in ("a/1 ", "c/1 ")}
        self.assertEqual(len(points), 1, "a mark moves the figure")
        self.assertIn("\n1 of 3 rows beyond the target (!): a/1\n", rows)
        self.assertIn("\n2 of 3 rows ranked: slabmalloc 1, glibc 1; in the others", rows)
        self.assertRegex(rows, r"\n2 failed runs:\nb/1, jemalloc, round 3: failed: ended .*\nc/1, ")
        self.assertNotIn("PEAK MEMORY", text)
        self.assertTrue(text.isascii() and "\x1b" not in text and " \n" not in text)

    def test_few_rounds_are_reported_as_such_and_rank_nothing(self):
        for count, words in ((1, "1 round"), (2, "2 rounds")):
            text = self.report({"a/1": {"slabmalloc": count * [3.0], "glibc": count * [1.0]}})
            self.assertIn(f"\n{words} measured: too few for intervals, so nothing is ranked", text)
            self.assertRegex(text, r"\na/1 +3\.00 +1\.00 +3\.000 +1\.000 +glibc +-\n")
            self.assertIn("\n0 of 1 row beyond", text)
            self.assertIn("\n0 of 1 row ranked; in the others", text)

    def test_intervals_decide_what_is_ranked(self):
        # Of five rounds the interval ends at the fourth value, of three at the third.
        for rounds in (5, 3):
            for last, ranked in ((1.19, True), (1.21, False)):
                own = (max(1, rounds - 2) * [1.0] + [last, 9.0])[:rounds]
                text = self.report({"a/1": {"slabmalloc": own,
                                            "glibc": [1.2, 1.3, 1.4, 1.5, 1.6][:rounds]}})
                first = "slabmalloc" if ranked and rounds == 5 else "-"
                tie = "" if first != "-" else "~"
                self.assertRegex(text, rf"\na/1 +0\.83{tie} +1\.00 .* {first}\n")
        # A target is missed by the whole interval, or not.
        for peer, marked in (([1.0, 1.0, 1.0], True), ([1.0, 1.0, 1.1], False)):
            text = self.report({"a/1": {"slabmalloc": [1.15, 1.15, 1.15], "glibc": peer}})
            self.assertIn(f"\n{int(marked)} of 1 row beyond", text)

    def test_equal_allocators_are_told_apart_seldom(self):
        chance = random.Random(1)
        for rounds in (3, 5, 9):
            rows = {f"r{number}/1": {name: [1 + chance.random() for _ in range(rounds)]
                                     for name in ("slabmalloc", "glibc")} for number in range(400)}
            text = self.report(rows)
            ranked = int(re.search(r"\n(\d+) of 400 rows ranked", text)[1])
            self.assertLessEqual(ranked, 65, f"{rounds} rounds")

    def test_a_part_of_a_round_changes_no_mean(self):
        rows = {f"r{number}/1": {"slabmalloc": [1.0, 1.0, 1.0], "glibc": [1.0, 1.0, 1.0]}
                for number in range(9)}
        rows["last/1"] = {"slabmalloc": 3 * [1.0] + [0.1], "glibc": 4 * [1.0]}
        text = self.report(rows)
        self.assertRegex(text, r"\nwall time +0\.79 +1\.00\n +0\.79-1\.00 ")

    def test_intervals_of_means_are_those_of_rounds(self):
        even = self.report({"a/1": {"slabmalloc": [2.0, 2.0, 2.0], "glibc": [1.0, 1.0, 1.0]}})
        self.assertRegex(even, r"\nwall time +2\.00! +1\.00\n +2\.00-2\.00 +1\.00-1\.00\n")
        uneven = self.report({"a/1": {"slabmalloc": [2.0, 4.0, 4.0], "glibc": [1.0, 1.0, 1.0]}})
        self.assertRegex(uneven, r"\nwall time +2\.00! +1\.00\n +2\.00-4\.00 +1\.00-1\.00\n")

    def test_names_of_rankings_have_versions(self):
        head = ["processor: P, 2 online", "allocator slabmalloc: slabmalloc 0.1.0, this tree, x.so",
                "allocator tcmalloc: gperftools tcmalloc 2.10, libtcmalloc-minimal4 2.10-1, /y.so",
                "allocator own: own, given by --allocator, /z.so"]
        names = ("slabmalloc", "tcmalloc", "own")
        text = self.report({"a/1": {name: [1.0, 1.0] for name in names}}, comments=head)
        for table in text.split("GEOMETRIC MEANS")[1].split("WALL TIME"):
            self.assertRegex(table, r"\n +gperftools\n +slabmalloc +tcmalloc\b")
            self.assertRegex(table, r"(row|mean) +0\.1\.0 +2\.10 +own")

    def test_a_busy_machine_is_told(self):
        for load, others, told in (("0.9", "9", False), ("1.1", "9", True), ("0.9", "11", True)):
            head = ["processor: P, 2 online", f"load before: {load} 0 0", f"other work: {others} %"]
            text = self.report({"a/1": {"slabmalloc": [1.0], "glibc": [1.0]}}, comments=head)
            self.assertEqual("The machine has other work: " in text, told)

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
        self.assertRegex(text, r"\na-pattern-of-a-long-name/16( +1\.00){10} ")
        self.assertIn("Every run succeeded", text)

    def test_each_target_has_its_mark(self):
        for seconds, peer, marked in ((0.94, "glibc", False), (0.96, "glibc", True),
                                      (1.03, "unchecked", False), (1.04, "unchecked", True)):
            text = self.report({"a/1": {"slabmalloc": 3 * [seconds], peer: 3 * [1.0]}})
            self.assertRegex(text, rf"\nwall time +{seconds:.2f}{'!' if marked else ''} ")
        for mebibytes, marked in ((6.4, False), (6.6, True)):
            held = {"slabmalloc": 3 * [int(mebibytes * MIB)], "glibc": 3 * [8 * MIB]}
            text = self.report({"a/1": held}, "after_bytes", peak_bytes=100 * MIB)
            self.assertIn(f"\n{int(marked)} of 1 row beyond", text.partition("MEMORY HELD")[2])
        for own, marked in ((10.9, False), (11.1, True)):
            held = {"slabmalloc": 3 * [int(own * MIB)], "glibc": 3 * [10 * MIB],
                    "jemalloc": 3 * [90 * MIB]}
            text = self.report({"a/1": held}, "held_bytes").partition("95 % WAS FREED")[2]
            self.assertRegex(text, rf"\na/1 +{own / 10:.2f}{'!' if marked else ''} +1.00 +9.00 ")
        text = self.report({"a/1": {"slabmalloc": [None], "glibc": [1.0]}})
        self.assertIn("1 of 1 row beyond", text)
        rows = {"large/1": 1.04, "pair-64/1": 1.04, "producer-consumer/2": 0.8, "start": 1.06}
        for rival in ("jemalloc", "mimalloc3"):
            text = self.report({row: {"slabmalloc": 3 * [own], "glibc": 3 * [1.0],
                                      rival: 3 * [1.0]} for row, own in rows.items()})
            self.assertIn("\n3 of 4 rows beyond the target (!): pair-64/1, producer-consumer", text)


if __name__ == "__main__":
    unittest.main()
