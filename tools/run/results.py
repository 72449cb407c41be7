# SPDX-License-Identifier: MIT
"""The report on the workloads: two tables, the picture of the heaps, and the errors."""

import sys

import picture
from output import new_table, open_console, show, unwrapped
from record import Totals
from summary import HEAP_TITLES, describe_processes, heap_cells
from units import mebibytes_text, ratio_text, seconds_text

# Attribute of an outcome, its title, and how it is told.
MEASURES = (("wall_seconds", "wall s", seconds_text), ("cpu_seconds", "CPU s", seconds_text),
            ("peak_bytes", "peak\nRSS MiB", mebibytes_text))


def report(notes, results, errors):
    """Prints everything on standard output."""
    console = open_console(sys.stdout)
    parts = []
    if results:
        totals = Totals()
        for result in results:
            totals.add_totals(result.totals)
        parts += ["", _cost_table(results), "", _heap_table(results), "",
                  *filter(None, notes), describe_processes(totals), "",
                  *picture.draw(totals, console)]
    if errors:
        parts += ["", *(unwrapped(f"error: {text}", "red") for text in errors)]
    elif results:
        parts += ["", "The outputs of both runs are the same, byte for byte."]
    show(console, parts)


def _cost_table(results):
    titles = [title for _, measure, _ in MEASURES
              for title in (f"{measure}\nsystem", "slab", "ratio")]
    table = new_table("program", *titles,
                      heading="time and peak memory on the system's malloc and on slabmalloc")
    for result in results:
        cells = []
        for attribute, _, text in MEASURES:
            old, new = (getattr(run.outcome, attribute)
                        for run in (result.system, result.slabmalloc))
            cells += [text(old), text(new), ratio_text(new, old)]
        table.add_row(result.name, *cells)
    return table


def _heap_table(results):
    table = new_table("program", *HEAP_TITLES, heading="slabmalloc, all processes")
    for result in results:
        table.add_row(result.name, *heap_cells(result.totals))
    return table
