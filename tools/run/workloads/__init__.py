# SPDX-License-Identifier: MIT
"""The programs of `scripts/run` and the work each of them does.

A workload is an object with
    name          its name in the table
    note          a sentence printed under the table, or None
    prepare(folder)                 writes the inputs
    run(folder, malloc) -> Measurement
                                    does the work once with `folder` as the current folder, and
                                    writes to folder/compared all that must not depend on the malloc
`malloc` (see malloc_choice.py) starts programs on the malloc that was chosen.
"""

from workloads.compiler import COMPILER
from workloads.git import GIT
from workloads.perl import PERL
from workloads.python3 import PYTHON
from workloads.redis import Redis
from workloads.sqlite3 import SQLITE

WORKLOADS = (PYTHON, SQLITE, PERL, GIT, COMPILER, Redis())
