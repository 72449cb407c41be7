# SPDX-License-Identifier: MIT
"""The programs of `scripts/run` and the work each of them does.

A workload is an object with
    name          what the table calls it
    note          a sentence printed under the table, or None
    prepare(folder)                 writes the inputs
    run(folder, malloc) -> Measurement
                                    does the work once with `folder` as the current folder; what
                                    must not depend on the malloc goes to files in folder/compared
`malloc` (see malloc_choice.py) starts programs on the malloc that was chosen.
"""

from workloads.compiler import COMPILER
from workloads.git import GIT
from workloads.perl import PERL
from workloads.python3 import PYTHON
from workloads.redis import Redis
from workloads.sqlite3 import SQLITE

WORKLOADS = (PYTHON, SQLITE, PERL, GIT, COMPILER, Redis())
