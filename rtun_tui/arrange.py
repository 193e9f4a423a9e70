"""Which pane stands where, for every size of terminal. Pure: sizes in, rectangles out.

Four forms, each for what there is room for:

* full, from 110x32: everything at once, with frames;
* compact, from 80x20: one table at a time under a line of tabs, two lines of plot, two events;
* small, from 60x15: header, one table, input line and keys;
* tiny: three lines that say state, rates and the last event.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from rtun_core.view.columns import TABLES, TableId

Pane = str  # "header", "agents", "tunnels", "flows", "rules", "throughput", "health", "events", ...


class Form(enum.StrEnum):
    """How much is shown at once."""

    FULL = "full"
    COMPACT = "compact"
    SMALL = "small"
    TINY = "tiny"


class Box(NamedTuple):
    """Where a pane stands: its upper left corner and its size, in cells."""

    x: int
    y: int
    width: int
    height: int


FULL_SIZE = (110, 32)
COMPACT_SIZE = (80, 20)
SMALL_SIZE = (60, 15)
LOW = 8  # rows of the framed tables above the flows, at least
PLOTS = 6  # rows of the plots in the full form
EVENTS = 5  # rows of the events in the full form
DETAIL_SHARE = 0.45  # of the width


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the user has chosen to see. `focus` is the pane with the keyboard; `rows` those of each table.

    `table` is the table that the drawer is about while the keyboard is elsewhere.
    """

    focus: Pane = "flows"
    table: TableId = "flows"
    zoom: bool = False
    detail: bool = False
    rules: bool = False  # the table of rules has a place of its own
    rows: Mapping[TableId, int] = field(default_factory=dict)


def form_of(width: int, height: int) -> Form:
    """The richest form that fits."""
    for form, (least_width, least_height) in (
        (Form.FULL, FULL_SIZE),
        (Form.COMPACT, COMPACT_SIZE),
        (Form.SMALL, SMALL_SIZE),
    ):
        if width >= least_width and height >= least_height:
            return form
    return Form.TINY


def arrange(width: int, height: int, wish: Wish) -> dict[Pane, Box]:
    """Rectangles of the panes that are shown; the others are not. They never overlap or leave the screen."""
    form = form_of(width, height)
    if form is Form.TINY:
        return _stack(width, height, (("tiny", height),))
    if form is Form.FULL:
        return _full(width, height, wish)
    return _compact(width, height, wish, plots=form is Form.COMPACT)


def _full(width: int, height: int, wish: Wish) -> dict[Pane, Box]:
    body = Box(0, 1, width, height - 3)
    boxes = {
        "header": Box(0, 0, width, 1),
        "prompt": Box(0, height - 2, width, 1),
        "footer": Box(0, height - 1, width, 1),
    }
    if wish.zoom:
        return boxes | _with_detail(body, wish.focus, wish)
    events = Box(0, body.y + body.height - _events(height), width, _events(height))
    middle = Box(0, body.y, width, body.height - events.height)
    if wish.detail:
        table = wish.focus if wish.focus in TABLES else wish.table
        return boxes | {"events": events} | _with_detail(middle, table, wish)
    return boxes | {"events": events} | _overview(middle, height, wish)


def _overview(middle: Box, height: int, wish: Wish) -> dict[Pane, Box]:
    top = _top_rows(height, wish)
    plots = PLOTS + max(0, (height - 40) // 6)
    has_rules = wish.rules or wish.focus == "rules"
    rules = min(max(wish.rows.get("rules", 0), 1) + 3, 7) if has_rules else 0
    half = middle.width * 47 // 100  # tunnels have more to say
    second = middle.y + top
    third = second + plots
    boxes = {
        "agents": Box(0, middle.y, half, top),
        "tunnels": Box(half, middle.y, middle.width - half, top),
        "throughput": Box(0, second, half, plots),
        "health": Box(half, second, middle.width - half, plots),
    }
    if rules:
        boxes["rules"] = Box(0, third, middle.width, rules)
    boxes["flows"] = Box(0, third + rules, middle.width, middle.height - top - plots - rules)
    return boxes


def _top_rows(height: int, wish: Wish) -> int:
    wanted = 3 + max(wish.rows.get("agents", 0), wish.rows.get("tunnels", 0))
    return min(max(wanted, LOW), max(LOW, height // 4))


def _events(height: int) -> int:
    return EVENTS + max(0, (height - 36) // 8)


def _with_detail(body: Box, table: Pane, wish: Wish) -> dict[Pane, Box]:
    if not wish.detail or table not in TABLES:
        return {table: body}
    right = round(body.width * DETAIL_SHARE)
    left = body.width - right
    return {
        table: Box(body.x, body.y, left, body.height),
        "detail": Box(body.x + left, body.y, right, body.height),
    }


def _compact(width: int, height: int, wish: Wish, *, plots: bool) -> dict[Pane, Box]:
    main = "detail" if wish.detail and wish.focus in TABLES else wish.focus
    if not plots or wish.zoom or main in ("detail", "events"):
        lines = (("header", 1), ("tabs", 1), (main, height - 4), ("prompt", 1), ("footer", 1))
        return _stack(width, height, lines)
    lower = (("throughput", 3), ("events", 3), ("prompt", 1), ("footer", 1))
    used = 2 + sum(rows for _, rows in lower)
    return _stack(width, height, (("header", 1), ("tabs", 1), (main, height - used), *lower))


def _stack(width: int, height: int, panes: tuple[tuple[Pane, int], ...]) -> dict[Pane, Box]:
    boxes: dict[Pane, Box] = {}
    y = 0
    for pane, rows in panes:
        rows = max(0, min(rows, height - y))
        if rows:
            boxes[pane] = Box(0, y, width, rows)
        y += rows
    return boxes
