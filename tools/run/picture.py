# SPDX-License-Identifier: MIT
"""The picture of a heap at exit: one bar a size class, slots used and free.

A bar is as long as the bytes of the class's slots, against the class that has most:

       64 B  ########........                1,024 used          960 free   52 %
"""

from units import bytes_text, count_text, plural

USED_COLOUR = "36"
FREE_COLOUR = "2"
BAR_WIDTHS = (10, 80)


def draw(totals, terminal):
    """The lines of the picture of `totals`; none if no class has a slot."""
    rows = [(size, entry) for size, entry in sorted(totals.classes.items()) if entry.slots]
    if not rows:
        return []
    cells = [(_size_text(size), f"{count_text(entry.used)} used", f"{count_text(entry.free)} free",
              f"{100 * entry.used // entry.slots} %") for size, entry in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*cells)]
    bar_width = terminal.width - sum(widths) - 2 * len(widths)
    bar_width = max(BAR_WIDTHS[0], min(BAR_WIDTHS[1], bar_width))
    most_bytes = max(size * entry.slots for size, entry in rows)
    used_mark, free_mark = ("█", "░") if terminal.unicode else ("#", ".")
    lines = [f"slots used ({used_mark}) and free ({free_mark}) by object size at exit, "
             "bars as long as the slots' bytes"]
    for (size, entry), (size_cell, *counts) in zip(rows, cells):
        used, free = bar_parts(size * entry.slots, most_bytes, entry.used, entry.slots, bar_width)
        bar = (terminal.paint(used_mark * used, USED_COLOUR)
               + terminal.paint(free_mark * free, FREE_COLOUR) + " " * (bar_width - used - free))
        numbers = "  ".join(cell.rjust(width) for cell, width in zip(counts, widths[1:]))
        lines.append(f"{size_cell.rjust(widths[0])}  {bar}  {numbers}")
    if totals.large_count:
        lines.append(f"larger: {plural(totals.large_count, 'live object')}, "
                     f"{bytes_text(totals.large_bytes)}")
    return lines


def bar_parts(length, full_length, used, slots, width):
    """Cells for used and for free slots in a bar of `length` of `full_length`.

    Whatever is not nothing has at least one cell, whatever is not all leaves one, if there are two.
    """
    cells = max(1, round(width * length / full_length))
    if used and used < slots:
        cells = min(width, max(2, cells))
    used_cells = round(cells * used / slots)
    if 0 < used < slots:
        used_cells = max(1, min(cells - 1, used_cells))
    return used_cells, cells - used_cells


def _size_text(size):
    return f"{size} B" if size < 1024 or size % 1024 else f"{size // 1024} KiB"
