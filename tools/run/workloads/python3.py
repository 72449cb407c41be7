# SPDX-License-Identifier: MIT
"""python3 making and dropping objects of all kinds; its own small-object allocator is off."""

import sys

from workloads.command import CommandWorkload

PYTHON = CommandWorkload(
    name="python3",
    command=[sys.executable, "-s", "-B", "objects.py"],
    inputs=["objects.py"],
    environment={"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"},
)
