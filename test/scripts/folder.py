# SPDX-License-Identifier: MIT
"""What the tests of all Python drivers share: a folder of their own."""

import os
import shutil
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class FolderTest(unittest.TestCase):
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
