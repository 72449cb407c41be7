# SPDX-License-Identifier: MIT
"""Tables of text: columns in groups under a common title, split where the width ends."""

import textwrap

GAP = "  "


class Group:
    """Columns that stay together: `title` stands above `names` (may be empty)."""

    def __init__(self, title, names):
        self.title = title
        self.names = names


def render(label, groups, rows, width):
    """The lines of a table. A row is its label and then one cell for each column of each group.

    Groups that do not fit beside the others follow in a further table with the labels repeated.
    """
    label_width = max(len(cell) for cell in [label, *(row[0] for row in rows)])
    blocks, first = [], 1
    for group in groups:
        last = first + len(group.names)
        blocks.append(_block(group, [row[first:last] for row in rows]))
        first = last
    lines, shelf, used = [], [], label_width
    for block in blocks:
        block_width = len(GAP) + len(block[0])
        if shelf and used + block_width > width:
            lines += [*_join(label, label_width, rows, shelf), ""]
            shelf, used = [], label_width
        shelf.append(block)
        used += block_width
    return lines + _join(label, label_width, rows, shelf)


def wrap(sentence, width):
    """The lines of a sentence that stands below a table."""
    return textwrap.wrap(sentence, width, subsequent_indent=GAP, break_on_hyphens=False)


def _block(group, rows):
    """The lines of one group, all of the same length: title, names, rows."""
    widths = [max(len(cell) for cell in column) for column in zip(group.names, *rows)]
    missing = len(group.title) - (sum(widths) + len(GAP) * (len(widths) - 1))
    widths[0] += max(0, missing)
    body = [GAP.join(cell.rjust(size) for cell, size in zip(row, widths))
            for row in [group.names, *rows]]
    return [group.title.ljust(len(body[0])), *body]


def _join(label, label_width, rows, blocks):
    labels = ["", label, *(row[0] for row in rows)]
    lines = [GAP.join([text.ljust(label_width), *(block[index] for block in blocks)]).rstrip()
             for index, text in enumerate(labels)]
    if not lines[0]:
        lines.pop(0)
    rule_at = len(lines) - len(rows)
    lines.insert(rule_at, "-" * max(len(line) for line in lines))
    return lines
