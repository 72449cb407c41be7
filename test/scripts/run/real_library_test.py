# SPDX-License-Identifier: MIT
"""The driver with libslabmalloc itself: its records are what the driver expects."""

import os
import unittest

from support import LIBRARY, RunTest

import process
from preload import Preload, original_environment
from record import read_totals


class RealLibrary(RunTest):
    def totals_of(self, *command):
        """The sums of the records of a command that must succeed."""
        preload = Preload(os.fsencode(LIBRARY))
        self.addCleanup(preload.close)
        records_path = preload.next_records_path()
        environment = preload.environment(original_environment(), records_path)
        with open(os.devnull, "r+b") as nothing:
            child = process.start(b"/usr/bin/env", [b"env", *map(os.fsencode, command)],
                                  environment, files=[nothing.fileno()] * 3)
            self.assertEqual(child.wait(60).wait_status, 0)
        return child.pid, read_totals(records_path)

    def test_a_record_is_complete_and_consistent(self):
        pid, totals = self.totals_of("perl", "-e", "my %h = map { $_ => 'x' x $_ } 1 .. 3000")
        self.assertEqual((totals.processes, totals.unreadable, totals.pids), (1, 0, {pid}))
        self.assertEqual(totals.programs, {"perl": 1})
        self.assertGreaterEqual(totals.threads, 1)
        self.assertGreater(totals.allocations, 3000)
        self.assertEqual(totals.allocations - totals.frees, totals.live_objects)
        used = sum(entry.used for entry in totals.classes.values())
        self.assertEqual(used + totals.large_count, totals.live_objects)
        for entry in totals.classes.values():
            self.assertLessEqual(entry.used, entry.slots)

    def test_every_process_of_a_tree_records(self):
        _, totals = self.totals_of("bash", "-c", "for i in 1 2 3; do /bin/echo $i; done | sort; :")
        self.assertEqual(totals.unreadable, 0)
        self.assertEqual((totals.programs["echo"], totals.programs["sort"]), (3, 1))

    def test_frees_by_another_thread_are_counted(self):
        script = "import threading\n" \
                 "for _ in range(10):\n" \
                 "  kept = [bytes(100) for _ in range(5000)]\n" \
                 "  thread = threading.Thread(target=kept.clear)\n" \
                 "  thread.start(); thread.join()\n"
        _, totals = self.totals_of("PYTHONMALLOC=malloc", "python3", "-S", "-c", script)
        # The owner counts those it has taken in; some of the last round may be on their way.
        self.assertGreaterEqual(totals.remote_frees, 30000)
        self.assertLessEqual(totals.remote_frees, totals.frees)


if __name__ == "__main__":
    unittest.main()
