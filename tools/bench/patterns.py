# SPDX-License-Identifier: MIT
"""Rows of the group `workloads`: each a pattern of malloc_workloads at a number of threads."""

import json
import os
import subprocess
from dataclasses import dataclass

import process
from malloc_choice import BASE
from sample import DIFFERS, FAILED, TIMEOUT, Sample

GROUP = "workloads"
LIMIT_SECONDS = 120


@dataclass
class PatternRow:
    """`program` is malloc_workloads, which measures itself."""

    program: str
    pattern: str
    threads: int
    description: str
    percent: int
    settle_milliseconds: int
    group: str = GROUP
    packages: tuple = ()

    @property
    def name(self):
        """Its name in the tables, as `migrating/16`."""
        return f"{self.pattern}/{self.threads}"

    def prepare(self, folder):
        """Nothing: a pattern has no inputs."""

    def run(self, allocator, folder, round_number):
        """One sample, also if the run fails."""
        sample = Sample(self.name, self.group, allocator.name, round_number)
        with open(os.path.join(folder, "stdout"), "w+b") as output, \
                open(os.path.join(folder, "stderr"), "w+b") as errors:
            command = [self.program, self.pattern, "--threads", str(self.threads), "--percent",
                       str(self.percent), "--settle", str(self.settle_milliseconds)]
            child = process.start(self.program, command, allocator.environment(dict(BASE)),
                                  new_session=True, folder=folder,
                                  files=(output.fileno(), output.fileno(), errors.fileno()))
            try:
                outcome = child.wait(LIMIT_SECONDS)
            except TimeoutError:
                sample.status = TIMEOUT
                sample.detail = f"still running after {LIMIT_SECONDS} s"
                return sample
            finally:
                child.end_session()
            output.seek(0)
            errors.seek(0)
            _read(sample, allocator, outcome, output.read(), errors.read())
        return sample


def _read(sample, allocator, outcome, output, errors):
    """Fills `sample` in from the output of the program."""
    complaint = errors.decode("utf-8", "replace").strip()
    if outcome.wait_status != 0:
        sample.status = FAILED
        sample.detail = f"{outcome.describe_end()}: {complaint[-200:]}"
        return
    try:
        report = json.loads(output)
        sample.wall_seconds = report["wall_seconds"]
        sample.cpu_seconds = report["cpu_seconds"]
        sample.peak_bytes = report["peak_bytes"]
        sample.after_bytes = max(0, report["after_bytes"] - report["start_bytes"])
        sample.live_bytes = report.get("live_bytes")
        sample.least_bytes = report.get("least_bytes")
        for metric in ("held_bytes", "trimmed_bytes"):
            if metric in report:
                setattr(sample, metric, max(0, report[metric] - report["start_bytes"]))
        sample.check = report["checksum"]
        origin = report["malloc"]
    except (ValueError, KeyError) as error:
        sample.status, sample.detail = FAILED, f"unreadable report: {error}"
        return
    if complaint:
        sample.status, sample.detail = DIFFERS, f"on standard error: {complaint[-200:]}"
    elif not allocator.serves(origin):
        sample.status, sample.detail = FAILED, f"its malloc came from {origin}"


def rows(program, percent, settle_milliseconds):
    """The rows that the program lists."""
    listing = subprocess.run([program, "--list"], stdout=subprocess.PIPE, check=True).stdout
    result = []
    for line in listing.decode().splitlines():
        pattern, threads, description = line.split("\t")
        result += [PatternRow(program, pattern, int(count), description, percent,
                              settle_milliseconds) for count in threads.split(",")]
    return result
