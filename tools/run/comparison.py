# SPDX-License-Identifier: MIT
"""Compares two folders of results byte for byte."""

import os

SHOWN_BYTES = 60
BLOCK_BYTES = 1 << 20


def differences(first, second):
    """Sentences naming every difference between the files under two folders; empty if none."""
    first_files, second_files = _files(first), _files(second)
    sentences = [f"{name} is missing on slabmalloc" for name in sorted(first_files - second_files)]
    sentences += [f"{name} exists on slabmalloc only"
                  for name in sorted(second_files - first_files)]
    for name in sorted(first_files & second_files):
        sentence = _difference(os.path.join(first, name), os.path.join(second, name))
        if sentence:
            sentences.append(f"{name} differs {sentence}")
    return sentences


def _files(folder):
    return {os.path.relpath(os.path.join(parent, name), folder)
            for parent, _, names in os.walk(folder) for name in names}


def _difference(first, second):
    """Where and how two files differ, or None."""
    line, offset = 1, 0
    with open(first, "rb") as first_file, open(second, "rb") as second_file:
        while True:
            expected, found = first_file.read(BLOCK_BYTES), second_file.read(BLOCK_BYTES)
            if expected == found:
                if not expected:
                    return None
                line += expected.count(b"\n")
                offset += len(expected)
                continue
            common = next((index for index, (one, other) in enumerate(zip(expected, found))
                           if one != other), min(len(expected), len(found)))
            line += expected.count(b"\n", 0, common)
            return f"from byte {offset + common:,}, line {line:,}: " \
                   f"{_excerpt(expected, common)} on the system's malloc, " \
                   f"{_excerpt(found, common)} on slabmalloc"


def _excerpt(data, offset):
    part = data[offset:offset + SHOWN_BYTES]
    return repr(part)[1:] if part else "the end"
