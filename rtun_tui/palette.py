"""Roles: the names under which everything that is drawn asks for its look, and palettes that answer.

Drawing never names a colour. It asks a palette for a role, and adds styles where two meet: a
state in the row under the cursor is `style("cursor") + style("state-bad")`. Roles of text set no
background, so that they keep the one they stand on; those in `BLOCKS` set both and come first in a
sum. Textual puts nothing under a line that a widget draws itself, so each finished line gets
`strip.apply_style(palette.style("background"))`, once, where the widget hands it out.

Meaning never rests on colour: each state is a word too, the cursor is `>`, a mark is `*`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.style import Style


@dataclass(frozen=True, slots=True)
class Role:
    """Something that has a look. `base` is the role whose look it takes where a theme gives none."""

    name: str
    help: str
    base: str = "text"


ROLES: tuple[Role, ...] = (
    Role("text", "ordinary text"),
    Role("muted", "text that matters less: units, captions, what does not apply"),
    Role("accent", "the one colour that draws the eye"),
    Role("background", "what everything stands on"),
    Role("surface", "background of dialogs, the drawer and input lines", "background"),
    Role("border", "frame of a pane", "muted"),
    Role("border-focus", "frame of the pane that has the focus", "accent"),
    Role("title", "name of a pane in its frame"),
    Role("title-focus", "name of the pane that has the focus", "accent"),
    Role("header", "the line at the top"),
    Role("header-value", "figures in the line at the top", "header"),
    Role("header-live", "the word LIVE", "state-up"),
    Role("header-alert", "PAUSED, REPLAY and LOST at the end of the top line", "cursor"),
    Role("column-title", "titles of a table's columns", "muted"),
    Role("column-sort", "title of the column that sorts", "accent"),
    Role("cursor", "row under the cursor"),
    Role("cursor-idle", "row under the cursor of a pane without the focus", "surface"),
    Role("mark", "a marked row"),
    Role("match", "what a search or filter found", "accent"),
    Role("state-up", "works: up, active, in use"),
    Role("state-ready", "could be used at once"),
    Role("state-warn", "needs an eye: degraded, draining, expiring, waiting", "accent"),
    Role("state-bad", "does not work: lost, closed, stopped", "error"),
    Role("state-idle", "works, with nothing to do", "muted"),
    Role("plot-up", "rate of upward traffic", "accent"),
    Role("plot-down", "rate of downward traffic", "accent"),
    Role("plot-rtt", "round trip time", "accent"),
    Role("plot-loss", "share of lost packets", "state-bad"),
    Role("plot-axis", "axes and scales", "muted"),
    Role("event-info", "event that is news"),
    Role("event-warn", "event that needs an eye", "state-warn"),
    Role("event-error", "event that reports a failure", "state-bad"),
    Role("event-debug", "event for whoever looks for a cause", "muted"),
    Role("event-time", "time of an event", "muted"),
    Role("filter", "text of a filter"),
    Role("key", "a key that works now", "accent"),
    Role("key-off", "a key that cannot work now", "muted"),
    Role("hint", "what a key does", "muted"),
    Role("error", "a message about something that went wrong"),
)

ROLE_NAMES: frozenset[str] = frozenset(role.name for role in ROLES)
GROUNDS: frozenset[str] = frozenset({"background", "surface"})  # set a background and nothing else
BLOCKS: frozenset[str] = frozenset({"cursor", "cursor-idle", "header-alert", "title-focus"})


@dataclass(frozen=True)
class Palette:
    """A style for each role. `colour` is false where only bold, dim, reverse and underline are used."""

    name: str
    dark: bool
    colour: bool
    styles: Mapping[str, Style]

    def style(self, role: str) -> Style:
        """The look of a role of `ROLES`. Raises KeyError for any other name."""
        return self.styles[role]


def plain_styles(special: Mapping[str, Style]) -> dict[str, Style]:
    """A style for every role; those not in `special` are empty, which is the terminal's own look."""
    return {role.name: special.get(role.name, Style()) for role in ROLES}


_BOLD = Style(bold=True)
_DIM = Style(dim=True)
_REVERSE = Style(reverse=True)
_BOLD_REVERSE = Style(bold=True, reverse=True)
_UNDERLINE = Style(underline=True)

MONO = Palette(
    name="mono",
    dark=True,
    colour=False,
    styles=plain_styles(
        {
            "muted": _DIM,
            "accent": _BOLD,
            "border": _DIM,
            "border-focus": _BOLD,
            "title-focus": _BOLD_REVERSE,
            "header-value": _BOLD,
            "header-live": _BOLD,
            "header-alert": _BOLD_REVERSE,
            "column-title": _UNDERLINE,
            "column-sort": Style(bold=True, underline=True),
            "cursor": _REVERSE,
            "cursor-idle": _UNDERLINE,
            "mark": _BOLD,
            "match": _UNDERLINE,
            "state-warn": _BOLD,
            "state-bad": _BOLD_REVERSE,
            "state-idle": _DIM,
            "plot-axis": _DIM,
            "plot-loss": _BOLD,
            "event-warn": _BOLD,
            "event-error": _BOLD_REVERSE,
            "event-debug": _DIM,
            "event-time": _DIM,
            "key": _BOLD,
            "key-off": _DIM,
            "error": _BOLD,
        }
    ),
)

_STATE_ROLES: Mapping[str, str] = {
    "up": "state-up",
    "active": "state-up",
    "in use": "state-up",
    "connected": "state-up",
    "listening": "state-up",
    "ready": "state-ready",
    "degraded": "state-warn",
    "expiring": "state-warn",
    "waiting": "state-warn",
    "probing": "state-warn",
    "draining": "state-warn",
    "opening": "state-warn",
    "starting": "state-warn",
    "paused": "state-warn",
    "moving": "state-warn",
    "connecting": "state-warn",
    "no agent": "state-warn",
    "lost": "state-bad",
    "closed": "state-bad",
    "stopped": "state-bad",
    "idle": "state-idle",
}


def state_role(table: str, state_word: str) -> str:
    """Role of a state's word in a table, case ignored; `text` for a word that is not known.

    >>> state_role("tunnels", "DEGRADED")
    'state-warn'
    """
    word = state_word.casefold()
    if table == "rules" and word == "stopped":
        return "state-idle"  # the user stopped it: nothing is wrong
    return _STATE_ROLES.get(word, "text")
