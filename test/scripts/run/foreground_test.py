# SPDX-License-Identifier: MIT
"""Signals and the terminal pass to the program."""

import os
import pty
import signal
import subprocess
import sys
import time
import unittest

from support import LIBRARY, SCRIPT, RunTest

TRAP = "trap 'echo got-{0}; exit 3' {0}; echo ready; while :; do sleep 0.02; done"
LIMIT_SECONDS = 30


class Foreground(RunTest):
    def start(self, *command, **options):
        """Starts the driver with its output in a pipe."""
        return subprocess.Popen([SCRIPT, "--library", LIBRARY, *command], env=self.environment(),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    def start_on_terminal(self, *command, **environment):
        """Starts the driver in the foreground of a new terminal: (pid, its descriptor)."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(SCRIPT, [SCRIPT, "--library", LIBRARY, *command],
                      self.environment(TERM="xterm", LC_ALL="C.UTF-8", COLUMNS="80", **environment))
        self.addCleanup(os.close, terminal)
        return pid, terminal

    def read_until(self, terminal, words=None):
        """What the terminal shows until `words`, or until the driver has gone."""
        shown, deadline = b"", time.monotonic() + LIMIT_SECONDS
        while words is None or words not in shown:
            self.assertLess(time.monotonic(), deadline, shown)
            try:
                part = os.read(terminal, 4096)
            except OSError:
                break
            if not part:
                break
            shown += part
        return shown

    def test_a_signal_sent_to_the_driver_reaches_the_program(self):
        for name in ("INT", "TERM", "HUP", "USR1"):
            driver = self.start("bash", "-c", TRAP.format(name))
            self.assertEqual(driver.stdout.readline(), b"ready\n")
            driver.send_signal(getattr(signal, f"SIG{name}"))
            output, errors = driver.communicate(timeout=LIMIT_SECONDS)
            self.assertEqual((driver.returncode, output), (3, f"got-{name}\n".encode()))
            self.assertIn(b"records of ", errors)

    def test_an_ignored_signal_stays_ignored_in_the_program(self):
        command = f'trap "" INT; exec "{SCRIPT}" --library "{LIBRARY}" ' \
                  'grep SigIgn /proc/self/status'
        done = subprocess.run(["sh", "-c", command], env=self.environment(), check=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        self.assertTrue(int(done.stdout.split()[1], 16) & (1 << (signal.SIGINT - 1)), done.stdout)

    def test_signal_mask_and_dispositions_of_the_program_are_the_defaults(self):
        script = "grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status"
        direct = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, check=True).stdout
        self.assertEqual(self.run_script("sh", "-c", script).stdout, direct)

    def test_ctrl_c_reaches_the_program_once(self):
        pid, terminal = self.start_on_terminal(
            "bash", "-c", "trap 'echo got-INT' INT; echo ready; read line; echo line=$line; exit 4")
        self.read_until(terminal, b"ready")
        os.write(terminal, b"\x03")
        shown = self.read_until(terminal, b"got-INT")
        os.write(terminal, b"word\n")
        shown += self.read_until(terminal)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 4)
        self.assertEqual(shown.count(b"got-INT"), 1)
        self.assertIn(b"line=word", shown)

    def test_ctrl_c_that_ends_the_program_gives_130(self):
        pid, terminal = self.start_on_terminal("sh", "-c", "echo ready; exec sleep 30")
        self.read_until(terminal, b"ready")
        os.write(terminal, b"\x03")
        shown = self.read_until(terminal)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 130)
        self.assertIn(b"sh was ended by signal 2 (SIGINT)", shown)

    def test_the_program_has_the_terminal(self):
        pid, terminal = self.start_on_terminal(
            "sh", "-c", "test -t 0 && test -t 1 && test -t 2 && : </dev/tty && exit 6")
        self.read_until(terminal)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 6)

    def test_a_stopped_program_stops_the_driver_until_it_is_continued(self):
        # As of an editor that suspends itself: only the program stops by its own hand.
        driver = self.start(sys.executable, "-c",
                            "import os, signal; os.kill(os.getpid(), signal.SIGTTIN); print('on')",
                            process_group=0)
        state = os.waitid(os.P_PID, driver.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if state.si_code == os.CLD_EXITED:
            self.skipTest("the process group is orphaned: nothing stops there")
        self.assertEqual(state.si_code, os.CLD_STOPPED)
        driver.send_signal(signal.SIGCONT)
        output, _ = driver.communicate(timeout=LIMIT_SECONDS)
        self.assertEqual((driver.returncode, output), (0, b"on\n"))

    def test_sigstop_of_the_program_alone_leaves_the_driver_waiting(self):
        script = "(sleep 0.1; kill -CONT $$) & kill -STOP $$; wait; echo on"
        done = self.run_script("bash", "-c", script)
        self.assertEqual((done.returncode, done.stdout), (0, b"on\n"))

    def test_the_picture_is_unicode_and_coloured_on_a_terminal(self):
        pid, terminal = self.start_on_terminal("true")
        shown = self.read_until(terminal).decode()
        os.waitpid(pid, 0)
        self.assertIn("█", shown)
        self.assertIn("░", shown)
        self.assertIn("\x1b[", shown)

    def test_no_color_makes_the_picture_plain_on_a_terminal(self):
        pid, terminal = self.start_on_terminal("true", NO_COLOR="1")
        shown = self.read_until(terminal)
        os.waitpid(pid, 0)
        self.assertIn(b"#", shown)
        self.assertTrue(shown.isascii())
        self.assertNotIn(b"\x1b", shown)


if __name__ == "__main__":
    unittest.main()
