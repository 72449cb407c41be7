# SPDX-License-Identifier: MIT
"""Tests of scripts/run PROGRAM ARGS…: the program gets the signals and the terminal."""

import os
import pty
import signal
import subprocess
import sys
import time
import unittest

from support import LIBRARY, SCRIPT, ScriptTest

TRAP = "trap 'echo got-{0}; exit 3' {0}; echo ready; while :; do sleep 0.02; done"
LIMIT_SECONDS = 30


class Terminal(ScriptTest):
    def start(self, *command, **options):
        """Starts the driver with its output in a pipe."""
        return subprocess.Popen([SCRIPT, "--library", LIBRARY, *command], env=self.environment(),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    def start_on_terminal(self, *command):
        """Starts the driver in the foreground of a new terminal: (pid, its descriptor)."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(SCRIPT, [SCRIPT, "--library", LIBRARY, *command],
                      self.environment(TERM="xterm", LC_ALL="C.UTF-8", COLUMNS="80"))
        self.addCleanup(os.close, terminal)
        return pid, terminal

    def read_until(self, terminal, words=None):
        """The output on the terminal until `words`, or until the driver has ended."""
        shown, deadline = b"", time.monotonic() + LIMIT_SECONDS
        while words is None or words not in shown:
            self.assertLess(time.monotonic(), deadline, shown)
            try:
                shown += os.read(terminal, 4096)
            except OSError:
                break
        return shown

    def test_a_signal_sent_to_the_driver_reaches_the_program(self):
        for name in ("INT", "TERM", "HUP", "USR1"):
            driver = self.start("bash", "-c", TRAP.format(name))
            self.assertEqual(driver.stdout.readline(), b"ready\n")
            driver.send_signal(getattr(signal, f"SIG{name}"))
            output, errors = driver.communicate(timeout=LIMIT_SECONDS)
            self.assertEqual((driver.returncode, output), (3, f"got-{name}\n".encode()))
            self.assertIn(b"records of ", errors)

    def test_the_program_has_the_signals_of_the_caller(self):
        show = "grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status"
        for shell in (show, f"trap '' INT; {show}"):
            through = shell.replace("grep", f'"{SCRIPT}" --library "{LIBRARY}" grep')
            direct, passed = (subprocess.run(["sh", "-c", command], env=self.environment(),
                                             check=True, stdout=subprocess.PIPE,
                                             stderr=subprocess.DEVNULL).stdout
                              for command in (shell, through))
            self.assertEqual(passed, direct)

    def test_the_terminal_and_ctrl_c_reach_the_program(self):
        pid, terminal = self.start_on_terminal(
            "bash", "-c", "trap 'echo got-INT' INT; echo ready; read line; echo line=$line; "
            "test -t 0 && test -t 1 && test -t 2 && : </dev/tty && exit 4")
        self.read_until(terminal, b"ready")
        os.write(terminal, b"\x03")
        self.read_until(terminal, b"got-INT")
        os.write(terminal, b"word\n")
        shown = self.read_until(terminal)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 4)
        self.assertIn(b"line=word", shown)
        # The summary has colours and a picture.
        self.assertIn("\x1b[36m█".encode(), shown)

    def test_the_driver_sends_no_second_ctrl_c(self):
        # In a session of its own, the program gets no signal from the terminal.
        pid, terminal = self.start_on_terminal(
            "setsid", "bash", "-c", "trap 'exit 9' INT; echo ready; sleep 0.3; exit 4")
        self.read_until(terminal, b"ready")
        os.write(terminal, b"\x03")
        self.read_until(terminal)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 4)

    def test_ctrl_c_that_ends_the_program_gives_130(self):
        pid, terminal = self.start_on_terminal("sh", "-c", "echo ready; exec sleep 30")
        self.read_until(terminal, b"ready")
        os.write(terminal, b"\x03")
        shown = self.read_until(terminal)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 130)
        self.assertIn(b"sh was ended by signal 2 (SIGINT)", shown)

    def test_a_stopped_program_stops_the_driver_until_it_is_continued(self):
        # Like an editor that suspends itself: the program stops only by its own action.
        driver = self.start(sys.executable, "-c",
                            "import os, signal; os.kill(os.getpid(), signal.SIGTTIN); print('on')",
                            process_group=0)
        state = os.waitid(os.P_PID, driver.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if state.si_code == os.CLD_EXITED:
            self.skipTest("the process group is orphaned: nothing stops there")
        driver.send_signal(signal.SIGCONT)
        output, _ = driver.communicate(timeout=LIMIT_SECONDS)
        self.assertEqual((state.si_code, driver.returncode, output), (os.CLD_STOPPED, 0, b"on\n"))

    def test_sigstop_of_the_program_alone_leaves_the_driver_waiting(self):
        script = "(sleep 0.1; kill -CONT $$) & kill -STOP $$; wait; echo on"
        done = self.run_script("bash", "-c", script)
        self.assertEqual((done.returncode, done.stdout), (0, b"on\n"))


if __name__ == "__main__":
    unittest.main()
