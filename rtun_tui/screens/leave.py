"""Leaving while flows are active: end everything, only the console, or stay."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Static

from rtun_core.cli.console import EndKind
from rtun_core.event import counted
from rtun_tui.screens.dialog import Dialog


class Leave(Dialog[EndKind | None]):
    """Staying has the focus; `y` quits, `Q` closes the console alone."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "leave('QUIT')", "quit", show=False),
        Binding("Q", "leave('DETACHED')", "close the console", show=False),
        Binding("n,escape,q", "stay", "stay", show=False),
        Binding("left,h", "app.focus_previous", "the other button", show=False),
        Binding("right,l", "app.focus_next", "the other button", show=False),
    ]

    def __init__(self, flows: int) -> None:
        super().__init__()
        self._flows = flows

    def compose(self) -> ComposeResult:
        """What would end, and the three ways out."""
        with Vertical(id="dialog") as dialog:
            dialog.border_title = "Quit"
            yield Static(Text("Quit rtun?", style="bold"), id="question")
            yield Static(
                f"{counted(self._flows, 'flow')} would end. Q closes only the console: rtun goes on without "
                "it, and `rtun attach` shows it again if it runs with --control.",
                id="facts",
            )
            with Horizontal(id="buttons"):
                yield Button("Stay", id="stay", compact=True)
                yield Button("Quit", id="quit", compact=True)
                yield Button("Close console", id="close", compact=True)
            yield Static("n / y / Q", id="why")

    def on_mount(self) -> None:
        """Enter alone changes nothing."""
        self.query_one("#stay").focus()

    def action_leave(self, how: str) -> None:
        """One of the two ways out."""
        self.dismiss(EndKind[how])

    def action_stay(self) -> None:
        """Stay."""
        self.dismiss(None)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """One of the three."""
        self.dismiss({"quit": EndKind.QUIT, "close": EndKind.DETACHED}.get(event.button.id or ""))
