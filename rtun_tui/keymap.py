"""Keys: what each does, where it works, and the user's own choice of keys.

`KEY_ACTIONS` is the one list; key bindings, the footer, the help screen and `rtun config
--print-keys` are made from it. Keys have the names that Textual gives them: `j`, `G`, `ctrl+d`,
`pagedown`, `slash`. In files a punctuation key may also be written as itself, `/`.

`keymap.toml` maps actions to a key or a list of keys; an empty list leaves an action without one:

    "act.drain" = "d"
    "move.down" = ["j", "down", "ctrl+n"]
    "app.record" = []
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from rtun_core.errors import UsageError
from rtun_tui.key_actions import KEY_ACTIONS, KeyAction
from rtun_tui.strict_toml import Document, nearest, read_document

__all__ = [
    "ACTIONS",
    "KEY_ACTIONS",
    "KeyAction",
    "Keymap",
    "display_key",
    "key_name",
    "load_keymap",
    "parse_keymap",
    "written_key",
]

ACTIONS: Mapping[str, KeyAction] = MappingProxyType({action.id: action for action in KEY_ACTIONS})

_PUNCTUATION_NAMES = {
    "/": "slash",
    "\\": "backslash",
    "@": "at",
    "-": "minus",
    "+": "plus",
    "_": "underscore",
}
_NAMES = {
    sign: _PUNCTUATION_NAMES.get(sign) or unicodedata.name(sign).lower().replace("-", "_").replace(" ", "_")
    for sign in string.punctuation
}
_SIGNS = {name: sign for sign, name in _NAMES.items()}
_NAMED = {
    "up": "Up",
    "down": "Down",
    "left": "Left",
    "right": "Right",
    "home": "Home",
    "end": "End",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "insert": "Ins",
    "delete": "Del",
    "backspace": "Backspace",
    "tab": "Tab",
    "enter": "Enter",
    "escape": "Esc",
    "space": "Space",
} | {f"f{number}": f"F{number}" for number in range(1, 25)}
_NUL = "ctrl+@"  # what ctrl+space sends
_MODIFIERS = ("ctrl", "shift", "alt")


@dataclass(frozen=True)
class Keymap:
    """The keys of each action: the defaults, or the user's choice on top of them."""

    keys: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: MappingProxyType({action.id: action.keys for action in KEY_ACTIONS})
    )

    def of(self, action: str) -> tuple[str, ...]:
        """The keys of an action. Raises KeyError for an unknown id."""
        return self.keys[action]

    def action_at(self, pane: str, key: str) -> KeyAction | None:
        """What a key does in a pane, None if nothing."""
        for action in KEY_ACTIONS:
            if pane in action.panes and key in self.keys[action.id]:
                return action
        return None

    def display(self, action: str) -> str:
        """The keys of an action as people read them: `j, Down`."""
        return ", ".join(dict.fromkeys(display_key(key) for key in self.keys[action]))

    def textual(self) -> dict[str, str]:
        """For `App.set_keymap`: binding id to keys joined by commas."""
        return {action: ",".join(keys) for action, keys in self.keys.items()}


def load_keymap(file: Path) -> Keymap:
    """The default keys, changed by the file if there is one. Raises UsageError with file, line and key."""
    return parse_keymap(read_document(file)) if file.exists() else Keymap()


def parse_keymap(document: Document) -> Keymap:
    """The default keys, changed by a document. Raises UsageError naming file, line and key.

    Two actions with the same key in a pane are refused, whether the file or the defaults gave it.
    """
    given = {path: _keys(document, path) for path in _assignments(document.data)}
    chosen = {".".join(path): keys for path, keys in given.items()}
    keymap = Keymap(MappingProxyType({**Keymap().keys, **chosen}))
    for conflict in conflicts(keymap):
        path = next((path for path in given if ".".join(path) in conflict.actions), ())
        raise document.error(path, str(conflict))
    return keymap


@dataclass(frozen=True)
class Conflict:
    """Two actions that a key of a pane would both start."""

    key: str
    pane: str
    actions: tuple[str, str]

    def __str__(self) -> str:
        first, second = self.actions
        return f"{first} and {second} are both on the key {display_key(self.key)} in the pane {self.pane}"


def conflicts(keymap: Keymap) -> Iterator[Conflict]:
    """Every pair of actions that share a key in a pane, once."""
    taken: dict[tuple[str, str], str] = {}
    told: set[tuple[str, str]] = set()
    for action in KEY_ACTIONS:
        for key in keymap.of(action.id):
            for pane in action.panes:
                other = taken.setdefault((pane, key), action.id)
                if other != action.id and (other, action.id) not in told:
                    told.add((other, action.id))
                    yield Conflict(key, pane, (other, action.id))


def key_name(written: str) -> str:
    """The name of a key as Textual gives it. Raises UsageError for something that is no key.

    >>> key_name("/"), key_name("ctrl+d"), key_name("G")
    ('slash', 'ctrl+d', 'G')
    """
    if written in _NAMES:
        return _NAMES[written]
    *modifiers, key = written.split("+")
    if written == _NUL or (not modifiers and (key in _SIGNS or _is_character(key))):
        return written
    if not _modifiers_ok(modifiers) or not (key in _NAMED or (modifiers and _with_modifier(modifiers, key))):
        raise UsageError(
            f"{written!r} is not a key; write it like j, G, /, ctrl+d, shift+tab, pagedown or f5"
        )
    return written


def display_key(name: str) -> str:
    """A key as people read it.

    >>> display_key("slash"), display_key("pagedown"), display_key("shift+tab")
    ('/', 'PgDn', 'Shift+Tab')
    """
    if name == _NUL:
        return "Ctrl+Space"
    *modifiers, key = name.split("+")
    shown = _SIGNS.get(key) or _NAMED.get(key, key)
    spelt = [word if len(shown) == 1 else word.capitalize() for word in modifiers]
    return "+".join([*spelt, shown])


def written_key(name: str) -> str:
    """A key as files have it: punctuation as itself; `key_name` reads it back."""
    return _SIGNS.get(name, name)


def _assignments(data: Mapping[str, object], *above: str) -> Iterator[tuple[str, ...]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _assignments(value, *above, key)
        else:
            yield (*above, key)


def _keys(document: Document, path: tuple[str, ...]) -> tuple[str, ...]:
    action = ".".join(path)
    if action not in ACTIONS:
        raise document.error(path, f"unknown action; {nearest(action, ACTIONS)}")
    written = document.texts(*path)
    try:
        return tuple(dict.fromkeys(key_name(key) for key in written))
    except UsageError as error:
        raise document.error(path, str(error)) from None


def _modifiers_ok(modifiers: list[str]) -> bool:
    return all(modifier in _MODIFIERS for modifier in modifiers) and len(set(modifiers)) == len(modifiers)


def _with_modifier(modifiers: list[str], key: str) -> bool:
    """A capital letter is shift already, and shift with a letter arrives as the capital."""
    small = _is_character(key) and key == key.lower()
    return modifiers != ["shift"] and (small or key in _SIGNS)


def _is_character(key: str) -> bool:
    return len(key) == 1 and key.isprintable() and not key.isspace()
