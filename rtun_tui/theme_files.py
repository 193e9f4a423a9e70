"""Themes as files: a TOML file becomes a `Theme`, and a `Theme` becomes a palette and a Textual theme.

    name = "dusk"                       # how `theme dusk` finds it; the file is dusk.toml
    about = "Grey and one warm colour"
    dark = true

    [colours]                           # names for use below
    ash = "#20242c"

    [roles]                             # role = "COLOUR on COLOUR ATTRIBUTES", all parts optional
    background = "ash"
    cursor = "#ffffff on #304860 bold"

A role that is left out takes the look of its base in `rtun_tui.palette.ROLES`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from rich.style import Style
from textual.theme import Theme as TextualTheme

from rtun_core.errors import UsageError
from rtun_tui.palette import BLOCKS, GROUNDS, ROLE_NAMES, ROLES, Palette, plain_styles
from rtun_tui.strict_toml import Document, nearest, read_document

ATTRIBUTES = ("bold", "dim", "italic", "underline", "reverse")
REQUIRED = ("background", "text", "accent", "cursor")  # nothing sensible could stand in for these
MAX_NAME = 40

_TOP_KEYS = ("name", "about", "dark", "colour", "colours", "roles")
_HEX = re.compile(r"#[0-9a-fA-F]{6}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True)
class Theme:
    """What a theme file says. `styles` has only the roles that the file gives."""

    name: str
    about: str
    dark: bool
    colour: bool
    styles: Mapping[str, Style]

    def to_palette(self) -> Palette:
        """A style for every role; those left out take the look of their base."""
        if not self.colour:
            return Palette(self.name, self.dark, False, MappingProxyType(plain_styles(self.styles)))
        styles = {role.name: self._resolved(role.name) for role in ROLES}
        return Palette(self.name, self.dark, True, MappingProxyType(styles))

    def to_textual(self) -> TextualTheme:
        """The same look for Textual's own widgets: inputs, lists, buttons, scroll bars."""
        palette = self.to_palette()
        if not palette.colour:
            return _default_colours_theme(self.name, self.dark)
        return TextualTheme(
            name=self.name,
            primary=_ink(palette, "accent"),
            secondary=_ink(palette, "muted"),
            accent=_ink(palette, "accent"),
            foreground=_ink(palette, "text"),
            background=_ground(palette, "background"),
            surface=_ground(palette, "surface"),
            panel=_ground(palette, "cursor-idle"),
            success=_ink(palette, "state-up"),
            warning=_ink(palette, "state-warn"),
            error=_ink(palette, "error"),
            dark=self.dark,
            variables=role_variables(palette) | _widget_variables(palette),
        )

    def _resolved(self, name: str) -> Style:
        role = name
        while role not in self.styles:
            role = _BASES[role]
        return self.styles[role]


_BASES = {role.name: role.base for role in ROLES}


def load_theme(file: Path) -> Theme:
    """Read a theme file. Raises UsageError naming file, line and key."""
    return parse_theme(read_document(file))


def parse_theme(document: Document) -> Theme:
    """The theme that a document describes. Raises UsageError naming file, line and key."""
    document.only(_TOP_KEYS)
    colour = document.get(bool, True, "colour")
    return Theme(
        name=_name(document),
        about=document.get(str, "", "about"),
        dark=document.get(bool, True, "dark"),
        colour=colour,
        styles=MappingProxyType(_styles(document, colour)),
    )


def style_text(role: str, style: Style) -> str:
    """The value that a theme file has for this look of a role; `parse_theme` reads it back alike."""
    words = [attribute for attribute in ATTRIBUTES if getattr(style, attribute)]
    if role in GROUNDS:
        return _hex(style, "bgcolor")
    if style.bgcolor is not None:
        words[:0] = ["on", _hex(style, "bgcolor")]
    if style.color is not None:
        words.insert(0, _hex(style, "color"))
    return " ".join(words)


def role_variables(palette: Palette) -> dict[str, str]:
    """The roles as variables of style sheets: `$rtun-state-up`, `$rtun-cursor`, `$rtun-cursor-ground`."""
    variables = {}
    for role in sorted(ROLE_NAMES):
        if role in GROUNDS:
            variables[f"rtun-{role}"] = _ground(palette, role)
            continue
        variables[f"rtun-{role}"] = _ink(palette, role)
        if role in BLOCKS:
            variables[f"rtun-{role}-ground"] = _ground(palette, role)
    return variables


def _name(document: Document) -> str:
    if "name" not in document.data:
        raise document.error((), "name is missing")
    name = document.get(str, "", "name")
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise document.error(("name",), f"must be 1 to {MAX_NAME} of a-z, 0-9 and '-', not {name!r}")
    return name


def _styles(document: Document, colour: bool) -> dict[str, Style]:
    document.only(tuple(role.name for role in ROLES), "roles")
    colours = {name: _colour(document, name) for name in document.table("colours")}
    styles = {role: _style(document, role, colours) for role in document.table("roles")}
    for role, style in styles.items():
        if not colour and (style.color or style.bgcolor):
            raise document.error(("roles", role), "names a colour, but the file says colour = false")
    for role in REQUIRED:
        if colour and role not in styles:
            raise document.error(("roles",), f"the role {role} is missing")
    return styles


