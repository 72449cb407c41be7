# SPDX-License-Identifier: MIT
"""Tests of scripts/bench's driver: real runs, wrong allocators, and the choice of rows."""

import os
import re
import shutil
import unittest
from unittest import mock

from support import BUILD, ScriptTest

import patterns
from allocators import Allocator, libc_library
from sample import DIFFERS, FAILED, OK, TIMEOUT, Sample, Writer, read
from schedule import Schedule

WRONG_MALLOC = os.environ["BENCH_TEST_WRONG"]
PROGRAM = os.path.join(BUILD, "benchmark", "malloc", "malloc_workloads")


class Runs(ScriptTest):
    def measure(self, *words):
        """(status, output, comments, samples) of a short run against glibc."""
        path = self.path("raw.csv")
        status, output, errors = self.drive("--output", path, "--percent", "1", "--settle", "0",
                                            "--against", "glibc", *words)
        # A test may meet a busy machine.
        errors = re.sub(r"\Ascripts/bench: The machine has other work: .*\n", "", errors)
        self.assertNotIn("scripts/bench:", errors)
        self.assertRegex(errors, r"\Around 1 of \d, row 1 of \d+: \S+\n")
        self.assertEqual(os.listdir(self.temporary), [])
        return status, output, *read(path)

    def test_every_pattern_gives_the_same_checksum_under_slabmalloc_and_glibc(self):
        status, output, _, samples = self.measure("--rounds", "1", "workloads")
        self.assertEqual((status, {entry.status for entry in samples}), (0, {OK}), output)
        listed = [row.name for row in patterns.rows(PROGRAM, 1, 0)]
        self.assertEqual(sorted(entry.row for entry in samples), sorted(2 * listed))
        for entry in samples:
            self.assertGreater(entry.wall_seconds, 0)
            self.assertGreater(entry.peak_bytes, 1 << 20)
            self.assertGreaterEqual(entry.peak_bytes, entry.after_bytes)
            leaves_blocks = entry.row.startswith("sparse")
            self.assertEqual(entry.held_bytes is not None, leaves_blocks)
            self.assertEqual(entry.trimmed_bytes is not None, leaves_blocks)
            if leaves_blocks:
                self.assertTrue(0 < entry.live_bytes <= entry.least_bytes <= entry.peak_bytes)
        live = {(entry.row, entry.live_bytes) for entry in samples}
        self.assertEqual(len(live), len(listed), "the live blocks differ between allocators")

    def test_a_run_ends_with_raw_figures_and_a_table(self):
        # LD_PRELOAD would split this path.
        awkward = self.path("a b:c$d")
        os.mkdir(awkward)
        library = shutil.copy(os.path.join(BUILD, "libslabmalloc.so"), awkward)
        status, output, comments, samples = self.measure(
            "--rounds", "2", "--allocator", f"copy@2.0={library}", "large/2", "start")
        self.assertEqual((status, [entry.status for entry in samples]), (0, 12 * [OK]), output)
        # Each round runs every row under every allocator, and starts with another allocator.
        turns = [tuple((entry.round, entry.row, entry.allocator) for entry in samples[at:at + 3])
                 for at in range(0, 12, 3)]
        self.assertEqual([turn[0][:2] for turn in turns],
                         [(1, "large/2"), (1, "start"), (2, "large/2"), (2, "start")])
        self.assertTrue(all(len({name for _, _, name in turn}) == 3 for turn in turns))
        self.assertNotEqual(turns[0][0][2], turns[2][0][2])
        head = "\n".join(comments)
        self.assertRegex(head, r"\Acommand: scripts/bench --output .*\n")
        # The place of what was built says nothing of where the tree lies.
        self.assertRegex(head, r"\nallocator slabmalloc: slabmalloc [\d.]+, this tree, [^/].*\.so")
        self.assertRegex(head, r"\nallocator copy: copy 2\.0, given by --allocator, ")
        self.assertRegex(head, r"\nload before: .*\nload after: .*\nother work: \d+ %")
        self.assertRegex(output, r"\nlarge/2 +\d")
        self.assertRegex(output, r"\nstart +\d")
        for entry in samples:
            if entry.row == "start":
                self.assertTrue(0 < entry.peak_bytes < 64 << 20 and entry.after_bytes is None)

    def test_wrong_allocators_are_on_record_and_the_exit_status_tells(self):
        no_malloc = os.path.join(os.path.dirname(libc_library()), "libm.so.6")
        status, output, _, samples = self.measure(
            "--rounds", "1", "--allocator", f"wrong={WRONG_MALLOC}",
            "--allocator", f"none={no_malloc}", "aligned/1", "zeroed/1", "pair-16", "start")
        self.assertEqual(status, 1)
        failed = {(entry.row, entry.allocator): f"{entry.status}: {entry.detail}"
                  for entry in samples if entry.status != OK}
        self.assertRegex(failed.pop(("aligned/1", "wrong")), f"{FAILED}: .*a block is not aligned")
        self.assertRegex(failed.pop(("zeroed/1", "wrong")), f"{FAILED}: .*memory that is not zero")
        self.assertRegex(failed.pop(("start", "wrong")), f"{DIFFERS}: its result is .*, ")
        for row in ("aligned/1", "zeroed/1", "pair-16/1"):
            self.assertRegex(failed.pop((row, "none")), f"{FAILED}: its malloc came from .*libc.so")
        self.assertEqual(failed, {})
        self.assertIn("\n6 failed runs:\n", output)

    def test_a_pattern_that_takes_too_long_is_on_record(self):
        row = patterns.PatternRow(PROGRAM, "large", 1, "", 10000, 0)
        with mock.patch.object(patterns, "LIMIT_SECONDS", 0.2):
            sample = row.run(Allocator("glibc"), self.folder, 1)
        self.assertEqual((sample.status, sample.detail, sample.wall_seconds),
                         (TIMEOUT, "still running after 0.2 s", None))

    def test_no_further_round_begins_that_would_pass_the_limit(self):
        row = mock.Mock(**{"run.side_effect": lambda *_: Sample("a", "workloads", "glibc", 1)})
        row.name = "a"
        writer = Writer(self.path("raw.csv"), [])
        self.addCleanup(writer.close)
        schedule = Schedule([row], [Allocator("glibc")], 50, self.folder)
        self.assertEqual(len(list(schedule.run(writer, mock.Mock(), limit_seconds=1e-9))), 1)
        self.assertEqual(len(list(schedule.run(writer, mock.Mock(), limit_seconds=100))), 50)


