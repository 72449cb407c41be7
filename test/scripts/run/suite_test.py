# SPDX-License-Identifier: MIT
"""The comparison of both mallocs: errors are found and told, and nothing is left behind."""

import io
import os
import subprocess
import threading
import time
import unittest
from unittest import mock

from support import LIBRARY, SCRIPT, RunTest

import suite
from preload import remove_folder
from terminal import Terminal
from workloads import WORKLOADS
from workloads.command import CommandWorkload


class SuiteTest(RunTest):
    def run_suite(self, *workloads, only=None):
        """(exit status, standard output, progress) of the suite over these workloads."""
        output, progress = (open(self.path(name), "w+", encoding="utf-8")
                            for name in ("output", "progress"))
        self.addCleanup(output.close)
        self.addCleanup(progress.close)
        with (mock.patch.object(suite, "WORKLOADS", workloads),
              mock.patch.object(suite, "standard_output", lambda: Terminal(output, {})),
              mock.patch.object(suite, "standard_error", lambda: Terminal(progress, {})),
              mock.patch.dict(os.environ, self.environment())):
            status = suite.run(os.fsencode(LIBRARY), only)
        for stream in (output, progress):
            stream.seek(0)
        return status, output.read(), progress.read()

    def kept(self, name, *parts):
        """A path in the one folder of runs that was kept."""
        folders = [entry for entry in os.listdir(self.temporary) if "-run-" in entry]
        self.assertEqual(len(folders), 1)
        return os.path.join(self.temporary, folders[0], name, *parts)

    def test_equal_outputs_are_a_success_that_leaves_nothing(self):
        status, output, progress = self.run_suite(
            CommandWorkload("echo", ["echo", "same"]),
            CommandWorkload("bash", ["bash", "-c", "echo file >compared/file"], note="A note."))
        self.assertEqual(status, 0)
        self.assertIn("The outputs of both runs are the same, byte for byte.", output)
        self.assertIn("20,000  19,900                7       2.0 KiB", output)
        self.assertIn("records of 2 processes: 1 bash, 1 echo; 2 threads", output)
        self.assertIn("A note.", output)
        self.assertIn("slots used (#) and free (.)", output)
        self.assertIn("on the system's malloc: ", progress)
        self.assertIn("on slabmalloc: ", progress)
        self.assert_nothing_left()

    def test_a_difference_in_output_is_an_error_and_its_files_are_kept(self):
        # The stand-in prints it at exit: on the second run only.
        status, output, _ = self.run_suite(
            CommandWorkload("echo", ["bash", "-c", "echo same"],
                            environment={"STAND_IN_EXTRA": "more"}),
            CommandWorkload("true", ["true"]))
        self.assertEqual(status, 1)
        self.assertIn("error: echo: stdout differs from byte 5, line 2: the end on the system's "
                      "malloc, 'more\\n' on slabmalloc", output)
        self.assertIn(f"error: echo: its files are kept in {self.kept('echo')}", output)
        self.assertNotIn("are the same", output)
        with open(self.kept("echo", "slabmalloc", "compared", "stdout"), "rb") as file:
            self.assertEqual(file.read(), b"same\nmore\n")
        self.assertFalse(os.path.exists(self.kept("true")))

    def test_a_difference_in_a_written_file_is_an_error(self):
        script = "echo ${LD_PRELOAD:+preloaded} >compared/file"
        status, output, _ = self.run_suite(CommandWorkload("bash", ["bash", "-c", script]))
        self.assertEqual(status, 1)
        self.assertIn("error: bash: file differs from byte 0, line 1", output)

    def test_a_failing_program_is_an_error_and_the_others_still_run(self):
        crash = 'echo reason >&2; [ -z "${LD_PRELOAD-}" ] || kill -SEGV $$'
        status, output, _ = self.run_suite(
            CommandWorkload("crash", ["bash", "-c", f"ulimit -c 0; {crash}"]),
            CommandWorkload("fail", ["bash", "-c", "echo reason >&2; exit 3"]),
            CommandWorkload("absent", ["no-such-program"]),
            CommandWorkload("echo", ["echo", "same"]))
        self.assertEqual(status, 1)
        self.assertIn("error: crash on slabmalloc: was ended by signal 11 (SIGSEGV): reason",
                      output)
        self.assertIn("error: fail on the system's malloc: ended with status 3: reason", output)
        self.assertIn("error: absent on slabmalloc: no-such-program is not installed", output)
        self.assertIn("\necho ", output)

    def test_a_program_that_slabmalloc_did_not_serve_is_an_error(self):
        status, output, _ = self.run_suite(
            CommandWorkload("lost", ["env", "-u", "LD_PRELOAD", "true"]))
        self.assertEqual(status, 1)
        self.assertIn("error: lost: its process left no record", output)
        with mock.patch.object(suite, "LEAST_ALLOCATIONS", 20001):
            status, output, _ = self.run_suite(CommandWorkload("few", ["true"]))
        self.assertEqual(status, 1)
        self.assertIn("error: few: slabmalloc served 20000 allocations only", output)

    def test_a_program_that_hangs_is_killed_with_all_it_started(self):
        pid_file = self.path("pid")
        script = f"sleep 60 & echo $! >{pid_file}; wait"
        with mock.patch("workloads.command.LIMIT_SECONDS", 2.5):
            status, output, _ = self.run_suite(CommandWorkload("hang", ["bash", "-c", script]))
        self.assertEqual(status, 1)
        self.assertIn("was still running after 2.5 s and was killed", output)
        with open(pid_file, encoding="ascii") as file:
            pid = int(file.read())
        deadline = time.monotonic() + 10
        while self.is_running(pid):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    @staticmethod
    def is_running(pid):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                return file.read().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False

    def test_only_the_named_workloads_run(self):
        workloads = [CommandWorkload(name, ["true"]) for name in ("one", "two")]
        status, output, progress = self.run_suite(*workloads, only=["two"])
        self.assertEqual(status, 0)
        self.assertNotIn("one", progress)
        self.assertIn("two", output)
        status, _, progress = self.run_suite(*workloads, only=["three"])
        self.assertEqual(status, 125)
        self.assertIn("no workload `three`: there are one, two", progress)

    def test_both_runs_get_the_same_inputs_and_environment(self):
        script = "env | grep -v -E '^(LD_PRELOAD|SLABMALLOC_OPTIONS|HOME|TMPDIR|PWD)='; ls; cat; " \
                 "ls $HOME"
        status, output, _ = self.run_suite(CommandWorkload(
            "bash", ["bash", "-c", script], inputs=["words.pl"], standard_input="words.pl"))
        self.assertEqual(status, 0, output)


