# SPDX-License-Identifier: MIT
"""Lines about a run on standard error."""

import sys


def say(line):
    """Writes a line; a standard error that is closed or full loses it."""
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass


def complain(sentence):
    """Writes a sentence that names this script."""
    say(f"scripts/run: {sentence}")
