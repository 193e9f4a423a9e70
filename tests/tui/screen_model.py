"""A model of a terminal's screen, good enough to read plain text off the output of a program.

Nothing is judged here: sequences that are not known are skipped.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder

from rich.cells import get_character_cell_size

_TOKEN = re.compile(
    r"\x1b\[(?P<params>[\x30-\x3f]*)(?P<between>[\x20-\x2f]*)(?P<final>[\x40-\x7e])"
    r"|\x1b\](?P<osc>[^\x07\x1b]*)(?:\x07|\x1b\\)"
    r"|\x1b[PX^_][^\x1b]*\x1b\\"
    r"|\x1b[\x20-\x2f]+[\x30-\x7e]"
    r"|\x1b[\x30-\x4f\x51-\x57\x59\x5a\\\x60-\x7e]"
    r"|\x1b(?:\[[\x20-\x3f]*)?(?=[\x18\x1b])"  # cut off: CAN, or the next one
    r"|\x1b[\]PX^_][^\x07\x18\x1b]*(?=\x18|\x1b[^\\])"
    r"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f])"
    r"|(?P<text>[^\x00-\x1f\x7f]+)"
)

# Modes that differ from this at the end were left behind.
_NORMAL_MODES = {25: True, 7: True}
_SAVED_SCREEN = 1049


class Screen:
    """A grid of characters that terminal output is fed into.

    `styles` holds for each cell the SGR parameters that were sent since the last reset, joined by ";".
    """

    def __init__(self, columns: int, lines: int) -> None:
        self.columns, self.lines = columns, lines
        self.row = self.column = 0
        self.modes: dict[int, bool] = {}
        self.sgr: set[str] = set()  # every parameter string of SGR that was sent
        self.title = ""
        self.titles: list[str] = []  # saved ones
        self.copied: list[str] = []  # payloads of OSC 52
        self.keyboard = 0  # how many keyboard protocols were pushed and not popped
        self.style = ""
        self._pending = ""
        self._decode = getincrementaldecoder("utf-8")("replace").decode
        self._main: list[list[str]] | None = None
        self.cells: list[list[str]] = []
        self.styles: list[list[str]] = []
        self._clear()

    def feed(self, data: bytes) -> None:
        """Take output; sequences and characters may be split anywhere."""
        text = self._pending + self._decode(data)
        position = 0
        while match := _TOKEN.match(text, position):
            self._token(match)
            position = match.end()
        self._pending = text[position:]

    def resize(self, columns: int, lines: int) -> None:
        """Change the size; what no longer fits is cut, at the right and at the bottom."""
        old, old_styles = self.cells, self.styles
        self.columns, self.lines = columns, lines
        self.row, self.column = min(self.row, lines - 1), min(self.column, columns)
        self._clear()
        for row in range(min(lines, len(old))):
            width = min(columns, len(old[row]))
            self.cells[row][:width] = old[row][:width]
            self.styles[row][:width] = old_styles[row][:width]

    def text(self) -> str:
        """All lines, without the blanks at their ends."""
        return "\n".join(self.line(row) for row in range(self.lines))

    def line(self, row: int) -> str:
        """One line, without the blanks at its end."""
        return "".join(self.cells[row]).rstrip()

    def style_of(self, text: str) -> str:
        """The style of the first cell of `text`. Raises ValueError when it is not shown."""
        for row in range(self.lines):
            column = "".join(cell or "\0" for cell in self.cells[row]).find(text)
            if column >= 0:
                return self.styles[row][column]
        raise ValueError(f"{text!r} is not on the screen")

    @property
    def alternate(self) -> bool:
        """Whether the alternate screen is shown."""
        return self._main is not None

    def left_behind(self) -> list[str]:
        """What a program should have undone before it ended; empty after a clean end."""
        wrong = [
            f"?{mode}{'h' if on else 'l'}"
            for mode, on in sorted(self.modes.items())
            if on != _NORMAL_MODES.get(mode, False)
        ]
        return [*wrong, *["keyboard"] * self.keyboard, *self.titles, *filter(None, [self.style])]

    def _token(self, match: re.Match[str]) -> None:
        groups = match.groupdict()
        if groups["text"]:
            for character in groups["text"]:
                self._put(character)
        elif groups["control"]:
            self._control(groups["control"])
        elif groups["osc"] is not None:
            self._command(groups["osc"])
        elif groups["final"] and not groups["between"]:
            self._sequence(groups["params"], groups["final"])

    def _sequence(self, params: str, final: str) -> None:
        if params[:1] in ("?", ">", "<", "="):
            self._private(params, final)
            return
        numbers = (
            [int(number or 0) for number in params.split(";")] if params.replace(";", "").isdigit() else []
        )
        first = numbers[0] if numbers else 0
        if final in "Hf":
            self.row, self.column = max(first, 1) - 1, max([*numbers, 0, 0][1], 1) - 1
        elif final in "ABCDGd":
            self._move(final, max(first, 1))
        elif final in "JKX":
            self._erase(final, first)
        elif final == "m":
            self.sgr.add(params)
            reset = params in ("", "0") or params.startswith("0;")
            style = [params.removeprefix("0").removeprefix(";")] if reset else [self.style, params]
            self.style = ";".join(filter(None, style))
        elif final == "t" and first in (22, 23):
            self._save_title(first == 22)
        self.row, self.column = min(self.row, self.lines - 1), min(self.column, self.columns - 1)

    def _private(self, params: str, final: str) -> None:
        if final in "hl" and params[0] == "?":
            for mode in params[1:].split(";"):
                self._mode(int(mode), final == "h")
        elif final == "u" and params[0] in "<>":
            self.keyboard = max(self.keyboard + (1 if params[0] == ">" else -1), 0)

    def _mode(self, mode: int, on: bool) -> None:
        self.modes[mode] = on
        if mode != _SAVED_SCREEN:
            return
        if on:
            self._main = self._main or self.cells
            self._clear()
        elif self._main is not None:
            main, self._main = self._main, None
            self._clear()
            for row, line in enumerate(main[: self.lines]):
                width = min(len(line), self.columns)
                self.cells[row][:width] = line[:width]

    def _move(self, final: str, count: int) -> None:
        if final in "AB":
            self.row = min(max(self.row + (count if final == "B" else -count), 0), self.lines - 1)
        elif final in "CD":
            self.column = min(max(self.column + (count if final == "C" else -count), 0), self.columns - 1)
        elif final == "G":
            self.column = count - 1
        else:
            self.row = count - 1

    def _erase(self, final: str, how: int) -> None:
        here, end = self.row * self.columns + min(self.column, self.columns - 1), self.lines * self.columns
        start_of_line = self.row * self.columns
        if final == "X":
            span = range(here, min(here + max(how, 1), start_of_line + self.columns))
        else:
            low, high = (0, end) if final == "J" else (start_of_line, start_of_line + self.columns)
            span = {0: range(here, high), 1: range(low, here + 1)}.get(how, range(low, high))
        for cell in span:
            self.cells[cell // self.columns][cell % self.columns] = " "
            self.styles[cell // self.columns][cell % self.columns] = self.style

    def _control(self, control: str) -> None:
        if control == "\r":
            self.column = 0
        elif control == "\n":
            self._down()
        elif control == "\b":
            self.column = max(self.column - 1, 0)
        elif control == "\t":
            self.column = min(self.column // 8 * 8 + 8, self.columns - 1)

    def _command(self, command: str) -> None:
        number, _, rest = command.partition(";")
        if number in ("0", "2"):
            self.title = rest
        elif number == "52":
            self.copied.append(rest.partition(";")[2])

    def _save_title(self, save: bool) -> None:
        if save:
            self.titles.append(self.title)
        elif self.titles:
            self.title = self.titles.pop()

    def _put(self, character: str) -> None:
        width = get_character_cell_size(character)
        if width == 0:
            return
        if self.column + width > self.columns:
            if not self.modes.get(7, True):
                return
            self.column = 0
            self._down()
        self.cells[self.row][self.column : self.column + width] = [character, *[""] * (width - 1)]
        self.styles[self.row][self.column : self.column + width] = [self.style] * width
        self.column += width

    def _down(self) -> None:
        if self.row < self.lines - 1:
            self.row += 1
            return
        self.cells = [*self.cells[1:], [" "] * self.columns]
        self.styles = [*self.styles[1:], [""] * self.columns]

    def _clear(self) -> None:
        self.cells = [[" "] * self.columns for _ in range(self.lines)]
        self.styles = [[""] * self.columns for _ in range(self.lines)]
