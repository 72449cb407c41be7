# SPDX-License-Identifier: MIT
"""The targets of slabmalloc: the report marks the figures beyond these limits."""

from allocators import UNCHECKED

MIB = 1 << 20
ROW_RATIO = 1.10
MEAN_RATIOS = {"wall_seconds": 0.95, "peak_bytes": 1.00}
# The checks of each free may cost this much of the time without them.
CHECKS_RATIOS = {"wall_seconds": 1.03, "cpu_seconds": 1.03}
START_ROW, START_RATIO, START_FURTHER_BYTES = "start", 1.05, 300 << 10


def mean_limit(metric, peers):
    """The most that the geometric mean may be of the best peer's, or None."""
    return (CHECKS_RATIOS if list(peers) == [UNCHECKED] else MEAN_RATIOS).get(metric)


def time_limit(row, values):
    """The most a row may take, in the unit of `values` (the peers' figures by name).

    A pair may take as long as under the best peer; producers and consumers must be 1.4 times faster
    than under the best of jemalloc and mimalloc, of any version; a start is measured against one
    without any preload.
    """
    if list(values) == [UNCHECKED]:
        return values[UNCHECKED] * ROW_RATIO
    if row.startswith("pair-"):
        return min(values.values())
    if row.startswith("producer-consumer/"):
        rivals = [value for name, value in values.items()
                  if name.startswith(("jemalloc", "mimalloc"))]
        return min(rivals) / 1.4 if rivals else None
    if row == START_ROW:
        return values["glibc"] * START_RATIO if "glibc" in values else None
    return min(values.values()) * ROW_RATIO


def memory_limit(row, values):
    """The most memory a row may have at its peak, or hold beside live objects."""
    if row == START_ROW:
        return values["glibc"] + START_FURTHER_BYTES if "glibc" in values else None
    return min(values.values()) * ROW_RATIO


def after_limit(peak_bytes):
    """The most that may be resident a second after everything was freed."""
    return 1.5 * MIB + 0.05 * peak_bytes
