"""Help: exactly the keys that work in the pane it was opened from, and every command, from the registries."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from rtun_core.commands import COMMANDS, Quit, usage
from rtun_core.view.columns import COLUMNS, TABLES
from rtun_tui.key_actions import GROUPS, KEY_ACTIONS
from rtun_tui.keymap import Keymap
from rtun_tui.palette import Palette
from rtun_tui.screens.dialog import Dialog
from rtun_tui.view_commands import VIEW_COMMANDS

TOPICS = ("keys", "commands", "filter", "columns")
FILTER_HELP = (
    ("word", "rows with the word in any text"),
    ("field:text", "contains; = equals, or is in the network; != differs; ~ matches a regular expression"),
    ("field>1M", "compares; units k M G (bit/s), kB MB GB, ms s m h d, %"),
    ("a b", "both; a | b either; !a or -a not; ( ) groups; tunnel=t4|t5 one of several values"),
    ("@marked", "the marked rows; !@marked all others"),
    ("src=10.0.0.0/8 dn>1M", "an example: big flows from a network"),
)


def help_text(keymap: Keymap, pane: str, topic: str | None, palette: Palette) -> Text:
    """The page: of one topic, or all of them."""
    parts = []
    if topic in (None, "keys"):
        parts.append(_keys(keymap, pane, palette))
    if topic in (None, "commands"):
        typed, found = keymap.display("app.command"), keymap.display("app.palette")
        parts.append(_block(f"commands, after {typed} or {found}", _commands(), palette))
    if topic in (None, "filter"):
        parts.append(_block(f"filter, after {keymap.display('filter.edit')}", list(FILTER_HELP), palette))
    if topic == "columns" or topic in TABLES:
        tables = [table for table in TABLES if topic in ("columns", table)]
        parts += [
            _block(f"columns of {table}", [(each.id, each.help) for each in COLUMNS[table]], palette)
            for table in tables
        ]
    if topic is not None and not parts:
        parts.append(_block(topic, _commands(topic), palette))
    return Text("\n").join(parts)


def topics() -> list[str]:
    """What there is help of: topics of ours, tables, and first words of commands."""
    words = {usage.partition(" ")[0] for usage, _ in _commands()}
    return [*TOPICS, *TABLES, *sorted(words - {*TOPICS, *TABLES})]


def keys_of(keymap: Keymap, pane: str) -> list[tuple[str, str, str]]:
    """Group, keys and help of everything that works in a pane."""
    return [
        (action.group, keymap.display(action.id), action.help)
        for group in GROUPS
        for action in KEY_ACTIONS
        if action.group == group and pane in action.panes and keymap.of(action.id)
    ]


def _commands(word: str = "") -> list[tuple[str, str]]:
    """Spelling and help of every command, or of those that begin with a word."""
    engine = [(usage(kind), kind.help) for kind in COMMANDS if kind is not Quit]
    every = sorted([*engine, *((each.usage, each.help) for each in VIEW_COMMANDS)])
    return [(spelt, about) for spelt, about in every if not word or spelt.split()[0] == word]


def _keys(keymap: Keymap, pane: str, palette: Palette) -> Text:
    rows = keys_of(keymap, pane)
    wide = max(len(keys) for _, keys, _ in rows) + 2
    return Text("\n").join(
        _block(group, [(keys, about) for own, keys, about in rows if own == group], palette, wide)
        for group in GROUPS
        if any(own == group for own, _, _ in rows)
    )


def _block(title: str, rows: list[tuple[str, str]], palette: Palette, wide: int = 0) -> Text:
    """A title and two columns, the left one `wide`, or as wide as its texts."""
    wide = wide or min(max((len(left) for left, _ in rows), default=0), 44) + 2
    text = Text()
    text.append(f"{title}\n", palette.style("title"))
    for left, right in rows:
        text.append(f"  {left:<{wide}}", palette.style("key"))
        if len(left) >= wide:
            text.append("\n" + " " * (wide + 2))
        text.append(f"{right}\n", palette.style("text"))
    return text


class Help(Dialog[None]):
    """A page to scroll; any of the keys that close things closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "dismiss", "close", show=False),
        Binding("j,down", "scroll(1)", "down", show=False),
        Binding("k,up", "scroll(-1)", "up", show=False),
        Binding("space,pagedown,ctrl+d", "scroll(15)", "page down", show=False),
        Binding("pageup,ctrl+u", "scroll(-15)", "page up", show=False),
    ]

    def __init__(self, keymap: Keymap, pane: str, palette: Palette, *, topic: str | None = None) -> None:
        super().__init__()
        self._text = help_text(keymap, pane, topic, palette)
        self._title = f"Help: {topic or pane}"

    def compose(self) -> ComposeResult:
        """The page in a box."""
        with Vertical(id="dialog", classes="help") as dialog:
            dialog.border_title = self._title
            dialog.border_subtitle = "j k space scroll, Esc closes"
            with VerticalScroll(can_focus=False):  # its own keys would glide, and lose some that come fast
                yield Static(self._text)

    def action_scroll(self, by: int) -> None:
        """Lines down, or up when negative."""
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False, immediate=True)
