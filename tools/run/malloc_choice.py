# SPDX-License-Identifier: MIT
"""Which malloc a run of a workload uses: it starts the workload's programs."""

import os

import process

BASE = {b"LC_ALL": b"C.UTF-8", b"TZ": b"UTC", b"TERM": b"dumb"}
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


class MallocChoice:
    """The system's malloc, or slabmalloc if there is a preload."""

    def __init__(self, title, folder, preload=None):
        self.title = title
        self.records_path = preload.next_records_path() if preload else None
        self._preload = preload
        home = os.fsencode(folder)
        path = os.fsencode(os.environ.get("PATH", DEFAULT_PATH))
        self._base = {**BASE, b"PATH": path, b"HOME": home, b"TMPDIR": home}

    def environment(self, further):
        """The environment for a program of the workload, which itself asks for `further`."""
        result = dict(self._base)
        result.update((name.encode(), value.encode()) for name, value in further.items())
        if self._preload is None:
            return result
        return self._preload.environment(result, self.records_path)

    def start(self, path, command, further, folder, files):
        """Starts a program of the workload in a session of its own; see process.start."""
        return process.start(path, command, self.environment(further), new_session=True,
                             folder=folder, files=files)
