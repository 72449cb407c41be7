# SPDX-License-Identifier: MIT
"""The driver behind scripts/bench: `ROOT BUILD [OPTIONS] [NAME…]`.

    arguments ── what to run
    patterns, programs ── the rows; launch: starts and measures a program
    allocators ── whose libraries are preloaded
    schedule ── runs them in turns, sample: one line of raw figures, machine: their head
    report ── targets ── ratios, means and marks; tables, figure: how they are shown

What it shares with scripts/run (processes, tables, the programs' work) lies in tools/run.
"""

import os
import shlex
import shutil
import signal
import sys
import time

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "run"))

# pylint: disable=wrong-import-position
import arguments
import machine
import patterns
import programs
import sample
import tables
from allocators import SLABMALLOC, Allocator, NoAllocator, further_allocator, installed_peers
from preload import temporary_folder
from progress import Progress
from report import Report
from schedule import Schedule
from terminal import standard_output


def main(words):
    """Returns the exit status."""
    root, build, *words = words
    try:
        given = arguments.parse(words)
        if given.report:
            return show(given.report)
        rows = all_rows(build, given)
        chosen = arguments.choose(given.names, rows)
        if given.packages:
            print(*sorted({package for row in chosen for package in row.packages}), sep="\n")
            return 0
        if given.list:
            return list_rows(chosen)
        library = os.path.realpath(given.library or os.path.join(build, "libslabmalloc.so"))
        allocators = [Allocator(SLABMALLOC, library, "this tree"), *installed_peers(),
                      *map(further_allocator, given.further)]
        return run(given, words, root, chosen, allocators)
    except (arguments.UsageError, NoAllocator, OSError, ValueError) as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return 2


def all_rows(build, given):
    """Every row, in the order of the report."""
    folder = os.path.join(build, "benchmark", "malloc")
    return [*patterns.rows(os.path.join(folder, "malloc_workloads"), given.percent,
                           given.settle_milliseconds),
            *programs.rows(os.path.join(folder, "malloc_launch"))]


def list_rows(rows):
    """Prints the names that select rows."""
    print(f"{'NAME':28}group")
    for row in rows:
        print(f"{row.name:28}{row.group}")
    print(f"{'core':28}core")
    return 0


def run(given, words, root, rows, allocators):
    """Runs the rows and prints the report; 1 if a run failed."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    folder = os.fsdecode(temporary_folder("bench"))
    path = given.output or os.path.join(root, "build", "bench",
                                        time.strftime("malloc-%Y%m%dT%H%M%SZ.csv", time.gmtime()))
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    command = shlex.join(["scripts/bench", *words])
    writer = sample.Writer(path, machine.describe(command, root, allocators))
    progress = Progress()
    print(f"{len(rows)} rows under {len(allocators)} allocators, {given.rounds} rounds; raw figures "
          f"go to {path}", flush=True)
    status = 0
    try:
        schedule = Schedule(rows, allocators, given.rounds, folder)
        schedule.prepare()
        for entry in schedule.run(writer, progress, given.limit_seconds):
            status = max(status, int(entry.status != sample.OK))
        writer.comment(f"load after: {machine.load()}")
    except KeyboardInterrupt:
        writer.comment("interrupted")
        status = 128 + signal.SIGINT
    finally:
        progress.end()
        writer.close()
        shutil.rmtree(folder, ignore_errors=True)
    return show(path) or status


def show(path):
    """Prints the report on a file of raw figures."""
    comments, samples = sample.read(path)
    terminal = standard_output()
    terminal.write(*(f"# {comment}" for comment in comments))
    terminal.write(*tables.lines(Report(samples), max(terminal.width, tables.WIDTH)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
