# SPDX-License-Identifier: MIT
"""The driver behind scripts/bench: `ROOT BUILD [OPTIONS] [NAME…]`.

    arguments ── the command line
    patterns, programs ── the rows; launch: starts and measures a program
    allocators ── whose libraries are preloaded
    schedule ── runs them in turns, sample: one line of raw figures, machine: their head
    report ── targets ── ratios, means and marks; tables, figure: how they are shown

It shares processes, output and the programs' work with scripts/run: they lie in tools/run.
"""

import os
import re
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
from allocators import (SLABMALLOC, Allocator, NoAllocator, choose_peers, further_allocator,
                        installed_peers, peer_packages)
from output import open_console, show, unwrapped
from preload import temporary_folder
from progress import RunProgress
from report import Report
from schedule import Schedule
from units import plural


FIGURE = os.path.join("docs", "malloc-benchmark.svg")


def main(words):
    """Returns the exit status."""
    root, build, *words = words
    try:
        given = arguments.parse(words)
        if given.report:
            print_report(given.report)
            return 0
        if given.figure:
            return draw(given.figure, given.output or os.path.join(root, FIGURE))
        peers = choose_peers(given.against)
        further = [further_allocator(text) for text in given.further]
        if given.check:
            return 0
        rows = arguments.choose(given.names, all_rows(build, given))
        if given.packages:
            return list_packages(rows, peers)
        if given.list:
            return list_rows(rows)
        library = os.path.realpath(os.path.join(build, "libslabmalloc.so"))
        own = Allocator(SLABMALLOC, library, f"{SLABMALLOC} {own_version(root)}", "this tree")
        allocators = [own, *installed_peers(peers, build), *further]
        return run(given, words, root, rows, allocators)
    except OSError as error:
        print(f"scripts/bench: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except (arguments.UsageError, NoAllocator, ValueError) as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return 2


def own_version(root):
    """The version of this tree."""
    with open(os.path.join(root, "include", "slabmalloc", "version.hpp"),
              encoding="utf-8") as file:
        return ".".join(re.findall(r"version_(?:major|minor|patch) = (\d+);", file.read()))


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
    return 0


def list_packages(rows, peers):
    """Prints the packages that a run needs, as words for ensure_packages."""
    print(*sorted({package for row in rows for package in row.packages}), *peer_packages(peers),
          sep="\n")
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
    print(f"{plural(len(rows), 'row')} under {plural(len(allocators), 'allocator')}, "
          f"{'at most ' if given.limit_seconds else ''}{plural(given.rounds, 'round')}; "
          f"raw figures go to {path}", flush=True)
    if loaded := machine.warning([f"processor: {os.cpu_count()} online",
                                  f"load before: {machine.load()}"]):
        print(f"scripts/bench: {loaded}", file=sys.stderr)
    other_work = machine.OtherWork()
    progress = RunProgress(given.rounds * len(rows) * len(allocators))
    status = 0
    try:
        for allocator in allocators:
            allocator.prepare(folder)
        schedule = Schedule(rows, allocators, given.rounds, folder)
        schedule.prepare()
        for entry in schedule.run(writer, progress, given.limit_seconds):
            status = max(status, int(entry.status != sample.OK))
        writer.comment(f"load after: {machine.load()}")
        writer.comment(f"other work: {other_work.percent():.0f} %")
    except KeyboardInterrupt:
        writer.comment("interrupted")
        status = 128 + signal.SIGINT
    finally:
        progress.end()
        writer.close()
        shutil.rmtree(folder, ignore_errors=True)
    print_report(path)
    return status


def print_report(path):
    """Prints the report on a file of raw figures."""
    comments, samples = sample.read(path)
    loaded = machine.warning(comments)
    show(open_console(sys.stdout, tables.PLAIN_WIDTH),
         [*(unwrapped(f"# {comment}") for comment in comments),
          *(["", unwrapped(loaded)] if loaded else []),
          *tables.parts(Report(samples), machine.labels(comments))])


def draw(path, output):
    """Draws the figure of a file of raw figures."""
    # Imported here, since only this needs matplotlib.
    import figure  # pylint: disable=import-outside-toplevel
    comments, samples = sample.read(path)
    figure.draw(Report(samples), machine.labels(comments), output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
