# SPDX-License-Identifier: MIT
"""Which programs can be preloaded into, as decided before they are started."""

import os
import shutil
import stat
import subprocess
import unittest

from support import LIBRARY, RunTest

import elf
import program
from program import Unrunnable

NOBODY = 65534


class Finding(RunTest):
    def find(self, name, search_path):
        return program.find(os.fsencode(name), os.fsencode(search_path))

    def test_the_first_executable_in_the_path_is_found(self):
        for folder, mode in (("one", 0o644), ("two", 0o755), ("three", 0o755)):
            os.mkdir(self.path(folder))
            self.write(f"{folder}/tool", b"", mode)
        path = ":".join(self.path(folder) for folder in ("none", "one", "two", "three"))
        self.assertEqual(self.find("tool", path), os.fsencode(self.path("two/tool")))

    def test_an_empty_entry_is_the_current_folder(self):
        self.write("tool", b"")
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.folder)
        self.assertEqual(self.find("tool", "/nowhere:"), b"./tool")

    def test_a_folder_in_the_path_is_not_a_program(self):
        os.mkdir(self.path("tool"))
        with self.assertRaises(Unrunnable) as raised:
            self.find("tool", self.folder)
        self.assertEqual(raised.exception.status, 126)

    def test_a_dangling_link_does_not_exist(self):
        os.symlink("/no/such/target", self.path("tool"))
        with self.assertRaises(Unrunnable) as raised:
            self.find(self.path("tool"), "")
        self.assertEqual(raised.exception.status, 127)


class Preloadability(RunTest):
    def refusal(self, path):
        """Why the library cannot be preloaded; None if it can."""
        try:
            program.check_preloadable(os.fsencode(path), os.fsencode(LIBRARY))
        except Unrunnable as problem:
            self.assertEqual(problem.status, 126)
            return str(problem)
        return None

    def patched(self, name, offset_of, value):
        """A copy of `true` with bytes replaced at an offset computed from its content."""
        path = self.copy("true", name)
        with open(path, "r+b") as file:
            content = file.read()
            file.seek(offset_of(content))
            file.write(value)
        return path

    @staticmethod
    def interpreter_entry(content):
        """The offset of PT_INTERP's entry in a 64-bit little-endian file."""
        table = int.from_bytes(content[32:40], "little")
        entry_bytes = int.from_bytes(content[54:56], "little")
        offsets = range(table, len(content), entry_bytes)
        return next(at for at in offsets if content[at:at + 4] == bytes([elf.PT_INTERP, 0, 0, 0]))

    def interpreter_text(self, content):
        """The offset of the loader's path."""
        at = self.interpreter_entry(content) + 8
        return int.from_bytes(content[at:at + 8], "little")

    def test_installed_programs_can_be_preloaded(self):
        for name in ("true", "bash", "perl", "git"):
            self.assertIsNone(self.refusal(shutil.which(name)))

    def test_a_static_program_is_refused(self):
        path = self.patched("static", self.interpreter_entry, bytes(4))
        self.assertIn("is statically linked", self.refusal(path))

    def test_another_machine_is_refused(self):
        path = self.patched("foreign", lambda _: 18, (183).to_bytes(2, "little"))
        self.assertIn("is built for 64-bit AArch64, slabmalloc for", self.refusal(path))

    def test_another_class_is_refused(self):
        header = bytearray(52)
        header[:6] = b"\x7fELF\x01\x01"
        header[18] = 3
        self.assertIn("is built for 32-bit x86,", self.refusal(self.write("old", bytes(header))))

    def test_another_c_library_is_refused(self):
        loader = self.write("ld-musl", b"")
        path = self.patched("musl", self.interpreter_text, loader.encode() + b"\0")
        self.assertIn("runs on musl", self.refusal(path))

    def test_a_loader_that_does_not_exist_is_told(self):
        path = self.patched("lost", self.interpreter_text, b"/no/loader\0")
        self.assertIn("needs the loader /no/loader, which does not exist", self.refusal(path))

    def test_a_truncated_elf_file_is_refused_or_left_to_the_kernel(self):
        with open(shutil.which("true"), "rb") as file:
            content = file.read(4096)
        for length in (4, 51, 52, 63, 64, 100, 400, 4096):
            self.refusal(self.write("short", content[:length]))

    def test_scripts_are_judged_by_their_interpreter(self):
        static = self.patched("static", self.interpreter_entry, bytes(4))
        self.assertIsNone(self.refusal(self.write("good", b"#! /bin/sh -e\n")))
        script = self.write("script", f"#!{static} -x\n".encode())
        self.assertIn("static is statically linked", self.refusal(script))
        nested = self.write("nested", f"#!{script}\n".encode())
        self.assertIn("static is statically linked", self.refusal(nested))
        self.assertIn("whose interpreter /no/such does not exist",
                      self.refusal(self.write("orphan", b"#!/no/such\n")))
        circle = self.path("circle")
        self.assertIn("too many levels", self.refusal(self.write("circle", f"#!{circle}".encode())))

    def test_a_script_that_cannot_run_says_so_and_is_126(self):
        script = self.write("orphan", b"#!/no/such\n")
        done = self.run_script(script)
        self.assertEqual(done.returncode, 126)
        self.assertIn(b"whose interpreter /no/such does not exist; nothing was run", done.stderr)


