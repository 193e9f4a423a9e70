import pytest
from textual.containers import VerticalScroll

from rtun_core.commands import COMMANDS
from rtun_core.view.columns import COLUMNS, TABLES
from rtun_core.view.filter import compile_filter
from rtun_core.view.filter_text import parse_filter
from rtun_tui.desk import PANES
from rtun_tui.key_actions import KEY_ACTIONS
from rtun_tui.keymap import Keymap
from rtun_tui.palette import MONO
from rtun_tui.screens.help import FILTER_HELP, TOPICS, Help, help_text, keys_of
from rtun_tui.view_commands import VIEW_COMMANDS
from tests.tui.screens.asking import PENDING, Asking, one_by_one, press

KEYMAP = Keymap()


def text(topic=None, pane="flows", keymap=KEYMAP):
    return help_text(keymap, pane, topic, MONO).plain


@pytest.mark.parametrize("pane", PANES)
def test_exactly_the_keys_of_the_pane(pane):
    told = {about for _, _, about in keys_of(KEYMAP, pane)}
    assert told == {action.help for action in KEY_ACTIONS if pane in action.panes}
    page = text("keys", pane)
    for action in KEY_ACTIONS:
        assert (action.help in page) == (action.help in told)


def test_keys_are_those_of_the_user():
    keymap = Keymap({**KEYMAP.keys, "time.pause": ("f5",), "app.record": ()})
    told = {about: keys for _, keys, about in keys_of(keymap, "flows")}
    assert told["hold the picture; counting goes on"] == "F5"
    assert "recording on or off" not in told


def test_every_command_once():
    page = text("commands")
    for command in VIEW_COMMANDS:
        assert page.count(f"  {command.usage}") >= 1
    for kind in COMMANDS:
        assert kind.help in page or kind.words == ("quit",)


@pytest.mark.parametrize("table", TABLES)
def test_columns_of_one_table_or_all(table):
    for topic in (table, "columns"):
        page = text(topic)
        assert all(column.help in page for column in COLUMNS[table])
    others = [each for each in TABLES if each != table]
    assert not any(f"columns of {other}" in text(table) for other in others)


def test_the_examples_of_filters_can_be_read():
    for example in ("@marked", "!@marked", "src=10.0.0.0/8 dn>1M"):
        assert any(example in f"{left} {right}" for left, right in FILTER_HELP)
        compile_filter(parse_filter(example), "flows")


def test_without_a_topic_everything_but_the_columns():
    page = text()
    for topic in TOPICS:
        assert text(topic)
        assert (text(topic).splitlines()[0] in page) == (topic != "columns")


async def test_the_title_says_whose_help_it_is():
    app = Asking(Help(KEYMAP, "tunnels", MONO))
    async with app.run_test(size=(120, 30)):
        assert "Help: tunnels" in app.text
        assert "one row down" in app.text


@pytest.mark.parametrize("key", ["escape", "q", "question_mark", "enter"])
async def test_keys_that_close(key):
    assert await press(Help(KEYMAP, "flows", MONO, topic="filter"), key) is None


async def test_keys_that_scroll():
    app = Asking(Help(KEYMAP, "flows", MONO))
    async with app.run_test(size=(100, 20)) as pilot:
        page, seen = app.screen.query_one(VerticalScroll), []
        for key in ("j", "down", "space", "k", "ctrl+u"):
            await one_by_one(pilot, key)
            seen.append(page.scroll_offset.y)
        assert seen == [1, 2, 17, 16, 1]
        assert app.answer is PENDING
