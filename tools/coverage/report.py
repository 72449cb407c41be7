# SPDX-License-Identifier: MIT
"""Prints what of the core and the malloc no test executes, and compares it with a list of reasons.

    report.py [--files] LINES.info...

Each file is in the format of lcov, and of one program. test/coverage/uncovered.txt has entries of
this form:

    src/malloc/example.cpp
      if (text of a source line) {
        A sentence that says why no test executes it. It may continue
        on further lines.

A file's name may have wildcards, and a `*` in the text stands for any text. A text that ends with
`{}` is of the whole block that begins at a line with the text before it, up to the line that closes
the block, indented as the first one. A line that only closes a block goes with the line above.
"""
import argparse
import bisect
import collections
import fnmatch
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIST = ROOT / "test/coverage/uncovered.txt"
MEASURED = ("include/", "src/")
LEAST = 98.0
# Reasons that begin so take their lines out of the percentage: no program can execute these.
AT_COMPILE_TIME = "Compilers evaluate it"


class Entry:
    """Lines of a file that no test executes, with the reason."""

    def __init__(self, file, text):
        self.file = file
        self.is_block = text.endswith("{}")
        self.text = text.removesuffix("{}").rstrip()
        self.pattern = re.compile(re.escape(self.text).replace(r"\*", ".*"))
        self.reason = ""
        self.is_used = False

    def find_in(self, source):
        """The numbers of its lines in the lines of a file."""
        found = set()
        for number, line in enumerate(source, 1):
            if not self.pattern.search(line):
                continue
            found.add(number)
            if self.is_block:
                indent = line[: len(line) - len(line.lstrip())]
                end = number
                while end < len(source) and not source[end].startswith(indent + "}"):
                    end += 1
                found.update(range(number, end + 2))
        return found


def read_list(path):
    """The entries of the list."""
    entries = []
    file = ""
    for line in path.read_text().splitlines():
        indent = len(line) - len(line.lstrip())
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if indent == 0:
            file = text
        elif indent == 2:
            entries.append(Entry(file, text))
        else:
            entries[-1].reason += text + " "
    return entries


class Program:
    """What one program says of a file: the executions of its lines, and where functions begin."""

    def __init__(self):
        self.counts = {}
        self.starts = set()

    def passes_over(self, line, starts):
        """True if it executes the lines around a line, in one function, and has no code there."""
        if line in self.counts:
            return False
        numbers = sorted(self.counts)
        place = bisect.bisect(numbers, line)
        if place in (0, len(numbers)):
            return False
        before, after = numbers[place - 1], numbers[place]
        is_one_function = not any(before < start <= after for start in starts)
        return is_one_function and self.counts[before] != 0 and self.counts[after] != 0


def read_programs(paths):
    """What each program says of each file."""
    files = collections.defaultdict(list)
    for path in paths:
        for line in path.read_text().splitlines():
            key, _, value = line.partition(":")
            if key == "SF":
                program = Program()
                files[str(pathlib.Path(value).resolve().relative_to(ROOT))].append(program)
            elif key == "FN":
                program.starts.add(int(value.split(",")[0]))
            elif key == "DA":
                number, count = value.split(",")[:2]
                program.counts[int(number)] = int(count)
    return files


def lines_of(programs):
    """The executions of each line of code of a file, in all programs.

    Where a program has an inline function that it does not call, all lines count as code there:
    comments, and what `if constexpr` leaves out, too. Programs that call it know better.
    """
    starts = set().union(*(program.starts for program in programs))
    lines = collections.Counter()
    for program in programs:
        for number, count in program.counts.items():
            lines[number] += count
    for number in [number for number, count in lines.items() if count == 0]:
        if any(program.passes_over(number, starts) for program in programs):
            del lines[number]
    return lines


def find_excused(file, source, idle, entries):
    """The entry of each line in `idle` that has one."""
    excused = {}
    for entry in entries:
        if fnmatch.fnmatch(file, entry.file):
            for number in idle & entry.find_in(source):
                entry.is_used = True
                excused.setdefault(number, entry)
    for number in sorted(idle - excused.keys()):
        if source[number - 1].startswith("#"):
            excused[number] = Entry(file, "")  # It goes with what the preprocessor left out.
        elif number - 1 in excused and not source[number - 1].strip(" });,"):
            excused[number] = excused[number - 1]
    return excused


def print_table(groups):
    """Prints lines and executed lines of groups of files; returns the percentage of all."""
    print(f"{'':44} {'lines':>7} {'executed':>9} {'%':>7}")
    total = executed = 0
    for name, counts in sorted(groups.items()):
        hit = sum(1 for count in counts if count)
        print(f"{name:44} {len(counts):7} {hit:9} {100 * hit / len(counts):7.2f}")
        total += len(counts)
        executed += hit
    percent = 100 * executed / total
    print(f"{'all':44} {total:7} {executed:9} {percent:7.2f}")
    return percent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", action="store_true")
    parser.add_argument("lines", type=pathlib.Path, nargs="+")
    arguments = parser.parse_args()

    programs = read_programs(arguments.lines)
    files = {file: lines_of(found) for file, found in programs.items()
             if file.startswith(MEASURED)}
    entries = read_list(LIST)
    groups = collections.defaultdict(list)
    unlisted = []
    listed = evaluated = 0
    for file, lines in sorted(files.items()):
        source = (ROOT / file).read_text().splitlines()
        idle = {number for number, count in lines.items() if count == 0}
        excused = find_excused(file, source, idle, entries)
        listed += len(excused)
        unlisted += [f"{file}:{number}: {source[number - 1].strip()}"
                     for number in sorted(idle - excused.keys())]
        for number, entry in excused.items():
            if entry.reason.startswith(AT_COMPILE_TIME):
                evaluated += 1
                del lines[number]
        groups["  " + file if arguments.files else str(pathlib.PurePath(file).parent)] += (
            lines.values())
    percent = print_table(groups)
    faults = len(unlisted)
    print(*unlisted, sep="\n")
    for entry in entries:
        if not entry.is_used:
            print(f"{LIST.relative_to(ROOT)}: all is executed of '{entry.text}' in {entry.file}")
        if not entry.reason:
            print(f"{LIST.relative_to(ROOT)}: no reason for '{entry.text}' in {entry.file}")
            faults += 1
    print(f"{listed} lines are not executed and listed with a reason; {evaluated} of them are "
          f"evaluated by compilers, and not counted above. {len(unlisted)} are not listed")
    if percent < LEAST:
        print(f"fewer than {LEAST} % of the lines are executed")
    return 0 if percent >= LEAST and faults == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
