"""What is wrong with the user's own files: told once, whole, before the console is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from rtun_core.view.cells import visible
from rtun_tui.screens.dialog import Dialog


class Faults(Dialog[None]):
    """Each fault with its file, line and key. Any of the keys that leave something closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,space,q", "close", "close", show=False),
        Binding("j,down", "scroll(1)", "down", show=False),
        Binding("k,up", "scroll(-1)", "up", show=False),
    ]

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__()
        self._faults = faults

    def compose(self) -> ComposeResult:
        """The faults, and what happens now."""
        with VerticalScroll(id="dialog", can_focus=False) as dialog:
            dialog.border_title = "Settings"
            dialog.border_subtitle = "Enter goes on"
            yield Static(Text("This cannot be used, the defaults are in force:", style="bold"))
            for fault in self._faults:
                yield Static(visible(fault), classes="fault", markup=False)
            yield Static("`rtun config --check` tells the same.", id="why", markup=False)

    def action_close(self) -> None:
        """Go on."""
        self.dismiss(None)

    def action_scroll(self, lines: int) -> None:
        """Where there are more faults than lines."""
        self.query_one("#dialog").scroll_relative(y=lines, animate=False, immediate=True)
