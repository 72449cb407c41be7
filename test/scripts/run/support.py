# SPDX-License-Identifier: MIT
"""What the tests of scripts/run share: the driver's modules, the library to preload, folders."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
SCRIPT = os.path.join(ROOT, "scripts", "run")
LIBRARY = os.environ["RUN_TEST_LIBRARY"]

sys.path.insert(0, os.path.join(ROOT, "tools", "run"))


class RunTest(unittest.TestCase):
    """A test with a folder of its own, in which the driver also makes its temporary files."""

    def setUp(self):
        # Short and fixed, since some tests write a path into a field of a few bytes.
        self.folder = tempfile.mkdtemp(dir="/tmp")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.temporary = os.path.join(self.folder, "tmp")
        os.mkdir(self.temporary)

    def path(self, name):
        """A path in the test's folder."""
        return os.path.join(self.folder, name)

    def write(self, name, content, mode=0o755):
        """Writes a file in the test's folder and returns its path."""
        path = self.path(name)
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, mode)
        return path

    def copy(self, program, name):
        """A copy of an installed program under another name."""
        path = self.path(name)
        shutil.copy(shutil.which(program), path)
        return path

    def environment(self, **further):
        """This process's environment for the driver."""
        return {**os.environ, "TMPDIR": self.temporary, **further}

    def run_script(self, *arguments, library=LIBRARY, environment=None, **options):
        """Runs scripts/run to its end, with its output captured."""
        done = subprocess.run([SCRIPT, "--library", library, *arguments],
                              env=environment or self.environment(), timeout=60, check=False,
                              **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
                                 "stderr": subprocess.PIPE, **options})
        return done

    def assert_nothing_left(self):
        """No temporary file of the driver is left."""
        self.assertEqual(os.listdir(self.temporary), [])