class Privileges(RunTest):
    def secure_by_the_kernel(self, path):
        """Whether the kernel sets AT_SECURE: then the loader ignores LD_SHOW_AUXV."""
        shown = subprocess.run([path], env={"LD_SHOW_AUXV": "1"}, stdout=subprocess.PIPE,
                               check=True).stdout
        return b"AT_SECURE" not in shown

    def test_the_decision_is_the_kernels(self):
        cases = [(-1, -1, 0o755), (-1, -1, 0o4755), (-1, -1, 0o2755), (-1, -1, 0o6755)]
        if os.geteuid() == 0:
            cases += [(NOBODY, -1, 0o4755), (-1, NOBODY, 0o2755), (-1, NOBODY, 0o2745),
                      (NOBODY, NOBODY, 0o755), (NOBODY, NOBODY, 0o6755), (NOBODY, -1, 0o2755)]
        for owner, group, mode in cases:
            path = self.copy("true", "set-id")
            os.chown(path, owner, group)
            os.chmod(path, mode)
            try:
                program.check_privileges(os.fsencode(path))
                refused = False
            except Unrunnable:
                refused = True
            self.assertEqual(refused, self.secure_by_the_kernel(path), (owner, group, oct(mode)))
            os.unlink(path)

    def gained(self, mode, owner=0, group=0, capabilities=b"", uid=1000, gid=1000):
        fields = [mode, 0, 0, 1, owner, group, 0, 0, 0, 0]
        return program.privileges_gained(os.stat_result(fields), capabilities, uid, gid, uid, gid)

    def test_set_id_bits_of_another_user_gain_privileges(self):
        self.assertEqual(self.gained(stat.S_ISUID | 0o755), "is set-user-id")
        self.assertEqual(self.gained(stat.S_ISGID | 0o755), "is set-group-id")
        self.assertIsNone(self.gained(0o755))
        self.assertIsNone(self.gained(stat.S_ISUID | 0o755, owner=1000))
        self.assertIsNone(self.gained(stat.S_ISUID | 0o755, uid=0, gid=0))

    def test_file_capabilities_gain_privileges_for_all_but_root(self):
        effective = (0x02000001).to_bytes(4, "little") + bytes(16)
        permitted = (0x02000000).to_bytes(4, "little") + b"\0\x20\0\0" + bytes(12)
        nothing = (0x02000000).to_bytes(4, "little") + bytes(4) + b"\0\x20\0\0" + bytes(8)
        self.assertEqual(self.gained(0o755, capabilities=effective), "has file capabilities")
        self.assertEqual(self.gained(0o755, capabilities=permitted), "has file capabilities")
        self.assertIsNone(self.gained(0o755, capabilities=nothing))
        self.assertIsNone(self.gained(0o755, capabilities=effective, uid=0, gid=0))

    @unittest.skipUnless(os.geteuid() == 0, "needs root to make a program of another user")
    def test_a_set_user_id_program_is_refused_with_a_clear_line(self):
        path = self.copy("true", "set-user-id")
        os.chown(path, NOBODY, NOBODY)
        os.chmod(path, 0o4755)
        if not self.secure_by_the_kernel(path):
            self.skipTest("this file system ignores set-user-id")
        done = self.run_script(path)
        self.assertEqual(done.returncode, 126)
        self.assertIn(b"set-user-id is set-user-id: the dynamic loader ignores LD_PRELOAD",
                      done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1)


if __name__ == "__main__":
    unittest.main()
