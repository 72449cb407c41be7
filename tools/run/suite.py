# SPDX-License-Identifier: MIT
"""Runs the workloads, each once on the system's malloc and once on slabmalloc, and reports."""

import os
import signal
import sys
from dataclasses import dataclass

import picture
from comparison import differences
from malloc_choice import MallocChoice
from preload import Preload, remove_folder, temporary_folder
from program import OWN_FAILURE
from record import Totals, read_totals
from summary import HEAP_GROUP, describe_processes, heap_cells
from table import Group, render, wrap
from terminal import standard_error, standard_output
from units import mebibytes_text, ratio_text, seconds_text
from workloads import WORKLOADS
from workloads.command import Measurement, WorkloadFailed

PAIR = ["system", "slab", "ratio"]
GROUPS = [Group("wall s", PAIR), Group("CPU s", PAIR), Group("peak RSS MiB", PAIR), HEAP_GROUP]
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

    def cells(self):
        """The row of the table."""
        row = [self.name]
        for attribute, text in (("wall_seconds", seconds_text), ("cpu_seconds", seconds_text),
                                ("peak_bytes", mebibytes_text)):
            old = getattr(self.system.outcome, attribute)
            new = getattr(self.slabmalloc.outcome, attribute)
            row += [text(old), text(new), ratio_text(new, old)]
        return row + heap_cells(self.totals)


class Suite:
    """The runs of some workloads under one temporary folder, and what went wrong in them."""

    def __init__(self, preload, progress):
        self._preload = preload
        self._progress = progress
        self.folder = os.fsdecode(temporary_folder("run"))
        self.results = []
        self.errors = []

    def run(self, workload):
        """Runs one workload on both mallocs and compares what they wrote."""
        self._progress.write(f"{workload.name} ...")
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
        self._progress.write(f"  on {_malloc_name(title)}: {seconds_text(outcome.wall_seconds)} s, "
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


def report(workloads, suite, terminal):
    """Prints the table, the picture and the errors."""
    if suite.results:
        rows = [result.cells() for result in suite.results]
        terminal.write("", *render("program", GROUPS, rows, terminal.width), "")
        for workload in workloads:
            terminal.write(*wrap(workload.note or "", terminal.width))
        everything = Totals()
        for result in suite.results:
            everything.add_totals(result.totals)
        terminal.write(*wrap(describe_processes(everything), terminal.width), "")
        terminal.write(*picture.draw(everything, terminal))
    if suite.errors:
        terminal.write("", *(terminal.paint(f"error: {text}", "31") for text in suite.errors))
    elif suite.results:
        terminal.write("", "The outputs of both runs are the same, byte for byte.")


def run(library, only=None):
    """Runs everything and returns the exit status."""
    progress = standard_error()
    try:
        workloads = choose(only)
    except ValueError as error:
        progress.write(f"scripts/run: {error}")
        return OWN_FAILURE
    # An exception, unlike the default, lets what was started be stopped and cleaned up.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    preload = Preload(library)
    suite = Suite(preload, progress)
    try:
        for workload in workloads:
            suite.run(workload)
        report(workloads, suite, standard_output())
    except KeyboardInterrupt:
        progress.write("scripts/run: interrupted")
        suite.errors.clear()
        return 128 + signal.SIGINT
    finally:
        suite.close()
        preload.close()
    return 1 if suite.errors else 0
