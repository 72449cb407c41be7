# SPDX-License-Identifier: MIT
"""What the tests of scripts/bench share: the driver's modules, a folder, and a way to run it."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BUILD = os.environ["BENCH_TEST_BUILD"]
WRONG_MALLOC = os.environ["BENCH_TEST_WRONG"]

sys.path[:0] = [os.path.join(ROOT, "tools", name) for name in ("bench", "run")]


class BenchTest(unittest.TestCase):
    """A test with a folder of its own, in which the driver also makes its temporary files."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(dir="/tmp")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.temporary = os.path.join(self.folder, "tmp")
        os.mkdir(self.temporary)

    def path(self, name):
        """A path in the test's folder."""
        return os.path.join(self.folder, name)

    def drive(self, *words):
        """(exit status, standard output, standard error) of the driver, as scripts/bench calls it."""
        done = subprocess.run(
            [sys.executable, "-E", "-s", "-B", os.path.join(ROOT, "tools", "bench"), ROOT, BUILD,
             *words], env={**os.environ, "TMPDIR": self.temporary}, timeout=100, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return done.returncode, done.stdout.decode(), done.stderr.decode()
