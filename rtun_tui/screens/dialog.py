"""What every dialog has in common: its style, and less air around its lines where there are few of them."""

from __future__ import annotations

from typing import TypeVar

from textual.screen import ModalScreen

SHORT = 20  # lines of a terminal below which a dialog has no empty lines

_Result = TypeVar("_Result")


class Dialog(ModalScreen[_Result]):
    """A box in front of everything else."""

    CSS_PATH = "dialog.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-short"), (SHORT, "-tall")]  # noqa: RUF012 - Textual declares it so
