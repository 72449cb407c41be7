# SPDX-License-Identifier: MIT
"""Questions for an SMT solver: job shops in linear arithmetic, and a pigeonhole in plain logic."""

import os
import random

JOBS, MACHINES = 8, 5
HORIZONS = range(150, 200, 5)
HOLES = 7
LONGEST = 30


def write(folder):
    """Writes puzzles.smt2."""
    source = random.Random(5)
    lines = _pigeonhole(HOLES)
    for horizon in HORIZONS:
        lines += _job_shop(source, horizon)
    with open(os.path.join(folder, "puzzles.smt2"), "w", encoding="ascii") as file:
        file.writelines(f"{line}\n" for line in lines)


def _asked(lines):
    return ["(push)", *lines, "(check-sat)", "(pop)"]


def _pigeonhole(holes):
    """Can each of holes + 1 pigeons have a hole of its own?"""
    pigeons = range(holes + 1)
    lines = [f"(declare-const p{pigeon}h{hole} Bool)"
             for pigeon in pigeons for hole in range(holes)]
    for pigeon in pigeons:
        choice = " ".join(f"p{pigeon}h{hole}" for hole in range(holes))
        lines.append(f"(assert (or {choice}))")
    lines += [f"(assert (not (and p{one}h{hole} p{other}h{hole})))"
              for hole in range(holes) for one in pigeons for other in range(one)]
    return _asked(lines)


def _job_shop(source, horizon):
    """Can every job visit all machines in its own order, and be done by `horizon`?"""
    order = [source.sample(range(MACHINES), MACHINES) for _ in range(JOBS)]
    length = [[source.randrange(2, LONGEST) for _ in range(MACHINES)] for _ in range(JOBS)]

    def end(job, step):
        return f"(+ s{job}_{step} {length[job][step]})"

    lines = [f"(declare-const s{job}_{step} Int)"
             for job in range(JOBS) for step in range(MACHINES)]
    for job in range(JOBS):
        lines.append(f"(assert (>= s{job}_0 0))")
        lines += [f"(assert (>= s{job}_{step} {end(job, step - 1)}))"
                  for step in range(1, MACHINES)]
        lines.append(f"(assert (<= {end(job, MACHINES - 1)} {horizon}))")
    for machine in range(MACHINES):
        steps = [stops.index(machine) for stops in order]
        lines += [f"(assert (or (>= s{one}_{steps[one]} {end(other, steps[other])})"
                  f" (>= s{other}_{steps[other]} {end(one, steps[one])})))"
                  for one in range(JOBS) for other in range(one)]
    return _asked(lines)
