# SPDX-License-Identifier: MIT
"""How far the run is: one line that is rewritten on a terminal, else one line a row."""

import sys


class Progress:
    """Writes to standard error."""

    def __init__(self, stream=None):
        self._stream = stream or sys.stderr
        self._rewrites = self._stream.isatty()
        self._last = None

    def show(self, place, allocator, seconds_left):
        """`place` is begun under `allocator`."""
        left = "" if seconds_left is None else f", {duration(seconds_left)} left"
        if self._rewrites:
            self._stream.write(f"\r\x1b[K{place}, {allocator}{left}"[:110])
        elif place != self._last:
            self._stream.write(f"{place}{left}\n")
        self._last = place
        self._stream.flush()

    def end(self):
        """Leaves the line."""
        if self._rewrites and self._last:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def duration(seconds):
    """`40 s`, `3 min`, `2 h 05 min`."""
    seconds = round(seconds)
    if seconds < 90:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
