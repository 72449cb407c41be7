# SPDX-License-Identifier: MIT
"""The summary of one program that ran on slabmalloc."""

import picture
from table import Group, render, wrap
from units import bytes_text, count_text, mebibytes_text, plural, seconds_text

HEAP_GROUP = Group("slabmalloc, all processes",
                   ["allocations", "frees", "by other thread", "live at exit"])


def heap_cells(totals):
    """The cells of HEAP_GROUP."""
    if totals.processes == 0:
        return ["no record", "-", "-", "-"]
    return [count_text(totals.allocations), count_text(totals.frees),
            count_text(totals.remote_frees), bytes_text(totals.live_bytes)]


def peak_text(peak_bytes, floor_bytes):
    """A peak in MiB; one at the floor of what can be seen is told as an upper bound."""
    if peak_bytes <= floor_bytes:
        return f"<= {mebibytes_text(floor_bytes)}"
    return mebibytes_text(peak_bytes)


def describe_processes(totals):
    """Which processes wrote a record, as `records of 3 processes: 1 g++, 2 ld; 4 threads`."""
    names = ", ".join(f"{count_text(count)} {name}"
                      for name, count in sorted(totals.programs.items()))
    return f"records of {plural(totals.processes, 'process')}: {names}; " \
           f"{plural(totals.threads, 'thread')}"


def missing_records(name, pid, outcome, totals):
    """What to say of processes known to have left no record: a list of sentences."""
    sentences = []
    reason = "a process that leaves by _exit, runs a static program or clears its environment " \
             "writes none"
    if outcome.signal_number is not None:
        reason = "a process that a signal ends writes none"
    if totals.processes == 0:
        sentences.append(f"{name} left no record: {reason}")
    elif pid not in totals.pids:
        sentences.append(f"{name} itself left no record ({reason}); the figures are those of the "
                         "processes it started")
    if totals.unreadable:
        sentences.append(f"{plural(totals.unreadable, 'record')} could not be read")
    return sentences


def summarise(name, pid, outcome, totals, floor_bytes, terminal):
    """The lines printed after the program has ended."""
    lines = []
    if outcome.signal_number is not None:
        lines.append(f"scripts/run: {name} {outcome.describe_end()}")
    lines += [f"scripts/run: {sentence}"
              for sentence in missing_records(name, pid, outcome, totals)]
    measured = [seconds_text(outcome.wall_seconds), seconds_text(outcome.cpu_seconds),
                peak_text(outcome.peak_bytes, floor_bytes)]
    groups = [Group("time s", ["wall", "CPU"]), Group("peak RSS", ["MiB"]), HEAP_GROUP]
    lines += render("program", groups, [[name, *measured, *heap_cells(totals)]], terminal.width)
    if totals.processes:
        lines += wrap(describe_processes(totals), terminal.width)
    drawing = picture.draw(totals, terminal)
    return lines + ([""] + drawing if drawing else [])
