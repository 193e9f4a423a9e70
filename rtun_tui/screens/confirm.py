"""Asking before acting: what will happen, to how much, and the command that does the same."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Input, Static

from rtun_core.commands import spell
from rtun_core.view.cells import visible
from rtun_core.view.units import masked_text
from rtun_tui.operations import Proposal
from rtun_tui.palette import Palette
from rtun_tui.screens.dialog import Dialog

LONGEST_COMMAND = 300  # characters of the equivalent command line that are shown


class Confirm(Dialog[bool]):
    """Dismisses with True only when the user said so: by `y`, by the button, or by typing the name.

    Cancel has the focus, so that Enter alone changes nothing.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "yes", "do it", show=False),
        Binding("n,escape,q", "no", "cancel", show=False),
        Binding("left,right,h,l", "swap", "the other button", show=False),
    ]

    def __init__(self, proposal: Proposal, palette: Palette, *, private: bool = False) -> None:
        """`private`: parts of addresses are hidden here as everywhere."""
        super().__init__()
        self._written = (lambda text: masked_text(visible(text))) if private else visible
        self._proposal = proposal
        self._palette = palette

    def compose(self) -> ComposeResult:
        """A question, facts, the command line, and two buttons."""
        proposal = self._proposal
        with Vertical(id="dialog") as dialog:
            dialog.border_title = "Confirm"
            yield Static(Text(self._written(proposal.question), style="bold"), id="question")
            yield Static(self._facts(), id="facts")
            if proposal.typed:
                why = f"Many flows are affected: type {proposal.typed} to go on."
                yield Static(why, id="why", markup=False)
                yield Input(id="typed", compact=True)
            with Horizontal(id="buttons"):
                yield Button("Cancel", id="cancel", compact=True)
                verb = Content(self._written(proposal.verb))
                yield Button(verb, id="go", disabled=bool(proposal.typed), compact=True)
                yield Static("enter / esc" if proposal.typed else "y / n", id="keys")

    def on_mount(self) -> None:
        """The safe choice has the focus; what is to be typed can be typed at once."""
        self.query_one("#typed" if self._proposal.typed else "#cancel").focus()

    def action_yes(self) -> None:
        """Do it, unless the name is still to be typed."""
        if not self._proposal.typed:
            self.dismiss(True)

    def action_no(self) -> None:
        """Do nothing."""
        self.dismiss(False)

    def action_swap(self) -> None:
        """Move between the buttons."""
        self.focus_next(Button)

    def on_input_changed(self, event: Input.Changed) -> None:
        """The button works once the name is there."""
        self.query_one("#go", Button).disabled = event.value != self._proposal.typed

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter confirms only the right name."""
        if event.value == self._proposal.typed:
            self.dismiss(True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """One of the two."""
        self.dismiss(event.button.id == "go")

    def _facts(self) -> Text:
        command = f"rtun ctl {spell(self._proposal.command)}"
        if len(command) > LONGEST_COMMAND:
            command = command[:LONGEST_COMMAND] + " ..."
        rows = (*self._proposal.facts, ("same as", command))
        wide = max(cell_len(name) for name, _ in rows) + 3
        muted = self._palette.style("muted")
        return Text("\n").join(
            Text.assemble((name.ljust(wide), muted), self._written(value)) for name, value in rows
        )
