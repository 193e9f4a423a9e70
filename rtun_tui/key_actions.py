"""Every key of the console: its id, what it does, and the panes where it works."""

from __future__ import annotations

from dataclasses import dataclass

AGENTS, TUNNELS, FLOWS, RULES, EVENTS = "agents", "tunnels", "flows", "rules", "events"
TABLES = (AGENTS, TUNNELS, FLOWS, RULES)
PANES = (*TABLES, EVENTS)
GROUPS = ("move", "panes", "look", "filter", "sort, columns", "time", "show", "act", "take", "app")


@dataclass(frozen=True, slots=True)
class KeyAction:
    """What some keys do. `keys` are Textual's names, `hint` is the footer's word or empty."""

    id: str
    keys: tuple[str, ...]
    group: str
    help: str
    panes: tuple[str, ...] = PANES
    hint: str = ""
    destructive: bool = False  # ends or moves something that carries traffic; asks before it does


KEY_ACTIONS: tuple[KeyAction, ...] = (
    KeyAction("move.down", ("j", "down"), "move", "one row down"),
    KeyAction("move.up", ("k", "up"), "move", "one row up"),
    KeyAction("move.first", ("g", "home"), "move", "first row"),
    KeyAction("move.last", ("G", "end"), "move", "last row; the events follow again"),
    KeyAction("move.half-down", ("ctrl+d",), "move", "half a page down"),
    KeyAction("move.half-up", ("ctrl+u",), "move", "half a page up"),
    KeyAction("move.page-down", ("pagedown",), "move", "a page down, in the drawer if it is long"),
    KeyAction("move.page-up", ("pageup",), "move", "a page up, in the drawer if it is long"),
    KeyAction("move.left", ("h", "left"), "move", "columns to the left", TABLES),
    KeyAction("move.right", ("l", "right"), "move", "columns to the right", TABLES),
    KeyAction("pane.agents", ("1",), "panes", "to the agents"),
    KeyAction("pane.tunnels", ("2",), "panes", "to the tunnels"),
    KeyAction("pane.flows", ("3",), "panes", "to the flows"),
    KeyAction("pane.events", ("4",), "panes", "to the events"),
    KeyAction("pane.rules", ("5",), "panes", "to the rules"),
    KeyAction("pane.next", ("tab",), "panes", "next pane", hint="pane"),
    KeyAction("pane.previous", ("shift+tab",), "panes", "previous pane"),
    KeyAction("pane.zoom", ("z",), "panes", "this pane alone, or all panes again"),
    KeyAction("pane.jump", ("ctrl+o",), "panes", "choose the pane to go to"),
    KeyAction(
        "look.detail",
        ("enter",),
        "look",
        "detail of the row under the cursor; once more pins it",
        TABLES,
        hint="detail",
    ),
    KeyAction(
        "look.back",
        ("escape",),
        "look",
        "back: closes the drawer, ends the zoom, drops filter and marks, leaves a recording",
    ),
    KeyAction("mark.toggle", ("space",), "look", "mark the row, or take its mark away", TABLES),
    # A terminal sends ctrl+space as ctrl+@ unless it speaks the newer keyboard protocol.
    KeyAction("mark.range", ("ctrl+@", "ctrl+space"), "look", "mark from the last mark to here", TABLES),
    KeyAction("mark.clear", ("asterisk",), "look", "take all marks away", TABLES),
    KeyAction("filter.edit", ("slash",), "filter", "edit the filter; the old text is there", hint="filter"),
    KeyAction("filter.toggle", ("backslash",), "filter", "the filter off for a moment, or on again", TABLES),
    KeyAction("match.next", ("n",), "filter", "next match of the search", (EVENTS,)),
    KeyAction("match.previous", ("N",), "filter", "previous match of the search", (EVENTS,)),
    KeyAction("sort.previous", ("less_than_sign",), "sort, columns", "sort by the column before", TABLES),
    KeyAction("sort.next", ("greater_than_sign",), "sort, columns", "sort by the column after", TABLES),
    KeyAction("sort.invert", ("I",), "sort, columns", "sort the other way round", TABLES),
    KeyAction("sort.choose", ("s",), "sort, columns", "choose the column that sorts", TABLES),
    KeyAction("columns.choose", ("c",), "sort, columns", "choose, order and hide columns", TABLES),
    KeyAction(
        "columns.wide", ("w",), "sort, columns", "columns at their full width, or as many as fit", TABLES
    ),
    KeyAction("time.pause", ("p",), "time", "hold the picture; counting goes on", hint="pause"),
    KeyAction("time.faster", ("plus",), "time", "draw more often"),
    KeyAction("time.slower", ("minus",), "time", "draw less often"),
    KeyAction("time.repaint", ("ctrl+l",), "time", "draw everything anew"),
    KeyAction("time.back", ("b",), "time", "a step back in a recording"),
    KeyAction("time.forward", ("B",), "time", "a step forward in a recording"),
    KeyAction("show.units", ("u",), "show", "bits or bytes, thousands or 1024"),
    KeyAction("show.totals", ("t",), "show", "rates or totals"),
    KeyAction("show.privacy", ("P",), "show", "hide parts of addresses"),
    KeyAction("show.theme", ("T",), "show", "choose a theme"),
    KeyAction("show.health", ("i",), "show", "path health: round trips or loss"),
    KeyAction("show.level", ("L",), "show", "which events are shown"),
    KeyAction(
        "act.use-agent",
        ("a",),
        "act",
        "use this agent from now on",
        (AGENTS,),
        hint="use agent",
        destructive=True,
    ),
    KeyAction("act.probe-agent", ("o",), "act", "measure the way to this agent", (AGENTS,), hint="probe"),
    KeyAction("act.pin", ("K",), "act", "stay with the agent in use, or switch freely again", (AGENTS,)),
    KeyAction(
        "act.drain",
        ("x",),
        "act",
        "drain the tunnel: its flows move to others",
        (TUNNELS,),
        hint="drain",
        destructive=True,
    ),
    KeyAction(
        "act.recycle",
        ("C",),
        "act",
        "replace the tunnel by a new one; its flows go on",
        (TUNNELS,),
        hint="replace",
        destructive=True,
    ),
    KeyAction(
        "act.prefer-tunnel", ("f",), "act", "new flows take this tunnel first", (TUNNELS,), hint="prefer"
    ),
    KeyAction("act.open-tunnel", ("O",), "act", "open one more tunnel", (TUNNELS, RULES), hint="open"),
    KeyAction(
        "act.move", ("m",), "act", "move the flow, or the marked ones, to another tunnel", (FLOWS,), "move"
    ),
    KeyAction(
        "act.close-flow",
        ("X",),
        "act",
        "close the flow, the marked ones, or the tunnel",
        (FLOWS, TUNNELS),
        hint="close",
        destructive=True,
    ),
    KeyAction(
        "act.pause-rule",
        ("r",),
        "act",
        "pause the rule, or let it go on",
        (RULES,),
        hint="pause rule",
        destructive=True,
    ),
    KeyAction(
        "take.copy",
        ("y",),
        "take",
        "copy the row, the marked ones, or the events in sight",
        hint="copy",
    ),
    KeyAction("take.copy-json", ("Y",), "take", "the same as JSON"),
    KeyAction(
        "take.export", ("e",), "take", "write what is shown to a file: CSV or JSON lines", hint="export"
    ),
    KeyAction("take.screenshot", ("S",), "take", "write the screen to a file as SVG"),
    KeyAction("app.command", ("colon",), "app", "type a command", hint="command"),
    KeyAction("app.palette", ("ctrl+p",), "app", "find a command"),
    KeyAction("app.help", ("question_mark",), "app", "help for this pane", hint="help"),
    KeyAction("app.record", ("R",), "app", "recording on or off"),
    KeyAction("app.copy-selection", ("ctrl+c",), "app", "copy what is selected; twice within a second: quit"),
    KeyAction(
        "app.quit",
        ("q",),
        "app",
        "quit, or leave a recording; asks while flows are active, as they end with it",
        hint="quit",
        destructive=True,
    ),
    KeyAction("app.close", ("Q",), "app", "close the console; the relay goes on without it"),
)
