# SPDX-License-Identifier: MIT
"""Runs the workloads, each once on the system's malloc and once on slabmalloc, and reports.

It imports the report's modules after the programs have ended: see process.py.
"""

import os
import signal
import sys
from dataclasses import dataclass

from comparison import differences
from malloc_choice import MallocChoice
from messages import complain, say
from preload import Preload, remove_folder, temporary_folder
from program import OWN_FAILURE
from record import Totals, read_totals
from units import mebibytes_text, seconds_text
from workloads import WORKLOADS
from workloads.command import Measurement, WorkloadFailed

# Every workload makes many more.
LEAST_ALLOCATIONS = 10_000
SYSTEM, SLABMALLOC = "system", "slabmalloc"


@dataclass
class Result:
    """Both runs of one workload."""

    name: str
    system: Measurement
    slabmalloc: Measurement
    totals: Totals


class Suite:
    """The runs of some workloads under one temporary folder, and their errors."""

    def __init__(self, preload):
        self._preload = preload
        self.folder = os.fsdecode(temporary_folder("run"))
        self.results = []
        self.errors = []

    def run(self, workload):
        """Runs one workload on both mallocs and compares what they wrote."""
        say(f"{workload.name} ...")
        errors_before = len(self.errors)
        folder = os.path.join(self.folder, workload.name)
        runs = {title: self._run_once(workload, os.path.join(folder, title), title)
                for title in (SYSTEM, SLABMALLOC)}
        if None not in runs.values():
            self._check(workload, folder, runs)
        if len(self.errors) > errors_before:
            self.errors.append(f"{workload.name}: its files are kept in {folder}")
        else:
            remove_folder(folder)

    def close(self):
        """Removes the folder unless something in it is to be looked at."""
        if not self.errors:
            remove_folder(self.folder)

    def _run_once(self, workload, folder, title):
        """(Measurement, MallocChoice) of one run; None, with an error noted, if it failed."""
        os.makedirs(folder)
        malloc = MallocChoice(title, folder, self._preload if title == SLABMALLOC else None)
        try:
            workload.prepare(folder)
            measurement = workload.run(folder, malloc)
        except WorkloadFailed as failure:
            self.errors.append(f"{workload.name} on {_malloc_name(title)}: {failure}")
            return None
        except OSError as error:
            self.errors.append(f"{workload.name} on {_malloc_name(title)}: {error}")
            return None
        outcome = measurement.outcome
        say(f"  on {_malloc_name(title)}: {seconds_text(outcome.wall_seconds)} s, "
            f"{mebibytes_text(outcome.peak_bytes)} MiB")
        return measurement, malloc

    def _check(self, workload, folder, runs):
        (system, _), (slabmalloc, malloc) = runs[SYSTEM], runs[SLABMALLOC]
        totals = read_totals(malloc.records_path)
        self.results.append(Result(workload.name, system, slabmalloc, totals))
        if slabmalloc.pid not in totals.pids:
            self.errors.append(f"{workload.name}: its process left no record")
        elif totals.allocations < LEAST_ALLOCATIONS:
            self.errors.append(f"{workload.name}: slabmalloc served {totals.allocations} "
                               "allocations only: another malloc is at work")
        if totals.unreadable:
            self.errors.append(f"{workload.name}: {totals.unreadable} unreadable records")
        self.errors += [f"{workload.name}: {sentence}" for sentence in
                        differences(*(os.path.join(folder, title, "compared")
                                      for title in (SYSTEM, SLABMALLOC)))]


def _malloc_name(title):
    return "slabmalloc" if title == SLABMALLOC else "the system's malloc"


def choose(only):
    """The workloads named in `only`, or all. Fails: ValueError for a name that is none."""
    names = [workload.name for workload in WORKLOADS]
    unknown = [name for name in only or () if name not in names]
    if unknown:
        raise ValueError(f"no workload `{unknown[0]}`: there are {', '.join(names)}")
    return [workload for workload in WORKLOADS if only is None or workload.name in only]


def run(library, only=None):
    """Runs everything and returns the exit status."""
    try:
        workloads = choose(only)
    except ValueError as error:
        complain(error)
        return OWN_FAILURE
    # An exception, unlike the default, lets the driver stop its programs and clean up.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    preload = Preload(library)
    suite = Suite(preload)
    try:
        for workload in workloads:
            suite.run(workload)
        from results import report
        report([workload.note for workload in workloads], suite.results, suite.errors)
    except KeyboardInterrupt:
        complain("interrupted")
        suite.errors.clear()
        return 128 + signal.SIGINT
    finally:
        suite.close()
        preload.close()
    return 1 if suite.errors else 0
