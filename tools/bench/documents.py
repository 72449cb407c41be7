# SPDX-License-Identifier: MIT
"""The input of the program `xmllint`: a catalogue of 2.4 MB with small elements and attributes."""

import os
import random

BOOKS = 6800
WORDS = ("slab", "page", "frame", "chunk", "zone", "queue", "owner", "remote", "bitmap", "arena")


def write(folder):
    """Writes `catalogue.xml`, which is the same on every machine."""
    chance = random.Random(1)
    with open(os.path.join(folder, "catalogue.xml"), "w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="UTF-8"?>\n<catalogue>\n')
        for number in range(BOOKS):
            title = " ".join(chance.choice(WORDS) for _ in range(4))
            file.write(f'  <book id="b{number}" year="{chance.randrange(1950, 2026)}">\n'
                       f'    <title lang="en">{title}</title>\n')
            for _ in range(chance.randrange(1, 4)):
                file.write(f'    <author><name>{chance.choice(WORDS)}</name>'
                           f'<mail>{chance.choice(WORDS)}@example.org</mail></author>\n')
            file.write(f'    <price currency="EUR">{chance.randrange(500, 9999) / 100}</price>\n'
                       f'    <note>{" ".join(chance.choice(WORDS) for _ in range(9))}</note>\n'
                       '  </book>\n')
        file.write('</catalogue>\n')
