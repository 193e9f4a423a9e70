"""What the keys that move, arrange, operate and take do, seen on the model, the screen and the commands."""

from __future__ import annotations

import re

import pytest
from textual.events import Key

from rtun_core.commands import (
    CloseFlow,
    CloseTunnel,
    DrainTunnel,
    MoveFlow,
    OpenTunnel,
    PauseRule,
    PinAgent,
    PreferTunnel,
    ProbeAgent,
    ResumeRule,
    SwitchAgent,
    UnpinAgent,
)
from rtun_core.event import Level
from rtun_core.model import AgentState, RuleState, TunnelState
from rtun_tui.keymap import Keymap

ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+|2001:db8:[0-9a-f]+::[0-9a-f]+")


def agents(console):
    return {agent.id: agent for agent in console.app.overview.picture.snapshot.agents}


def tunnels(console):
    return {tunnel.id: tunnel for tunnel in console.app.overview.picture.snapshot.tunnels}


# -- moving ----------------------------------------------------------------------------------------


async def test_the_cursor_goes_where_it_is_told(console):
    async with console() as c:
        rows = c.flows.height
        for keys, place in (
            ("j", 1),
            ("down", 2),
            ("k", 1),
            ("up", 0),
            ("G", 119),
            ("g", 0),
            ("end", 119),
            ("home", 0),
            ("pagedown", rows - 1),
            ("pageup", 0),
            ("ctrl+d", rows // 2),
            ("ctrl+u", 0),
        ):
            await c.press(keys)
            assert c.flows.cursor == place, keys
            assert c.flows.current() is not None, keys
        assert f"> {c.flows.cursor_key} " in c.text


async def test_columns_scroll_while_some_have_no_room(console):
    async with console(size=(80, 24)) as c:
        await c.press("l", "l")
        assert c.flows.first_column > 0
        assert "SOURCE" not in c.text
        await c.press("h", "left")
        assert c.flows.first_column == 0
        assert "SOURCE" in c.text


async def test_the_events_scroll_and_follow_again(console):
    async with console(past=120) as c:
        await c.press("4", "L", "L", "L", "L", "k")
        assert not c.events.tailing
        assert "newer below" in c.text
        await c.press("G")
        assert c.events.tailing
        await c.press("g")
        assert not c.events.tailing


async def test_go_to_a_pane_by_a_list(console):
    async with console() as c:
        await c.press("ctrl+o")
        assert "Go to" in c.text
        await c.press("k", "enter")
        assert c.desk.pane == "tunnels"
        await c.press("ctrl+o", "escape")
        assert c.desk.pane == "tunnels"


@pytest.mark.parametrize(("key", "pane"), [("t", "tunnels"), ("e", "events"), ("5", "rules"), ("f", "flows")])
async def test_a_letter_jumps_to_its_pane(console, key, pane):
    async with console() as c:
        await c.press("1", "ctrl+o")
        assert "t Tunnels" in c.text
        await c.press(key)
        assert (c.dialog, c.desk.pane) == ("", pane)


async def test_what_is_told_names_the_keys_in_force(console):
    keys = {"mark.toggle": ("f5",), "filter.edit": ("f6",), "time.pause": ("f7",), "app.command": ("f8",)}
    async with console(keymap=Keymap({**Keymap().keys, **keys})) as c:
        await c.press("ctrl+@")
        assert c.said.startswith("mark a row with F5 first")
        await c.press("backslash")
        assert c.said == "there is no filter: F6 begins one"
        await c.press("f7")
        assert c.said == "paused: counting goes on, F7 resumes"
        await c.press("4", "n")
        assert c.said == "nothing is searched for: F6 begins a search"
        c.app.effects.help("filter")
        await c.settle()
        assert "filter, after F6" in c.text


# -- looking ---------------------------------------------------------------------------------------


async def test_the_drawer_follows_the_cursor_until_it_is_pinned(console):
    async with console() as c:
        await c.press("enter")
        first = c.flows.cursor_key
        assert f"flow {first}" in c.text
        await c.press("j")
        second = c.flows.cursor_key
        assert f"flow {second}" in c.text
        await c.press("enter", "j")
        assert "Detail pinned" in c.text
        assert f"flow {second}" in c.text
        await c.press("enter")
        assert f"flow {c.flows.cursor_key}" in c.text
        await c.press("escape")
        assert "Detail" not in c.text


@pytest.mark.parametrize(
    ("key", "word"), [("1", "signal"), ("2", "remote"), ("3", "source"), ("5", "listen")]
)
async def test_every_table_has_a_drawer(console, key, word):
    async with console(size=(120, 40)) as c:
        await c.press(key, "enter")
        assert "─ Detail ─" in c.text
        assert any(f"│ {word} " in line for line in c.lines)


async def test_a_drawer_in_a_small_terminal_takes_the_place_of_the_table(console):
    async with console(size=(80, 24)) as c:
        await c.press("j", "enter")
        assert f"flow {c.flows.cursor_key}" in c.text
        key = c.flows.cursor_key
        await c.press("j")
        assert c.flows.cursor_key != key
        assert f"flow {c.flows.cursor_key}" in c.text
        await c.press("escape")
        assert "SOURCE" in c.text


async def test_pages_are_turned_in_a_drawer_that_is_long(console):
    async with console(size=(80, 24)) as c:
        await c.press("2", "enter")
        cursor = c.desk.tables["tunnels"].cursor_key
        assert "HISTORY" not in c.text
        await c.press("pagedown")
        assert "HISTORY" in c.text
        assert c.desk.tables["tunnels"].cursor_key == cursor
        await c.press("pageup")
        assert f"tunnel {cursor}" in c.text
        await c.press("escape", "3", "pagedown")
        assert c.flows.cursor > 0


async def test_escape_goes_back_step_by_step(console):
    async with console() as c:
        await c.press("space")
        await c.line("filter tunnel=t5|t4")
        await c.press("z", "enter")
        desk = c.desk
        steps = []
        for _ in range(5):
            steps.append((desk.detail, desk.zoom, bool(c.flows.filter), bool(c.flows.marks)))
            await c.press("escape")
        assert steps == [
            (True, True, True, True),
            (False, True, True, True),
            (False, False, True, True),
            (False, False, False, True),
            (False, False, False, False),
        ]
        assert c.said == "there is nothing to go back from"


async def test_escape_in_the_events_leaves_the_filter_of_a_table_alone(console):
    async with console() as c:
        await c.line("filter tunnel=t5")
        await c.press("4", "escape")
        assert c.flows.filter == "tunnel=t5"


async def test_marks_one_by_one_and_from_to(console):
    async with console() as c:
        await c.press("space", "j", "j", "j", "ctrl+@")
        assert len(c.flows.marks) == 4
        assert "4 marked" in c.text
        await c.press("space")
        assert len(c.flows.marks) == 3
        await c.press("asterisk")
        assert not c.flows.marks
        await c.press("asterisk")
        assert c.said == "no row is marked"
        await c.press("ctrl+@")
        assert c.said.startswith("mark a row with Space first")


# -- filtering -------------------------------------------------------------------------------------


async def test_a_filter_is_tried_while_it_is_typed(console):
    async with console() as c:
        await c.press("slash")
        await c.type("tunnel=t5")
        assert c.said == "/ tunnel=t5"
        await c.until(lambda: c.flows.filter == "tunnel=t5")
        await c.settle()
        assert f"3 Flows {c.flows.shown} of 120" in c.text
        await c.press("enter")
        assert c.said == "/ tunnel=t5"
        assert "filter: tunnel=t5" in c.text


async def test_a_filter_that_cannot_be_read_is_told_where_and_the_last_one_stays(console):
    async with console() as c:
        await c.line("filter tunnel=t5")
        shown = c.flows.shown
        await c.press("slash")
        await c.type(" nope>1")
        await c.until(lambda: "nope" in c.keys)
        assert re.search(r"at character \d+: .nope. is not a column", c.keys)
        assert c.flows.filter == "tunnel=t5"
        assert c.flows.shown == shown
        await c.press(*["backspace"] * 7)
        await c.until(lambda: c.keys.startswith("Enter use"))
        await c.type("(")
        await c.press("enter")
        assert c.flows.filter == "tunnel=t5"
        assert c.said != "/ tunnel=t5"


async def test_escape_brings_the_old_filter_back(console):
    async with console() as c:
        await c.line("filter tunnel=t5")
        await c.press("slash")
        await c.type("|t4")
        await c.until(lambda: c.flows.filter == "tunnel=t5|t4")
        await c.press("escape")
        assert c.flows.filter == "tunnel=t5"


async def test_the_filter_off_for_a_moment(console):
    async with console() as c:
        await c.press("backslash")
        assert c.said == "there is no filter: / begins one"
        await c.line("filter tunnel=t5")
        shown = c.flows.shown
        await c.press("backslash")
        assert c.flows.shown == 120
        assert "filter off: tunnel=t5" in c.text
        await c.press("backslash")
        assert c.flows.shown == shown


async def test_a_filter_that_nothing_passes_says_so(console):
    async with console() as c:
        await c.line("filter dn>900G")
        assert "none of 120 rows passes the filter" in c.text


async def test_old_filters_come_back_with_up(console):
    async with console() as c:
        for text in ("tunnel=t5", "idle>1s"):
            await c.press("slash", *["backspace"] * len(c.flows.filter))
            await c.type(text)
            await c.press("enter")
        assert c.flows.filter == "idle>1s"
        await c.press("slash", "up", "up", "enter")
        assert c.flows.filter == "tunnel=t5"


async def test_the_events_are_searched_by_text(console):
    async with console(past=120) as c:
        await c.press("4", "n")
        assert c.said == "nothing is searched for: / begins a search"
        await c.press("slash")
        await c.type("drain")
        await c.press("enter")
        assert c.events.search == "drain"
        assert "search: drain" in c.text
        assert all("drain" in line for line in c.events.visible_text().splitlines())
        await c.press("N", "n", "escape")
        assert c.events.search == ""


# -- sorting, columns, look ------------------------------------------------------------------------


async def test_sort_keys(console):
    async with console() as c:
        await c.press("greater_than_sign")
        assert c.flows.sort[0].column == "total"
        await c.press("less_than_sign", "less_than_sign")
        assert c.flows.sort[0].column == "up"
        first = c.flows.page.rows[0].up_rate
        assert first == max(row.up_rate for row in c.flows.page.rows)
        await c.press("I")
        assert "by up ▴" in c.text
        assert c.flows.page.rows[0].up_rate == min(row.up_rate for row in c.flows.page.rows)


async def test_the_column_that_sorts_from_a_list(console):
    async with console() as c:
        await c.press("s")
        assert "Sort flows by" in c.text
        await c.press("j", "enter")
        assert c.flows.sort[0].column == "up_total"
        await c.press("s", "escape")
        assert c.flows.sort[0].column == "up_total"


async def test_columns_are_chosen_ordered_and_given_back(console):
    async with console() as c:
        usual = c.flows.columns
        await c.press("c", "j", "space", "J", "enter")
        assert "src" not in c.flows.columns
        assert "SOURCE" not in c.text
        await c.press("c", "space", "enter")
        assert c.flows.columns[0] != "flow"
        await c.press("c", "d", "enter")
        assert c.flows.columns == usual
        await c.press("c", "space", "escape")
        assert c.flows.columns == usual


async def test_wide_columns_are_scrolled_to(console):
    async with console(size=(80, 24)) as c:
        titles = next(line for line in c.lines if "SOURCE" in line)
        await c.press("w")
        wide = next(line for line in c.lines if "SOURCE" in line)
        assert len(wide.split()) < len(titles.split())
        await c.press("l", "l", "l")
        assert "IDLE" in c.text
        await c.press("w")
        assert not c.flows.wide


async def test_units_go_round(console):
    async with console() as c:
        said = []
        for _ in range(4):
            await c.press("u")
            said.append(c.said)
        assert said == [
            "units: bytes, multiples of 1000",
            "units: bits, multiples of 1024",
            "units: bytes, multiples of 1024",
            "units: bits, multiples of 1000",
        ]
        await c.press("u")
        assert "MB/s" in c.header
        assert "byte/s" in c.text


async def test_totals_in_the_place_of_rates(console):
    async with console() as c:
        await c.press("t")
        assert c.said == "totals"
        assert "DN/s" not in c.text
        assert c.flows.sort[0].column == "dn_total"
        assert all(state.totals for state in c.desk.tables.values())
        await c.press("t")
        assert c.said == "rates"
        assert "DN/s" in c.text
        assert c.flows.sort[0].column == "dn"


async def test_levels_of_events_go_round(console):
    async with console() as c:
        seen = []
        for _ in Level:
            await c.press("L")
            seen.append(c.events.level)
        assert seen == [Level.WARNING, Level.ERROR, Level.DEBUG, Level.INFO]
        assert c.said == "events from info on"


# -- privacy ---------------------------------------------------------------------------------------


async def test_privacy_hides_addresses_on_every_pane(console):
    async with console(size=(160, 50), past=120) as c:
        assert ADDRESS.search(c.text)
        await c.press("P")
        assert c.said == "parts of addresses are hidden"
        await c.press("L", "L", "L")  # all events
        for key in "12534":
            await c.press(key)
            assert not ADDRESS.search(c.text)
            await c.press("enter")
            assert not ADDRESS.search(c.text)
            await c.press("escape")
        await c.press("2", "x")
        assert "Drain tunnel" in c.text
        assert not ADDRESS.search(c.text)


async def test_privacy_holds_for_what_is_taken_away(console, tmp_path):
    async with console(past=120) as c:
        await c.press("P")
        for keys in ("y", "Y", "space j space y", "Y", "4 y", "Y"):
            await c.press(*keys.split())
            assert c.app.clipboard
            assert not ADDRESS.search(c.app.clipboard)
        for pane in ("agents", "tunnels", "flows", "rules", "events"):
            await c.line(f"focus {pane}")
            for form in ("csv", "ndjson"):
                await c.line(f"export {form} {tmp_path}/{pane}.{form}")
                text = (tmp_path / f"{pane}.{form}").read_text()
                assert text
                assert not ADDRESS.search(text)
        await c.line(f"screenshot {tmp_path}/screen.svg")
        assert not ADDRESS.search((tmp_path / "screen.svg").read_text())


async def test_privacy_on_a_tiny_terminal_too(console):
    async with console(size=(50, 10), past=120) as c:
        c.desk.look_with(private=True)
        c.app.overview.sync()
        await c.settle()
        assert not ADDRESS.search(c.text)


# -- acting ----------------------------------------------------------------------------------------


async def test_an_agent_is_used_after_a_yes(console):
    async with console(flows=80) as c:
        await c.press("1", "j", "a")
        assert c.dialog == "Confirm"
        assert "Use agent alpha/19d0 instead of beta/7f3c?" in c.text
        assert "rtun ctl agent use alpha --instance 19d0" in c.text
        await c.press("y")
        assert c.executed == [SwitchAgent(name="alpha", instance="19d0")]
        for _ in range(60):
            await c.pass_time(1)
            if agents(c)["alpha/19d0"].state is AgentState.IN_USE:
                break
        assert agents(c)["alpha/19d0"].state is AgentState.IN_USE
        assert "agent alpha/19d0" in c.header
        assert "alpha" in "\n".join(c.events.lines())


@pytest.mark.parametrize("key", ["n", "escape", "q", "enter"])
async def test_without_a_yes_nothing_happens(console, key):
    async with console(flows=80) as c:
        await c.press("1", "j", "a", key)
        assert not c.dialog
        assert c.executed == []


async def test_much_is_done_only_when_its_name_is_typed(console):
    async with console() as c:
        await c.press("1", "j", "a")
        assert "type alpha to go on" in c.text
        await c.press("y", "enter")
        assert c.dialog == "Confirm"
        assert c.executed == []
        await c.press("backspace")
        await c.type("alpha")
        await c.press("enter")
        assert not c.dialog
        assert c.executed == [SwitchAgent(name="alpha", instance="19d0")]


@pytest.mark.parametrize(
    ("keys", "done"), [("xy", ["tunnel drain"]), ("xn", []), ("xxy", ["tunnel drain"]), ("mq", [])]
)
async def test_what_is_typed_ahead_is_for_the_dialog_that_it_opens(console, keys, done):
    async with console() as c:
        await c.press("3" if keys[0] == "m" else "2")
        for key in keys:
            c.app.post_message(Key(key, key))
        await c.settle()
        assert [" ".join(command.words) for command in c.executed] == done
        assert c.app.is_running


async def test_keys_act_on_a_pane_that_has_only_just_come_into_sight(console):
    async with console(size=(60, 15)) as c:
        for key in "1ja":
            c.app.post_message(Key(key, key))
        await c.settle()
        assert "Use agent alpha/19d0" in c.text


async def test_a_name_that_is_typed_ahead_is_typed_into_the_dialog(console):
    async with console() as c:
        await c.press("1", "j")
        for key in ("a", *"alpha", "enter"):
            c.app.post_message(Key(key, key if len(key) == 1 else None))
        await c.until(lambda: c.executed)
        assert c.executed == [SwitchAgent(name="alpha", instance="19d0")]


async def test_why_an_agent_cannot_be_used(console):
    async with console() as c:
        await c.press("1", "a")
        assert c.said == "agent beta/7f3c is in use already"
        await c.press("G", "a")
        assert c.said.startswith("agent beta/6a90 is lost")
        assert c.executed == []


async def test_probe_and_pin_ask_nothing(console):
    async with console() as c:
        await c.press("1", "j", "o")
        assert c.executed == [ProbeAgent(name="alpha", instance="19d0")]
        await c.press("K")
        assert c.executed[-1] == PinAgent()
        await c.press("K")
        assert c.executed[-1] == UnpinAgent()


async def test_a_tunnel_is_drained_and_another_is_opened(console):
    async with console() as c:
        await c.press("2")
        name = c.desk.tables["tunnels"].cursor_key
        await c.press("x")
        assert f"Drain tunnel {name}?" in c.text
        await c.press("y")
        assert c.executed == [DrainTunnel(tunnel=name)]
        assert tunnels(c)[name].state in (TunnelState.DRAINING, TunnelState.CLOSED)
        count = len(tunnels(c))
        await c.press("j", "O")
        assert isinstance(c.executed[-1], OpenTunnel)
        assert len(tunnels(c)) >= count


async def test_a_tunnel_is_preferred_and_closed(console):
    async with console() as c:
        await c.press("2", "f")
        name = c.desk.tables["tunnels"].cursor_key
        assert c.executed == [PreferTunnel(tunnel=name)]
        await c.press("X")
        assert f"Close tunnel {name} at once?" in c.text
        await c.press("y")
        assert c.executed[-1] == CloseTunnel(tunnel=name)
        await c.pass_time(1)
        assert name not in tunnels(c) or tunnels(c)[name].state is TunnelState.CLOSED


async def test_one_flow_is_moved_to_a_tunnel_that_is_chosen(console):
    async with console() as c:
        row = c.flows.current()
        await c.press("m")
        assert f"Move flow {row.id} to which tunnel?" in c.text
        await c.press("enter")
        (command,) = c.executed
        assert isinstance(command, MoveFlow)
        assert command.flows == (row.id,)
        await c.pass_time(1)
        found = next(flow for flow in c.flows.page.rows if flow.id == row.id)
        assert found.tunnel == command.to


async def test_marked_flows_are_moved_after_a_yes_and_lose_their_marks(console):
    async with console() as c:
        await c.line("filter tunnel=t5|t6|t4")
        await c.press("space", "j", "space")
        marks = tuple(sorted(c.flows.marks))
        await c.press("m", "enter")
        assert "Move 2 marked flows to" in c.text
        await c.press("y")
        (command,) = c.executed
        assert command.flows == marks
        assert not c.flows.marks


async def test_a_flow_is_closed_and_gone(console):
    async with console() as c:
        key = c.flows.cursor_key
        await c.press("j", "k", "X")
        assert f"Close flow {key}?" in c.text
        await c.press("y")
        assert c.executed == [CloseFlow(flows=(key,))]
        await c.pass_time(1)
        assert key not in [flow.id for flow in c.flows.page.rows]


async def test_a_rule_is_paused_and_resumed(console):
    async with console() as c:
        await c.press("5", "r", "y")
        if c.dialog:
            await c.type("r1")
            await c.press("enter")
        assert c.executed == [PauseRule(rule="r1")]
        assert c.desk.tables["rules"].current().state is RuleState.PAUSED
        await c.press("r")
        assert c.executed[-1] == ResumeRule(rule="r1")


@pytest.mark.parametrize(
    ("selector", "count"),
    [("@focus", 1), ("@marked", 2), ("@shown", None), ("@all", None), ("tunnel=t5", None)],
)
async def test_commands_take_what_is_chosen(console, selector, count):
    async with console() as c:
        await c.press("space", "j", "space", "j")
        if selector == "@shown":
            await c.line("filter tunnel=t5")
        await c.line(f"flow close '{selector}'")
        if selector == "@all":
            await c.type("close")
            await c.press("enter")
        elif selector == "tunnel=t5":
            await c.press("y")
        (command,) = c.executed
        if selector in ("@all", "tunnel=t5"):
            assert command.flows == (selector,)
        else:
            assert len(command.flows) == (count or c.flows.shown or len(command.flows))


async def test_many_flows_are_not_closed_by_a_line_alone(console):
    async with console() as c:
        await c.line("flow close @shown")
        assert "Close 120 flows?" in c.text
        await c.press("enter")
        assert c.dialog == "Confirm"
        await c.press("escape")
        await c.line("flow close dn>1")
        assert "Close every flow that passes dn>1?" in c.text
        await c.press("enter")
        assert c.executed == []


async def test_a_selector_that_chooses_nothing_is_told(console):
    async with console() as c:
        await c.line("flow close @marked")
        assert c.said == "@marked selects no flow here"
        assert c.executed == []


async def test_what_the_engine_refuses_is_told(console):
    async with console() as c:
        await c.line("tunnel drain t99")
        assert "t99" in c.said
        assert any("t99" in line for line in c.events.lines())


async def test_a_read_only_console_refuses_all_and_says_why(console):
    async with console(manner={"read_only": True}, flows=80) as c:
        for keys in ("1 j a", "o", "K", "2 x", "f", "O", "3 X", "m", "5 r", "R"):
            await c.press(*keys.split())
            assert c.said == "the console is read-only", keys
            assert not c.dialog
        await c.line("flow close @all")
        assert c.said == "the console is read-only"
        assert c.executed == []
        await c.press("3", "j", "slash")
        await c.type("t5")
        await c.press("enter")
        assert 0 < c.flows.shown < 80


async def test_keys_that_cannot_act_are_told_apart_in_the_footer(console):
    async with console(manner={"read_only": True}, theme="mono") as c:
        assert "(m move)" in c.keys
        assert "(X close)" in c.keys
        assert "(y copy)" not in c.keys
