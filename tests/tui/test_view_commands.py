"""Lines after `:`: each spelling works, and each bad one is told what is accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.commands import COMMANDS, Quit
from rtun_core.errors import UsageError
from rtun_core.event import Level
from rtun_core.view.columns import COLUMNS
from rtun_core.view.page import MAX_FILTER, MAX_SORTS, Sort
from rtun_tui.command_line import read_line
from rtun_tui.desk import PANES, Desk
from rtun_tui.view_commands import (
    VIEW_COMMANDS,
    find,
    first_words,
    run_view_command,
    set_filter,
    units_text,
)
from tests.tui.effects import Recorded


@pytest.fixture
def desk():
    return Desk()


@pytest.fixture
def effects():
    return Recorded()


GOOD = {
    "filter": ("filter", "filter dn>1M src=10.0.0.0/8", "filter   "),
    "sort": ("sort dn", "sort dn,up desc", "sort tunnel asc", "sort down"),
    "columns": ("columns default", "columns flow,src,dn"),
    "units": ("units bit", "units byte iec", "units si bit"),
    "totals": ("totals on", "totals off"),
    "privacy": ("privacy on", "privacy off"),
    "log level": ("log level debug", "log level error"),
    "pause": ("pause",),
    "resume": ("resume",),
    "interval": ("interval 0.5", "interval 2"),
    "theme": ("theme night",),
    "keymap": ("keymap travel",),
    "focus": tuple(f"focus {pane}" for pane in PANES),
    "zoom": ("zoom",),
    "export": ("export csv", "export ndjson /a/b"),
    "screenshot": ("screenshot", "screenshot a.svg"),
    "view save": ("view save mine",),
    "view load": ("view load mine",),
    "view list": ("view list",),
    "flow trace": ("flow trace 00a1f3c2",),
    "replay": ("replay a.rec", "replay '/b c.rec'"),
    "live": ("live",),
    "goto next": ("goto next", "goto next type~^agent 'no more'"),
    "goto previous": ("goto previous", "goto previous level>=warning"),
    "goto": ("goto 12:30:00", "goto -5", "goto end"),
    "speed": ("speed 2",),
    "help": ("help", "help keys"),
    "close": ("close",),
    "quit": ("quit",),
}
BAD = {
    "filter": ("filter nothing>", "filter speed>3"),
    "sort": ("sort", "sort colour", "sort dn up", "sort dn desc desc", "sort ,"),
    "columns": ("columns", "columns flow colour", "columns colour", "columns ,"),
    "units": ("units", "units bit mile"),
    "totals": ("totals", "totals maybe", "totals on off"),
    "privacy": ("privacy", "privacy 1"),
    "log level": ("log level", "log level loud", "log level info debug"),
    "pause": ("pause now",),
    "resume": ("resume 2",),
    "interval": ("interval", "interval soon", "interval 1 2", "interval nan", "interval inf"),
    "theme": ("theme", "theme a b"),
    "keymap": ("keymap", "keymap a b"),
    "focus": ("focus", "focus header", "focus flows rules"),
    "zoom": ("zoom flows",),
    "export": ("export", "export xml", "export csv a b"),
    "screenshot": ("screenshot a b",),
    "view save": ("view save", "view save a b"),
    "view load": ("view load", "view load a b"),
    "view list": ("view list all",),
    "flow trace": ("flow trace", "flow trace a b"),
    "replay": ("replay", "replay a b"),
    "live": ("live now",),
    "goto next": (),
    "goto previous": (),
    "goto": ("goto", "goto 1 2"),
    "speed": ("speed", "speed fast", "speed nan"),
    "help": ("help keys filter",),
    "close": ("close it",),
    "quit": ("quit now",),
}
NAMES = [" ".join(command.words) for command in VIEW_COMMANDS]


def test_no_command_is_left_out_here():
    assert set(GOOD) == set(BAD) == set(NAMES)


@pytest.mark.parametrize("command", VIEW_COMMANDS, ids=NAMES)
def test_every_command_is_spelt_as_its_usage_says(command, desk, effects):
    name = " ".join(command.words)
    assert command.usage.startswith(name)
    assert command.help
    for line in GOOD[name]:
        assert find(read_line(line)) is command
        assert isinstance(run_view_command(line, desk, effects), str)


@pytest.mark.parametrize("line", [line for name in NAMES for line in BAD[name]])
def test_a_bad_line_changes_nothing_and_says_what_is_accepted(line, desk, effects):
    before = str(desk)
    with pytest.raises(UsageError) as caught:
        run_view_command(line, desk, effects)
    text = str(caught.value)
    assert "\n" not in text
    assert line.startswith("filter") or "accepted: " in text
    assert (str(desk), effects.calls) == (before, [])


def test_an_unknown_command_gets_the_list(desk, effects):
    with pytest.raises(UsageError, match=r"unknown command 'make tea'.*filter, sort.*rtun ctl"):
        run_view_command("make tea please", desk, effects)
    with pytest.raises(UsageError, match="unknown command ''"):
        run_view_command("  ", desk, effects)


@given(st.text(max_size=60))
def test_no_line_is_too_strange(line):
    desk = Desk()
    try:
        assert isinstance(run_view_command(line, desk, Recorded()), str)
    except UsageError:
        return


@given(st.sampled_from(NAMES), st.text(max_size=30))
def test_no_rest_of_a_line_is_too_strange(name, rest):
    try:
        assert isinstance(run_view_command(f"{name} {rest}", Desk(), Recorded()), str)
    except UsageError:
        return


# -- what they change ------------------------------------------------------------------------------


def test_filter_of_the_table_in_front(desk, effects):
    desk.focus("tunnels")
    desk.table.filter_on = False
    assert run_view_command("filter rtt>100ms", desk, effects) == "filter of tunnels: rtt>100ms"
    assert (desk.table.filter, desk.table.filter_on) == ("rtt>100ms", True)
    assert run_view_command("filter", desk, effects) == "no filter of tunnels"
    assert desk.table.filter == ""


def test_a_filter_that_cannot_be_read_leaves_the_last_one(desk):
    set_filter(desk, "dn>1M")
    for text in ("dn>", "colour=red", "@nobody", "a" * (MAX_FILTER + 1)):
        with pytest.raises(UsageError):
            set_filter(desk, text)
    assert desk.table.filter == "dn>1M"
    desk.table.marks = {"00000001"}
    set_filter(desk, " @marked ")
    assert desk.table.filter == "@marked"


def test_sort(desk, effects):
    run_view_command("sort tun,down,dn desc", desk, effects)
    assert desk.table.sort == (Sort("tunnel", True), Sort("dn", True))
    run_view_command("sort src", desk, effects)
    assert desk.table.sort == (Sort("src", False),)


def test_no_more_sorts_than_a_view_may_have(desk, effects):
    names = ",".join(column.id for column in COLUMNS["flows"][: MAX_SORTS + 1])
    with pytest.raises(UsageError, match=f"at most {MAX_SORTS}"):
        run_view_command(f"sort {names}", desk, effects)


def test_columns(desk, effects):
    text = run_view_command("columns dn,flow,dn,tun", desk, effects)
    assert desk.table.columns == ("dn", "flow", "tunnel")
    assert text == "columns of flows: dn, flow, tunnel"
    run_view_command("columns default", desk, effects)
    assert desk.table.columns == Desk().table.columns


def test_units_privacy_totals_level_zoom_focus(desk, effects):
    assert run_view_command("units byte iec", desk, effects) == "units: bytes, multiples of 1024"
    assert units_text(Desk()) == "bits, multiples of 1000"
    run_view_command("privacy on", desk, effects)
    run_view_command("log level warning", desk, effects)
    run_view_command("zoom", desk, effects)
    run_view_command("focus rules", desk, effects)
    assert (desk.look.bits, desk.look.iec, desk.look.private) == (False, True, True)
    assert (desk.level, desk.zoom, desk.pane) == (Level.WARNING, True, "rules")


def test_totals_take_the_sort_along_like_the_key(desk, effects):
    run_view_command("totals on", desk, effects)
    run_view_command("totals on", desk, effects)
    assert all(state.totals for state in desk.tables.values())
    assert desk.table.sort == (Sort("dn_total", True),)
    run_view_command("totals off", desk, effects)
    assert desk.table.sort == (Sort("dn", True),)


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("pause", ("pause", True)),
        ("resume", ("pause", False)),
        ("interval 0.5", ("set_interval", 0.5)),
        ("theme night", ("set_theme", "night")),
        ("export csv", ("export", "csv", None)),
        ("export ndjson 'a b'", ("export", "ndjson", "a b")),
        ("screenshot", ("screenshot", None)),
        ("view save mine", ("save_view", "mine")),
        ("view load mine", ("load_view", "mine")),
        ("goto +10", ("seek", "+10")),
        ("flow trace 00a1f3c2", ("trace", "00a1f3c2")),
        ("goto next", ("seek_event", 1, "level>=info")),
        ("goto previous  type~^agent 'no more'", ("seek_event", -1, "type~^agent 'no more'")),
        ("speed 0.5", ("speed", 0.5)),
        ("help columns", ("help", "columns")),
        ("close", ("detach",)),
        ("quit", ("quit",)),
    ],
)
def test_what_reaches_beyond_the_desk(line, call, desk, effects):
    assert run_view_command(line, desk, effects) == f"did {call[0]}"
    assert effects.calls == [call]


def test_names_of_views(desk, effects):
    assert run_view_command("view list", desk, effects) == "views: mine, yours"


def test_first_words_are_those_of_both():
    engine = {" ".join(kind.words) for kind in COMMANDS if kind is not Quit}
    assert set(first_words()) == {*NAMES, *engine}
