# SPDX-License-Identifier: MIT
"""Runs rows under allocators, interleaved, and shows how far it is.

    for each round: for each row: for each allocator, starting with another one each time

so that whatever else the machine does meets all allocators alike.
"""

import os
import time

from sample import DIFFERS, OK


class Clock:
    """How long is left, from how long each run took before."""

    def __init__(self, runs, now=time.monotonic):
        self._left = runs
        self._now = now
        self._started = None
        self._seconds = {}

    def start(self):
        """A run begins."""
        self._started = self._now()

    def stop(self, key):
        """The run of `key` has ended."""
        self._seconds[key] = self._now() - self._started
        self._left -= 1

    def seconds_left(self, keys):
        """An estimate for the runs of `keys` (every one of a round, in any order) still to come."""
        if not self._seconds:
            return None
        mean = sum(self._seconds.values()) / len(self._seconds)
        per_round = sum(self._seconds.get(key, mean) for key in keys)
        return per_round * self._left / len(keys)

    def round_seconds(self):
        """How long a round takes."""
        return sum(self._seconds.values())


class Schedule:
    """`rows` x `allocators` x `rounds`; `folder` is for what the rows need."""

    def __init__(self, rows, allocators, rounds, folder):
        self.rows = rows
        self.allocators = allocators
        self.rounds = rounds
        self._folder = folder
        self._checks = {}

    def prepare(self):
        """Makes each row's folder and inputs."""
        for row in self.rows:
            os.mkdir(self._row_folder(row))
            row.prepare(self._row_folder(row))

    def run(self, writer, progress, limit_seconds=None):
        """Yields every sample once it is written. With a limit no round begins that would not end
        within it, but for the first."""
        began = time.monotonic()
        keys = [(row.name, allocator.name) for row in self.rows for allocator in self.allocators]
        clock = Clock(self.rounds * len(keys))
        for round_number in range(1, self.rounds + 1):
            used = time.monotonic() - began
            if limit_seconds and round_number > 1 and used + clock.round_seconds() > limit_seconds:
                return
            for index, row in enumerate(self.rows):
                place = f"round {round_number} of {self.rounds}, row {index + 1} of " \
                        f"{len(self.rows)}: {row.name}"
                for allocator in self.turn(round_number + index):
                    progress.show(place, allocator.name, clock.seconds_left(keys))
                    clock.start()
                    sample = row.run(allocator, self._row_folder(row), round_number)
                    clock.stop((row.name, allocator.name))
                    self._compare(sample)
                    writer.add(sample)
                    yield sample

    def turn(self, number):
        """The allocators, rotated by `number`."""
        first = number % len(self.allocators)
        return self.allocators[first:] + self.allocators[:first]

    def _compare(self, sample):
        """A result other than the first one seen of its row is a failure."""
        if sample.status != OK:
            return
        first = self._checks.setdefault(sample.row, sample)
        if sample.check != first.check:
            sample.status = DIFFERS
            sample.detail = f"its result is {sample.check}, {first.allocator}'s {first.check}"

    def _row_folder(self, row):
        return os.path.join(self._folder, row.name.replace("/", "@"))
