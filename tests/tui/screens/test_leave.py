import pytest

from rtun_core.cli.console import EndKind
from rtun_tui.screens.leave import Leave
from tests.tui.keys import settle
from tests.tui.screens.asking import PENDING, Asking, press


@pytest.mark.parametrize(
    ("keys", "answer"),
    [
        (["enter"], None),
        (["n"], None),
        (["escape"], None),
        (["q"], None),
        (["y"], EndKind.QUIT),
        (["Q"], EndKind.DETACHED),
        (["right", "enter"], EndKind.QUIT),
        (["l", "l", "enter"], EndKind.DETACHED),
        (["l", "l", "h", "enter"], EndKind.QUIT),
        (["x"], PENDING),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)
async def test_keys(keys, answer):
    assert await press(Leave(3), *keys) is answer


@pytest.mark.parametrize(("flows", "words"), [(1, "1 flow would end"), (1284, "1,284 flows would end")])
async def test_it_says_what_ends(flows, words):
    app = Asking(Leave(flows))
    async with app.run_test(size=(100, 30)):
        assert words in app.text
        assert "rtun attach" in app.text
        assert app.focused is app.screen.query_one("#stay")


@pytest.mark.parametrize(
    ("button", "answer"), [("#stay", None), ("#quit", EndKind.QUIT), ("#close", EndKind.DETACHED)]
)
async def test_clicks(button, answer):
    app = Asking(Leave(3))
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.click(button)
        await settle(pilot)
        assert app.answer is answer
