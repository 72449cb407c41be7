# SPDX-License-Identifier: MIT
"""Minima, ratios, means and marks of fixed figures, and how the tables show them."""

import unittest

import support  # pylint: disable=unused-import

import tables
import targets
from report import Report
from sample import FAILED, TIMEOUT, Sample

MIB = 1 << 20


def samples(row, **seconds):
    """Samples of a row: for each allocator its wall times, one a round; None is a failure."""
    result = []
    for name, values in seconds.items():
        for number, value in enumerate(values, 1):
            sample = Sample(row, "workloads", name, number, wall_seconds=value)
            if value is None:
                sample.status, sample.detail = FAILED, "ended with status 1"
            result.append(sample)
    return result


class Ratios(unittest.TestCase):
    report = Report(samples("a/1", glibc=[4.0, 2.0, 3.0], slabmalloc=[1.5, 1.0], mimalloc=[1.6])
                    + samples("b/1", glibc=[1.0], slabmalloc=[1.2, 1.11], mimalloc=[1.25])
                    + samples("c/1", glibc=[1.0], slabmalloc=[1.09], mimalloc=[None]))

    def ratio(self, row, name):
        return self.report.ratio(row, "wall_seconds", name)

    def test_a_figure_is_the_least_of_its_rounds_with_its_spread(self):
        figure = self.report.figure("a/1", "wall_seconds", "glibc")
        self.assertEqual((figure.least, figure.spread), (2.0, 1.0))

    def test_ratios_are_to_the_best_peer_whoever_leads(self):
        self.assertEqual(self.report.best_peer("a/1", "wall_seconds"), "mimalloc")
        self.assertEqual(self.ratio("a/1", "slabmalloc"), 1.0 / 1.6)
        self.assertEqual(self.ratio("a/1", "glibc"), 2.0 / 1.6)
        self.assertEqual(self.report.best_peer("b/1", "wall_seconds"), "glibc")
        self.assertEqual(self.ratio("b/1", "mimalloc"), 1.25)

    def test_means_are_geometric_over_the_rows_that_have_figures(self):
        self.assertAlmostEqual(self.report.geometric_mean("wall_seconds", "glibc"),
                               (2.0 / 1.6) ** (1 / 3))
        self.assertAlmostEqual(self.report.geometric_mean("wall_seconds", "mimalloc"),
                               1.25 ** (1 / 2))
        self.assertIsNone(self.report.geometric_mean("peak_bytes", "glibc"))

    def test_rows_beyond_ten_percent_are_marked(self):
        beyond = [row for row in self.report.rows if self.report.beyond(row, "wall_seconds")]
        self.assertEqual(beyond, ["b/1"])

    def test_the_mean_must_be_five_percent_below_the_best_peers(self):
        self.assertFalse(self.report.mean_beyond("wall_seconds"))
        near = Report(samples("a/1", glibc=[1.0], slabmalloc=[0.96]))
        self.assertTrue(near.mean_beyond("wall_seconds"))

    def test_against_the_unchecked_build_a_mean_of_three_percent_more_is_allowed(self):
        for seconds, beyond in ((1.03, False), (1.04, True)):
            report = Report(samples("a/1", slabmalloc=[seconds], unchecked=[1.0]))
            self.assertEqual(report.mean_beyond("wall_seconds"), beyond)
        self.assertAlmostEqual(targets.time_limit("pair-64/1", {"unchecked": 2.0}), 2.2)

    def test_a_failed_run_counts_in_no_figure_but_is_kept(self):
        self.assertIsNone(self.ratio("c/1", "mimalloc"))
        self.assertEqual([entry.row for entry in self.report.failures], ["c/1"])
        own = Report(samples("a/1", glibc=[1.0], slabmalloc=[None]))
        self.assertTrue(own.beyond("a/1", "wall_seconds"))

    def test_slabmalloc_stands_first_and_the_others_as_they_came(self):
        self.assertEqual(self.report.allocators, ["slabmalloc", "glibc", "mimalloc"])


class Targets(unittest.TestCase):
    peers = {"glibc": 3.0, "jemalloc": 2.0, "mimalloc": 1.4, "tcmalloc": 1.0}

    def test_rows_with_targets_of_their_own(self):
        self.assertAlmostEqual(targets.time_limit("large/1", self.peers), 1.1)
        self.assertEqual(targets.time_limit("pair-64/1", self.peers), 1.0)
        self.assertAlmostEqual(targets.time_limit("producer-consumer/2", self.peers), 1.0)
        self.assertAlmostEqual(targets.time_limit("start", self.peers), 3.15)
        self.assertEqual(targets.peak_limit("start", {"glibc": MIB}), MIB + 300 * 1024)

    def test_memory_held_may_be_a_share_of_the_peak(self):
        def held(mebibytes):
            sample = Sample("a/1", "workloads", "slabmalloc", 1, peak_bytes=100 * MIB,
                            after_bytes=int(mebibytes * MIB))
            return Report([sample]).beyond("a/1", "after_bytes")
        self.assertFalse(held(6.4))
        self.assertTrue(held(6.6))


class Tables(unittest.TestCase):
    def text(self, *entries):
        return "\n".join(tables.lines(Report([entry for part in entries for entry in part]), 140))

    def test_a_row_shows_ratios_figures_and_spread(self):
        text = self.text(samples("a/1", slabmalloc=[3.0, 2.4], glibc=[2.0, 2.2], jemalloc=[4.0]))
        self.assertRegex(text, r"\na/1 +1\.20! +1\.00 +2\.00 +2\.400 +2\.000 +glibc +25 % +10 %")
        self.assertRegex(text, r"\ngeometric mean +1\.20! +1\.00 +2\.00")
        self.assertRegex(text, r"\nwall time +1\.20! +1\.00 +2\.00\n")
        self.assertIn("1 of 1 row beyond the target (!): a/1", text)
        self.assertIn("Every run succeeded", text)
        self.assertNotIn("PEAK MEMORY", text)

    def test_failures_are_told(self):
        slow = Sample("b/1", "workloads", "glibc", 2, TIMEOUT, detail="still running after 1 s")
        text = self.text(samples("a/1", slabmalloc=[1.0], glibc=[1.0], jemalloc=[None]), [slow])
        self.assertIn("2 failed runs:\na/1, jemalloc, round 1: failed: ended with status 1\n"
                      "b/1, glibc, round 2: timeout: still running after 1 s", text)
        self.assertRegex(text, r"\na/1 +1\.00 +1\.00 +- +1\.000")
        self.assertNotIn("Every run succeeded", text)


if __name__ == "__main__":
    unittest.main()
