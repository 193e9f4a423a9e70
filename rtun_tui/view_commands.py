"""Commands that change the view and nothing else: what `:` and the palette know beside `rtun ctl`'s commands.

One registry; the prompt, the palette, completion and the help screen are made from it. A command gets a
`Desk` to change and `Effects` for what reaches beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rtun_core.commands import COMMANDS, Quit
from rtun_core.errors import UsageError
from rtun_core.event import Level
from rtun_core.view.columns import COLUMNS, column_named
from rtun_core.view.filter import compile_filter
from rtun_core.view.filter_text import parse_filter
from rtun_core.view.page import MAX_FILTER, MAX_SORTS, Sort
from rtun_tui.command_line import read_line
from rtun_tui.desk import Desk

EVENTS = "level>=info"  # that a recording is searched for, unless something else is asked for


class Effects(Protocol):
    """What commands can have done beyond the desk.

    Each returns what to tell the user, or raises UsageError.
    """

    def set_theme(self, name: str) -> str: ...
    def theme_names(self) -> Sequence[str]: ...
    def set_keymap(self, name: str) -> str: ...
    def keymap_names(self) -> Sequence[str]: ...
    def set_interval(self, seconds: float) -> str: ...
    def pause(self, *, on: bool) -> str: ...
    def export(self, form: str, path: str | None) -> str: ...
    def screenshot(self, path: str | None) -> str: ...
    def save_view(self, name: str) -> str: ...
    def load_view(self, name: str) -> str: ...
    def view_names(self) -> Sequence[str]: ...
    def trace(self, flow: str) -> str: ...
    def replay(self, path: str) -> str: ...
    def recordings(self) -> Sequence[str]: ...
    def live(self) -> str: ...
    def seek(self, where: str) -> str: ...
    def seek_event(self, by: int, text: str) -> str: ...
    def speed(self, factor: float) -> str: ...
    def help(self, topic: str | None) -> str: ...
    def help_topics(self) -> Sequence[str]: ...
    def quit(self) -> str: ...
    def detach(self) -> str: ...


Run = Callable[[Desk, Effects, list[str]], str]
Complete = Callable[[Desk, Effects], Sequence[str]]


@dataclass(frozen=True, slots=True)
class ViewCommand:
    """`words` begin the line, `usage` is all of it; `complete` lists what may follow the words."""

    words: tuple[str, ...]
    usage: str
    help: str
    run: Run
    complete: Complete | None = None

    def misuse(self, problem: str) -> UsageError:
        """One sentence about a line that cannot be read."""
        return UsageError(f"{' '.join(self.words)}: {problem}; accepted: {self.usage}")


def find(words: Sequence[str]) -> ViewCommand | None:
    """The view command that a line begins with."""
    return next((each for each in VIEW_COMMANDS if tuple(words[: len(each.words)]) == each.words), None)


def run_view_command(line: str, desk: Desk, effects: Effects) -> str:
    """Carry out a line that is a view command. Raises UsageError with what is accepted."""
    words = read_line(line)
    command = find(words)
    if command is None:
        known = ", ".join(" ".join(each.words) for each in VIEW_COMMANDS)
        raise UsageError(
            f"unknown command {' '.join(words[:2])!r}; the view's own: {known}; others as in rtun ctl"
        )
    rest = words[len(command.words) :]
    if rest and command.usage == " ".join(command.words):
        raise command.misuse(f"{rest[0]!r} is one word too many")
    try:
        return command.run(desk, effects, rest)
    except _Misuse as problem:
        raise command.misuse(str(problem)) from None


class _Misuse(Exception):
    """What is wrong with the words after a command's own."""


def _filter(desk: Desk, effects: Effects, words: list[str]) -> str:
    set_filter(desk, words[0])
    return f"filter of {desk.table.table}: {words[0]}" if words[0] else f"no filter of {desk.table.table}"


def set_filter(desk: Desk, text: str) -> None:
    """Filter the table with the keyboard. Raises FilterError, and then the last filter stays."""
    state = desk.table
    if len(text) > MAX_FILTER:
        raise UsageError(f"the filter has {len(text)} characters; accepted: up to {MAX_FILTER}")
    compile_filter(parse_filter(text), state.table, marks=state.marks, named=desk.filters)
    state.filter = text.strip()
    state.filter_on = True


def _sort(desk: Desk, effects: Effects, words: list[str]) -> str:
    if not words or len(words) > 2 or (len(words) == 2 and words[1] not in ("desc", "asc")):
        raise _Misuse(f"{' '.join(words) or 'nothing'} was given")
    descending = words[1:] == ["desc"]
    names = dict.fromkeys(column_named(desk.table.table, name).id for name in words[0].split(","))
    if len(names) > MAX_SORTS:
        raise _Misuse(f"{len(names)} columns were given, at most {MAX_SORTS} can sort")
    desk.table.sort = tuple(Sort(name, descending) for name in names)
    return f"{desk.table.table} by {words[0]}{' desc' if descending else ''}"


