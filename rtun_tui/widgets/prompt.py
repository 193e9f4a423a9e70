"""The line above the keys: the filter in force, a message for a few seconds, or a line being typed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.strip import Strip
from textual.suggester import Suggester
from textual.timer import Timer
from textual.widgets import Input

from rtun_core.view.cells import visible
from rtun_tui.draw.frame import cut
from rtun_tui.drawn import Drawn

FILTER = "/"
COMMAND = ":"
MESSAGE_TIME = 3.0  # seconds that a message stands
TYPING_PAUSE = 0.15  # seconds after the last key until a filter is tried
SUBMITTING = "enter"
ENDING = frozenset({SUBMITTING, "escape", "ctrl+g"})  # keys that end editing
HISTORY = 200  # lines remembered of each kind

Complete = Callable[[str], Sequence[str]]


class Label(Drawn):
    """The line while nothing is typed."""

    def __init__(self) -> None:
        super().__init__()
        self._text, self._role = "", "muted"

    def tell(self, text: str, role: str) -> None:
        """Say something else."""
        if (text, role) != (self._text, self._role):
            self._text, self._role = text, role
            self.refresh()

    def draw_line(self, y: int) -> Strip:
        """The text, cut to the width. Names from elsewhere may be in it."""
        text = cut(visible(self._text), self.size.width - 2, self.brush.ellipsis)
        return Strip([Segment(f" {text}", self.palette.style(self._role))])


class Line(Input):
    """What is typed; up and down bring old lines back, tab takes the completion."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "older", "older line", show=False),
        Binding("down", "newer", "newer line", show=False),
        Binding("tab", "cursor_right", "take the completion", show=False),
    ]

    def __init__(self, prompt: Prompt) -> None:
        super().__init__(compact=True, suggester=CommandSuggester(prompt), select_on_focus=False)
        self._prompt = prompt
        self.history: list[str] = []
        self.seen: events.Key | None = None  # the last key that came here; unused ones bubble up
        self._place = 0

    async def _on_key(self, event: events.Key) -> None:
        """What ends the line does so at once: a key right behind it is one of the panes."""
        if self._prompt.editing and event.key not in ENDING:
            self.seen = event
            await super()._on_key(event)
            return
        event.stop()
        event.prevent_default()
        if self._prompt.editing:
            self._prompt.end(event.key)
        else:  # it was on its way when the line ended
            self._prompt._forward_event(events.Key(event.key, event.character))

    def validate_value(self, value: str) -> str:
        """Only what can be shown, whatever is pasted."""
        return visible(value)

    def begin(self, text: str, history: list[str]) -> None:
        """Edit `text`, with older lines to come back to."""
        self.history, self._place = history, len(history)
        self.value = text
        self.cursor_position = len(text)

    def action_older(self) -> None:
        """The line before in the history."""
        self._go(-1)

    def action_newer(self) -> None:
        """The line after in the history; after the last one an empty line."""
        self._go(1)

    def _go(self, step: int) -> None:
        self._place = max(0, min(self._place + step, len(self.history)))
        self.value = self.history[self._place] if self._place < len(self.history) else ""
        self.cursor_position = len(self.value)


