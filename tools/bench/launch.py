# SPDX-License-Identifier: MIT
"""Starts programs through malloc_launch, a small process that measures them."""

import json
import os

from malloc_choice import MallocChoice
from process import Outcome, start

REPORT = "usage.json"


class Launch(MallocChoice):
    """The malloc of one run: the program preloads `library` (None: nothing), not the launcher."""

    def __init__(self, launcher, library, folder, repeat=1):
        super().__init__("", folder)
        self._launcher = launcher
        self._library = library or ""
        self._report = os.path.join(folder, REPORT)
        self._repeat = repeat

    def start(self, path, command, further, folder, files):
        """Starts a program of the workload in a session of its own."""
        child = start(self._launcher, [self._launcher, self._report, self._library,
                                       str(self._repeat), path, *command],
                      self.environment(further), new_session=True, folder=folder, files=files)
        return LaunchedProcess(child, self._report)


class LaunchedProcess:
    """A program behind the launcher, with the methods of `process.Process`."""

    def __init__(self, child, report):
        self._child = child
        self._report = report

    @property
    def pid(self):
        """The launcher's process, which leads the session."""
        return self._child.pid

    def wait(self, limit_seconds=None):
        """Waits and returns the program's Outcome. Fails: TimeoutError."""
        outcome = self._child.wait(limit_seconds)
        if outcome.wait_status != 0:
            return outcome
        with open(self._report, encoding="ascii") as file:
            usage = json.load(file)
        return Outcome(usage["wait_status"], usage["wall_seconds"], usage["cpu_seconds"],
                       usage["peak_bytes"])

    def end_session(self):
        """Kills the processes left of the session."""
        self._child.end_session()