def _columns(desk: Desk, effects: Effects, words: list[str]) -> str:
    table = desk.table.table
    if words == ["default"]:
        desk.table.columns = tuple(column.id for column in COLUMNS[table] if column.shown)
    elif len(words) == 1:
        desk.table.columns = tuple(
            dict.fromkeys(column_named(table, name).id for name in words[0].split(","))
        )
    else:
        raise _Misuse("one list is wanted")
    return f"columns of {table}: {', '.join(desk.table.columns)}"


def _units(desk: Desk, effects: Effects, words: list[str]) -> str:
    known = {"bit": {"bits": True}, "byte": {"bits": False}, "si": {"iec": False}, "iec": {"iec": True}}
    if not words or any(word not in known for word in words):
        raise _Misuse(f"{' '.join(words) or 'nothing'} was given")
    for word in words:
        desk.look_with(**known[word])
    return f"units: {units_text(desk)}"


def units_text(desk: Desk) -> str:
    """How values are written now."""
    return f"{'bits' if desk.look.bits else 'bytes'}, multiples of {1024 if desk.look.iec else 1000}"


def _switch(words: list[str]) -> bool:
    if words not in (["on"], ["off"]):
        raise _Misuse(f"{' '.join(words) or 'nothing'} was given")
    return words == ["on"]


def _privacy(desk: Desk, effects: Effects, words: list[str]) -> str:
    desk.look_with(private=_switch(words))
    return f"parts of addresses are {'hidden' if desk.look.private else 'shown'}"


def _totals(desk: Desk, effects: Effects, words: list[str]) -> str:
    on = _switch(words)
    for state in desk.tables.values():
        if state.totals != on:
            state.toggle_totals()
    return "totals" if on else "rates"


def _level(desk: Desk, effects: Effects, words: list[str]) -> str:
    names = {level.name.lower(): level for level in Level}
    if len(words) != 1 or words[0] not in names:
        raise _Misuse(f"{' '.join(words) or 'nothing'} was given")
    desk.level = names[words[0]]
    return f"events from {words[0]} on"


def _interval(desk: Desk, effects: Effects, words: list[str]) -> str:
    return effects.set_interval(_number(words))


def _speed(desk: Desk, effects: Effects, words: list[str]) -> str:
    return effects.speed(_number(words))


def _number(words: list[str]) -> float:
    try:
        (word,) = words
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _Misuse(f"{' '.join(words) or 'nothing'} is not a number")
    return number


def _theme(desk: Desk, effects: Effects, words: list[str]) -> str:
    return effects.set_theme(_one(words))


def _one(words: list[str]) -> str:
    if len(words) != 1:
        raise _Misuse(f"{len(words)} words were given")
    return words[0]


def _optional(words: list[str]) -> str | None:
    return _one(words) if words else None


def _export(desk: Desk, effects: Effects, words: list[str]) -> str:
    if not words or words[0] not in ("csv", "ndjson"):
        raise _Misuse(f"{words[0] if words else 'nothing'} was given")
    return effects.export(words[0], _optional(words[1:]))


def _focus(desk: Desk, effects: Effects, words: list[str]) -> str:
    pane = _one(words)
    if pane not in ("agents", "tunnels", "flows", "events", "rules"):
        raise _Misuse(f"{pane} is not a pane")
    desk.focus(pane)
    return ""


def _zoom(desk: Desk, effects: Effects, words: list[str]) -> str:
    desk.zoom = not desk.zoom
    return ""


