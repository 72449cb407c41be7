# SPDX-License-Identifier: MIT
"""git importing, repacking with threads, checking and reading a history: many short processes."""

import os
import random

from workloads.command import CommandWorkload

COMMITS = 280
FILES = 60
LINES = 600
FIRST_DAY = 1_600_000_000
IDENTITY = "Ada Example <ada@example.org>"


def write_history(folder):
    """Writes history.stream for git fast-import: main, and side off its middle."""
    source = random.Random(7)
    words = ["".join(source.choice("abdeiklmnorst") for _ in range(source.randrange(2, 9)))
             for _ in range(800)]

    def line():
        return " ".join(source.choices(words, k=source.randrange(3, 12)))

    files = {f"src/file-{number:03}.txt": [line() for _ in range(LINES)]
             for number in range(FILES)}
    with open(os.path.join(folder, "history.stream"), "w", encoding="ascii") as stream:
        for number in range(COMMITS):
            names = sorted(files) if number == 0 else source.sample(sorted(files), 6)
            for name in names if number else ():
                content = files[name]
                at = source.randrange(len(content))
                content[at:at + source.randrange(8)] = [line() for _ in range(source.randrange(8))]
            parent = f"from :{number}\n" if number else ""
            _write_commit(stream, "main", number + 1, parent, {name: files[name] for name in names})
        side = {f"side/{number}.txt": [line() for _ in range(30)] for number in range(5)}
        _write_commit(stream, "side", COMMITS + 1, f"from :{COMMITS // 2}\n", side)


def _write_commit(stream, branch, mark, parent, files):
    message = f"Commit {mark}\n"
    stream.write(f"commit refs/heads/{branch}\nmark :{mark}\n"
                 f"committer {IDENTITY} {FIRST_DAY + 3600 * mark} +0000\n"
                 f"data {len(message)}\n{message}{parent}")
    for name, lines in files.items():
        text = "".join(f"{line}\n" for line in lines)
        stream.write(f"M 100644 inline {name}\ndata {len(text)}\n{text}\n")
    stream.write("\n")


GIT = CommandWorkload(
    name="git",
    command=["bash", "history.sh"],
    inputs=["history.sh"],
    environment={
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_PAGER": "cat",
        "GIT_AUTHOR_NAME": "Ada Example", "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ada Example", "GIT_COMMITTER_EMAIL": "ada@example.org",
        "GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000",
    },
    generate=write_history,
    note="git: its packs are not compared: they depend on the timing of its threads.",
)
