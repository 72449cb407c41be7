# SPDX-License-Identifier: MIT
"""Tests of scripts/run PROGRAM ARGS…: it forwards arguments, reports, and refuses bad programs."""

import os
import shutil
import subprocess
import unittest

from support import LIBRARY, SCRIPT, ScriptTest

import elf

NOBODY = 65534


class Passing(ScriptTest):
    def test_bytes_arguments_and_descriptors_pass(self):
        data = os.urandom(300_000) + bytes(range(256))
        program_path = self.write("tee", b"#!/bin/sh\ncat\nprintf 'a\\000\\377' >&2\n")
        done = self.run_script(program_path, stdin=None, input=data)
        self.assertEqual((done.returncode, done.stdout), (0, data))
        self.assertTrue(done.stderr.startswith(b"a\x00\xff"))
        words = ["--help", "", "a b", "*", "$HOME", os.fsdecode(b"\xff\xfe"), "new\nline", "--"]
        done = self.run_script("printf", "%s\\0", *words)
        self.assertEqual(done.stdout, b"".join(os.fsencode(word) + b"\0" for word in words))
        self.assertEqual(self.run_script("--", "echo", "--only", "x").stdout, b"--only x\n")
        with open(program_path, "rb") as file:
            done = self.run_script("sh", "-c", f"cat <&{file.fileno()}", pass_fds=[file.fileno()])
        self.assertIn(b"printf", done.stdout)
        self.assert_nothing_left()

    def test_the_environment_gains_two_variables(self):
        for further in ({}, {"LC_ALL": "C"}, {"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere"}):
            environment = self.environment(**further)
            direct = subprocess.run([shutil.which("env")], env=environment, check=True,
                                    stdout=subprocess.PIPE).stdout.splitlines()
            through = self.run_script("env", env=environment).stdout.splitlines()
            changed = {line.split(b"=", 1)[0] for line in set(direct) ^ set(through)}
            shell_sets = {b"_", b"SHLVL", b"PWD", b"OLDPWD"}
            self.assertEqual(changed - shell_sets, {b"LD_PRELOAD", b"SLABMALLOC_OPTIONS"})
        # The caller's own content of these variables stays.
        environment = self.environment(LD_PRELOAD="libm.so.6", SLABMALLOC_OPTIONS="decay_ms:0")
        done = self.run_script("env", env=environment)
        self.assertIn(f"LD_PRELOAD={os.path.realpath(LIBRARY)}:libm.so.6\n".encode(), done.stdout)
        self.assertIn(b"SLABMALLOC_OPTIONS=decay_ms:0,stats_file:", done.stdout)

    def test_paths_that_ld_preload_would_split_are_preloaded(self):
        awkward = self.path("a b:c,d$e")
        os.mkdir(awkward)
        library = shutil.copy(LIBRARY, os.path.join(awkward, "libslabmalloc.so"))
        for options in ({"library": library}, {"env": self.environment(TMPDIR=awkward)}):
            done = self.run_script("true", **options)
            self.assertIn(b"records of 1 process: 1 true", done.stderr)

    def test_closed_and_broken_streams_are_the_programs_affair(self):
        for shell, expected in (
                ("sh -c 'echo out; exit 3' 2>&- <&-; echo $?", b"out\n3\n"),
                ("sh -c 'echo out; exit 3' 2>/dev/full; echo $?", b"out\n3\n"),
                ("yes 2>/dev/null | head -n 1; echo ${PIPESTATUS[0]}", b"y\n141\n")):
            command = ["bash", "-c", f'"{SCRIPT}" --library "{LIBRARY}" {shell}']
            done = subprocess.run(command, check=True, timeout=60, env=self.environment(),
                                  stdout=subprocess.PIPE)
            self.assertEqual(done.stdout, expected)
        self.assert_nothing_left()

    def test_a_text_without_interpreter_line_goes_to_sh(self):
        script = self.write("script", b"echo $0 $1; exit 9\n")
        done = self.run_script(script, "word")
        self.assertEqual((done.returncode, done.stdout), (9, f"{script} word\n".encode()))


