import pytest
from textual.widgets import OptionList

from rtun_core.commands import COMMANDS
from rtun_tui.command_line import is_for_engine
from rtun_tui.screens.command_palette import CommandPalette, palette_entries
from rtun_tui.view_commands import VIEW_COMMANDS, find
from tests.tui.keys import settle
from tests.tui.screens.asking import PENDING, Asking, one_by_one, press


def test_every_command_is_there_once():
    entries = palette_entries()
    assert [spelling for _, spelling, _ in entries] == sorted(spelling for _, spelling, _ in entries)
    assert len({line for line, _, _ in entries}) == len(entries) == len(VIEW_COMMANDS) + len(COMMANDS) - 1


@pytest.mark.parametrize("entry", palette_entries(), ids=lambda entry: entry[0].strip())
def test_a_line_that_wants_more_words_ends_in_a_space(entry):
    line, spelling, about = entry
    words = line.split()
    assert find(words) or is_for_engine(words)
    assert spelling.startswith(line.strip())
    rest = spelling.removeprefix(line.strip()).strip()
    assert line.endswith(" ") == bool(rest and rest[0] != "[")
    assert about


@pytest.mark.parametrize(
    ("keys", "answer"),
    [
        (["escape"], None),
        (["ctrl+p"], None),
        ([*"tunneldrain", "enter"], "tunnel drain "),
        ([*"zoom", "enter"], "zoom"),
        (["x", *["backspace"], *"zoom", "enter"], "zoom"),
        ([*"zzzzqq", "enter"], None),
        ([*"zoom"], PENDING),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)
async def test_keys(keys, answer):
    assert await press(CommandPalette(), *keys) == answer


async def test_before_anything_is_typed_the_arrows_choose_from_all():
    lines = [line for line, _, _ in palette_entries()]
    assert await press(CommandPalette(), "enter") == lines[0]
    assert await press(CommandPalette(), "up", "down", "down", "enter") == lines[2]
    assert await press(CommandPalette(), "pagedown", "down", "pageup", "enter") == lines[1]
    assert await press(CommandPalette(), *["pagedown"] * 9, "enter") == lines[-1]


async def test_what_a_command_does_is_searched_too():
    app = Asking(CommandPalette())
    async with app.run_test(size=(110, 40)) as pilot:
        assert app.screen.query_one(OptionList).option_count == len(palette_entries())
        await one_by_one(pilot, *"colours")
        assert "theme NAME" in app.text
        await one_by_one(pilot, *"zzzz")
        assert app.screen.query_one(OptionList).option_count == 0
        await one_by_one(pilot, "down", "pagedown")
        assert app.answer is PENDING


async def test_the_words_of_a_command_count_more_than_what_is_told_of_it():
    app = Asking(CommandPalette())
    async with app.run_test(size=(110, 40)) as pilot:
        for word in ("record", "pause", "sort", "quit", "filter"):
            await one_by_one(pilot, *word)
            assert app.screen._found[0].startswith(word)
            await one_by_one(pilot, *["backspace"] * len(word))


async def test_a_click_takes_a_line():
    app = Asking(CommandPalette())
    async with app.run_test(size=(110, 40)) as pilot:
        await one_by_one(pilot, *"zoom")
        await pilot.click(OptionList, offset=(2, 0))
        await settle(pilot)
        assert app.answer == "zoom"
