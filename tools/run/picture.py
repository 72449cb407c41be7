# SPDX-License-Identifier: MIT
"""The picture of a heap at exit: for each size class its slots used and free, and a bar.

A bar is as long as the bytes of the class's slots, against the class that has most:

  64 B  1,024 used  960 free  52 %  ########........
"""

from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from units import bytes_text, count_text, plural

LEAST_BAR_WIDTH, MOST_BAR_WIDTH = 10, 80
PLAIN_MARKS, UNICODE_MARKS = "#.", "█░"


class Bar:
    """Slots used and free, in a bar that has `share` of the width of the column."""

    def __init__(self, share, used, slots, marks):
        self._share = share
        self._used = used
        self._slots = slots
        self._marks = marks

    def __rich_measure__(self, console, options):
        return Measurement(LEAST_BAR_WIDTH, LEAST_BAR_WIDTH)

    def __rich_console__(self, console, options):
        width = min(options.max_width, MOST_BAR_WIDTH)
        used, free = bar_parts(self._share, self._used, self._slots, width)
        yield Text.assemble((self._marks[0] * used, "cyan"), (self._marks[1] * free, "dim"))


def draw(totals, console):
    """The parts of the picture of `totals`; none if no class has a slot."""
    rows = [(size, entry) for size, entry in sorted(totals.classes.items()) if entry.slots]
    if not rows:
        return []
    unicode = console.is_terminal and not console.options.ascii_only
    marks = UNICODE_MARKS if unicode else PLAIN_MARKS
    most_bytes = max(size * entry.slots for size, entry in rows)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0), expand=True)
    for _ in range(4):
        table.add_column(justify="right")
    table.add_column(ratio=1)
    for size, entry in rows:
        table.add_row(_size_text(size), f"{count_text(entry.used)} used",
                      f"{count_text(entry.free)} free", f"{100 * entry.used // entry.slots} %",
                      Bar(size * entry.slots / most_bytes, entry.used, entry.slots, marks))
    parts = [f"slots used ({marks[0]}) and free ({marks[1]}) by object size at exit, "
             "bars as long as the slots' bytes", table]
    if totals.large_count:
        parts.append(f"larger: {plural(totals.large_count, 'live object')}, "
                     f"{bytes_text(totals.large_bytes)}")
    return parts


def bar_parts(share, used, slots, width):
    """Cells for used and for free slots in a bar that has `share` of `width`.

    Slots that are there have at least one cell.
    """
    cells = max(1, round(width * share))
    if used and used < slots:
        cells = min(width, max(2, cells))
    used_cells = round(cells * used / slots)
    if 0 < used < slots:
        used_cells = max(1, min(cells - 1, used_cells))
    return used_cells, cells - used_cells


def _size_text(size):
    return f"{size} B" if size < 1024 or size % 1024 else f"{size // 1024} KiB"
