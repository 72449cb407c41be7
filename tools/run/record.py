# SPDX-License-Identifier: MIT
"""Sums the records of the processes of a run: each wrote one JSON line at its exit."""

import json
from dataclasses import dataclass, field

COUNTERS = ("threads", "allocations", "frees", "remote_frees", "live_bytes", "live_objects")
CLASS_COUNTERS = ("slots", "used")
LARGE_COUNTERS = ("count", "bytes")


@dataclass
class ClassTotals:
    """Slots of one object size, summed over processes."""

    slots: int = 0
    used: int = 0

    @property
    def free(self):
        """Slots that hold no object."""
        return self.slots - self.used


@dataclass
class Totals:
    """Sums over the processes that wrote a record."""

    processes: int = 0
    unreadable: int = 0
    threads: int = 0
    allocations: int = 0
    frees: int = 0
    remote_frees: int = 0
    live_bytes: int = 0
    live_objects: int = 0
    large_count: int = 0
    large_bytes: int = 0
    classes: dict = field(default_factory=dict)
    programs: dict = field(default_factory=dict)
    pids: set = field(default_factory=set)

    def add_record(self, record):
        """Adds one process. Fails: ValueError, with nothing added, if a field is not as agreed."""
        counters = [_counter(record, name) for name in COUNTERS]
        classes = {_counter(entry, "size"): [_counter(entry, name) for name in CLASS_COUNTERS]
                   for entry in _list(record, "classes")}
        large = [_counter(record.get("large"), name) for name in LARGE_COUNTERS]
        pid, program = _counter(record, "pid"), str(record.get("program", "?"))

        self.processes += 1
        self.pids.add(pid)
        self.programs[program] = self.programs.get(program, 0) + 1
        for name, value in zip(COUNTERS, counters):
            setattr(self, name, getattr(self, name) + value)
        for size, values in classes.items():
            self._add_class(size, *values)
        self.large_count += large[0]
        self.large_bytes += large[1]

    def add_totals(self, other):
        """Adds the sums of other processes."""
        for name in (*COUNTERS, "processes", "unreadable", "large_count", "large_bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for size, entry in other.classes.items():
            self._add_class(size, entry.slots, entry.used)
        for program, count in other.programs.items():
            self.programs[program] = self.programs.get(program, 0) + count
        self.pids |= other.pids

    def _add_class(self, size, slots, used):
        entry = self.classes.setdefault(size, ClassTotals())
        entry.slots += slots
        entry.used += used


def _counter(mapping, name):
    value = mapping.get(name) if isinstance(mapping, dict) else None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"no count `{name}`")
    return value


def _list(mapping, name):
    value = mapping.get(name)
    if not isinstance(value, list):
        raise ValueError(f"no list `{name}`")
    return value


def read_totals(path):
    """The sum over the lines of the file at `path`; a missing file is a run without records."""
    totals = Totals()
    try:
        with open(path, "rb") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return totals
    for line in lines:
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("not an object")
            totals.add_record(record)
        except ValueError:
            totals.unreadable += 1
    return totals
