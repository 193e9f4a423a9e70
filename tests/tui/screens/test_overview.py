"""Keys on the overview: each does something in every pane, or says why not."""

from __future__ import annotations

import pytest
from textual.events import Key

from rtun_core.view.columns import COLUMNS, TABLES
from rtun_tui.key_actions import EVENTS, KEY_ACTIONS
from rtun_tui.key_actions import PANES as WHERE
from rtun_tui.keymap import ACTIONS, Keymap, display_key
from rtun_tui.screens.help import keys_of

# What may leave everything as it is: there may be no row to move to, and a pane may be in front already.
QUIET = {action.id for action in KEY_ACTIONS if action.group in ("move", "panes")} | {"time.repaint"}
LEAVING = {"app.close"}


def fingerprint(console):
    """All that a key could change."""
    app, desk = console.app, console.desk
    return (
        repr(desk),
        console.dialog,
        console.app.overview.prompt.editing,
        console.said,
        app.clipboard,
        len(console.executed),
        app.governor.interval,
        console.events.search,
    )


async def forget_message(console):
    """As if three seconds had passed."""
    console.app.overview.prompt.forget()
    await console.settle()


async def back_to(console, pane):
    """No dialog, nothing typed, and that pane in front."""
    if console.dialog or console.app.overview.prompt.editing:
        await console.press("escape")
    desk = console.desk
    desk.zoom = desk.detail = False
    desk.focus(pane)
    for state in desk.tables.values():
        state.filter = ""
        state.clear_marks()
    console.app.overview.sync()
    console.app.look()
    await forget_message(console)


@pytest.mark.parametrize("pane", WHERE)
async def test_every_key_does_something_or_says_why_not(console, pane):
    async with console(size=(120, 40)) as c:
        for action in KEY_ACTIONS:
            if action.id in LEAVING:
                continue
            await back_to(c, pane)
            before = fingerprint(c)
            await c.press(action.keys[0])
            assert c.app.is_running, action.id
            assert not c.app.failure, action.id
            if action.id not in QUIET:
                assert fingerprint(c) != before, f"{action.id} did nothing and said nothing"
            if pane not in action.panes:
                assert f"{display_key(action.keys[0])} (" in c.said, action.id
                assert "press" in c.text or c.said.endswith("…")
                assert not c.dialog, action.id
                assert not c.executed[len(c.executed) :], action.id


async def test_a_key_of_another_pane_changes_nothing_here(console):
    async with console() as c:
        for pane, key in (("events", "space"), ("flows", "K"), ("agents", "r"), ("events", "X")):
            await back_to(c, pane)
            executed = len(c.executed)
            await c.press(key)
            assert len(c.executed) == executed
            assert not c.dialog
            assert not any(state.marks for state in c.desk.tables.values())
            assert "works in" in c.said


@pytest.mark.parametrize("pane", WHERE)
async def test_the_footer_names_keys_that_work_in_the_pane(console, pane):
    async with console(size=(160, 50)) as c:
        await c.press(*Keymap().of(f"pane.{pane}")[:1])
        hints = [
            f"{display_key(action.keys[0])} {action.hint}"
            for action in KEY_ACTIONS
            if action.hint and pane in action.panes
        ]
        others = [
            action.hint
            for action in KEY_ACTIONS
            if action.hint and pane not in action.panes and not any(action.hint in hint for hint in hints)
        ]
        assert all(hint in c.keys for hint in hints), c.keys
        assert not [hint for hint in others if hint in c.keys]
        assert c.keys.startswith("? help")
        assert c.keys.endswith("q quit")


@pytest.mark.parametrize("pane", WHERE)
def test_the_help_lists_exactly_the_keys_of_the_pane(pane):
    listed = [about for _, _, about in keys_of(Keymap(), pane)]
    assert sorted(listed) == sorted(action.help for action in KEY_ACTIONS if pane in action.panes)


async def test_while_a_line_is_typed_the_footer_tells_its_keys(console):
    async with console() as c:
        await c.press("slash")
        assert c.keys == "Enter use  Up older lines  Tab complete  Esc undo"
        await c.press("escape")
        assert c.keys.startswith("? help")


async def test_a_key_that_means_nothing_does_nothing(console):
    async with console() as c:
        before = fingerprint(c)
        await c.press("f9", "E", "semicolon")
        assert fingerprint(c) == before


async def test_what_is_typed_faster_than_it_is_handled_is_neither_lost_nor_mixed_up(console):
    names = {":": "colon", " ": "space", "\r": "enter", "/": "slash", "\x1b": "escape"}
    async with console() as c:
        for character in "3:sort flow\r j /no such\x1bj ":
            c.app.post_message(Key(names.get(character, character), character))
        await c.settle()
        rows = sorted(flow.id for flow in c.app.source.world.picture().flows)
        assert c.flows.sort[0].column == "flow"
        assert c.flows.marks == set(rows[:3])
        assert not c.flows.filter


async def test_the_users_keys_are_the_ones_that_work(console):
    keymap = Keymap({**Keymap().keys, "time.pause": ("F",), "app.record": ()})
    async with console(keymap=keymap) as c:
        await c.press("p")
        assert c.desk.paused_at is None
        await c.press("R")
        assert not c.executed
        await c.press("F")
        assert c.desk.paused_at is not None
        assert "F pause" in c.keys


