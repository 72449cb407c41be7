# SPDX-License-Identifier: MIT
"""The summary of one program that ran on slabmalloc."""

import picture
from output import new_table, unwrapped
from units import bytes_text, count_text, mebibytes_text, plural, seconds_text

HEAP_TITLES = ("allocations", "frees", "frees by\nother thread", "live\nat exit")


def heap_cells(totals):
    """The cells below HEAP_TITLES."""
    if totals.processes == 0:
        return ["no record", "-", "-", "-"]
    return [count_text(totals.allocations), count_text(totals.frees),
            count_text(totals.remote_frees), bytes_text(totals.live_bytes)]


def peak_text(peak_bytes, floor_bytes):
    """A peak in MiB; at the floor of what can be measured it is an upper bound."""
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
    """Sentences on the processes that are known to have left no record."""
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


def summarise(name, pid, outcome, totals, floor_bytes, console):
    """The parts printed after the program has ended."""
    parts = []
    if outcome.signal_number is not None:
        parts.append(unwrapped(f"scripts/run: {name} {outcome.describe_end()}"))
    parts += [unwrapped(f"scripts/run: {sentence}")
              for sentence in missing_records(name, pid, outcome, totals)]
    table = new_table("program", "wall s", "CPU s", "peak\nRSS MiB", *HEAP_TITLES)
    table.add_row(name, seconds_text(outcome.wall_seconds), seconds_text(outcome.cpu_seconds),
                  peak_text(outcome.peak_bytes, floor_bytes), *heap_cells(totals))
    parts.append(table)
    if totals.processes:
        parts.append(describe_processes(totals))
    drawing = picture.draw(totals, console)
    return [*parts, "", *drawing] if drawing else parts
