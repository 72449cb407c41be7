# SPDX-License-Identifier: MIT
"""Numbers as people read them."""

STEPS = ("KiB", "MiB", "GiB", "TiB")


def bytes_text(count):
    """A number of bytes with its unit, as `12.3 KiB`."""
    if abs(count) < 1024:
        return f"{count} B"
    value = float(count)
    for step in STEPS:
        value /= 1024
        if abs(value) < 1023.95:
            break
    return f"{value:.1f} {step}"


def mebibytes_text(count):
    """A number of bytes in MiB, without the unit."""
    return f"{count / (1 << 20):.1f}"


def count_text(count):
    """A whole number in groups of three digits."""
    return f"{count:,}"


def seconds_text(seconds):
    """Seconds to the hundredth, without the unit."""
    return f"{seconds:.2f}"


def ratio_text(new, old):
    """new / old to the hundredth; `-` where there is nothing to divide by."""
    return f"{new / old:.2f}" if old else "-"


def plural(count, noun):
    """`1 process`, `2 processes`."""
    ending = "" if count == 1 else ("es" if noun.endswith("s") else "s")
    return f"{count_text(count)} {noun}{ending}"
