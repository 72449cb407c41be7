# SPDX-License-Identifier: MIT
"""What the tests of scripts/bench share: the driver's modules, a folder, and a way to run it."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from folder import ROOT, FolderTest

BUILD = os.environ["BENCH_TEST_BUILD"]
WRONG_MALLOC = os.environ["BENCH_TEST_WRONG"]

sys.path[:0] = [os.path.join(ROOT, "tools", name) for name in ("bench", "run")]


class BenchTest(FolderTest):
    """A test in a folder of its own."""

    def drive(self, *words):
        """(exit status, standard output, standard error) of the driver, as scripts/bench calls it."""
        done = subprocess.run(
            [sys.executable, "-E", "-s", "-B", os.path.join(ROOT, "tools", "bench"), ROOT, BUILD,
             *words], env={**os.environ, "TMPDIR": self.temporary}, timeout=100, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return done.returncode, done.stdout.decode(), done.stderr.decode()
