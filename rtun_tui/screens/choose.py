"""Choosing one of a few things: a tunnel, a theme, a column to sort by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Key
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from rtun_tui.screens.dialog import Dialog

MEANT = frozenset({"j", "k", "q", "up", "down", "enter", "escape"})  # keys that mean something here


class Choose(Dialog[str | None]):
    """Dismisses with the value that was chosen, or None. `on_look` is called while the cursor moves.

    `keys` choose a value at once; those that move or cancel do that all the same.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "cancel", "cancel", show=False),
        Binding("j", "move(1)", "down", show=False),
        Binding("k", "move(-1)", "up", show=False),
    ]

    def __init__(
        self,
        title: str,
        options: Sequence[tuple[str, str]],
        *,
        current: str | None = None,
        on_look: Callable[[str], None] | None = None,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        """`options`: value and text of each."""
        super().__init__()
        self._title = title
        self._options = list(options)
        self._current = current
        self._on_look = on_look
        self._keys = dict(keys or {})

    def compose(self) -> ComposeResult:
        """A titled list."""
        with Vertical(id="dialog") as dialog:
            dialog.border_title = self._title
            dialog.border_subtitle = "Enter takes, Esc leaves"
            yield OptionList(*(Option(text) for _, text in self._options), markup=False)

    def on_mount(self) -> None:
        """Begin at what is in force now."""
        values = [value for value, _ in self._options]
        options = self.query_one(OptionList)
        options.highlighted = values.index(self._current) if self._current in values else 0
        options.focus()

    def on_key(self, event: Key) -> None:
        """A key that nothing else has used."""
        value = self._keys.get(event.key)
        if value is not None and event.key not in MEANT:
            event.stop()
            self.dismiss(value)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Let the user see what it would be like."""
        passed = event.option_index != event.option_list.highlighted  # on the way to the first one
        if self._on_look is not None and not passed:
            self._on_look(self._options[event.option_index][0])

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Done."""
        self.dismiss(self._options[event.option_index][0])

    def action_cancel(self) -> None:
        """Nothing chosen."""
        self.dismiss(None)

    def action_move(self, step: int) -> None:
        """The keys of the tables work here too."""
        options = self.query_one(OptionList)
        if step > 0:
            options.action_cursor_down()
        else:
            options.action_cursor_up()
