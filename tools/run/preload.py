# SPDX-License-Identifier: MIT
"""The environment that puts slabmalloc into a program, and the file its processes record into."""

import os
import shutil
import time

# LD_PRELOAD is split at these (ld.so(8)) and SLABMALLOC_OPTIONS at commas; `$` starts a token.
UNSAFE_IN_PATH = b" \t\n:,$"


def temporary_folder(purpose):
    """A new private folder whose path may stand in LD_PRELOAD and SLABMALLOC_OPTIONS."""
    base = os.fsencode(os.environ.get("TMPDIR") or "/tmp")
    if not base.startswith(b"/") or any(byte in UNSAFE_IN_PATH for byte in base):
        base = b"/tmp"
    name = f"slabmalloc-{purpose}-{os.getpid()}-{os.urandom(4).hex()}"
    path = os.path.join(base, os.fsencode(name))
    os.mkdir(path, 0o700)
    return path


def remove_folder(path, limit_seconds=5):
    """Removes a folder with all that is in it.

    Killed processes may still write for a moment, so it tries again for at most `limit_seconds`.
    """
    limit = time.monotonic() + limit_seconds
    shutil.rmtree(path, ignore_errors=True)
    while os.path.lexists(path) and time.monotonic() < limit:
        time.sleep(0.01)
        shutil.rmtree(path, ignore_errors=True)


def original_environment():
    """The environment this process was started with, before Python changed LC_CTYPE in it."""
    with open("/proc/self/environ", "rb") as file:
        block = file.read()
    pairs = (entry.split(b"=", 1) for entry in block.split(b"\0") if b"=" in entry[1:])
    return dict(pairs)


def loadable_path(library, link):
    """`library`, or `link` to it, which is made, if LD_PRELOAD would not take its path as one."""
    if not any(byte in UNSAFE_IN_PATH for byte in os.fsencode(library)):
        return library
    os.symlink(library, link)
    return link


class Preload:
    """The library, prepared to be preloaded, and the records of the processes it was in."""

    def __init__(self, library):
        self._folder = temporary_folder("records")
        self._library = loadable_path(os.path.realpath(library),
                                      os.path.join(self._folder, b"libslabmalloc.so"))
        self._uses = 0

    def next_records_path(self):
        """A path for the records of one more run; nothing is there yet."""
        self._uses += 1
        return os.path.join(self._folder, b"%d.jsonl" % self._uses)

    def environment(self, base, records_path):
        """`base` with the library preloaded and recording; keeps its own preloads and options."""
        result = dict(base)
        others = base.get(b"LD_PRELOAD", b"")
        result[b"LD_PRELOAD"] = self._library + (b":" + others if others else b"")
        options = base.get(b"SLABMALLOC_OPTIONS", b"")
        record = b"stats_file:" + records_path
        result[b"SLABMALLOC_OPTIONS"] = options + b"," + record if options else record
        return result

    def close(self):
        """Removes the records."""
        # Imported after the program has ended: see process.py.
        import shutil
        remove_folder(self._folder)
