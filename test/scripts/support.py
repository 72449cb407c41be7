# SPDX-License-Identifier: MIT
"""Helpers of the Python drivers' tests: the drivers' modules, a folder, ways to run them."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = os.path.join(ROOT, "scripts", "run")
# Libraries that tests of scripts/run preload, and the build folder of tests of scripts/bench.
LIBRARY = os.environ.get("RUN_TEST_LIBRARY")
BUILD = os.environ.get("BENCH_TEST_BUILD")

sys.path[:0] = [os.path.join(ROOT, "tools", name) for name in ("bench", "run")]


class ScriptTest(unittest.TestCase):
    """A test with a folder of its own, in which the driver also makes its temporary files."""

    def setUp(self):
        # Short and fixed, since a test writes a path into a field of a few bytes.
        self.folder = tempfile.mkdtemp(dir="/tmp")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.temporary = self.path("tmp")
        os.mkdir(self.temporary)

    def path(self, name):
        """A path in the test's folder."""
        return os.path.join(self.folder, name)

    def write(self, name, content, mode=0o755):
        """Writes a file in the test's folder and returns its path."""
        with open(self.path(name), "wb") as file:
            file.write(content)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def environment(self, **further):
        """This process's environment for a driver."""
        return {**os.environ, "TMPDIR": self.temporary, **further}

    def run_script(self, *arguments, library=LIBRARY, **options):
        """Runs scripts/run to its end, with its output captured."""
        return subprocess.run([SCRIPT, "--library", library, *arguments], check=False, timeout=60,
                              **{"env": self.environment(), "stdin": subprocess.DEVNULL,
                                 "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options})

    def drive(self, *words):
        """(exit status, output, errors) of tools/bench, as scripts/bench calls it."""
        driver = os.path.join(ROOT, "tools", "bench")
        done = subprocess.run([sys.executable, "-E", "-s", "-B", driver, ROOT, BUILD, *words],
                              env=self.environment(), timeout=100, check=False, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
        return done.returncode, done.stdout, done.stderr

    def assert_nothing_left(self):
        """Expects that no temporary file of the driver is left."""
        self.assertEqual(os.listdir(self.temporary), [])

    def await_end(self, pid_file):
        """Waits for the end of the process whose number is in the file."""
        with open(pid_file, encoding="ascii") as file:
            stat = f"/proc/{int(file.read())}/stat"
        deadline = time.monotonic() + 10
        while os.path.exists(stat):
            with open(stat, encoding="ascii", errors="replace") as file:
                if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return
            self.assertLess(time.monotonic(), deadline, "still running")
            time.sleep(0.01)
