# SPDX-License-Identifier: MIT
"""Shows on standard error how far the runs are: a bar on a terminal, else a line for each row."""

import math
from datetime import timedelta

from rich import progress
from rich.console import Console


class RunProgress:
    """The progress of `runs` runs."""

    def __init__(self, runs):
        self._console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
        # It redraws when a run begins: a thread of its own would disturb the measurement.
        # Rows differ so much that only the mean over all runs tells how long the others take.
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False), progress.BarColumn(None),
            progress.MofNCompleteColumn(), progress.TimeRemainingColumn(), console=self._console,
            auto_refresh=False, transient=True, expand=True, speed_estimate_period=math.inf)
        self._task = self._bar.add_task("", total=runs)
        self._place = None
        if self._console.is_terminal:
            self._bar.start()

    def begin(self, place, allocator):
        """The run at `place` under `allocator` begins."""
        if self._console.is_terminal:
            self._bar.update(self._task, description=f"{place}, {allocator}", refresh=True)
        elif place != self._place:
            seconds = self._bar.tasks[0].time_remaining
            left = "" if seconds is None else f", {timedelta(seconds=round(seconds))} left"
            self._console.print(f"{place}{left}")
        self._place = place

    def advance(self):
        """The run has ended."""
        self._bar.advance(self._task)

    def end(self):
        """Removes the bar."""
        self._bar.stop()
