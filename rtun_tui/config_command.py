"""`rtun config`: prints what the settings may hold, and checks those that are there."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from rtun_core.engine.paths import config_dir
from rtun_core.errors import UsageError
from rtun_tui.key_actions import GROUPS, KEY_ACTIONS, PANES, KeyAction
from rtun_tui.keymap import load_keymap, written_key
from rtun_tui.palette import ROLES
from rtun_tui.settings import config_path, load_settings, print_template
from rtun_tui.strict_toml import read_document
from rtun_tui.theme_files import REQUIRED, style_text
from rtun_tui.theme_library import DEFAULT_THEME, ThemeLibrary

_LEFT, _HELP = 34, 24  # columns before a comment


@click.command(short_help="Print or check the settings of the console.")
@click.option("--print-template", "template", is_flag=True, help="A config.toml with every key explained.")
@click.option("--print-keys", "keys", is_flag=True, help="A keymap.toml with every key as it is by default.")
@click.option(
    "--print-theme-items", "items", is_flag=True, help="A theme with every item, to start one's own."
)
@click.option("--print-themes", "themes", is_flag=True, help="The themes there are.")
@click.option("--check", is_flag=True, help="Check settings, keys and own themes; one line for each fault.")
@click.pass_context
def config(ctx: click.Context, /, **chosen: bool) -> int:
    """Print or check the settings of the console. Exactly one option must be given.

    What is printed is a valid file: `rtun config --print-keys > keymap.toml` is a start.
    """
    wanted = [name for name, given in chosen.items() if given]
    if len(wanted) != 1:
        raise click.UsageError("give exactly one option", ctx)
    if wanted == ["check"]:
        return _check()
    texts = {
        "template": print_template,
        "keys": print_keys,
        "items": print_theme_items,
        "themes": print_themes,
    }
    click.echo(texts[wanted[0]](), nl=False)
    return 0


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


def _check() -> int:
    problems = list(_problems())
    for problem in problems:
        click.echo(problem)
    if not problems:
        click.echo("no faults found")
    return 1 if problems else 0


def _problems() -> Iterator[str]:
    library = ThemeLibrary()
    try:
        theme = load_settings(os.environ).theme
        if theme not in library.names():
            file = read_document(config_path(os.environ))
            yield str(file.error(("console", "theme"), library.find(theme).warning))
    except UsageError as error:
        yield str(error)
    try:
        load_keymap(config_dir() / "keymap.toml")
    except UsageError as error:
        yield str(error)
    yield from library.problems()
