# SPDX-License-Identifier: MIT
"""Runs rows under allocators, in turns.

    for each round: for each row: for each allocator, starting with another one each time

so that other work of the machine meets all allocators alike.
"""

import os
import time

from sample import DIFFERS, OK


class Schedule:
    """`rows` x `allocators` x `rounds`; the rows have their files in `folder`."""

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
        began = round_ended = time.monotonic()
        for round_number in range(1, self.rounds + 1):
            round_began, round_ended = round_ended, time.monotonic()
            next_end = round_ended + (round_ended - round_began)
            if limit_seconds and round_number > 1 and next_end > began + limit_seconds:
                return
            for index, row in enumerate(self.rows):
                place = f"round {round_number} of {self.rounds}, row {index + 1} of " \
                        f"{len(self.rows)}: {row.name}"
                for allocator in self.turn(round_number + index):
                    progress.begin(place, allocator.name)
                    sample = row.run(allocator, self._row_folder(row), round_number)
                    progress.advance()
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
