# SPDX-License-Identifier: MIT
"""perl counting, sorting and rewriting words; the order of its hashes is fixed."""

from workloads.command import CommandWorkload

PERL = CommandWorkload(
    name="perl",
    command=["perl", "words.pl"],
    inputs=["words.pl"],
    environment={"PERL_HASH_SEED": "0", "PERL_PERTURB_KEYS": "0"},
)
