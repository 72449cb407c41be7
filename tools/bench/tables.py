# SPDX-License-Identifier: MIT
"""The report as tables: the geometric means, one table for each metric, then the failures."""

from allocators import SLABMALLOC
from output import new_table, unwrapped
from report import LEAST_ROUNDS
from rich.text import Text
from units import mebibytes_text, plural, ratio_text

MARK = "!"
TIE = "~"
# Ratios below 100 stand in one column.
RATIO_WIDTH = 5
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


def parts(report, labels=None):
    """All tables and sentences of the report, the means first. `labels` has the allocators' names
    and versions, as `gperftools tcmalloc 2.10`."""
    labels = labels or {}
    result = ["", *_summary_parts(report, labels)]
    for metric in TITLES:
        if report.rows_with(metric):
            result += ["", *_metric_parts(report, labels, metric)]
    if report.rows_with("least_bytes"):
        result += ["", *_least_parts(report)]
    return [*result, "", *_failure_sentences(report)]


def _summary_parts(report, labels):
    """All geometric means in one table, with their intervals."""
    table = _ratio_table("geometric mean", report, labels, heading="GEOMETRIC MEANS relative "
                         "to the best peer")
    for metric in TITLES:
        if report.rows_with(metric):
            table.add_row(TITLES[metric], *_mean_cells(report, metric))
            if len(report.rounds) >= LEAST_ROUNDS:
                table.add_row("", *_interval_cells(report, metric))
    rounds = len(report.rounds)
    if rounds < LEAST_ROUNDS:
        return [table, f"{plural(rounds, 'round')} measured: too few for intervals, so nothing is "
                       "ranked or marked. For a ranking, run more (--rounds)."]
    return [table, f"{plural(rounds, 'round')} measured; a-b is the interval of 95 %. "
                   f"{MARK}: it lies beyond the target. {TIE}: it overlaps the best peer's, so "
                   "either may be ahead."]


def _metric_parts(report, labels, metric):
    unit = "s" if metric.endswith("seconds") else "MiB"
    table = _ratio_table("row", report, labels, f"{SLABMALLOC}\nleast {unit}",
                         f"best peer\nleast {unit}", "best\npeer", "\nfirst",
                         heading=f"{TITLES[metric].upper()} relative to the best peer")
    table.columns[-1].justify = table.columns[-2].justify = "left"
    rows = report.rows_with(metric)
    for row in rows:
        table.add_row(row, *_row_cells(report, row, metric))
    beyond = [row for row in rows if report.beyond(row, metric)]
    sentence = f"{len(beyond)} of {plural(len(rows), 'row')} beyond the target ({MARK})"
    return [table, ": ".join([sentence, ", ".join(beyond)]) if beyond else sentence,
            _ranking_sentence(report, rows, metric)]


def _ranking_sentence(report, rows, metric):
    """How many rows have a first allocator, and how often each is it."""
    firsts = [report.first(row, metric) for row in rows]
    counts = sorted(((firsts.count(name), name) for name in report.allocators if name in firsts),
                    key=lambda entry: -entry[0])
    ranked = sum(count for count, _ in counts)
    names = f": {', '.join(f'{name} {count}' for count, name in counts)}" if counts else ""
    return f"{ranked} of {plural(len(rows), 'row')} ranked{names}; in the others the best overlap"


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


def _ratio_table(label, report, labels, *further, heading):
    titles = [_title(labels.get(name, name)) for name in report.allocators]
    table = new_table(label, *titles, *further, heading=heading)
    # A blank stands in place of a mark. To align them to the right, rich would drop it.
    for column in table.columns[1:1 + len(titles)]:
        column.justify = "left"
    return table


def _title(label):
    """The words of a name and version, one below the other."""
    return "\n".join(label.split())


def _row_cells(report, row, metric):
    names = report.allocators
    cells = [_ratio_cell(report.ratio(row, metric, name),
                         name == SLABMALLOC and report.beyond(row, metric),
                         report.is_tied(row, metric, name)) for name in names]
    best = report.best_peer(row, metric)
    shown = [report.figure(row, metric, name) if name else None for name in (SLABMALLOC, best)]
    return cells + [_value_text(figure, metric) for figure in shown] \
        + [best or MISSING, report.first(row, metric) or MISSING]


def _mean_cells(report, metric):
    means = {name: report.geometric_mean(metric, name) for name in report.allocators}
    return [_ratio_cell(mean and mean.least, name == SLABMALLOC and report.mean_beyond(metric))
            for name, mean in means.items()]


def _interval_cells(report, metric):
    means = [report.geometric_mean(metric, name) for name in report.allocators]
    return ["" if mean is None or mean.high is None else f"{mean.low:.2f}-{mean.high:.2f}"
            for mean in means]


def _ratio_cell(ratio, beyond=False, tied=False):
    text = MISSING if ratio is None else f"{ratio:.2f}"
    text = text.rjust(RATIO_WIDTH) + (MARK if beyond else TIE if tied else "")
    return Text(text, "red") if beyond else text


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
