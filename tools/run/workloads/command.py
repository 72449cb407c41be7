# SPDX-License-Identifier: MIT
"""A workload that is one command: its output and the files it writes are compared."""

import os
import shutil
from dataclasses import dataclass, field

import process

INPUTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inputs")
LIMIT_SECONDS = 300


class WorkloadFailed(Exception):
    """The work could not be done; the message says how it ended."""


@dataclass
class Measurement:
    """The time and memory of one run of a workload, and the process that must leave a record."""

    outcome: process.Outcome
    pid: int


@dataclass
class CommandWorkload:
    """`command` run in a folder that holds `inputs`; `generate(folder)` may write further ones."""

    name: str
    command: list
    inputs: list = field(default_factory=list)
    environment: dict = field(default_factory=dict)
    standard_input: str = os.devnull
    generate: object = None
    note: str = None

    def prepare(self, folder):
        """Writes the inputs into `folder`."""
        for name in self.inputs:
            shutil.copyfile(os.path.join(INPUTS, name), os.path.join(folder, name))
        if self.generate is not None:
            self.generate(folder)

    def run(self, folder, malloc):
        """Does the work. Fails: WorkloadFailed."""
        compared = os.path.join(folder, "compared")
        os.mkdir(compared)
        with (open(os.path.join(folder, self.standard_input), "rb") as source,
              open(os.path.join(compared, "stdout"), "wb") as output,
              open(os.path.join(compared, "stderr"), "wb") as errors):
            child = malloc.start(
                find_program(self.command[0]), self.command, self.environment, folder,
                (source.fileno(), output.fileno(), errors.fileno()))
            outcome = wait_for(child)
        if outcome.wait_status != 0:
            raise WorkloadFailed(f"{outcome.describe_end()}{last_line(compared, 'stderr')}")
        return Measurement(outcome, child.pid)


def find_program(name):
    """The path of a program. Fails: WorkloadFailed if it is not installed."""
    path = name if "/" in name else shutil.which(name)
    if path is None:
        raise WorkloadFailed(f"{name} is not installed")
    return path


def wait_for(child):
    """Waits for a process and leaves nothing of its session behind. Fails: WorkloadFailed."""
    try:
        return child.wait(LIMIT_SECONDS)
    except TimeoutError:
        raise WorkloadFailed(f"was still running after {LIMIT_SECONDS} s and was killed") from None
    finally:
        child.end_session()


def last_line(folder, name):
    """The last line of a file, to be put behind a sentence; empty if there is none."""
    with open(os.path.join(folder, name), "rb") as file:
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return f": {lines[-1]}" if lines else ""