# -- panes and places ----------------------------------------------------------------------------


async def test_number_keys_and_tab_go_through_the_panes(console):
    async with console() as c:
        for key, pane in zip("12345", ("agents", "tunnels", "flows", "events", "rules"), strict=True):
            await c.press(key)
            assert c.desk.pane == pane
            assert c.app.focused.id == pane
        seen = []
        for _ in range(5):
            await c.press("tab")
            seen.append(c.desk.pane)
        assert seen == ["flows", "events", "agents", "tunnels", "rules"]
        await c.press("shift+tab")
        assert c.desk.pane == "tunnels"


async def test_the_rules_have_a_place_once_they_are_asked_for(console):
    async with console(size=(120, 42)) as c:
        assert "5 Rules" not in c.text
        await c.press("5")
        assert "5 Rules 6" in c.text
        assert c.desk.tables["rules"].page.shown == 6
        assert len(c.desk.tables["rules"].page.rows) > 1
        await c.press("escape")
        assert "5 Rules" not in c.text
        assert c.desk.pane == "flows"


async def test_zoom_shows_one_pane_and_brings_the_others_back(console):
    async with console() as c:
        await c.press("2", "z")
        assert "2 Tunnels" in c.text
        assert "3 Flows" not in c.text
        await c.press("3")
        assert "3 Flows" in c.text
        assert "2 Tunnels" not in c.text
        await c.press("z")
        assert "2 Tunnels" in c.text


@pytest.mark.parametrize(
    ("size", "there", "absent"),
    [
        ((160, 50), ("Path health", "1 Agents", "2 Tunnels", "3 Flows", "4 Events", "q quit"), ()),
        ((110, 32), ("Path health", "1 Agents", "2 Tunnels", "3 Flows", "4 Events", "q quit"), ()),
        ((80, 24), ("[1 Agents", "{3 Flows 120}", "4 Events", " up ", "q quit"), ("Path health",)),
        ((60, 15), ("[1 Agents", "{3 Flows 120}", "q quit"), ("Path health", "peak")),
        ((59, 15), ("LIVE beta/7f3c", "up ", "dn "), ("[1 Agents", "q quit")),
        ((12, 3), ("LIVE",), ("q quit",)),
    ],
)
async def test_what_a_size_has_room_for(console, size, there, absent):
    async with console(size=size) as c:
        assert len(c.lines) == size[1]
        for word in there:
            assert word in c.text
        for word in absent:
            assert word not in c.text


async def test_a_smaller_terminal_is_arranged_anew(console):
    async with console(size=(120, 36)) as c:
        await c.press("j", "j")
        key = c.flows.cursor_key
        await c.pilot.resize_terminal(80, 24)
        await c.settle()
        assert "{3 Flows 120}" in c.text
        assert "1-12 of 120" in c.text
        assert c.flows.cursor_key == key
        await c.pilot.resize_terminal(120, 36)
        await c.settle()
        assert "Path health" in c.text


async def test_in_a_small_terminal_keys_bring_the_other_tables(console):
    async with console(size=(80, 24)) as c:
        await c.press("1")
        assert "{1 Agents 5}" in c.text
        assert "quic://a.ex:8888" in c.text
        await c.press("4")
        assert "{4 Events}" in c.text


# -- mouse ---------------------------------------------------------------------------------------


async def test_a_click_gives_a_pane_the_keyboard_and_a_row_the_cursor(console):
    async with console() as c:
        await c.pilot.click("#tunnels", offset=(8, 4))
        await c.settle()
        assert c.desk.pane == "tunnels"
        assert c.desk.tables["tunnels"].cursor == 2
        await c.pilot.click("#tunnels", offset=(8, 4), times=2)
        await c.settle()
        assert c.desk.detail
        assert f"tunnel {c.desk.tables['tunnels'].cursor_key}" in c.text


async def test_a_click_on_a_title_sorts(console):
    async with console() as c:
        line = next(line for line in c.lines if "SOURCE" in line)
        await c.pilot.click("#flows", offset=(line.index("SOURCE"), 1))
        await c.settle()
        assert c.flows.sort[0].column == "src"
        assert "by src" in c.text


async def test_a_click_on_a_tab_goes_there(console):
    async with console(size=(80, 24)) as c:
        await c.pilot.click("#tabs", offset=(18, 0))
        await c.settle()
        assert c.desk.pane == "tunnels"
        assert "203.0.113.9" in c.text


# -- registries ----------------------------------------------------------------------------------


async def test_every_action_of_the_keymap_is_carried_out(console):
    async with console() as c:
        assert c.app.acts.known == set(ACTIONS)


def test_hints_fit_and_every_group_of_keys_is_told():
    assert all(len(action.hint) <= 10 for action in KEY_ACTIONS)
    assert EVENTS in WHERE
    assert all(column.help for table in TABLES for column in COLUMNS[table])


async def test_every_line_stands_on_a_ground_of_the_theme(console):
    async with console(size=(120, 36)) as one:
        for strip in one.app.screen._compositor.render_strips():
            assert all(segment.style is not None and segment.style.bgcolor for segment in strip)
