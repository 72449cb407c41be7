# SPDX-License-Identifier: MIT
"""The figures of the tables: minima and their intervals, ratios to the best peer, means and marks.

Other work of the machine can only add to a figure, so the least of the rounds counts. Its interval
ends at the bootstrap's: of as many rounds, drawn from those measured with repetition, in 95 of 100
cases the least lies in it (Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979). With
few rounds two equal allocators would often be told apart by that. So the interval also reaches so
far that this happens in at most one of ten rows. Fewer than three rounds have no interval, and
nothing is ranked by them.
"""

import math
import random
from dataclasses import dataclass

import targets
from allocators import SLABMALLOC
from sample import OK

METRICS = ("wall_seconds", "cpu_seconds", "peak_bytes", "after_bytes", "live_bytes", "least_bytes",
           "held_bytes", "trimmed_bytes")
# Less than this is nothing: a ratio to it would say nothing.
LEAST = {"wall_seconds": 1e-6, "cpu_seconds": 1e-4, "peak_bytes": 4096, "after_bytes": 64 << 10,
         "live_bytes": 4096, "least_bytes": 4096, "held_bytes": 64 << 10, "trimmed_bytes": 64 << 10}


# Outside of the interval on each side, and how often two equal allocators may be told apart.
TAIL = 0.025
CHANCE = 0.1
LEAST_ROUNDS = 3
RESAMPLINGS = 400


@dataclass
class Figure:
    """The least of the rounds and its interval, whose ends are None after too few rounds."""

    least: float
    low: float = None
    high: float = None

    def overlaps(self, other):
        """Whether the two may be in either order: neither interval lies above the other."""
        if self.high is None or other.high is None:
            return True
        return self.low <= other.high and other.low <= self.high


def figure_of(values, floor):
    """The Figure of a row's rounds. What lies below `floor` is all the same."""
    values = sorted(values)
    if len(values) < LEAST_ROUNDS:
        return Figure(values[0])
    last = max(_place_of_bootstrap(len(values)), _place_of_ranking(len(values))) - 1
    return Figure(values[0], max(values[0], floor), max(values[last], floor))


def _place_of_bootstrap(count):
    """Which of the sorted values ends the interval: the least of `count` draws is at least the k-th
    with the probability ((count - k + 1) / count) ** count."""
    return max(place for place in range(1, count + 1)
               if ((count - place + 1) / count) ** count > TAIL)


def _place_of_ranking(count):
    """The same, so that equal allocators are told apart seldom: one lies below the other if the k
    least of both their values are its own."""
    return min(place for place in range(1, count + 1)
               if 2 * math.comb(count, place) / math.comb(2 * count, place) <= CHANCE)


