import pytest

from rtun_tui.screens.faults import Faults
from tests.tui.keys import press as one_by_one
from tests.tui.screens.asking import PENDING, Asking, press


@pytest.mark.parametrize("key", ["enter", "escape", "space", "q"])
async def test_it_is_left_by_any_key_that_leaves(key):
    assert await press(Faults(["what?"]), key) is None


async def test_other_keys_leave_it():
    assert await press(Faults(["what?"]), "x", "y") is PENDING


async def test_long_faults_are_told_whole():
    path = "/home/somebody/.config/rtun/themes/a-theme-with-a-long-name.toml"
    app = Asking(
        Faults([f"{path}:8: roles.muted: '#8f9bacx' is neither #rrggbb nor a name", "and\x1b[2J this"])
    )
    async with app.run_test(size=(60, 20)):
        assert all(part in app.text for part in ("/home/somebody", ".toml:8:", "roles.muted", "nor a name"))
        assert "and[2J this" in app.text


async def test_many_faults_are_scrolled():
    app = Asking(Faults([f"fault {number}" for number in range(40)]))
    async with app.run_test(size=(80, 20)) as pilot:
        assert "fault 39" not in app.text
        await one_by_one(pilot, *["j"] * 80)
        assert "rtun config --check" in app.text
        await one_by_one(pilot, *["k"] * 80)
        assert "fault 0" in app.text
