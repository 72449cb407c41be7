# SPDX-License-Identifier: MIT
"""The command line of scripts/bench."""

import argparse
from dataclasses import dataclass


# A round more is not begun if it would end later than this.
QUICK_SECONDS = 150
# The other programs take as long whatever the share of the work, so they are left out.
QUICK_NAMES = ("workloads", "start")


@dataclass
class Arguments:
    """The rows to run, and how."""

    names: tuple = ()
    rounds: int = 5
    percent: int = 100
    settle_milliseconds: int = 1000
    limit_seconds: float = None
    against: tuple = None
    further: tuple = ()
    output: str = None
    list: bool = False
    packages: bool = False
    check: bool = False
    report: str = None
    figure: str = None


class UsageError(Exception):
    """The command line is wrong; the message says how."""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(f"{message}; see scripts/bench --help")


def parse(words):
    """The Arguments of a command line. Fails: UsageError."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=_number(1, 1000))
    parser.add_argument("--percent", type=_number(1, 10000))
    parser.add_argument("--settle", type=_number(0, 60000))
    parser.add_argument("--against", type=lambda text: tuple(text.split(",")))
    parser.add_argument("--allocator", action="append", default=[])
    parser.add_argument("--output")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--packages", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--report")
    parser.add_argument("--figure")
    given = parser.parse_intermixed_args(words)
    result = Arguments(tuple(given.names), against=given.against, further=tuple(given.allocator),
                       output=given.output, list=given.list, packages=given.packages,
                       check=given.check, report=given.report, figure=given.figure)
    if given.quick:
        result.rounds, result.percent, result.settle_milliseconds = 3, 10, 100
        result.limit_seconds = QUICK_SECONDS
        result.names = result.names or QUICK_NAMES
    for name, value in (("rounds", given.rounds), ("percent", given.percent),
                        ("settle_milliseconds", given.settle)):
        if value is not None:
            setattr(result, name, value)
    return result


def _number(least, most):
    def parse_number(text):
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"`{text}` is not a number from {least} to {most}")
        return int(text)
    return parse_number


def choose(names, rows):
    """The rows that `names` select: rows, patterns at every number of threads, groups; all if none.

    Fails: UsageError for a name that is none.
    """
    chosen = set()
    for name in names:
        matching = [row.name for row in rows
                    if name in (row.name, row.group, row.name.partition("/")[0])]
        if not matching:
            raise UsageError(f"there is no row or group `{name}`; see scripts/bench --list")
        chosen.update(matching)
    return [row for row in rows if not names or row.name in chosen]
