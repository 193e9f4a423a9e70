"""ctrl+p: every command there is, found by any letters of its name or of what it does."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.fuzzy import Matcher
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from rtun_core.commands import COMMANDS, Quit, usage
from rtun_tui.screens.dialog import Dialog
from rtun_tui.view_commands import VIEW_COMMANDS


def palette_entries() -> list[tuple[str, str, str]]:
    """Line to run, spelling and help of every command. A line that ends in a space wants more words."""
    view = [(_line(each.usage, " ".join(each.words)), each.usage, each.help) for each in VIEW_COMMANDS]
    engine = [
        (_line(usage(kind), " ".join(kind.words)), usage(kind), kind.help)
        for kind in COMMANDS
        if kind is not Quit
    ]
    return sorted(view + engine, key=lambda entry: entry[1])


def _line(spelling: str, words: str) -> str:
    rest = spelling.removeprefix(words).strip()
    return f"{words} " if rest and not rest.startswith("[") else words


class CommandPalette(Dialog[str | None]):
    """Dismisses with the line that was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+p", "cancel", "cancel", show=False),
        Binding("down", "move(1)", "down", show=False),
        Binding("up", "move(-1)", "up", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._entries = palette_entries()
        self._found: list[str] = []

    def compose(self) -> ComposeResult:
        """A line to type in and what it finds."""
        with Vertical(id="dialog", classes="palette") as dialog:
            dialog.border_title = "Commands"
            yield Input(placeholder="what do you want to do?", compact=True)
            yield OptionList(markup=False)

    def on_mount(self) -> None:
        """Everything is there until something is typed."""
        self._search("")
        self.query_one(Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Search with every letter."""
        self._search(event.value)

    def on_input_submitted(self) -> None:
        """Enter takes what is highlighted."""
        at = self.query_one(OptionList).highlighted
        self.dismiss(self._found[at] if at is not None and self._found else None)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A click."""
        self.dismiss(self._found[event.option_index])

    def on_key(self, event: events.Key) -> None:
        """The list has no focus of its own."""
        if event.key in ("pagedown", "pageup"):
            self.action_move(10 if event.key == "pagedown" else -10)

    def action_move(self, step: int) -> None:
        """Another line."""
        options = self.query_one(OptionList)
        if self._found:
            options.highlighted = max(0, min((options.highlighted or 0) + step, len(self._found) - 1))

    def action_cancel(self) -> None:
        """Nothing."""
        self.dismiss(None)

    def _search(self, text: str) -> None:
        matcher = Matcher(text)
        scored = [
            (_score(matcher, line, f"{spelling} {about}") if text else 1.0, line, spelling, about)
            for line, spelling, about in self._entries
        ]
        if text:
            scored = sorted((each for each in scored if each[0] > 0), key=lambda each: -each[0])
        self._found = [line for _, line, _, _ in scored]
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(
            Option(Content.assemble(Content(spelling), Content.styled(f"  {about}", "dim")))
            for _, _, spelling, about in scored
        )
        options.highlighted = 0 if self._found else None


def _score(matcher: Matcher, line: str, told: str) -> float:
    """How well a command fits: its own words count more than what is told of it."""
    return 2 * matcher.match(line) or matcher.match(told)
