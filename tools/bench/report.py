# SPDX-License-Identifier: MIT
"""The figures of the tables: minima, spreads, ratios to the best peer, means and marks."""

import math
from dataclasses import dataclass

import targets
from allocators import SLABMALLOC
from sample import OK

METRICS = ("wall_seconds", "cpu_seconds", "peak_bytes", "after_bytes", "live_bytes", "least_bytes",
           "held_bytes", "trimmed_bytes")
# Less than this is nothing: a ratio to it would say nothing.
LEAST = {"wall_seconds": 1e-6, "cpu_seconds": 1e-4, "peak_bytes": 4096, "after_bytes": 64 << 10,
         "live_bytes": 4096, "least_bytes": 4096, "held_bytes": 64 << 10, "trimmed_bytes": 64 << 10}


@dataclass
class Figure:
    """The least of the rounds, and how far the greatest lies above it (0.1: a tenth)."""

    least: float
    spread: float


class Report:
    """Figures by row, metric and allocator; names in the order of their first samples."""

    def __init__(self, samples):
        self.rows = list(dict.fromkeys(sample.row for sample in samples))
        names = dict.fromkeys(sorted((sample.allocator for sample in samples),
                                     key=lambda name: name != SLABMALLOC))
        self.allocators = list(names)
        self.failures = [sample for sample in samples if sample.status != OK]
        self._values = {}
        for sample in samples:
            for metric in METRICS:
                value = getattr(sample, metric)
                if sample.status == OK and value is not None:
                    key = (sample.row, metric, sample.allocator)
                    self._values.setdefault(key, []).append(value)

    @property
    def peers(self):
        """Every allocator but slabmalloc."""
        return [name for name in self.allocators if name != SLABMALLOC]

    def rows_with(self, metric):
        """The rows in which `metric` was measured."""
        return [row for row in self.rows
                if any((row, metric, name) in self._values for name in self.allocators)]

    def figure(self, row, metric, allocator):
        """The Figure, or None if no round succeeded."""
        values = self._values.get((row, metric, allocator))
        if not values:
            return None
        least = max(min(values), LEAST[metric])
        return Figure(min(values), (max(values) - min(values)) / least)

    def peers_least(self, row, metric):
        """The peers' least figures by name."""
        figures = {name: self.figure(row, metric, name) for name in self.peers}
        return {name: figure.least for name, figure in figures.items() if figure is not None}

    def best_peer(self, row, metric):
        """The name of the peer with the least figure, or None."""
        values = self.peers_least(row, metric)
        return min(values, key=values.get) if values else None

    def ratio(self, row, metric, allocator):
        """The figure relative to the best peer's, or None."""
        best, figure = self.best_peer(row, metric), self.figure(row, metric, allocator)
        if best is None or figure is None:
            return None
        least = LEAST[metric]
        return max(figure.least, least) / max(self.figure(row, metric, best).least, least)

    def geometric_mean(self, metric, allocator):
        """The mean of its ratios over all rows it has figures for, or None."""
        ratios = [ratio for ratio in (self.ratio(row, metric, allocator)
                                      for row in self.rows_with(metric)) if ratio is not None]
        if not ratios:
            return None
        return math.exp(sum(map(math.log, ratios)) / len(ratios))

    def best_mean(self, metric):
        """The least geometric mean among the peers that have one, or None."""
        means = [mean for mean in (self.geometric_mean(metric, name) for name in self.peers)
                 if mean is not None]
        return min(means) if means else None

    def beyond(self, row, metric):
        """Whether slabmalloc passes the row's target; a failure does."""
        figure = self.figure(row, metric, SLABMALLOC)
        if SLABMALLOC not in self.allocators:
            return False
        if figure is None:
            return True
        limit = self._limit(row, metric)
        return limit is not None and figure.least > limit

    def mean_beyond(self, metric):
        """Whether slabmalloc's geometric mean passes its target."""
        own, best = self.geometric_mean(metric, SLABMALLOC), self.best_mean(metric)
        limit = targets.mean_limit(metric, self.peers)
        if own is None or best is None or limit is None:
            return False
        return own > best * limit

    def _limit(self, row, metric):
        if metric == "after_bytes":
            peak = self.figure(row, "peak_bytes", SLABMALLOC)
            return targets.after_limit(peak.least)
        values = self.peers_least(row, metric)
        if not values:
            return None
        if metric.endswith("_bytes"):
            return targets.memory_limit(row, values)
        return targets.time_limit(row, values)