class Summary(ScriptTest):
    def row(self, done):
        """The figures of the table."""
        lines = done.stderr.splitlines()
        rule = next(index for index, line in enumerate(lines) if line.startswith(b"-----"))
        return lines[rule + 1].split()

    def test_processes_are_summed(self):
        done = self.run_script("bash", "-c", "/bin/true & /bin/true & wait; env true; exit 5")
        self.assertEqual(done.returncode, 5)
        self.assertIn(b"records of 4 processes: 1 bash, 3 true; 4 threads", done.stderr)
        self.assertEqual(self.row(done)[-5:], [b"80,000", b"79,600", b"28", b"8.0", b"KiB"])
        self.assertRegex(done.stderr, rb"16 B  +360 used  +16,024 free +2 %  #\.")
        self.assertTrue(done.stderr.isascii() and b"\x1b" not in done.stderr)

    def test_peak_memory_is_the_largest_process(self):
        # dd holds one block: 40 MB and 20 MB.
        script = "for size in 40 20; do dd if=/dev/zero of=/dev/null bs=${size}M count=1; done"
        self.assertTrue(40 < float(self.row(self.run_script("sh", "-c", script))[3]) < 50)

    def test_a_fatal_signal_is_told_and_gives_128_plus_n(self):
        for name, number in (("SEGV", 11), ("KILL", 9)):
            done = self.run_script("bash", "-c", f"ulimit -c 0; kill -{name} $$")
            self.assertEqual(done.returncode, 128 + number)
            self.assertIn(f"bash was ended by signal {number} (SIG{name}".encode(), done.stderr)
            self.assertIn(b"left no record: a process that a signal ends writes none", done.stderr)

    def test_what_has_no_readable_record_is_told(self):
        # `true` replaces env -i before it could record, and `true` has no preload.
        self.assertIn(b"env left no record: a process that leaves by _exit",
                      self.run_script("env", "-i", "true").stderr)
        done = self.run_script("bash", "-c", "/bin/true; kill -KILL $$")
        self.assertIn(b"bash itself left no record", done.stderr)
        self.assertIn(b"records of 1 process: 1 true", done.stderr)
        for junk in ("{", "[1]", '{"pid":1}'):
            script = f"echo '{junk}' >>${{SLABMALLOC_OPTIONS#stats_file:}}"
            done = self.run_script("bash", "-c", script)
            self.assertIn(b"1 record could not be read", done.stderr)
            self.assertIn(b"records of 1 process: 1 bash", done.stderr)


class Refusals(ScriptTest):
    def patched(self, name, offset_of, value):
        """A copy of `true` with bytes replaced at an offset computed from its content."""
        path = shutil.copy(shutil.which("true"), self.path(name))
        with open(path, "r+b") as file:
            offset = offset_of(file.read())
            file.seek(offset)
            file.write(value)
        return path

    @staticmethod
    def interpreter_entry(content):
        """The offset of PT_INTERP's entry in a 64-bit little-endian file."""
        table = int.from_bytes(content[32:40], "little")
        offsets = range(table, len(content), int.from_bytes(content[54:56], "little"))
        return next(at for at in offsets if content[at:at + 4] == bytes([elf.PT_INTERP, 0, 0, 0]))

    def interpreter_text(self, content):
        """The offset of the loader's path."""
        at = self.interpreter_entry(content) + 8
        return int.from_bytes(content[at:at + 8], "little")

    def test_what_cannot_run_on_the_library_is_told_in_one_line(self):
        static = self.patched("static", self.interpreter_entry, bytes(4))
        musl = self.write("ld-musl", b"").encode() + b"\0"
        script, circle = self.write("script", f"#!{static} -x\n".encode()), self.path("circle")
        for status, path, words in (
                (127, "no-such-program", "no-such-program is not in any folder of PATH"),
                (127, "/no/such/program", "/no/such/program does not exist"),
                (126, self.write("data", b"text", 0o644), "data is not executable"),
                (126, self.folder, "is a folder, not a program"),
                (126, self.write("noise", b"\x01\x02\0\x03"), "noise: Exec format error"),
                (126, static, "static is statically linked"),
                (126, script, "static is statically linked"),
                (126, self.write("nested", b"#!" + script.encode()), "static is statically linked"),
                (126, self.write("circle", b"#!" + circle.encode()), "too many levels"),
                (126, self.write("orphan", b"#!/no/such\n"), "interpreter /no/such does not exist"),
                (126, self.patched("foreign", lambda _: 18, (183).to_bytes(2, "little")),
                 "is built for 64-bit AArch64, slabmalloc for"),
                (126, self.patched("musl", self.interpreter_text, musl), "runs on musl"),
                (126, self.patched("lost", self.interpreter_text, b"/no/loader\0"),
                 "needs the loader /no/loader, which does not exist")):
            with self.subTest(words):
                done = self.run_script(path)
                self.assertEqual((done.returncode, done.stdout), (status, b""))
                self.assertRegex(done.stderr.decode(),
                                 rf"\Ascripts/run: .*{words}.*; nothing was run\n\Z")
        self.assert_nothing_left()

    def test_a_program_that_gains_privileges_is_refused_as_the_kernel_decides(self):
        cases = [(-1, -1, 0o755), (-1, -1, 0o4755), (-1, -1, 0o2755)]
        if os.geteuid() == 0:
            cases += [(NOBODY, -1, 0o4755), (-1, NOBODY, 0o2755), (-1, NOBODY, 0o2745),
                      (NOBODY, NOBODY, 0o755), (NOBODY, -1, 0o2755)]
        path = shutil.copy(shutil.which("true"), self.path("set-id"))
        for owner, group, mode in cases:
            os.chown(path, owner, group)
            os.chmod(path, mode)
            # The loader ignores LD_SHOW_AUXV, as LD_PRELOAD, where the kernel sets AT_SECURE.
            shown = subprocess.run([path], env={"LD_SHOW_AUXV": "1"}, check=True,
                                   stdout=subprocess.PIPE).stdout
            gains = b"AT_SECURE" not in shown
            done = self.run_script(path)
            self.assertEqual(done.returncode, 126 if gains else 0, (owner, group, oct(mode)))
            self.assertEqual(b"the dynamic loader ignores LD_PRELOAD" in done.stderr, gains)


if __name__ == "__main__":
    unittest.main()
