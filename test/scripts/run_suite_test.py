# SPDX-License-Identifier: MIT
"""Tests of scripts/run without a program: it reports each failure and leaves no file behind."""

import contextlib
import io
import os
import re
import signal
import subprocess
import time
import unittest
from unittest import mock

from support import LIBRARY, SCRIPT, ScriptTest

import suite
from workloads.command import CommandWorkload


def bash(name, script, **further):
    """A workload that runs a script."""
    return CommandWorkload(name, ["bash", "-c", script], **further)


class Suite(ScriptTest):
    def run_suite(self, *workloads):
        """(exit status, standard output, standard error) of the suite over these workloads."""
        output, errors = io.StringIO(), io.StringIO()
        with (mock.patch.object(suite, "WORKLOADS", workloads),
              mock.patch.dict(os.environ, self.environment()),
              contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors)):
            status = suite.run(os.fsencode(LIBRARY))
        return status, output.getvalue(), errors.getvalue()

    def test_equal_outputs_are_a_success_that_leaves_nothing(self):
        script = "env | grep -v -E '^(LD_PRELOAD|SLABMALLOC_OPTIONS|HOME|TMPDIR|PWD)='; ls; cat; " \
                 "ls $HOME; echo file >compared/file"
        status, output, progress = self.run_suite(
            CommandWorkload("echo", ["echo", "same"], note="word " * 30),
            bash("bash", script, inputs=["words.pl"], standard_input="words.pl"))
        self.assertEqual(status, 0, output)
        self.assertIn("The outputs of both runs are the same, byte for byte.", output)
        self.assertRegex(output, r"\necho +\d+\.\d\d +\d+\.\d\d +(\d+\.\d\d|-) ")
        self.assertRegex(output, r"\necho +20,000 +19,900 +7 +2\.0 KiB\n")
        self.assertRegex(output, r"records of \d+ processes: 1 bash, 1 cat, 1 echo,")
        self.assertRegex(output, r"\n16 B +\d+ used +[\d,]+ free +2 %  #\.")
        self.assertRegex(output, r"\n(word ?){20}\n")
        self.assertRegex(progress, r"echo \.\.\.\n  on the system's malloc: .*\n  on slabmalloc: ")
        self.assert_nothing_left()

    def test_whatever_goes_wrong_is_told_and_the_others_still_run(self):
        plain = '[ -z "${LD_PRELOAD-}" ]'
        status, output, _ = self.run_suite(
            bash("stdout", f"printf 'one\\ntwo\\n'; {plain} || echo more"),
            bash("files", f"{plain} && touch compared/gone || touch compared/new"),
            bash("crash", f"ulimit -c 0; echo reason >&2; {plain} || kill -SEGV $$"),
            bash("fail", "echo reason >&2; exit 3"),
            CommandWorkload("absent", ["no-such-program"]),
            CommandWorkload("lost", ["env", "-u", "LD_PRELOAD", "true"]),
            CommandWorkload("echo", ["echo", "same"]))
        self.assertEqual(status, 1)
        for sentence in (
                "stdout: stdout differs from byte 8, line 3: the end on the system's malloc, "
                "'more\\n' on slabmalloc",
                "files: gone is missing on slabmalloc", "files: new exists on slabmalloc only",
                "crash on slabmalloc: was ended by signal 11 (SIGSEGV): reason",
                "fail on the system's malloc: ended with status 3: reason",
                "absent on slabmalloc: no-such-program is not installed",
                "lost: its process left no record"):
            self.assertIn(f"\nerror: {sentence}\n", output)
        self.assertRegex(output, r"\necho +\d")
        self.assertNotIn("are the same", output)
        kept = re.search(r"\nerror: stdout: its files are kept in (.*)\n", output).group(1)
        with open(os.path.join(kept, "slabmalloc", "compared", "stdout"), "rb") as file:
            self.assertEqual(file.read(), b"one\ntwo\nmore\n")
        self.assertNotIn("echo", os.listdir(os.path.dirname(kept)))

    def test_a_program_that_another_malloc_served_is_an_error(self):
        with mock.patch.object(suite, "LEAST_ALLOCATIONS", 20001):
            status, output, _ = self.run_suite(CommandWorkload("few", ["true"]))
        self.assertEqual(status, 1)
        self.assertIn("error: few: slabmalloc served 20000 allocations only", output)

    def test_a_program_that_hangs_is_killed_with_all_it_started(self):
        pid_file = self.path("pid")
        with mock.patch("workloads.command.LIMIT_SECONDS", 1):
            status, output, _ = self.run_suite(
                bash("hang", f"sleep 60 & echo $! >{pid_file}; wait"))
        self.assertEqual(status, 1)
        self.assertIn("was still running after 1 s and was killed", output)
        self.await_end(pid_file)

    def test_an_interrupt_leaves_nothing_running_and_nothing_behind(self):
        pid_file = self.path("pid")
        os.mkdir(self.path("bin"))
        self.write("bin/perl", f"#!/bin/bash\nsleep 60 & echo $! >{pid_file}; wait\n".encode())
        path = f"{self.path('bin')}:{os.environ['PATH']}"
        driver = subprocess.Popen([SCRIPT, "--library", LIBRARY, "--only", "perl"],
                                  env=self.environment(PATH=path), stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while not (os.path.exists(pid_file) and os.path.getsize(pid_file)):
            self.assertLess(time.monotonic(), deadline, "perl was not started")
            time.sleep(0.01)
        driver.terminate()
        self.assertEqual(driver.wait(timeout=30), 128 + signal.SIGTERM)
        self.await_end(pid_file)
        self.assert_nothing_left()


if __name__ == "__main__":
    unittest.main()
