# SPDX-License-Identifier: MIT
"""The report as tables: one for each metric, one of their geometric means, then the failures."""

from allocators import SLABMALLOC
from output import new_table, unwrapped
from rich.text import Text
from units import mebibytes_text, plural, ratio_text

MARK = "!"
TITLES = {
    "wall_seconds": "wall time",
    "cpu_seconds": "CPU time",
    "peak_bytes": "peak memory",
    "after_bytes": "memory held after everything is freed",
    "held_bytes": "memory held after 95 % was freed",
    "trimmed_bytes": "memory held after 95 % was freed, when asked back",
}
LEAST_HEADING = "MEMORY HELD AFTER 95 % WAS FREED relative to the least possible"
MISSING = "-"
# As wide as a table with all peers and one more.
PLAIN_WIDTH = 140
SHOWN_FAILURES = 20


def parts(report):
    """All tables and sentences of the report."""
    result = []
    for metric in TITLES:
        if report.rows_with(metric):
            result += ["", *_metric_parts(report, metric)]
    if report.rows_with("least_bytes"):
        result += ["", *_least_parts(report)]
    return [*result, "", _summary_table(report), "", *_failure_sentences(report)]


def _summary_table(report):
    """All geometric means in one table."""
    table = _ratio_table("geometric mean", report, heading="relative to the best peer")
    for metric in TITLES:
        if report.rows_with(metric):
            table.add_row(TITLES[metric], *_mean_cells(report, metric))
    return table


def _metric_parts(report, metric):
    unit = "s" if metric.endswith("seconds") else "MiB"
    table = _ratio_table("row", report, f"least {unit}\n{SLABMALLOC}", f"least {unit}\nbest peer",
                         "best\npeer", f"spread\n{SLABMALLOC}", "spread\nbest peer",
                         heading=f"{TITLES[metric].upper()} relative to the best peer")
    rows = report.rows_with(metric)
    for row in rows:
        table.add_row(row, *_row_cells(report, row, metric))
    table.add_row("geometric mean", *_mean_cells(report, metric))
    beyond = [row for row in rows if report.beyond(row, metric)]
    sentence = f"{len(beyond)} of {plural(len(rows), 'row')} beyond the target ({MARK})"
    return [table, ": ".join([sentence, ", ".join(beyond)]) if beyond else sentence]


def _least_parts(report):
    """What each allocator holds beside live blocks, and the least that it could hold."""
    table = new_table("row", "allocator", "MiB\nlive", "least\npossible", "\nheld", "of the\nleast",
                      "when\nasked back", "of the\nleast", heading=LEAST_HEADING)
    table.columns[1].justify = "left"
    for row in report.rows_with("least_bytes"):
        for name in report.allocators:
            if report.figure(row, "least_bytes", name):
                table.add_row(row, name, *_least_cells(report, row, name))
    return [table, "The least possible: the OS pages that hold a live byte, as each malloc put it."]


def _least_cells(report, row, name):
    live, least, held, trimmed = (
        report.figure(row, metric, name).least
        for metric in ("live_bytes", "least_bytes", "held_bytes", "trimmed_bytes"))
    return [mebibytes_text(live), mebibytes_text(least),
            mebibytes_text(held), ratio_text(held, least),
            mebibytes_text(trimmed), ratio_text(trimmed, least)]


def _ratio_table(label, report, *further, heading):
    table = new_table(label, *report.allocators, *further, heading=heading)
    if SLABMALLOC in report.allocators:
        # Its cells are as wide as the title. To align them to the right, rich would drop the blank
        # in place of a mark.
        table.columns[1].justify = "left"
    return table


def _row_cells(report, row, metric):
    cells = [_ratio_cell(name, report.ratio(row, metric, name), report.beyond(row, metric))
             for name in report.allocators]
    best = report.best_peer(row, metric)
    shown = [report.figure(row, metric, name) if name else None for name in (SLABMALLOC, best)]
    return cells + [_value_text(figure, metric) for figure in shown] + [best or MISSING] \
        + [f"{100 * figure.spread:.0f} %" if figure else MISSING for figure in shown]


def _mean_cells(report, metric):
    return [_ratio_cell(name, report.geometric_mean(metric, name), report.mean_beyond(metric))
            for name in report.allocators]


def _ratio_cell(name, ratio, beyond):
    text = MISSING if ratio is None else f"{ratio:.2f}"
    if name != SLABMALLOC:
        return text
    text = text.rjust(len(SLABMALLOC) - len(MARK))
    return Text(text + MARK, "red") if beyond else text


def _value_text(figure, metric):
    if figure is None:
        return MISSING
    return f"{figure.least:.3f}" if metric.endswith("seconds") else mebibytes_text(figure.least)


def _failure_sentences(report):
    if not report.failures:
        return ["Every run succeeded, with the same result under every allocator."]
    shown = [unwrapped(f"{sample.row}, {sample.allocator}, round {sample.round}: {sample.status}: "
                       f"{sample.detail}") for sample in report.failures[:SHOWN_FAILURES]]
    more = len(report.failures) - len(shown)
    return [f"{plural(len(report.failures), 'failed run')}:", *shown] \
        + ([f"and {more} more"] if more else [])
