# SPDX-License-Identifier: MIT
"""Rounds are interleaved and rotated; results are compared; the time left is estimated."""

import unittest

from support import BenchTest

from allocators import Allocator
from sample import DIFFERS, FAILED, OK, Sample, Writer, read
from schedule import Clock, Schedule


class Row:
    """Answers what it is told to, and remembers who ran."""

    group = "workloads"

    def __init__(self, name, ran, checks=()):
        self.name = name
        self._ran = ran
        self._checks = dict(checks)

    def prepare(self, folder):
        """Nothing to prepare."""

    def run(self, allocator, folder, round_number):
        """A sample with the check it was told to give."""
        self._ran.append((round_number, self.name, allocator.name))
        check = self._checks.get(allocator.name, "same")
        sample = Sample(self.name, self.group, allocator.name, round_number, check=check)
        if check is None:
            sample.status, sample.check = FAILED, ""
        return sample


class Silent:
    """Shows no progress."""

    def show(self, *_):
        """Nothing."""


class Rounds(BenchTest):
    def run_schedule(self, rows, rounds, limit_seconds=None):
        allocators = [Allocator(name) for name in "abc"]
        writer = Writer(self.path("raw.csv"), ["a comment, with a comma"])
        self.addCleanup(writer.close)
        schedule = Schedule(rows, allocators, rounds, self.folder)
        schedule.prepare()
        return list(schedule.run(writer, Silent(), limit_seconds))

    def test_each_round_has_every_row_under_every_allocator_in_another_order(self):
        ran = []
        self.run_schedule([Row("x/1", ran), Row("y", ran)], 3)
        self.assertEqual([entry[:2] for entry in ran[::3]],
                         [(number, name) for number in (1, 2, 3) for name in ("x/1", "y")])
        turns = ["".join(entry[2] for entry in ran[at:at + 3]) for at in range(0, len(ran), 3)]
        self.assertEqual(turns, ["bca", "cab", "cab", "abc", "abc", "bca"])

    def test_a_result_unlike_the_first_is_on_record(self):
        samples = self.run_schedule([Row("x", [], {"a": "other"})], 2)
        self.assertEqual([(entry.allocator, entry.status) for entry in samples],
                         [("b", OK), ("c", OK), ("a", DIFFERS),
                          ("c", OK), ("a", DIFFERS), ("b", OK)])
        self.assertEqual(samples[2].detail, "its result is other, b's same")

    def test_a_failure_is_no_measure_of_others(self):
        samples = self.run_schedule([Row("x", [], {"b": None})], 1)
        self.assertEqual([entry.status for entry in samples], [FAILED, OK, OK])

    def test_raw_figures_are_read_as_they_were_written(self):
        samples = self.run_schedule([Row("x", [], {"a": "other", "b": None})], 2)
        comments, again = read(self.path("raw.csv"))
        self.assertEqual(comments, ["a comment, with a comma"])
        self.assertEqual(again, samples)

    def test_no_further_round_begins_that_would_pass_the_limit(self):
        samples = self.run_schedule([Row("x", [])], 50, limit_seconds=1e-9)
        self.assertEqual({entry.round for entry in samples}, {1})


class TimeLeft(unittest.TestCase):
    def test_what_ran_before_tells_how_long_it_takes(self):
        times = iter([0, 1, 10, 13])
        clock = Clock(8, now=lambda: next(times))
        keys = ["p", "q", "r", "s"]
        self.assertIsNone(clock.seconds_left(keys))
        for key in keys[:2]:
            clock.start()
            clock.stop(key)
        self.assertEqual(clock.round_seconds(), 4)
        # p takes 1 s, q 3 s, and the others 2 s as far as is known: 8 s for four, 6 runs to go.
        self.assertEqual(clock.seconds_left(keys), 12)


if __name__ == "__main__":
    unittest.main()
