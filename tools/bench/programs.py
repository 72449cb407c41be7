# SPDX-License-Identifier: MIT
"""Rows of the group `programs`: real programs at the work of scripts/run and some more."""

import hashlib
import os
import shutil
from dataclasses import dataclass

import documents
import puzzles
from allocators import libc_library
from launch import Launch
from sample import FAILED, TIMEOUT, Sample
from workloads import WORKLOADS
from workloads.command import CommandWorkload, WorkloadFailed

GROUP = "programs"
INPUTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inputs")


def _bring(name):
    """A `generate` that copies one of this driver's own inputs."""
    return lambda folder: shutil.copyfile(os.path.join(INPUTS, name), os.path.join(folder, name))


FURTHER = (
    CommandWorkload(name="clang++", inputs=["templates.cpp"],
                    command=["clang++", "-std=c++20", "-O2", "-c", "-o", "compared/templates.o",
                             "templates.cpp"]),
    CommandWorkload(name="z3", command=["z3", "-smt2", "puzzles.smt2"], generate=puzzles.write),
    CommandWorkload(name="lua", command=["lua5.4", "objects.lua"], generate=_bring("objects.lua")),
    CommandWorkload(name="ghostscript", generate=_bring("pages.ps"),
                    command=["gs", "-q", "-dBATCH", "-dNOPAUSE", "-sDEVICE=png16m", "-r100",
                             "-sOutputFile=compared/page-%d.png", "pages.ps"]),
    CommandWorkload(name="xmllint", generate=documents.write,
                    command=["xmllint", "--repeat", "--noout", "catalogue.xml"]),
)
START = CommandWorkload(name="start", command=["true"])
STARTS = 500
# Debian package and the program that shows it is there.
PACKAGES = {
    "python3": ("python3:python3",), "sqlite3": ("sqlite3:sqlite3",), "perl": ("perl:perl",),
    "git": ("git:git",), "g++": ("g++:g++",), "redis-server": ("redis-tools:redis-benchmark",),
    "clang++": ("clang:clang++",), "z3": ("z3:z3",), "lua": ("lua5.4:lua5.4",),
    "ghostscript": ("ghostscript:gs",),
    "xmllint": ("libxml2-utils:xmllint",), "start": (),
}
# They are linked to a malloc of their own, which only a preload displaces, glibc's as well.
LINKED_TO_A_MALLOC = ("redis-server",)


@dataclass
class ProgramRow:
    """`workload` run through the launcher."""

    launcher: str
    workload: object
    repeat: int = 1
    group: str = GROUP

    @property
    def name(self):
        """Its name in the tables."""
        return self.workload.name

    @property
    def packages(self):
        """The packages it needs, as words for ensure_packages."""
        return PACKAGES[self.name]

    def prepare(self, folder):
        """Writes the inputs, once for all runs."""
        os.mkdir(os.path.join(folder, "inputs"))
        self.workload.prepare(os.path.join(folder, "inputs"))

    def run(self, allocator, folder, round_number):
        """One sample, also if the run fails."""
        sample = Sample(self.name, self.group, allocator.name, round_number)
        own = os.path.join(folder, "run")
        shutil.copytree(os.path.join(folder, "inputs"), own, copy_function=os.link)
        library = allocator.preload
        if library is None and self.name in LINKED_TO_A_MALLOC:
            library = libc_library()
        try:
            outcome = self.workload.run(own, Launch(self.launcher, library, own,
                                                    self.repeat)).outcome
            sample.wall_seconds = round(outcome.wall_seconds, 6)
            sample.cpu_seconds = outcome.cpu_seconds
            sample.peak_bytes = outcome.peak_bytes
            sample.check = digest(os.path.join(own, "compared"))
        except WorkloadFailed as failure:
            sample.status = TIMEOUT if "still running" in str(failure) else FAILED
            sample.detail = str(failure)
        finally:
            shutil.rmtree(own)
        return sample


def digest(folder):
    """A hash over the names and contents of all files under `folder`."""
    paths = sorted(os.path.join(parent, name)
                   for parent, _, names in os.walk(folder) for name in names)
    result = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            content = hashlib.sha256(file.read()).hexdigest()
        result.update(f"{os.path.relpath(path, folder)} {content}\n".encode())
    return result.hexdigest()[:16]


def rows(launcher):
    """Every program, start-up last."""
    return [ProgramRow(launcher, workload) for workload in (*WORKLOADS, *FURTHER)] \
        + [ProgramRow(launcher, START, STARTS)]
