# SPDX-License-Identifier: MIT
"""The report as text: one table a metric, their geometric means once more, then what failed."""

from allocators import SLABMALLOC
from table import Group, render, wrap
from units import mebibytes_text, plural

MARK = "!"
TITLES = {
    "wall_seconds": "wall time",
    "cpu_seconds": "CPU time",
    "peak_bytes": "peak memory",
    "after_bytes": "memory held after everything is freed",
}
MISSING = "-"
# What a table needs with all peers and one more.
WIDTH = 140
SHOWN_FAILURES = 20


def lines(report, width):
    """All lines of the report."""
    result = []
    for metric in TITLES:
        if report.rows_with(metric):
            result += ["", *_metric_lines(report, metric, width)]
    return [*result, "", *_summary_lines(report, width), *_failure_lines(report)]


def _summary_lines(report, width):
    """All geometric means in one table."""
    rows = [[TITLES[metric], *_mean_cells(report, metric)] for metric in TITLES
            if report.rows_with(metric)]
    names = [_with_mark_space(name) if name == SLABMALLOC else name for name in report.allocators]
    return render("geometric mean", [Group("relative to the best peer", names)], rows, width)


def _metric_lines(report, metric, width):
    rows = [_row(report, row, metric) for row in report.rows_with(metric)]
    names = [_with_mark_space(name) if name == SLABMALLOC else name for name in report.allocators]
    unit = "s" if metric.endswith("seconds") else "MiB"
    groups = [Group("relative to the best peer", names),
              Group("least of the rounds", [f"{SLABMALLOC} {unit}", f"best peer {unit}", "which"]),
              Group("spread", [SLABMALLOC, "best peer"])]
    beyond = [row for row in report.rows_with(metric) if report.beyond(row, metric)]
    rows.append(["geometric mean", *_mean_cells(report, metric), *[""] * 5])
    body = render("row", groups, rows, width)
    sentence = f"{len(beyond)} of {plural(len(rows) - 1, 'row')} beyond the target ({MARK})"
    return [TITLES[metric].upper(), *body, *wrap(": ".join([sentence, ", ".join(beyond)])
                                                 if beyond else sentence, width)]


def _row(report, row, metric):
    cells = [row]
    for name in report.allocators:
        cell = _ratio_text(report.ratio(row, metric, name))
        if name == SLABMALLOC:
            cell = cell + MARK if report.beyond(row, metric) else _with_mark_space(cell)
        cells.append(cell)
    best = report.best_peer(row, metric)
    shown = [report.figure(row, metric, name) if name else None for name in (SLABMALLOC, best)]
    return cells + [_value_text(figure, metric) for figure in shown] + [best or MISSING] \
        + [f"{100 * figure.spread:.0f} %" if figure else MISSING for figure in shown]


def _mean_cells(report, metric):
    cells = []
    for name in report.allocators:
        cell = _ratio_text(report.geometric_mean(metric, name))
        if name == SLABMALLOC:
            cell = cell + MARK if report.mean_beyond(metric) else _with_mark_space(cell)
        cells.append(cell)
    return cells


def _with_mark_space(text):
    return text + " " * len(MARK)


def _ratio_text(ratio):
    return MISSING if ratio is None else f"{ratio:.2f}"


def _value_text(figure, metric):
    if figure is None:
        return MISSING
    return f"{figure.least:.3f}" if metric.endswith("seconds") else mebibytes_text(figure.least)


def _failure_lines(report):
    if not report.failures:
        return ["", "Every run succeeded, with the same result under every allocator."]
    shown = [f"{sample.row}, {sample.allocator}, round {sample.round}: {sample.status}: "
             f"{sample.detail}" for sample in report.failures[:SHOWN_FAILURES]]
    more = len(report.failures) - len(shown)
    return ["", f"{plural(len(report.failures), 'failed run')}:", *shown] \
        + ([f"and {more} more"] if more else [])
