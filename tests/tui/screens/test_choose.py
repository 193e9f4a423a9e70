import pytest

from rtun_tui.screens.choose import Choose
from tests.tui.keys import settle
from tests.tui.screens.asking import PENDING, Asking, press

OPTIONS = (("t1", "t1  up"), ("t2", "t2  [bold] degraded"), ("t3", "t3  up"))


@pytest.mark.parametrize(
    ("keys", "answer"),
    [
        (["enter"], "t1"),
        (["down", "enter"], "t2"),
        (["j", "j", "enter"], "t3"),
        (["j", "j", "k", "enter"], "t2"),
        (["escape"], None),
        (["j", "q"], None),
        (["y"], PENDING),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)
async def test_keys(keys, answer):
    assert await press(Choose("To which?", OPTIONS), *keys) is answer


@pytest.mark.parametrize(
    ("keys", "answer"), [(["b"], "t2"), (["3"], "t3"), (["j", "enter"], "t2"), (["q"], None)]
)
async def test_keys_that_choose_at_once(keys, answer):
    choosing = {"b": "t2", "3": "t3", "j": "t1", "q": "t1"}
    assert await press(Choose("To which?", OPTIONS, keys=choosing), *keys) is answer


async def test_it_begins_at_what_is_in_force():
    assert await press(Choose("To which?", OPTIONS, current="t3"), "enter") == "t3"
    assert await press(Choose("To which?", OPTIONS, current="gone"), "enter") == "t1"


async def test_the_texts_are_shown_as_they_are():
    app = Asking(Choose("To which?", OPTIONS))
    async with app.run_test(size=(80, 20)):
        assert "To which?" in app.text
        assert all(text in app.text for _, text in OPTIONS)


async def test_what_is_looked_at_is_told():
    seen = []
    await press(Choose("Theme", OPTIONS, current="t2", on_look=seen.append), "j", "k", "enter")
    assert seen == ["t2", "t3", "t2"]


async def test_a_click_chooses():
    app = Asking(Choose("To which?", OPTIONS))
    async with app.run_test(size=(80, 20)) as pilot:
        await pilot.click("OptionList", offset=(2, 1))
        await settle(pilot)
        assert app.answer == "t2"


async def test_nothing_to_choose_from():
    assert await press(Choose("To which?", ()), "j", "enter", "escape") is None
