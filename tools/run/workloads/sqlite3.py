# SPDX-License-Identifier: MIT
"""sqlite3 filling, indexing and querying a database in memory."""

from workloads.command import CommandWorkload

SQLITE = CommandWorkload(
    name="sqlite3",
    command=["sqlite3", "-batch", ":memory:"],
    inputs=["tables.sql"],
    standard_input="tables.sql",
)
