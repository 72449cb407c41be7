# SPDX-License-Identifier: MIT
"""What the place of output can show: its width, Unicode, colours."""

import os
import sys

PLAIN_WIDTH = 100
WIDTHS = (40, 160)


class Terminal:
    """A stream to write lines to; on anything but a terminal they are plain ASCII."""

    def __init__(self, stream, environment=None):
        environment = os.environ if environment is None else environment
        self._stream = stream
        interactive = stream is not None and stream.isatty()
        wanted = interactive and not environment.get("NO_COLOR")
        self.colour = bool(wanted and environment.get("TERM", "dumb") != "dumb")
        self.unicode = bool(wanted and _is_unicode(environment))
        self.width = PLAIN_WIDTH
        if interactive:
            self.width = max(WIDTHS[0], min(WIDTHS[1], self._columns(environment)))

    def _columns(self, environment):
        columns = environment.get("COLUMNS", "")
        if columns.isdecimal() and int(columns) > 0:
            return int(columns)
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or PLAIN_WIDTH
        except OSError:
            return PLAIN_WIDTH

    def paint(self, text, code):
        """`text` in the colour of the SGR code, where colours are shown."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text

    def write(self, *lines):
        """Writes lines; a stream that is closed or full loses them."""
        if self._stream is None:
            return
        encoding = "utf-8" if self.unicode else "ascii"
        data = "".join(f"{line}\n" for line in lines).encode(encoding, "replace")
        try:
            self._stream.flush()
            view = memoryview(data)
            while view:
                view = view[os.write(self._stream.fileno(), view):]
        except (OSError, ValueError):
            self._stream = None


def _is_unicode(environment):
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        value = environment.get(name)
        if value:
            return value.lower().replace("-", "").endswith("utf8")
    return False


def standard_error():
    """The terminal behind standard error."""
    return Terminal(sys.stderr)


def standard_output():
    """The terminal behind standard output."""
    return Terminal(sys.stdout)