def _colour(document: Document, name: str) -> str:
    value = document.get(str, "", "colours", name)
    if name in ATTRIBUTES or name == "on":
        raise document.error(("colours", name), "is a word of the role syntax and cannot name a colour")
    if not _HEX.fullmatch(value):
        raise document.error(("colours", name), f"must be a colour as #rrggbb, not {value!r}")
    return value


def _style(document: Document, role: str, colours: Mapping[str, str]) -> Style:
    path = ("roles", role)
    words = document.get(str, "", *path).split()
    try:
        return _ground_style(words, colours) if role in GROUNDS else _text_style(words, colours, role)
    except UsageError as error:
        raise document.error(path, str(error)) from None


def _ground_style(words: list[str], colours: Mapping[str, str]) -> Style:
    if len(words) != 1:
        raise UsageError("must be exactly one colour")
    return Style(bgcolor=_colour_word(words[0], colours))


def _text_style(words: list[str], colours: Mapping[str, str], role: str) -> Style:
    ink, ground, attributes = None, None, Style()
    pending = list(words)
    while pending:
        word = pending.pop(0)
        if word in ATTRIBUTES:
            attributes += Style.parse(word)
        elif word == "on" and ground is None:
            ground = _colour_word(pending.pop(0) if pending else "", colours)
        elif ink is None and ground is None:
            ink = _colour_word(word, colours)
        else:
            raise UsageError(f"{word!r} is one word too many; the form is COLOUR on COLOUR ATTRIBUTES")
    if ground is not None and role not in BLOCKS:
        raise UsageError("takes no background: it stands on that of its row")
    return Style(color=ink, bgcolor=ground) + attributes


def _colour_word(word: str, colours: Mapping[str, str]) -> str:
    if _HEX.fullmatch(word):
        return word.lower()
    if word in colours:
        return colours[word].lower()
    if not word:
        raise UsageError("'on' needs a colour after it")
    known = nearest(word, (*colours, *ATTRIBUTES))
    raise UsageError(f"{word!r} is neither #rrggbb nor a name in [colours] nor an attribute; {known}")


def _hex(style: Style, part: str) -> str:
    colour = style.color if part == "color" else style.bgcolor
    if colour is None or colour.triplet is None:
        return ""
    return colour.triplet.hex


def _ink(palette: Palette, role: str) -> str:
    return _hex(palette.style(role), "color") or _hex(palette.style("text"), "color") or "ansi_default"


def _ground(palette: Palette, role: str) -> str:
    style = palette.style(role)
    return _hex(style, "bgcolor") or _hex(palette.style("background"), "bgcolor") or "ansi_default"


def _widget_variables(palette: Palette) -> dict[str, str]:
    ink, muted, accent = (_ink(palette, role) for role in ("text", "muted", "accent"))
    background, surface, idle = (_ground(palette, role) for role in ("background", "surface", "cursor-idle"))
    cursor, cursor_ink = _ground(palette, "cursor"), _ink(palette, "cursor")
    return {
        "text-muted": muted,
        "border": _ink(palette, "border-focus"),
        "border-blurred": _ink(palette, "border"),
        "block-cursor-foreground": cursor_ink,
        "block-cursor-background": cursor,
        "block-cursor-blurred-foreground": ink,
        "block-cursor-blurred-background": idle,
        "block-hover-background": idle,
        "input-cursor-foreground": background,
        "input-cursor-background": ink,
        "input-selection-background": cursor,
        "input-selection-foreground": cursor_ink,
        "screen-selection-background": cursor,
        "screen-selection-foreground": cursor_ink,
        "button-foreground": ink,
        "button-color-foreground": background,
        "footer-background": background,
        "footer-foreground": muted,
        "footer-key-foreground": _ink(palette, "key"),
        "link-color": accent,
        "scrollbar": _ink(palette, "border"),
        "scrollbar-hover": muted,
        "scrollbar-active": accent,
        "scrollbar-background": surface,
        "scrollbar-background-hover": surface,
        "scrollbar-background-active": surface,
        "scrollbar-corner-color": surface,
    }


def _default_colours_theme(name: str, dark: bool) -> TextualTheme:
    """A theme that sends no colour: every variable that Textual's ANSI themes colour is set to default."""
    plain = TextualTheme(
        name=name,
        primary="ansi_default",
        foreground="ansi_default",
        background="ansi_default",
        dark=dark,
        ansi=True,
    )
    roles = {f"rtun-{role}": "ansi_default" for role in ROLE_NAMES}
    roles |= {f"rtun-{role}-ground": "ansi_default" for role in BLOCKS}
    coloured = {
        key: "ansi_default"
        for key, value in plain.to_color_system().generate().items()
        if value.startswith("ansi_")
    }
    # A colour system of the ANSI kind does not give these two, and style sheets ask for them.
    asked = dict.fromkeys(("ansi-background", "ansi-foreground"), "ansi_default")
    plain.variables = roles | coloured | asked | {"block-cursor-text-style": "reverse"}
    return plain
