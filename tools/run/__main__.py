# SPDX-License-Identifier: MIT
"""The driver behind scripts/run: `LIBRARY [--only NAMES] [--] [PROGRAM ARGS…]`.

    one_program ── program ── elf        is there a program, can the library be preloaded?
        │      └── process, preload      starts it, passes signals, measures; environment, records
        └── summary ── record, picture   after the program: sums the records and shows them
    suite ── workloads, comparison       the fixed workloads, each on both mallocs
        └── results ── picture           their report
    output                               prints summaries and reports by rich
"""

import os
import sys


def main(arguments):
    """Returns the exit status."""
    library, *rest = arguments
    only = None
    if rest[:1] == ["--only"]:
        only, rest = rest[1].split(","), rest[2:]
    if rest[:1] == ["--"]:
        rest = rest[1:]
    if rest:
        import one_program
        return one_program.run(os.fsencode(library), [os.fsencode(word) for word in rest])
    import suite
    return suite.run(os.fsencode(library), only)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
