# SPDX-License-Identifier: MIT
"""A program to be run: where it is, and whether the dynamic loader will preload a library into it.

Imports nothing heavy: it runs before the program is started, and the memory of this process at that
moment is a floor under the program's measured peak (see process.py).
"""

import errno
import os
import stat

from elf import read_header

NOT_EXECUTABLE = 126
NOT_FOUND = 127
# The driver failed, not the program.
OWN_FAILURE = 125
# A script's interpreter may be a script itself; Linux follows at most this many.
MAX_INTERPRETERS = 5
# vfs_cap_data (linux/capability.h): magic_etc with the effective flag, then permitted, inheritable.
CAPABILITY_EFFECTIVE = 1


class Unrunnable(Exception):
    """The program cannot be started on the library: `status` is the exit status to report."""

    def __init__(self, status, reason):
        super().__init__(reason)
        self.status = status


def shown(path):
    """`path` (bytes) as text that can always be printed."""
    return os.fsdecode(path).encode("utf-8", "replace").decode("utf-8")


def find(name, search_path):
    """The path of the program `name`, looked up in `search_path` as execvp(3) does.

    Fails: Unrunnable with status 127 if there is none, 126 if it cannot be executed.
    """
    if b"/" in name:
        candidates = [name]
    else:
        candidates = [os.path.join(folder or b".", name) for folder in search_path.split(b":")]
    problem = None
    for candidate in candidates:
        try:
            mode = os.stat(candidate).st_mode
        except PermissionError:
            problem = problem or Unrunnable(NOT_EXECUTABLE,
                                            f"{shown(candidate)}: permission denied")
            continue
        except OSError:
            continue
        if stat.S_ISDIR(mode):
            reason = "is a folder, not a program"
        elif not os.access(candidate, os.X_OK):
            reason = "is not executable"
        else:
            return candidate
        problem = problem or Unrunnable(NOT_EXECUTABLE, f"{shown(candidate)} {reason}")
    if problem is not None:
        raise problem
    where = "does not exist" if b"/" in name else "is not in any folder of PATH"
    raise Unrunnable(NOT_FOUND, f"{shown(name)} {where}")


def privileges_gained(status, capabilities, real_uid, real_gid, effective_uid, effective_gid):
    """Why executing a file with this stat result and capabilities gains privileges; None if not.

    The kernel's rule for AT_SECURE (security/commoncap.c): an effective id that differs from the
    real one, or capabilities for a user other than root.
    """
    mode = status.st_mode
    new_uid = status.st_uid if mode & stat.S_ISUID else effective_uid
    group_bits = stat.S_ISGID | stat.S_IXGRP
    new_gid = status.st_gid if mode & group_bits == group_bits else effective_gid
    if new_uid != real_uid:
        return "is set-user-id"
    if new_gid != real_gid:
        return "is set-group-id"
    if capabilities and real_uid != 0:
        words = [int.from_bytes(capabilities[at:at + 4], "little")
                 for at in range(0, len(capabilities), 4)]
        if words[0] & CAPABILITY_EFFECTIVE or any(words[1::2][:2]):
            return "has file capabilities"
    return None


def privileges_ignored(path):
    """Whether the kernel disregards set-id bits and capabilities of `path` in this process."""
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        return True
    with open("/proc/self/status", "rb") as file:
        return b"\nNoNewPrivs:\t1\n" in file.read()


def file_capabilities(path):
    """The security.capability attribute of `path`, empty if there is none."""
    try:
        return os.getxattr(path, "security.capability")
    except OSError:
        return b""


def script_interpreter(path):
    """The interpreter named in the first line of the script `path`; None if it is no script."""
    with open(path, "rb", buffering=0) as file:
        line = file.read(256).split(b"\n", 1)[0]
    if not line.startswith(b"#!"):
        return None
    words = line[2:].split(None, 1)
    return words[0] if words else None


def check_privileges(path):
    """Fails: Unrunnable if the loader will ignore LD_PRELOAD because `path` gains privileges."""
    reason = privileges_gained(os.stat(path), file_capabilities(path), os.getuid(), os.getgid(),
                               os.geteuid(), os.getegid())
    if reason is not None and not privileges_ignored(path):
        raise Unrunnable(NOT_EXECUTABLE, f"{shown(path)} {reason}: the dynamic loader ignores "
                         "LD_PRELOAD there, so it cannot run on slabmalloc")


def check_elf(path, header, library_header):
    """Fails: Unrunnable if the ELF file `path` cannot be loaded together with the library."""
    if header.target != library_header.target:
        raise Unrunnable(NOT_EXECUTABLE, f"{shown(path)} is built for {header.describe_target()}, "
                         f"slabmalloc for {library_header.describe_target()}: cannot be preloaded")
    if header.loader is None:
        raise Unrunnable(NOT_EXECUTABLE, f"{shown(path)} is statically linked: it has no dynamic "
                         "loader to preload slabmalloc")
    if not os.path.exists(header.loader):
        raise Unrunnable(NOT_EXECUTABLE, f"{shown(path)} needs the loader {shown(header.loader)}, "
                         "which does not exist")
    if os.path.basename(header.loader).startswith(b"ld-musl"):
        raise Unrunnable(NOT_EXECUTABLE, f"{shown(path)} runs on musl, slabmalloc is built for the "
                         "GNU C library: cannot be preloaded")


def check_preloadable(path, library):
    """Fails: Unrunnable if `library` will not be preloaded into the program at `path`.

    A file that may be executed but not read passes: only starting it can tell.
    """
    library_header = read_header(library)
    if library_header is None:
        raise Unrunnable(NOT_EXECUTABLE, f"{shown(library)} is not a shared library")
    script = None
    for _ in range(MAX_INTERPRETERS + 1):
        try:
            header = read_header(path)
            interpreter = None if header is not None else script_interpreter(path)
        except PermissionError:
            return
        if interpreter is None:
            if header is not None:
                check_privileges(path)
                check_elf(path, header, library_header)
            return
        script = script or path
        if not os.path.exists(interpreter):
            raise Unrunnable(NOT_EXECUTABLE, f"{shown(script)} is a script whose interpreter "
                             f"{shown(interpreter)} does not exist")
        path = interpreter
    raise Unrunnable(NOT_EXECUTABLE, f"{shown(script)}: too many levels of interpreters")


def fallback_command(path, arguments):
    """The command for a file the kernel does not know how to execute: sh for text, as shells do.

    Fails: Unrunnable if it is not text.
    """
    with open(path, "rb", buffering=0) as file:
        if b"\0" in file.read(256):
            raise Unrunnable(NOT_EXECUTABLE, f"{shown(path)}: {os.strerror(errno.ENOEXEC)}")
    return [b"sh", path, *arguments]
