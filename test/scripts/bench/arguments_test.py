# SPDX-License-Identifier: MIT
"""The command line: what is wrong is told and nothing runs; names select rows."""

import os
import subprocess
import sys
import unittest

from support import ROOT, BenchTest

import arguments
from allocators import NoAllocator, installed_peers
from patterns import PatternRow


class Errors(BenchTest):
    def assert_refused(self, message, *words):
        status, output, errors = self.drive(*words)
        self.assertEqual((status, output), (2, ""))
        self.assertIn(f"scripts/bench: {message}", errors)
        self.assertEqual(os.listdir(self.temporary), [])

    def test_unknown_names_are_refused(self):
        self.assert_refused("there is no row or group `larg`", "larg")
        self.assert_refused("there is no row or group `large/3`", "workloads", "large/3")

    def test_unknown_options_are_refused(self):
        self.assert_refused("unrecognized arguments: --round", "--round", "3")

    def test_numbers_out_of_range_are_refused(self):
        for option, value in (("--rounds", "0"), ("--percent", "x"), ("--settle", "-1"),
                              ("--rounds", "1001")):
            self.assert_refused(f"argument {option}", option, value)

    def test_unknown_peers_are_refused(self):
        self.assert_refused("no peer `hoard`: there are glibc, jemalloc", "--against",
                            "glibc,hoard")

    def test_a_build_that_is_missing_is_told(self):
        with self.assertRaisesRegex(NoAllocator, "unchecked: there is no .*; scripts/bench builds"):
            installed_peers(["unchecked"], self.temporary)

    def test_further_allocators_must_be_files_with_names(self):
        for message, value in (("`x` is not NAME=PATH", "x"), ("`=/lib` is not NAME", "=/lib"),
                               ("fast: there is no file /none.so", "fast=/none.so")):
            self.assert_refused(message, "--against", "glibc", "--allocator", value)

    def test_a_file_that_is_no_raw_figures_is_refused(self):
        path = self.path("other.csv")
        with open(path, "w", encoding="ascii") as file:
            file.write("a,b\n1,2\n")
        self.assert_refused(f"{path} is not a file of scripts/bench", "--report", path)
        self.assert_refused(f"{self.path('none')}: No such file or directory", "--report", self.path("none"))

    def test_the_core_takes_no_other_option(self):
        done = subprocess.run([os.path.join(ROOT, "scripts", "bench"), "core", "--fast"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stderr, b"scripts/bench: core takes no more than --quick, not '--fast'; "
                                      b"see scripts/bench --help\n")

    def test_what_is_wrong_is_told_before_anything_is_needed(self):
        for words in (["--bogus"], ["--against", "hoard"], ["--allocator", "x"]):
            done = subprocess.run([sys.executable, "-E", "-s", "-B", os.path.join(ROOT, "tools", "bench"), ROOT,
                                   "/no/build", "--check", *words], stderr=subprocess.PIPE, check=False)
            self.assertEqual(done.returncode, 2)
            self.assertRegex(done.stderr, rb"\Ascripts/bench: [^\n]*\n\Z")
        self.assertEqual(self.drive("--check", "large/1", "--quick")[0], 0)


class Listing(BenchTest):
    def test_the_list_has_every_pattern_and_program(self):
        status, output, _ = self.drive("--list")
        self.assertEqual(status, 0)
        groups = dict(line.split() for line in output.splitlines())
        self.assertEqual({groups[name] for name in ("short-lived/1", "producer-consumer/16")},
                         {"workloads"})
        self.assertEqual({groups[name] for name in ("python3", "z3", "start")}, {"programs"})
        self.assertGreater(len(groups), 50)

    def test_packages_are_those_of_the_chosen_rows_and_peers(self):
        self.assertEqual(self.drive("--packages", "z3", "large", "--against", "glibc,mimalloc")[1],
                         "z3:z3\nlibmimalloc2.0\n")
        self.assertIn("libjemalloc2\n", self.drive("--packages", "large")[1])
        self.assertEqual(self.drive("--packages", "large", "--against", "unchecked")[1].split(), [])


class Choice(unittest.TestCase):
    rows = [PatternRow("", pattern, threads, "", 100, 0)
            for pattern in ("large", "pair-16") for threads in (1, 16)]

    def chosen(self, *names):
        return [row.name for row in arguments.choose(names, self.rows)]

    def test_names_select_rows_patterns_and_groups_in_the_order_of_the_report(self):
        self.assertEqual(self.chosen("pair-16/1", "large"), ["large/1", "large/16", "pair-16/1"])
        self.assertEqual(len(self.chosen("workloads")), 4)
        self.assertEqual(self.chosen(), self.chosen("workloads"))

    def test_quick_is_less_work_and_explicit_numbers_prevail(self):
        quick = arguments.parse(["--quick"])
        self.assertEqual((quick.rounds, quick.percent, quick.settle_milliseconds), (3, 10, 100))
        self.assertEqual(quick.names, arguments.QUICK_NAMES)
        self.assertLessEqual(quick.limit_seconds, 180)
        mixed = arguments.parse(["large", "--quick", "--rounds", "2", "perl", "--settle", "0"])
        self.assertEqual((mixed.rounds, mixed.percent, mixed.settle_milliseconds), (2, 10, 0))
        self.assertEqual(mixed.names, ("large", "perl"))


if __name__ == "__main__":
    unittest.main()
