# SPDX-License-Identifier: MIT
"""Sums over the records of processes."""

import json
import unittest

from support import RunTest

from record import Totals, read_totals


def record(pid, program="worker", **changes):
    """A record as libslabmalloc writes it."""
    return {"version": "0.1.0", "pid": pid, "program": program, "threads": 2, "allocations": 100,
            "frees": 60, "remote_frees": 5, "live_bytes": 4000, "live_objects": 40,
            "committed_bytes": 65536, "committed_peak_bytes": 131072,
            "classes": [{"size": 16, "pages": 1, "slots": 256, "used": 30, "allocations": 80,
                         "frees": 50, "remote_frees": 5}],
            "large": {"count": 1, "bytes": 3000, "allocations": 2, "frees": 1}, **changes}


class Records(RunTest):
    def totals_of(self, *lines):
        content = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
                           for line in lines)
        return read_totals(self.write("records", content))

    def test_counts_are_summed_over_processes(self):
        totals = self.totals_of(record(7), record(8, "other", threads=1, allocations=1, frees=0))
        self.assertEqual((totals.processes, totals.threads, totals.allocations, totals.frees,
                          totals.remote_frees, totals.live_bytes, totals.live_objects),
                         (2, 3, 101, 60, 10, 8000, 80))
        self.assertEqual((totals.large_count, totals.large_bytes), (2, 6000))
        self.assertEqual(totals.programs, {"worker": 1, "other": 1})
        self.assertEqual(totals.pids, {7, 8})

    def test_classes_are_summed_by_size(self):
        more = [{"size": 16, "pages": 2, "slots": 100, "used": 100},
                {"size": 32, "pages": 1, "slots": 10, "used": 0}]
        totals = self.totals_of(record(7), record(8, classes=more))
        self.assertEqual({size: (entry.slots, entry.used, entry.free)
                          for size, entry in totals.classes.items()},
                         {16: (356, 130, 226), 32: (10, 0, 10)})

    def test_a_missing_file_is_no_process(self):
        self.assertEqual(read_totals(self.path("none")), Totals())

    def test_unreadable_lines_are_counted_and_add_nothing(self):
        truncated = json.dumps(record(9)).encode()[:-9] + b"\n"
        totals = self.totals_of(record(7), truncated, b"[1]\n", b"\xff\xfe\n", b"\n",
                                record(10, allocations=-1), record(11, frees="3"),
                                record(12, classes={}), record(13, large=None),
                                record(14, threads=True))
        self.assertEqual((totals.processes, totals.unreadable, totals.allocations), (1, 9, 100))
        self.assertEqual(totals.pids, {7})

    def test_sums_can_be_summed(self):
        first = self.totals_of(record(7), record(8))
        second = self.totals_of(record(9, "other"), b"x\n")
        both = self.totals_of(record(7), record(8), record(9, "other"), b"x\n")
        first.add_totals(second)
        self.assertEqual(first, both)


if __name__ == "__main__":
    unittest.main()
