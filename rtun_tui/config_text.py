"""What `rtun config` prints: templates made from the registries, and what is wrong with the user's files."""

from __future__ import annotations

import os
from collections.abc import Iterator

from rtun_core.engine.paths import settings_file
from rtun_core.errors import UsageError
from rtun_tui.key_actions import GROUPS, KEY_ACTIONS, PANES, KeyAction
from rtun_tui.keymap import written_key
from rtun_tui.keymap_library import KeymapLibrary
from rtun_tui.palette import ROLES
from rtun_tui.settings import load_settings, print_template
from rtun_tui.strict_toml import nearest, read_document
from rtun_tui.theme_files import REQUIRED, style_text
from rtun_tui.theme_library import DEFAULT_THEME, ThemeLibrary

__all__ = ["print_keys", "print_template", "print_theme_items", "print_themes", "problems"]

_LEFT, _HELP = 34, 24  # columns before a comment


def print_keys() -> str:
    """Every key as a `keymap.toml` that changes nothing."""
    lines = ["# Keys of the rtun console: an action and its key, or a list of keys; [] for none."]
    for group in GROUPS:
        lines += ["", f"# {group}"]
        lines += [_key_line(action) for action in KEY_ACTIONS if action.group == group]
    return "\n".join(lines) + "\n"


def print_theme_items() -> str:
    """Every item of a theme, with the default theme's value, as a theme file."""
    styles = ThemeLibrary().find(DEFAULT_THEME).theme.to_palette().styles
    lines = [*_THEME_HEAD]
    for role in ROLES:
        needed = "" if role.name in REQUIRED else f"; if left out: {role.base}"
        value = f'{role.name} = "{style_text(role.name, styles[role.name])}"'
        lines.append(f"{value:<{_LEFT + 12}}  # {role.help}{needed}")
    return "\n".join(lines) + "\n"


def print_themes() -> str:
    """The themes there are, a line each."""
    library = ThemeLibrary()
    width = max(map(len, library.names()))
    return "".join(f"{name:<{width}}  {_about(library, name)}\n" for name in library.names())


_THEME_HEAD = (
    "# A theme of the rtun console. The file has the theme's name: my-theme.toml in the directory themes.",
    "# A value is COLOUR on COLOUR and any of bold, dim, italic, underline, reverse; all parts are optional.",
    "# COLOUR is #rrggbb or a name given in [colours].",
    'name = "my-theme"',
    'about = "What it is like"',
    "dark = true    # false for a light background",
    "colour = true  # false: no colours at all, only attributes",
    "",
    "[colours]",
    "",
    "[roles]",
)


def _key_line(action: KeyAction) -> str:
    keys = [f"'{key}'" if key == '"' or key == "\\" else f'"{key}"' for key in map(written_key, action.keys)]
    value = keys[0] if len(keys) == 1 else f"[{', '.join(keys)}]"
    name = f'"{action.id}"'
    panes = "" if action.panes == PANES else f" ({', '.join(action.panes)})"
    return f"{name:<{_HELP}} = {value:<{_HELP}} # {action.help}{panes}"


def _about(library: ThemeLibrary, name: str) -> str:
    found = library.find(name)
    return found.warning or found.theme.about


def problems() -> Iterator[str]:
    """One line for each thing that is wrong with settings, keys and own themes."""
    themes, keymaps = ThemeLibrary(), KeymapLibrary()
    try:
        settings = load_settings(os.environ)
        if settings.theme not in themes.names():
            yield _misnamed("theme", themes.find(settings.theme).warning)
        if settings.keymap not in keymaps.names():
            known = nearest(settings.keymap, keymaps.names())
            yield _misnamed("keymap", f"keymap {settings.keymap} is unknown; {known}")
    except UsageError as error:
        yield str(error)
    yield from keymaps.problems()
    yield from themes.problems()


def _misnamed(key: str, message: str) -> str:
    return str(read_document(settings_file(os.environ)).error(("console", key), message))
