# SPDX-License-Identifier: MIT
"""scripts/run PROGRAM ARGS…: what passes through untouched, and what is said."""

import os
import shutil
import subprocess
import unittest

from support import LIBRARY, SCRIPT, RunTest


class OneProgram(RunTest):
    def test_binary_input_and_output_pass_byte_for_byte(self):
        data = os.urandom(300_000) + bytes(range(256))
        program = self.write("tee", b"#!/bin/sh\ncat\nprintf 'a\\000\\377' >&2\n")
        done = self.run_script(program, stdin=None, input=data)
        self.assertEqual(done.returncode, 0)
        self.assertEqual(done.stdout, data)
        self.assertTrue(done.stderr.startswith(b"a\x00\xff"))
        self.assert_nothing_left()

    def test_exit_status_is_the_programs(self):
        for status in (0, 1, 42, 126, 127, 255):
            self.assertEqual(self.run_script("sh", "-c", f"exit {status}").returncode, status)

    def test_arguments_pass_untouched(self):
        words = ["--help", "", "a b", "*", "$HOME", os.fsdecode(b"\xff\xfe"), "new\nline", "--"]
        done = self.run_script("printf", "%s\\0", *words)
        self.assertEqual(done.stdout, b"".join(os.fsencode(word) + b"\0" for word in words))
        done = self.run_script("--", "echo", "--only", "x")
        self.assertEqual(done.stdout, b"--only x\n")

    def test_environment_gains_nothing_else(self):
        for further in ({}, {"LC_ALL": "C"}, {"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere"}):
            environment = self.environment(**further)
            direct = subprocess.run([shutil.which("env")], env=environment, check=True,
                                    stdout=subprocess.PIPE).stdout.splitlines()
            through = self.run_script("env", environment=environment).stdout.splitlines()
            self.assertIn(f"_={shutil.which('env')}".encode(), through)
            changed = {line.split(b"=", 1)[0] for line in set(direct) ^ set(through)}
            shell_sets = {b"_", b"SHLVL", b"PWD", b"OLDPWD"}
            self.assertEqual(changed - shell_sets, {b"LD_PRELOAD", b"SLABMALLOC_OPTIONS"})

    def test_locale_is_not_coerced(self):
        environment = {"PATH": os.environ["PATH"], "TMPDIR": self.temporary}
        done = self.run_script("env", environment=environment)
        self.assertNotIn(b"LC_CTYPE", done.stdout)

    def test_preloads_and_options_of_the_caller_are_kept(self):
        environment = self.environment(LD_PRELOAD="libm.so.6", SLABMALLOC_OPTIONS="decay_ms:0")
        done = self.run_script("env", environment=environment)
        self.assertIn(f"LD_PRELOAD={os.path.realpath(LIBRARY)}:libm.so.6\n".encode(), done.stdout)
        self.assertIn(b"SLABMALLOC_OPTIONS=decay_ms:0,stats_file:", done.stdout)

    def test_a_library_path_that_ld_preload_would_split_is_preloaded(self):
        awkward = self.path("a b:c,d$e")
        os.mkdir(awkward)
        library = shutil.copy(LIBRARY, os.path.join(awkward, "libslabmalloc.so"))
        done = self.run_script("true", library=library)
        self.assertIn(b"records of 1 process: 1 true", done.stderr)
        done = self.run_script("true", environment=self.environment(TMPDIR=awkward))
        self.assertIn(b"records of 1 process: 1 true", done.stderr)
        self.assertEqual(os.listdir(awkward), ["libslabmalloc.so"])

    def test_descriptors_of_the_caller_pass(self):
        path = self.write("three", b"third descriptor\n")
        with open(path, "rb") as file:
            done = self.run_script("sh", "-c", f"cat <&{file.fileno()}", pass_fds=[file.fileno()])
        self.assertEqual(done.stdout, b"third descriptor\n")

    def test_closed_standard_streams_do_no_harm(self):
        command = f'"{SCRIPT}" --library "{LIBRARY}" sh -c "echo out; exit 3" 2>&- <&-'
        done = subprocess.run(["sh", "-c", command], env=self.environment(), timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (3, b"out\n", b""))
        done = self.run_script("sh", "-c", "exec 2>&-; echo out; exec true")
        self.assertEqual(done.stdout, b"out\n")
        self.assertIn(b"records of 1 process: 1 true", done.stderr)
        self.assert_nothing_left()

    def test_processes_are_summed(self):
        done = self.run_script("bash", "-c", "/bin/true & /bin/true & wait; env true; exit 5")
        self.assertEqual(done.returncode, 5)
        self.assertIn(b"records of 4 processes: 1 bash, 3 true; 4 threads", done.stderr)
        row = [line for line in done.stderr.splitlines() if line.startswith(b"bash ")][0].split()
        self.assertEqual(row[-5:], [b"80,000", b"79,600", b"28", b"8.0", b"KiB"])
        self.assertIn(b"360 used  16,024 free", done.stderr)

    def test_a_program_that_does_not_exist_is_127(self):
        for name, words in (("no-such-program", b"is not in any folder of PATH"),
                            ("/no/such/program", b"/no/such/program does not exist")):
            done = self.run_script(name)
            self.assertEqual((done.returncode, done.stdout), (127, b""))
            self.assertIn(words, done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1)

    def test_a_program_that_is_not_executable_is_126(self):
        for path, words in ((self.write("data", b"text", 0o644), b"is not executable"),
                            (self.folder, b"is a folder")):
            done = self.run_script(path)
            self.assertEqual(done.returncode, 126)
            self.assertIn(words, done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1)

    def test_a_text_without_interpreter_line_goes_to_sh(self):
        done = self.run_script(self.write("script", b"echo $0 $1; exit 9\n"), "word")
        self.assertEqual(done.returncode, 9)
        self.assertEqual(done.stdout, f"{self.path('script')} word\n".encode())

    def test_a_file_of_no_known_format_is_126(self):
        done = self.run_script(self.write("noise", b"\x01\x02\0\x03"))
        self.assertEqual(done.returncode, 126)
        self.assertIn(b"Exec format error", done.stderr)
        self.assert_nothing_left()

    def test_a_fatal_signal_is_told_and_gives_128_plus_n(self):
        for name, number in (("SEGV", 11), ("KILL", 9), ("ABRT", 6), ("PIPE", 13)):
            done = self.run_script("bash", "-c", f"ulimit -c 0; kill -{name} $$")
            self.assertEqual(done.returncode, 128 + number)
            self.assertIn(f"bash was ended by signal {number} (SIG{name}".encode(), done.stderr)
            self.assertIn(b"left no record: a process that a signal ends writes none", done.stderr)

    def test_processes_that_leave_no_record_are_told(self):
        # env -i is replaced by `true` before it could record, and that has no preload.
        done = self.run_script("env", "-i", "true")
        self.assertEqual(done.returncode, 0)
        self.assertIn(b"env left no record", done.stderr)
        self.assertIn(b"clears its environment", done.stderr)
        done = self.run_script("bash", "-c", "/bin/true; kill -KILL $$")
        self.assertIn(b"bash itself left no record", done.stderr)
        self.assertIn(b"records of 1 process: 1 true", done.stderr)

    def test_summary_at_the_end_is_plain_when_captured(self):
        done = self.run_script("true")
        self.assertTrue(done.stderr.isascii())
        self.assertNotIn(b"\x1b", done.stderr)

    def test_broken_pipes_end_the_program_as_without_the_driver(self):
        command = f'"{SCRIPT}" --library "{LIBRARY}" yes 2>/dev/null | head -n 1; ' \
                  'echo "${PIPESTATUS[0]}"'
        done = subprocess.run(["bash", "-c", command], env=self.environment(), timeout=60,
                              stdout=subprocess.PIPE, check=True)
        self.assertEqual(done.stdout, b"y\n141\n")

    def test_works_from_any_folder_and_through_a_link(self):
        link = self.path("run-link")
        os.symlink(SCRIPT, link)
        done = subprocess.run([link, "--library", LIBRARY, "pwd"], cwd=self.folder, timeout=60,
                              env=self.environment(), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, check=True)
        self.assertEqual(done.stdout, f"{self.folder}\n".encode())

    def test_peak_memory_is_the_largest_process(self):
        # dd holds one block: 40 MB and 20 MB.
        script = "for size in 40 20; do dd if=/dev/zero of=/dev/null bs=${size}M count=1; done"
        done = self.run_script("sh", "-c", script)
        row = [line for line in done.stderr.splitlines() if line.startswith(b"sh ")][0].split()
        self.assertTrue(40 < float(row[3]) < 50, row)


class Usage(RunTest):
    def test_help_is_printed_to_standard_output(self):
        done = subprocess.run([SCRIPT, "--help"], stdout=subprocess.PIPE, check=True, timeout=60)
        self.assertIn(b"scripts/run [--] PROGRAM ARGS...", done.stdout)

    def test_unknown_options_are_errors(self):
        for arguments in (["--bogus"], ["--only"], ["--only", "git", "true"]):
            done = subprocess.run([SCRIPT, *arguments], stderr=subprocess.PIPE, check=False,
                                  timeout=60)
            self.assertEqual(done.returncode, 125)
            self.assertIn(b"see scripts/run --help", done.stderr)

    def test_a_missing_library_is_an_error(self):
        done = self.run_script("true", library="/no/such/library.so")
        self.assertEqual(done.returncode, 125)
        self.assertEqual(done.stderr, b"scripts/run: there is no library /no/such/library.so\n")
        done = self.run_script("true", library=self.folder)
        self.assertEqual((done.returncode, done.stderr.count(b"\n")), (125, 1))


if __name__ == "__main__":
    unittest.main()
