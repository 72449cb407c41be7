# SPDX-License-Identifier: MIT
"""What the tests of scripts/run share: the driver's modules, the library to preload, folders."""

import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from folder import ROOT, FolderTest

SCRIPT = os.path.join(ROOT, "scripts", "run")
LIBRARY = os.environ["RUN_TEST_LIBRARY"]

sys.path.insert(0, os.path.join(ROOT, "tools", "run"))


class RunTest(FolderTest):
    """A test in a folder of its own."""

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
