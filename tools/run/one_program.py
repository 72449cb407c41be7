# SPDX-License-Identifier: MIT
"""Runs one program on slabmalloc, untouched, and then prints its summary to standard error.

It imports the summary's modules after the program has ended: see process.py.
"""

import errno
import os
import sys

import process
from messages import complain
from preload import Preload, original_environment
from program import (NOT_EXECUTABLE, NOT_FOUND, OWN_FAILURE, Unrunnable, check_preloadable,
                     fallback_command, find, shown)

DEFAULT_PATH = b"/bin:/usr/bin"


def run(library, command):
    """Runs `command` (bytes) and returns the exit status for the driver."""
    environment = original_environment()
    try:
        path = find(command[0], environment.get(b"PATH", DEFAULT_PATH))
        check_preloadable(path, library)
    except Unrunnable as problem:
        complain(f"{problem}; nothing was run")
        return problem.status
    try:
        preload = Preload(library)
    except OSError as error:
        complain(f"no temporary folder for the records: {error}")
        return OWN_FAILURE
    try:
        return _run_prepared(preload, environment, path, command)
    finally:
        preload.close()


def _run_prepared(preload, environment, path, command):
    records_path = preload.next_records_path()
    # A shell sets `_` to the program it starts; the one inherited here names the interpreter.
    environment[b"_"] = path
    environment = preload.environment(environment, records_path)
    floor_bytes = process.measure_floor()
    mask = process.hold_signals()
    try:
        child = _start(path, command, environment, mask)
    except Unrunnable as problem:
        complain(f"{problem}; nothing was run")
        return problem.status
    except OSError as error:
        complain(f"{shown(path)} cannot be started: {os.strerror(error.errno)}")
        return NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE
    outcome = child.wait_in_foreground()

    from output import open_console, show
    from record import read_totals
    from summary import summarise
    totals = read_totals(records_path)
    console = open_console(sys.stderr)
    name = shown(os.path.basename(command[0]))
    show(console, ["", *summarise(name, child.pid, outcome, totals, floor_bytes, console)])
    return outcome.exit_status


def _start(path, command, environment, mask):
    """Starts the program; a text file without an interpreter line goes to sh, as in a shell."""
    try:
        return process.start(path, command, environment, signal_mask=mask)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        command = fallback_command(path, command[1:])
        return process.start(b"/bin/sh", command, environment, signal_mask=mask)