VIEW_COMMANDS: tuple[ViewCommand, ...] = (
    ViewCommand(("filter",), "filter [EXPR]", "show only rows that pass; nothing: all", _filter),
    ViewCommand(
        ("sort",),
        "sort COL[,COL...] [asc|desc]",
        "sort the table",
        _sort,
        lambda desk, _: [column.id for column in COLUMNS[desk.table.table]],
    ),
    ViewCommand(
        ("columns",),
        "columns COL[,COL...]|default",
        "which columns are shown, in this order",
        _columns,
        lambda desk, _: ["default", *(column.id for column in COLUMNS[desk.table.table])],
    ),
    ViewCommand(
        ("units",),
        "units bit|byte|si|iec ...",
        "how rates and sizes are written",
        _units,
        lambda *_: ("bit", "byte", "si", "iec"),
    ),
    ViewCommand(("totals",), "totals on|off", "totals instead of rates", _totals, lambda *_: ("on", "off")),
    ViewCommand(
        ("privacy",), "privacy on|off", "hide parts of addresses", _privacy, lambda *_: ("on", "off")
    ),
    ViewCommand(
        ("log", "level"),
        "log level debug|info|warning|error",
        "which events are shown",
        _level,
        lambda *_: [level.name.lower() for level in Level],
    ),
    ViewCommand(("pause",), "pause", "hold the picture", lambda _d, effects, _w: effects.pause(on=True)),
    ViewCommand(
        ("resume",), "resume", "let the picture go on", lambda _d, effects, _w: effects.pause(on=False)
    ),
    ViewCommand(("interval",), "interval SECONDS", "how often the picture is drawn, 0.1 to 5", _interval),
    ViewCommand(
        ("theme",), "theme NAME", "change the colours", _theme, lambda _, effects: effects.theme_names()
    ),
    ViewCommand(
        ("keymap",),
        "keymap NAME",
        "change the keys: `default`, `own` (keymap.toml), or a file of the directory keymaps",
        lambda _d, effects, words: effects.set_keymap(_one(words)),
        lambda _, effects: effects.keymap_names(),
    ),
    ViewCommand(
        ("focus",),
        "focus agents|tunnels|flows|events|rules",
        "go to a pane",
        _focus,
        lambda *_: ("agents", "tunnels", "flows", "events", "rules"),
    ),
    ViewCommand(("zoom",), "zoom", "this pane alone, or all panes again", _zoom),
    ViewCommand(
        ("export",),
        "export csv|ndjson [PATH]",
        "write the rows that pass the filter to a file, in the columns that were chosen",
        _export,
        lambda *_: ("csv", "ndjson"),
    ),
    ViewCommand(
        ("screenshot",),
        "screenshot [PATH]",
        "write the screen to a file as SVG",
        lambda _d, effects, words: effects.screenshot(_optional(words)),
    ),
    ViewCommand(
        ("view", "save"),
        "view save NAME",
        "keep filter, sort and columns under a name until the console ends",
        lambda _d, effects, words: effects.save_view(_one(words)),
    ),
    ViewCommand(
        ("view", "load"),
        "view load NAME",
        "use a saved view",
        lambda _d, effects, words: effects.load_view(_one(words)),
        lambda _, effects: effects.view_names(),
    ),
    ViewCommand(
        ("view", "list"),
        "view list",
        "names of saved views",
        lambda _d, effects, _w: "views: " + (", ".join(effects.view_names()) or "none"),
    ),
    ViewCommand(
        ("flow", "trace"),
        "flow trace ID",
        "go to a flow and keep its detail in sight",
        lambda _d, effects, words: effects.trace(_one(words)),
        lambda desk, _: [desk.tables["flows"].cursor_key or "ID"],
    ),
    ViewCommand(
        ("replay",),
        "replay PATH",
        "show a recording here; what runs goes on behind it",
        lambda _d, effects, words: effects.replay(_one(words)),
        lambda _, effects: effects.recordings(),
    ),
    ViewCommand(
        ("live",), "live", "back from a recording to what runs", lambda _d, effects, _w: effects.live()
    ),
    ViewCommand(
        ("goto", "next"),
        "goto next [EXPR]",
        "in a recording: go to the next event that passes, `level>=info` unless something else is given",
        lambda _d, effects, words: effects.seek_event(1, words[0] or EVENTS),
    ),
    ViewCommand(
        ("goto", "previous"),
        "goto previous [EXPR]",
        "in a recording: go to the event before",
        lambda _d, effects, words: effects.seek_event(-1, words[0] or EVENTS),
    ),
    ViewCommand(
        ("goto",),
        "goto HH:MM:SS|+SECONDS|-SECONDS|start|end",
        "in a recording: go to a time",
        lambda _d, effects, words: effects.seek(_one(words)),
    ),
    ViewCommand(("speed",), "speed FACTOR", "in a recording: how fast it plays, 0.1 to 100", _speed),
    ViewCommand(
        ("help",),
        "help [TOPIC]",
        "keys and commands; of a topic, a table, or the commands that begin with a word",
        lambda _d, effects, words: effects.help(_optional(words)),
        lambda _, effects: effects.help_topics(),
    ),
    ViewCommand(
        ("close",), "close", "close the console; what it shows goes on", lambda _d, e, _w: e.detach()
    ),
    ViewCommand(
        ("quit",),
        "quit",
        "end the console, and what it shows if that runs in this process",
        lambda _d, e, _w: e.quit(),
    ),
)


def first_words() -> list[str]:
    """The beginning of every command there is, for completion."""
    return [" ".join(each.words) for each in VIEW_COMMANDS] + [
        " ".join(kind.words) for kind in COMMANDS if kind is not Quit
    ]
