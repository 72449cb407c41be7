# SPDX-License-Identifier: MIT
"""Real runs: every pattern under both mallocs, a program, and allocators that are wrong."""

import os
import shutil
import unittest
from unittest import mock

from support import BUILD, WRONG_MALLOC, BenchTest

import machine
import patterns
from allocators import Allocator, libc_library
from sample import FAILED, OK, TIMEOUT, read

PROGRAM = os.path.join(BUILD, "benchmark", "malloc", "malloc_workloads")


class Runs(BenchTest):
    def measure(self, *words):
        """(status, output, comments, samples) of a run."""
        path = self.path("raw.csv")
        status, output, errors = self.drive("--output", path, *words)
        self.assertNotIn("scripts/bench:", errors)
        self.assertEqual(os.listdir(self.temporary), [])
        return status, output, *read(path)

    def test_every_pattern_gives_the_same_checksum_under_slabmalloc_and_glibc(self):
        status, output, _, samples = self.measure("--percent", "1", "--settle", "0", "--rounds",
                                                  "1", "--against", "glibc", "workloads")
        self.assertEqual({entry.status for entry in samples}, {OK}, output)
        self.assertEqual(status, 0)
        listed = [row.name for row in patterns.rows(PROGRAM, 1, 0)]
        self.assertEqual(sorted(entry.row for entry in samples), sorted(2 * listed))
        for entry in samples:
            self.assertGreater(entry.wall_seconds, 0)
            self.assertGreater(entry.peak_bytes, 1 << 20)
            self.assertGreaterEqual(entry.peak_bytes, entry.after_bytes)

    def test_libraries_of_the_tree_are_told_by_their_place_in_it(self):
        allocators = [Allocator("ours", "/tree/build/libours.so", "1"), Allocator("theirs", "/lib/libtheirs.so", "2"),
                      Allocator("glibc", version="3")]
        lines = machine.describe("command", "/tree", allocators)
        self.assertIn("allocator ours: 1, build/libours.so", lines)
        self.assertIn("allocator theirs: 2, /lib/libtheirs.so", lines)
        self.assertIn("allocator glibc: 3", lines)

    def test_a_run_ends_with_raw_figures_and_a_table(self):
        status, output, comments, samples = self.measure(
            "--rounds", "2", "--percent", "1", "--settle", "0", "--against", "glibc", "large/2",
            "start")
        self.assertEqual((status, len(samples)), (0, 8), output)
        self.assertTrue(comments[0].startswith("command: scripts/bench --output "))
        self.assertIn("allocator slabmalloc: this tree", "\n".join(comments))
        self.assertRegex("\n".join(comments), r"load before: .*\nload after: ")
        self.assertRegex(output, r"\nlarge/2 +\d")
        self.assertRegex(output, r"\nstart +\d")
        starts = [entry for entry in samples if entry.row == "start"]
        self.assertTrue(all(0 < entry.peak_bytes < 64 << 20 for entry in starts))
        self.assertEqual({entry.after_bytes for entry in starts}, {None})

    def test_wrong_allocators_are_on_record_and_the_exit_status_tells(self):
        status, output, _, samples = self.measure(
            "--rounds", "1", "--percent", "1", "--settle", "0", "--against", "glibc",
            "--allocator", f"wrong={WRONG_MALLOC}", "aligned/1", "zeroed/1", "pair-16")
        self.assertEqual(status, 1)
        failed = {entry.row: entry.detail for entry in samples if entry.status == FAILED}
        self.assertEqual(sorted(failed), ["aligned/1", "zeroed/1"])
        self.assertIn("a block is not aligned", failed["aligned/1"])
        self.assertIn("memory that is not zero", failed["zeroed/1"])
        self.assertIn("2 failed runs:", output)

    def test_a_library_whose_path_ld_preload_would_split_is_preloaded(self):
        awkward = self.path("a b:c$d")
        os.mkdir(awkward)
        library = shutil.copy(os.path.join(BUILD, "libslabmalloc.so"), awkward)
        status, output, _, samples = self.measure(
            "--rounds", "1", "--percent", "1", "--settle", "0", "--against", "glibc",
            "--allocator", f"awkward={library}", "pair-16", "start")
        self.assertEqual((status, len(samples)), (0, 6), output)
        self.assertEqual({entry.status for entry in samples}, {OK}, output)

    def test_a_library_that_is_no_malloc_is_found_out(self):
        status, _, _, samples = self.measure(
            "--rounds", "1", "--percent", "1", "--settle", "0", "--against", "glibc",
            "--allocator", f"none={os.path.join(os.path.dirname(libc_library()), 'libm.so.6')}",
            "pair-16")
        self.assertEqual(status, 1)
        details = [entry.detail for entry in samples if entry.status == FAILED]
        self.assertEqual(len(details), 1)
        self.assertRegex(details[0], "its malloc came from .*libc.so")

    def test_a_pattern_that_takes_too_long_is_on_record(self):
        row = patterns.PatternRow(PROGRAM, "large", 1, "", 10000, 0)
        with mock.patch.object(patterns, "LIMIT_SECONDS", 0.2):
            sample = row.run(Allocator("glibc"), self.folder, 1)
        self.assertEqual(sample.status, TIMEOUT)
        self.assertEqual(sample.detail, "still running after 0.2 s")
        self.assertIsNone(sample.wall_seconds)


if __name__ == "__main__":
    unittest.main()
