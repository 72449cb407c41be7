# SPDX-License-Identifier: MIT
"""Prints reports by rich: with colours on a terminal, plain anywhere else.

It takes memory, so scripts/run imports it after its programs have ended: see process.py.
"""

import os
import re

from rich.box import Box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 100
# More than any table has.
AMPLE_WIDTH = 10_000
# A line below the titles and blanks between the columns.
RULE = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)


def open_console(stream, plain_width=PLAIN_WIDTH):
    """A console on `stream`, as wide as the terminal, or `plain_width` where there is none."""
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = plain_width
    return console


def new_table(*titles, heading=None):
    """An empty table whose first column has names and whose others have figures."""
    table = Table(title=heading, title_justify="left", box=RULE, show_edge=False, pad_edge=False,
                  padding=(0, 1, 0, 0))
    for index, title in enumerate(titles):
        table.add_column(title, justify="right" if index else "left", vertical="bottom")
    return table


def unwrapped(text, style=""):
    """A line that stays one, so that it can be searched for and copied."""
    return Text(text, style)


def show(console, parts):
    """Prints strings, which are wrapped, lines of `unwrapped`, and tables, as wide as they need.

    A stream that is closed or full loses them.
    """
    page_width = console.width
    with console.capture() as capture:
        for part in parts:
            console.width = max(page_width, _table_width(console, part))
            console.print(part, soft_wrap=isinstance(part, Text))
    text = re.sub(" +$", "", capture.get(), flags=re.MULTILINE)
    try:
        print(text, end="", file=console.file, flush=True)
    except (OSError, ValueError):
        # Python would write the rest once more at its end, and exit with a status of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), console.file.fileno())


def _table_width(console, part):
    if not isinstance(part, Table):
        return 0
    return Measurement.get(console, console.options.update(width=AMPLE_WIDTH), part).maximum