class Selection(ScriptTest):
    def test_names_select_rows_patterns_and_groups(self):
        def chosen(*names):
            status, output, _ = self.drive("--list", *names)
            self.assertEqual(status, 0)
            return [line.split() for line in output.splitlines()[1:]]
        self.assertEqual([name for name, _ in chosen("pair-16/1", "large")],
                         ["large/1", "large/2", "large/16", "pair-16/1"])
        self.assertIn(["z3", "programs"], chosen("programs"))
        self.assertEqual(chosen(), chosen("workloads") + chosen("programs"))

    def test_packages_are_those_of_the_chosen_rows_and_peers(self):
        peers = ("--against", "glibc,mimalloc")
        self.assertEqual(self.drive("--packages", "z3", "large", *peers),
                         (0, "z3:z3\nlibmimalloc2.0\n", ""))

    def test_what_is_wrong_is_told_and_nothing_runs(self):
        other = self.write("other.csv", b"a,b\n1,2\n")
        for message, *words in (
                ("there is no row or group `larg`", "larg"),
                ("there is no row or group `large/3`", "workloads", "large/3"),
                ("unrecognized arguments: --round", "--round", "3"),
                ("argument --rounds: `0` is not a number from 1 to 1000", "--rounds", "0"),
                ("argument --percent: `x` is not a number", "--percent", "x"),
                ("no peer `hoard`: there are glibc, jemalloc", "--against", "glibc,hoard"),
                ("`x` is not NAME=PATH", "--allocator", "x"),
                ("fast: there is no file /none.so", "--allocator", "fast=/none.so"),
                (f"{other} is not a file of scripts/bench", "--report", other)):
            status, output, errors = self.drive(*words)
            self.assertEqual((status, output), (2, ""))
            self.assertRegex(errors, rf"\Ascripts/bench: {message}[^\n]*\n\Z")
        self.assert_nothing_left()


if __name__ == "__main__":
    unittest.main()
