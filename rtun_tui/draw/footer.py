"""The line at the bottom: what the keys do here, or a message in their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len
from rich.segment import Segment
from textual.strip import Strip

from rtun_core.view.cells import visible
from rtun_tui.draw.frame import Brush, cut

Hint = tuple[str, str, bool]  # key, what it does, whether it works now

_GAP: Final = 2  # cells between two hints


def hints_strip(hints: Sequence[Hint], width: int, brush: Brush) -> Strip:
    """As many hints as fit, each whole. The last one, which is how to leave, stays the longest.

    A key that cannot work now is muted; without colours it stands in brackets.
    """
    palette = brush.palette
    pieces = [Segment(" ")]
    for key, word, works in fitting(hints, width):
        opening, closing = ("(", ")") if not works and not palette.colour else ("", "")
        pieces += [
            Segment(f"{opening}{key}", palette.style("key" if works else "key-off")),
            Segment(f" {word}{closing}", palette.style("hint" if works else "key-off")),
            Segment(" " * _GAP),
        ]
    return Strip(pieces).adjust_cell_length(max(0, width))


def fitting(hints: Sequence[Hint], width: int) -> list[Hint]:
    """The hints that have room: the first ones, and the last."""
    kept = list(hints)
    while len(kept) > 1 and _length(kept) > width:
        del kept[-2]
    return kept if kept and _length(kept) <= width else []


def message_strip(text: str, role: str, width: int, brush: Brush) -> Strip:
    """A message in the look of a role."""
    text = cut(f" {visible(text)}", width, brush.ellipsis)
    return Strip([Segment(text, brush.palette.style(role))]).adjust_cell_length(max(0, width))


def _length(hints: Sequence[Hint]) -> int:
    """Cells of a line, brackets counted so that nothing moves when a key begins to work."""
    return (
        1
        + sum(cell_len(key) + 1 + cell_len(word) + 2 * (not works) for key, word, works in hints)
        + _GAP * (len(hints) - 1)
    )
