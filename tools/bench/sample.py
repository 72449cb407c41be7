# SPDX-License-Identifier: MIT
"""One run of one row under one allocator: a line of the raw CSV."""

import csv
from dataclasses import asdict, dataclass, fields

OK, FAILED, TIMEOUT, DIFFERS = "ok", "failed", "timeout", "differs"


@dataclass
class Sample:
    """Seconds and bytes, None if not measured; `check` must be equal under every allocator.

    `least_bytes` are those of the OS pages that hold one of the `live_bytes`.
    """

    row: str
    group: str
    allocator: str
    round: int
    status: str = OK
    wall_seconds: float = None
    cpu_seconds: float = None
    peak_bytes: int = None
    after_bytes: int = None
    live_bytes: int = None
    least_bytes: int = None
    held_bytes: int = None
    trimmed_bytes: int = None
    check: str = ""
    detail: str = ""


COLUMNS = [field.name for field in fields(Sample)]
NUMBERS = {"round": int, "wall_seconds": float, "cpu_seconds": float, "peak_bytes": int,
           "after_bytes": int, "live_bytes": int, "least_bytes": int, "held_bytes": int,
           "trimmed_bytes": int}


class Writer:
    """Writes each comment and sample at once: a run that is cut short leaves those it has."""

    def __init__(self, path, comments):
        self._file = open(path, "w", encoding="utf-8", newline="")
        self._csv = csv.writer(self._file, lineterminator="\n")
        for comment in comments:
            self.comment(comment)
        self._csv.writerow(COLUMNS)

    def comment(self, text):
        """A line that starts with `# `."""
        self._file.write(f"# {text}\n")
        self._file.flush()

    def add(self, sample):
        """One line of figures."""
        self._csv.writerow(["" if value is None else value for value in asdict(sample).values()])
        self._file.flush()

    def close(self):
        """Ends the file."""
        self._file.close()


def read(path):
    """(comments, samples) of a file of `Writer`. Fails: ValueError, OSError."""
    with open(path, encoding="utf-8", newline="") as file:
        lines = file.readlines()
    comments = [line[2:].rstrip("\n") for line in lines if line.startswith("# ")]
    rows = csv.DictReader(line for line in lines if not line.startswith("# "))
    if rows.fieldnames != COLUMNS:
        raise ValueError(f"{path} is not a file of scripts/bench: its columns are not "
                         f"{','.join(COLUMNS)}")
    return comments, [_parse(row) for row in rows]


def _parse(row):
    for name, kind in NUMBERS.items():
        row[name] = kind(row[name]) if row[name] != "" else None
    return Sample(**row)
