# SPDX-License-Identifier: MIT
"""What is started ends with who started it, whenever a signal comes."""

import os
import signal
import subprocess
import sys
import time
import unittest

from support import ROOT

# Starts a program that would run for a minute, is told to end, and cleans nothing up. `{moment}` is where the signal
# comes: as soon as there is a child, or when it was given to the caller. The child's number goes to stdout.
DRIVER = """
import os, signal, sys
sys.path.insert(0, {tools!r})
import process

signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
fork = os.fork

def fork_and_tell():
    pid = fork()
    if pid != 0:
        os.write(1, str(pid).encode())
        if {moment!r} == "fork":
            os.kill(os.getpid(), signal.SIGTERM)
    return pid

os.fork = fork_and_tell
nothing = os.open(os.devnull, os.O_RDWR)
process.start("/bin/sleep", ["sleep", "60"], {{}}, new_session=True, files=(nothing, nothing, nothing))
os.kill(os.getpid(), signal.SIGTERM)
"""


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class ProcessTest(unittest.TestCase):
    def assert_ends_with_driver(self, moment):
        driver = DRIVER.format(tools=os.path.join(ROOT, "tools", "run"), moment=moment)
        done = subprocess.run([sys.executable, "-E", "-s", "-B", "-c", driver], timeout=60, check=False,
                              stdout=subprocess.PIPE)
        self.assertEqual(done.returncode, 128 + signal.SIGTERM)
        pid = int(done.stdout)
        # Killed, it takes the kernel a moment to end it.
        deadline = time.monotonic() + 10
        while is_running(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)
            self.fail(f"the program runs on after a signal at the moment: {moment}")

    def test_a_signal_just_after_the_fork_leaves_nothing_running(self):
        self.assert_ends_with_driver("fork")

    def test_a_signal_just_after_the_start_leaves_nothing_running(self):
        self.assert_ends_with_driver("start")

    def test_the_program_gets_the_signal_mask_of_its_driver(self):
        driver = ("import signal, sys\n"
                  f"sys.path.insert(0, {os.path.join(ROOT, 'tools', 'run')!r})\n"
                  "import process\n"
                  "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])\n"
                  "process.start('/bin/grep', ['grep', 'SigBlk', '/proc/self/status'], {}).wait()\n"
                  "assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGUSR2}\n")
        done = subprocess.run([sys.executable, "-E", "-s", "-B", "-c", driver], timeout=60, check=True,
                              stdout=subprocess.PIPE)
        self.assertEqual(int(done.stdout.split()[1], 16), 1 << (signal.SIGUSR2 - 1))


if __name__ == "__main__":
    unittest.main()
