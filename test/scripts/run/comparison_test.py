# SPDX-License-Identifier: MIT
"""Differences between two folders of results."""

import os
import unittest

from support import RunTest

import comparison


class Comparison(RunTest):
    def setUp(self):
        super().setUp()
        for name in ("one", "one/deep", "two", "two/deep"):
            os.mkdir(self.path(name))

    def differences(self):
        return comparison.differences(self.path("one"), self.path("two"))

    def test_equal_folders_have_no_differences(self):
        for folder in ("one", "two"):
            self.write(f"{folder}/stdout", os.urandom(0) + b"\0same\n")
            self.write(f"{folder}/deep/file", b"x" * (comparison.BLOCK_BYTES + 1))
        self.assertEqual(self.differences(), [])

    def test_the_first_differing_byte_is_told(self):
        self.write("one/stdout", b"one\ntwo\nthree\n")
        self.write("two/stdout", b"one\ntwo\nthrEe\xff\n")
        self.assertEqual(self.differences(), [
            "stdout differs from byte 11, line 3: 'ee\\n' on the system's malloc, "
            "'Ee\\xff\\n' on slabmalloc"])

    def test_a_difference_behind_the_first_block_is_found(self):
        same = b"\n" * (comparison.BLOCK_BYTES + 5)
        self.write("one/stdout", same + b"a")
        self.write("two/stdout", same)
        self.assertEqual(self.differences(), [
            f"stdout differs from byte {len(same):,}, line {len(same) + 1:,}: "
            "'a' on the system's malloc, the end on slabmalloc"])

    def test_missing_and_additional_files_are_told(self):
        self.write("one/deep/gone", b"")
        self.write("two/deep/new", b"")
        self.assertEqual(self.differences(), ["deep/gone is missing on slabmalloc",
                                              "deep/new exists on slabmalloc only"])


if __name__ == "__main__":
    unittest.main()
