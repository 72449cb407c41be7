# SPDX-License-Identifier: MIT
"""Tables, pictures, numbers and what a terminal can show."""

import io
import os
import pty
import unittest

from support import RunTest

import picture
import table
import units
from record import ClassTotals, Totals
from summary import peak_text
from table import Group
from terminal import Terminal


class Tables(unittest.TestCase):
    GROUPS = [Group("time s", ["wall", "CPU"]), Group("memory", ["MiB"])]
    ROWS = [["git", "1.00", "10.00", "5.0"], ["python3", "2", "3", "400.0"]]

    def test_columns_are_aligned_under_their_group(self):
        self.assertEqual(table.render("program", self.GROUPS, self.ROWS, 80), [
            "         time s       memory",
            "program  wall    CPU     MiB",
            "----------------------------",
            "git      1.00  10.00     5.0",
            "python3     2      3   400.0"])

    def test_groups_that_do_not_fit_follow_in_a_table_below(self):
        lines = table.render("program", self.GROUPS, self.ROWS, 24)
        self.assertEqual(lines[5:], [
            "",
            "         memory",
            "program     MiB",
            "---------------",
            "git         5.0",
            "python3   400.0"])
        self.assertTrue(all(len(line) <= 24 for line in lines))

    def test_a_group_wider_than_the_page_is_still_printed(self):
        self.assertIn("git      1.00  10.00", table.render("program", self.GROUPS, self.ROWS, 5))


class Numbers(unittest.TestCase):
    def test_bytes_have_a_unit(self):
        for count, text in ((0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"),
                            ((1 << 20) - 1, "1.0 MiB"), (5 << 30, "5.0 GiB"),
                            (3 << 50, "3072.0 TiB")):
            self.assertEqual(units.bytes_text(count), text)

    def test_counts_ratios_and_plurals(self):
        self.assertEqual(units.count_text(1234567), "1,234,567")
        self.assertEqual(units.ratio_text(3, 2), "1.50")
        self.assertEqual(units.ratio_text(3, 0), "-")
        self.assertEqual([units.plural(number, "process") for number in (0, 1, 2)],
                         ["0 processes", "1 process", "2 processes"])

    def test_a_peak_below_what_can_be_seen_is_an_upper_bound(self):
        self.assertEqual(peak_text(7 << 20, 8 << 20), "<= 8.0")
        self.assertEqual(peak_text(9 << 20, 8 << 20), "9.0")


class Pictures(unittest.TestCase):
    def draw(self, width=60, unicode=False, colour=False, large=0, **classes):
        terminal = Terminal(io.StringIO(), {})
        terminal.width, terminal.unicode, terminal.colour = width, unicode, colour
        totals = Totals(large_count=large, large_bytes=large * 1024)
        for name, (slots, used) in classes.items():
            totals.classes[int(name[1:])] = ClassTotals(slots, used)
        return picture.draw(totals, terminal)

    def test_bars_show_used_and_free_slots_by_bytes(self):
        lines = self.draw(_16=(400, 100), _64=(100, 100), _2048=(1, 0))
        self.assertEqual(lines[1:], [
            " 16 B  ######....................  100 used  300 free   25 %",
            " 64 B  ##########################  100 used    0 free  100 %",
            "2 KiB  ........                      0 used    1 free    0 %"])

    def test_every_width_is_kept(self):
        for width in range(50, 161):
            lines = self.draw(width, _16=(4000, 1), _1024=(63, 62))
            self.assertLessEqual(max(map(len, lines[1:])), width)

    def test_nothing_is_rounded_away(self):
        for length in range(1, 101):
            for used in range(0, 101):
                for width in (2, 10, 33):
                    used_cells, free_cells = picture.bar_parts(length, 100, used, 100, width)
                    self.assertLessEqual(used_cells + free_cells, width)
                    self.assertEqual(used_cells > 0, used > 0, (length, used, width))
                    self.assertEqual(free_cells > 0, used < 100, (length, used, width))

    def test_marks_are_ascii_unless_unicode_is_shown(self):
        plain = "\n".join(self.draw(_16=(10, 5)))
        self.assertTrue(plain.isascii())
        fancy = "\n".join(self.draw(unicode=True, colour=True, _16=(10, 5)))
        self.assertIn("█", fancy)
        self.assertIn("\x1b[36m", fancy)

    def test_a_heap_without_classes_has_no_picture(self):
        self.assertEqual(self.draw(), [])
        self.assertEqual(self.draw(_16=(0, 0)), [])

    def test_large_objects_are_told(self):
        self.assertEqual(self.draw(large=2, _16=(10, 5))[-1],
                         "larger: 2 live objects, 2.0 KiB")


class Terminals(RunTest):
    def on_terminal(self, **environment):
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        stream = os.fdopen(slave, "w")
        self.addCleanup(stream.close)
        return Terminal(stream, {"TERM": "xterm", "LANG": "C.UTF-8", **environment})

    def test_a_file_is_plain(self):
        with open(self.path("file"), "w", encoding="ascii") as stream:
            terminal = Terminal(stream, {"TERM": "xterm", "LANG": "C.UTF-8", "COLUMNS": "50"})
            self.assertEqual((terminal.colour, terminal.unicode, terminal.width),
                             (False, False, 100))

    def test_a_terminal_shows_colours_and_unicode(self):
        terminal = self.on_terminal(COLUMNS="72")
        self.assertEqual((terminal.colour, terminal.unicode, terminal.width), (True, True, 72))

    def test_a_terminal_without_unicode_or_colour_gets_none(self):
        self.assertFalse(self.on_terminal(LANG="C").unicode)
        self.assertFalse(self.on_terminal(LC_ALL="C").unicode)
        self.assertTrue(self.on_terminal(LC_ALL="de_DE.UTF-8", LANG="C").unicode)
        self.assertFalse(self.on_terminal(TERM="dumb").colour)
        plain = self.on_terminal(NO_COLOR="1")
        self.assertEqual((plain.colour, plain.unicode), (False, False))

    def test_a_width_out_of_reason_is_bounded(self):
        self.assertEqual(self.on_terminal(COLUMNS="3").width, 40)
        self.assertEqual(self.on_terminal(COLUMNS="5000").width, 160)

    def test_what_cannot_be_encoded_or_written_does_no_harm(self):
        with open(self.path("file"), "w", encoding="ascii") as stream:
            Terminal(stream, {}).write("caf\u00e9 \udcff")
        with open(self.path("file"), "rb") as file:
            self.assertEqual(file.read(), b"caf? ?\n")
        with open("/dev/full", "w", encoding="ascii") as stream:
            Terminal(stream, {}).write("lost")
        Terminal(None, {}).write("lost")


if __name__ == "__main__":
    unittest.main()
