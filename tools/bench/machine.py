# SPDX-License-Identifier: MIT
"""Describes the machine and the versions, for the head of a file of figures."""

import datetime
import os
import resource
import subprocess

# More load than this for each processor, or more of its time for others, spoils figures.
BUSY_LOAD = 0.5
BUSY_PERCENT = 10


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
        *(f"allocator {allocator.name}: {allocator.label}{_origin(allocator, root)}"
          for allocator in allocators),
        f"load before: {load()}",
    ]


def labels(comments):
    """The labels of the allocators by name, from the head of a file."""
    found = (comment.removeprefix("allocator ").partition(": ") for comment in comments
             if comment.startswith("allocator "))
    return {name: text.split(", ")[0] for name, _, text in found}


def warning(comments):
    """A sentence if the machine had other work, from the comments of a file; else None."""
    values = dict(comment.partition(": ")[::2] for comment in comments)
    online = int(values.get("processor", "1 online").split()[-2])
    load_before = float(values.get("load before", "0").split()[0])
    others = float(values.get("other work", "0 %").split()[0])
    if load_before <= BUSY_LOAD * online and others <= BUSY_PERCENT:
        return None
    meanwhile = f", {others:.0f} % of the processors' time meanwhile" * ("other work" in values)
    return (f"The machine has other work: load {load_before:.2f} on {online} processors before"
            f"{meanwhile}. Figures are worth less.")


class OtherWork:
    """Counts the processor time that this run's own processes did not take, from now on."""

    def __init__(self):
        self._busy, self._all = _processor_ticks()
        self._own = _own_seconds()

    def percent(self):
        """Its share of the processors' time."""
        busy, every = _processor_ticks()
        own = (_own_seconds() - self._own) * os.sysconf("SC_CLK_TCK")
        return 100 * max(0, busy - self._busy - own) / max(1, every - self._all)


def _processor_ticks():
    """Ticks of all processors: busy ones, those that a hypervisor took included, and all."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, idle, iowait, irq, softirq, steal, *_ = map(
            int, file.readline().split()[1:])
    busy = user + nice + system + irq + softirq + steal
    return busy, busy + idle + iowait


def _own_seconds():
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


def load():
    """The load averages of 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def _origin(allocator, root):
    """What an allocator is, and where its library lies; below `root` from there, so that the
    figures can be published."""
    words = [allocator.origin] if allocator.origin else []
    if allocator.library is not None:
        inside = os.path.relpath(allocator.library, os.path.realpath(root))
        words.append(allocator.library if inside.startswith(os.pardir) else inside)
    return "".join(f", {word}" for word in words)


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