class Prompt(Horizontal):
    """`edit` opens the line; what becomes of it is told by messages."""

    class Changed(Message):
        """The text rested for a moment while it was edited."""

        def __init__(self, kind: str, text: str) -> None:
            super().__init__()
            self.kind, self.text = kind, text

    class Submitted(Message):
        """Enter was pressed."""

        def __init__(self, kind: str, text: str) -> None:
            super().__init__()
            self.kind, self.text = kind, text

    class Cancelled(Message):
        """Editing ended without a result; `before` is the text that it began with."""

        def __init__(self, kind: str, before: str) -> None:
            super().__init__()
            self.kind, self.before = kind, before

    def __init__(self, complete: Complete, *, id: str | None = None) -> None:
        """`complete` gives possible continuations of a command line."""
        super().__init__(id=id)
        self._complete = complete
        self._kind = ""
        self._before = ""
        self._history: dict[str, list[str]] = {FILTER: [], COMMAND: []}
        self._idle = ("", "filter")
        self._message: Timer | None = None
        self._typing: Timer | None = None

    def compose(self) -> ComposeResult:
        """The resting line, and the sign and the line that is typed."""
        yield Label()
        yield Sign()
        yield Line(self)

    def on_mount(self) -> None:
        """Nothing is typed."""
        self._show_editing(editing=False)

    @property
    def editing(self) -> str:
        """What is being typed: FILTER, COMMAND, or nothing."""
        return self._kind

    def edit(self, kind: str, text: str = "") -> None:
        """Begin to type a filter or a command."""
        self._kind, self._before = kind, text
        self.query_one(Sign).tell(kind, "key")
        self._show_editing(editing=True)
        line = self.query_one(Line)
        line.begin(text, self._history[kind])
        # At once, not by a message: what is typed after the sign belongs to the line.
        self.screen.set_focus(line)

    def take(self, event: events.Key) -> None:
        """A key that was on its way elsewhere when the line was opened: pasted text, fast fingers."""
        line = self.query_one(Line)
        if event is line.seen:
            return
        if event.key in ENDING:
            self.end(event.key)
        elif event.key == "backspace":
            line.action_delete_left()
        elif event.is_printable and event.character:
            line.insert_text_at_cursor(event.character)

    def idle(self, text: str, role: str = "filter") -> None:
        """What stands here when there is nothing else."""
        self._idle = (text, role)
        if self._message is None:
            self.query_one(Label).tell(text, role)

    def message(self, text: str, role: str = "hint", seconds: float = MESSAGE_TIME) -> None:
        """Say something for a few seconds."""
        if self._message is not None:
            self._message.stop()
        self._message = self.set_timer(seconds, self.forget)
        self.query_one(Label).tell(text, role)

    def completions(self, text: str) -> Sequence[str]:
        """Whole lines that the text could become."""
        return self._complete(text) if self._kind == COMMAND else [*reversed(self._history[FILTER])]

    def on_input_changed(self, event: Input.Changed) -> None:
        """Wait until the fingers rest, then try the filter."""
        event.stop()
        if self._typing is not None:
            self._typing.stop()
        if self._kind == FILTER:
            self._typing = self.set_timer(TYPING_PAUSE, self._rested)

    def end(self, key: str) -> None:
        """Stop editing: hand the line over and remember it, or go on as if nothing had been typed."""
        kind, text = self._kind, self.query_one(Line).value.strip()
        if self._typing is not None:
            self._typing.stop()
        self._kind = ""
        self._show_editing(editing=False)
        # To the screen itself, where what the keys behind this one mean is told as well: in this order.
        if key != SUBMITTING:
            self.screen.post_message(self.Cancelled(kind, self._before))
            return
        history = self._history[kind]
        if text:
            history[:] = [*[line for line in history if line != text][-HISTORY + 1 :], text]
        self.screen.post_message(self.Submitted(kind, text))

    def _rested(self) -> None:
        if self._kind:
            self.post_message(self.Changed(self._kind, self.query_one(Line).value.strip()))

    def forget(self) -> None:
        """The resting line again, at once."""
        if self._message is not None:
            self._message.stop()
        self._message = None
        self.query_one(Label).tell(*self._idle)

    def _show_editing(self, *, editing: bool) -> None:
        self.query_one(Label).display = not editing
        self.query_one(Sign).display = editing
        self.query_one(Line).display = editing


class Sign(Label):
    """`/` or `:` before the line."""

    def draw_line(self, y: int) -> Strip:
        """The sign alone."""
        return Strip([Segment(f" {self._text}", self.palette.style(self._role))])


class CommandSuggester(Suggester):
    """The first completion, shown dim behind the cursor."""

    def __init__(self, prompt: Prompt) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._prompt = prompt

    async def get_suggestion(self, value: str) -> str | None:
        """A whole line that begins with `value`."""
        if not value:
            return None
        return next((line for line in self._prompt.completions(value) if line.startswith(value)), None)
