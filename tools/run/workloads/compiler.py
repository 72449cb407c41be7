# SPDX-License-Identifier: MIT
"""g++ compiling and linking one file full of templates: the driver, cc1plus, as, collect2, ld."""

from workloads.command import CommandWorkload

COMPILER = CommandWorkload(
    name="g++",
    command=["g++", "-std=c++20", "-O2", "-o", "compared/templates", "templates.cpp"],
    inputs=["templates.cpp"],
)
