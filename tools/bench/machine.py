# SPDX-License-Identifier: MIT
"""Describes the machine and the versions, for the head of a file of figures."""

import datetime
import os
import subprocess


def describe(command, root, allocators):
    """Lines for the head of the raw figures."""
    return [
        f"command: {command}",
        f"date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
        f"commit: {_output(['git', '-C', root, 'describe', '--always', '--dirty'])}",
        f"processor: {_processor()}, {os.cpu_count()} online",
        f"memory: {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 20} MiB",
        f"system: {os.uname().sysname} {os.uname().release}, huge pages {_huge_pages()}",
        f"compiler: {_output(['g++', '--version'])}",
        *(f"allocator {allocator.name}: {allocator.version}{_place(allocator.library, root)}"
          for allocator in allocators),
        f"load before: {load()}",
    ]


def load():
    """The load averages of 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def _place(library, root):
    """Where a library lies; below `root` from there, so that the figures can be published."""
    if library is None:
        return ""
    inside = os.path.relpath(library, os.path.realpath(root))
    return f", {library if inside.startswith(os.pardir) else inside}"


def _processor():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return os.uname().machine


def _huge_pages():
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled", encoding="ascii") as file:
            return file.read().partition("[")[2].partition("]")[0]
    except OSError:
        return "unknown"


def _output(command):
    """The first line that a command prints."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              check=False)
    except OSError:
        return "unknown"
    return (done.stdout.decode("utf-8", "replace").splitlines() or ["unknown"])[0]
