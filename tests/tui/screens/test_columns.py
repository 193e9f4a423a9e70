import pytest
from textual.widgets import OptionList

from rtun_core.view.columns import COLUMNS, TABLES
from rtun_tui.screens.columns import ChooseColumns
from tests.tui.keys import settle
from tests.tui.screens.asking import PENDING, Asking, one_by_one, press

SHOWN = ("flow", "src", "dn")
DEFAULT = tuple(column.id for column in COLUMNS["flows"] if column.shown)


def dialog(shown=SHOWN):
    return ChooseColumns("flows", shown)


@pytest.mark.parametrize(
    ("keys", "answer"),
    [
        (["enter"], SHOWN),
        (["space", "enter"], ("src", "dn")),
        (["space", "space", "enter"], SHOWN),
        (["J", "enter"], ("src", "flow", "dn")),
        (["J", "J", "K", "enter"], ("src", "flow", "dn")),
        (["j", "shift+up", "enter"], ("src", "flow", "dn")),
        (["shift+down", "enter"], ("src", "flow", "dn")),
        (["K", "enter"], SHOWN),
        (["d", "enter"], DEFAULT),
        (["j", "space", "escape"], None),
        (["q"], None),
        (["space", "j", "space", "j", "space", "enter"], PENDING),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)
async def test_keys(keys, answer):
    assert await press(dialog(), *keys) == answer


async def test_a_hidden_column_comes_back_where_it_is_put():
    assert await press(dialog(), "j", "j", "j", "space", "K", "enter") == ("flow", "src", "dst", "dn")


async def test_the_cursor_stays_within_the_list():
    keys = ["k"] * 3 + ["space", "enter"]
    assert await press(dialog(), *keys) == ("src", "dn")
    last = next(column.id for column in reversed(COLUMNS["flows"]) if column.id not in SHOWN)
    assert await press(dialog(), *["j"] * 60, "space", "enter") == (*SHOWN, last)


async def test_keys_that_come_in_one_go_keep_their_order():
    app = Asking(dialog())
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("space", "enter")
        await pilot.pause()
        assert app.answer == ("src", "dn")


async def test_a_click_shows_or_hides():
    app = Asking(dialog())
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.click(OptionList, offset=(2, 1))
        await settle(pilot)
        await one_by_one(pilot, "enter")
        assert app.answer == ("flow", "dn")


@pytest.mark.parametrize("table", TABLES)
async def test_every_column_of_a_table_has_its_line(table):
    app = Asking(ChooseColumns(table, (COLUMNS[table][1].id,)))
    async with app.run_test(size=(120, 40)):
        assert f"Columns of {table}" in app.text
        assert app.text.count("[x]") == 1
        assert app.text.count("[ ]") == len(COLUMNS[table]) - 1
        assert all(f"] {column.id}" in app.text for column in COLUMNS[table])
        assert app.text.index("[x]") < app.text.index("[ ]")