class Report:
    """Figures by row, metric and allocator; names in the order of their first samples."""

    def __init__(self, samples):
        self.rows = list(dict.fromkeys(sample.row for sample in samples))
        names = dict.fromkeys(sorted((sample.allocator for sample in samples),
                                     key=lambda name: name != SLABMALLOC))
        self.allocators = list(names)
        self.failures = [sample for sample in samples if sample.status != OK]
        self.rounds = sorted({sample.round for sample in samples})
        # By row, metric and allocator: the value of each round.
        self._values = {}
        self._mean_cache = {}
        for sample in samples:
            for metric in METRICS:
                value = getattr(sample, metric)
                if sample.status == OK and value is not None:
                    key = (sample.row, metric, sample.allocator)
                    self._values.setdefault(key, {})[sample.round] = value

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
        return figure_of(values.values(), LEAST[metric]) if values else None

    def figures(self, row, metric, names):
        """The Figures of those among `names` that have one, by name."""
        found = {name: self.figure(row, metric, name) for name in names}
        return {name: figure for name, figure in found.items() if figure is not None}

    def best_peer(self, row, metric):
        """The name of the peer with the least figure, or None."""
        figures = self.figures(row, metric, self.peers)
        return min(figures, key=lambda name: figures[name].least) if figures else None

    def first(self, row, metric):
        """The allocator whose interval lies below all others', or None where the least overlaps
        another."""
        figures = self.figures(row, metric, self.allocators)
        best = min(figures, key=lambda name: figures[name].least)
        others = [figure for name, figure in figures.items() if name != best]
        is_alone = not any(figures[best].overlaps(figure) for figure in others)
        return best if others and is_alone else None

    def is_tied(self, row, metric, allocator):
        """Whether the interval overlaps that of the best other allocator that the ratio refers
        to."""
        best, figure = self.best_peer(row, metric), self.figure(row, metric, allocator)
        if best in (None, allocator) or figure is None or figure.high is None:
            return False
        rival = self.figure(row, metric, best)
        return rival.high is not None and figure.overlaps(rival)

    def ratio(self, row, metric, allocator):
        """The figure relative to the best peer's, or None."""
        best, figure = self.best_peer(row, metric), self.figure(row, metric, allocator)
        if best is None or figure is None:
            return None
        least = LEAST[metric]
        return max(figure.least, least) / max(self.figure(row, metric, best).least, least)

    def geometric_mean(self, metric, allocator):
        """A Figure of the mean of its ratios over all rows it has figures for, or None."""
        if allocator not in self._means(metric):
            return None
        least, resampled = self._means(metric)[allocator]
        if not resampled:
            return Figure(least)
        cut = int(len(resampled) * TAIL)
        return Figure(least, resampled[cut], resampled[-1 - cut])

    def beyond(self, row, metric):
        """Whether slabmalloc's interval lies wholly beyond the row's target; a failure does."""
        figure = self.figure(row, metric, SLABMALLOC)
        if SLABMALLOC not in self.allocators:
            return False
        if figure is None:
            return True
        limit = self._limit(row, metric)
        return limit is not None and figure.low is not None and figure.low > limit

    def mean_beyond(self, metric):
        """Whether slabmalloc's geometric mean lies wholly beyond its target."""
        own = self.geometric_mean(metric, SLABMALLOC)
        means = [self.geometric_mean(metric, name) for name in self.peers]
        means = [mean for mean in means if mean is not None]
        limit = targets.mean_limit(metric, self.peers)
        if own is None or own.high is None or not means or limit is None:
            return False
        best = min(means, key=lambda mean: mean.least)
        return own.low > best.high * limit

    def _means(self, metric):
        """By allocator: the geometric mean of its ratios, and the same of each resampling. All rows
        of a round stay together, since they met the same machine."""
        if metric not in self._mean_cache:
            choice = random.Random(1)
            count = RESAMPLINGS if len(self.rounds) >= LEAST_ROUNDS else 0
            draws = [self.rounds, *(choice.choices(self.rounds, k=len(self.rounds))
                                    for _ in range(count))]
            of_all, *resampled = [self._means_of_rounds(metric, set(rounds)) for rounds in draws]
            self._mean_cache[metric] = {
                name: (mean, sorted(means[name] for means in resampled if name in means))
                for name, mean in of_all.items()}
        return self._mean_cache[metric]

    def _means_of_rounds(self, metric, rounds):
        logarithms = {}
        for row in self.rows_with(metric):
            leasts = {}
            for name in self.allocators:
                values = self._values.get((row, metric, name), {})
                chosen = [value for number, value in values.items() if number in rounds]
                # A draw that lacks a row would be a mean of other rows.
                chosen = chosen or list(values.values())
                if chosen:
                    leasts[name] = max(min(chosen), LEAST[metric])
            peers = [leasts[name] for name in self.peers if name in leasts]
            for name, least in leasts.items():
                if peers:
                    logarithms.setdefault(name, []).append(math.log(least / min(peers)))
        return {name: math.exp(sum(values) / len(values)) for name, values in logarithms.items()}

    def _limit(self, row, metric):
        """The target as the ends of the peers' intervals have it, or None."""
        if metric == "after_bytes":
            peak = self.figure(row, "peak_bytes", SLABMALLOC)
            return targets.after_limit(peak.least) if peak else None
        values = {name: figure.high for name, figure
                  in self.figures(row, metric, self.peers).items() if figure.high is not None}
        if not values:
            return None
        if metric.endswith("_bytes"):
            return targets.memory_limit(row, values)
        return targets.time_limit(row, values)
