# SPDX-License-Identifier: MIT
"""The figure of a report: for each row a dot for each allocator, relative to the best peer.

Two panels, wall time and peak memory, on a logarithmic scale; the same figures give the same file.
"""

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot  # pylint: disable=wrong-import-position

from allocators import SLABMALLOC  # pylint: disable=wrong-import-position

PANELS = (("wall_seconds", "wall time"), ("peak_bytes", "peak memory"))
OWN_STYLE = {"color": "#c2185b", "marker": "D", "s": 34, "zorder": 4}
PEER_STYLES = (("#607d8b", "o"), ("#ef8a17", "s"), ("#1e88e5", "^"), ("#43a047", "v"),
               ("#8e24aa", "P"), ("#6d4c41", "X"), ("#00838f", "*"),
               ("#9e9d24", "p"), ("#283593", "h"))
MOST = 4.0
LEAST = 0.5
TICKS = (0.5, 0.75, 1, 1.5, 2, 3, 4)
MEAN_LABEL = "geometric mean"
ROW_INCHES = 0.19


def draw(report, labels, path):
    """Writes the SVG file `path`; `labels` has the allocators' names and versions."""
    matplotlib.rcParams.update({"svg.hashsalt": "slabmalloc", "svg.fonttype": "none",
                                "font.family": "sans-serif", "font.size": 9})
    rows = report.rows_with(PANELS[0][0])
    height = ROW_INCHES * (len(rows) + 1) + 1.2
    canvas, axes = pyplot.subplots(1, len(PANELS), sharey=True, figsize=(11, height))
    for axis, (metric, title) in zip(axes, PANELS):
        _draw_panel(axis, report, labels, rows, metric)
        axis.set_title(f"{title}, best peer = 1", fontsize=10)
    axes[0].set_yticks(range(len(rows) + 1), [*rows, MEAN_LABEL])
    axes[0].set_ylim(len(rows) + 0.6, -0.6)
    handles, labels = axes[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False)
    canvas.tight_layout(rect=(0, 0, 1, 1 - 0.35 / height))
    canvas.savefig(path, metadata={"Date": None})
    pyplot.close(canvas)


def _draw_panel(axis, report, labels, rows, metric):
    for name in [*report.peers, SLABMALLOC]:
        if name not in report.allocators:
            continue
        ratios = [report.ratio(row, metric, name) for row in rows]
        mean = report.geometric_mean(metric, name)
        ratios.append(mean and mean.least)
        points = [(min(MOST, max(LEAST, ratio)), index)
                  for index, ratio in enumerate(ratios) if ratio is not None]
        axis.scatter(*zip(*points), label=labels.get(name, name), **_style(report, name))
    axis.set_xscale("log")
    axis.set_xlim(LEAST * 0.95, MOST * 1.05)
    axis.set_xticks(TICKS, [f"≤{tick:g}" if tick == LEAST else f"≥{tick:g}" if tick == MOST
                            else f"{tick:g}" for tick in TICKS])
    axis.minorticks_off()
    axis.axvline(1, color="black", linewidth=0.8, zorder=1)
    axis.axhline(len(rows) - 0.5, color="black", linewidth=0.8)
    axis.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    axis.grid(axis="x", color="#d0d0d0", linewidth=0.5)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.tick_params(axis="y", length=0)


def _style(report, name):
    if name == SLABMALLOC:
        return OWN_STYLE
    color, marker = PEER_STYLES[report.peers.index(name) % len(PEER_STYLES)]
    return {"color": color, "marker": marker, "s": 16, "alpha": 0.8, "zorder": 3}