class Workloads(RunTest):
    def test_the_programs_are_those_of_the_table(self):
        self.assertEqual([workload.name for workload in WORKLOADS],
                         ["python3", "sqlite3", "perl", "git", "g++", "redis-server"])

    def test_a_real_workload_runs_through_the_script(self):
        done = self.run_script("--only", "perl")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn(b"\nperl ", done.stdout)
        self.assertIn(b"are the same, byte for byte", done.stdout)
        self.assert_nothing_left()

    def test_an_interrupt_leaves_nothing_running_and_nothing_behind(self):
        driver = subprocess.Popen([SCRIPT, "--library", LIBRARY, "--only", "redis-server"],
                                  env=self.environment(), stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE)
        server = self.await_process_in(self.temporary, "redis-server")
        driver.terminate()
        driver.communicate(timeout=30)
        self.assertEqual(driver.returncode, 143)
        # Killed, it takes the kernel a moment to end it.
        deadline = time.monotonic() + 10
        while SuiteTest.is_running(server) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertFalse(SuiteTest.is_running(server))
        self.assert_nothing_left()

    def test_a_folder_in_which_somebody_still_writes_is_removed(self):
        folder = self.path("written")
        os.mkdir(folder)
        writer = subprocess.Popen(["bash", "-c", "while :; do : > $RANDOM; done"], cwd=folder)
        end = threading.Timer(0.3, writer.kill)
        end.start()
        remove_folder(folder)
        end.join()
        writer.wait()
        self.assertFalse(os.path.exists(folder))

    def await_process_in(self, folder, name):
        """The process of this name whose current folder is below `folder`."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for pid in filter(str.isdecimal, os.listdir("/proc")):
                try:
                    with open(f"/proc/{pid}/comm", encoding="ascii", errors="replace") as file:
                        matches = file.read().strip() == name
                    if matches and os.readlink(f"/proc/{pid}/cwd").startswith(folder):
                        return int(pid)
                except OSError:
                    continue
            time.sleep(0.01)
        return self.fail(f"no {name} was started")


if __name__ == "__main__":
    unittest.main()
