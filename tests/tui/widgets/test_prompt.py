"""The line above the keys: at rest, with a message, and while something is typed."""

import pytest
from textual.app import App
from textual.widgets import Button

from rtun_tui.widgets.prompt import COMMAND, FILTER, HISTORY, Label, Line, Prompt, Sign
from tests.tui.keys import press, settle

LINES = ("agent pin", "agent use beta", "filter dn>1M")


class Sheet(App):
    def __init__(self):
        super().__init__()
        self.told = []

    def compose(self):
        yield Button("elsewhere")
        yield Prompt(lambda text: [line for line in LINES if line.startswith(text)])

    def on_prompt_changed(self, message):
        self.told.append(("changed", message.kind, message.text))

    def on_prompt_submitted(self, message):
        self.told.append(("submitted", message.kind, message.text))

    def on_prompt_cancelled(self, message):
        self.told.append(("cancelled", message.kind, message.before))

    @property
    def prompt(self):
        return self.query_one(Prompt)

    @property
    def line(self):
        return self.query_one(Line)

    @property
    def resting(self):
        return self.query_one(Label).render_line(0).text.strip()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("rtun_tui.widgets.prompt.TYPING_PAUSE", 0.01)


async def edit(pilot, kind, text=""):
    pilot.app.prompt.edit(kind, text)
    await settle(pilot)


async def told(pilot, count):
    """Wait until the prompt has said that much."""
    for _ in range(200):
        if len(pilot.app.told) >= count:
            break
        await pilot.pause(0.01)
    return pilot.app.told


async def test_at_rest_it_shows_the_filter():
    async with Sheet().run_test(size=(30, 5)) as pilot:
        pilot.app.prompt.idle("/ dn>1M")
        assert pilot.app.resting == "/ dn>1M"
        assert pilot.app.prompt.editing == ""
        assert not pilot.app.line.display
        pilot.app.prompt.idle("x" * 60)
        assert pilot.app.resting == "x" * 27 + "…"


async def test_a_message_stands_for_a_while_and_then_the_filter_is_back():
    async with Sheet().run_test(size=(30, 5)) as pilot:
        prompt = pilot.app.prompt
        prompt.idle("/ dn>1M")
        prompt.message("first", seconds=0.01)
        prompt.message("saved", "error", seconds=0.02)
        prompt.idle("/ up>1M")
        assert pilot.app.resting == "saved"
        while pilot.app.resting == "saved":
            await pilot.pause(0.01)
        assert pilot.app.resting == "/ up>1M"


@pytest.mark.parametrize("kind", [FILTER, COMMAND])
async def test_what_is_typed_is_handed_over(kind):
    async with Sheet().run_test(size=(30, 5)) as pilot:
        await edit(pilot, kind)
        assert pilot.app.prompt.editing == kind
        assert pilot.app.query_one(Sign).render_line(0).text.strip() == kind
        assert not pilot.app.query_one(Label).display
        await press(pilot, "a", "space", "b", "space", "enter")
        assert pilot.app.told[-1] == ("submitted", kind, "a b")
        assert pilot.app.prompt.editing == ""
        assert pilot.app.query_one(Label).display


async def test_a_filter_is_tried_when_the_fingers_rest():
    async with Sheet().run_test(size=(30, 5)) as pilot:
        await edit(pilot, FILTER)
        await press(pilot, "d", "n")
        await told(pilot, 1)
        assert pilot.app.told[-1] == ("changed", FILTER, "dn")


async def test_a_command_is_not_tried():
    async with Sheet().run_test(size=(30, 5)) as pilot:
        await edit(pilot, COMMAND)
        await press(pilot, "q")
        await pilot.pause(0.05)
        assert pilot.app.told == []


@pytest.mark.parametrize("key", ["escape", "ctrl+g"])
async def test_giving_up_tells_what_was_there(key):
    async with Sheet().run_test(size=(30, 5)) as pilot:
        await edit(pilot, FILTER, "idle>2m")
        assert (pilot.app.line.value, pilot.app.line.cursor_position) == ("idle>2m", 7)
        await press(pilot, "x", key)
        assert pilot.app.told[-1] == ("cancelled", FILTER, "idle>2m")
        assert pilot.app.prompt.editing == ""
        before = list(pilot.app.told)
        await pilot.pause(0.05)
        assert pilot.app.told == before


async def type_lines(pilot, kind, *lines):
    for line in lines:
        await edit(pilot, kind, line)
        await press(pilot, "enter")


async def test_old_lines_come_back_with_the_arrows():
    async with Sheet().run_test(size=(30, 5)) as pilot:
        await type_lines(pilot, COMMAND, "one", "two", "one", "")
        await edit(pilot, COMMAND)
        seen = []
        for key in ("up", "up", "up", "down", "down", "down"):
            await press(pilot, key)
            seen.append(pilot.app.line.value)
        assert seen == ["one", "two", "two", "one", "", ""]


async def test_each_kind_has_its_own_history():
    async with Sheet().run_test(size=(30, 5)) as pilot:
        await type_lines(pilot, COMMAND, "zoom")
        await edit(pilot, FILTER)
        await press(pilot, "up")
        assert pilot.app.line.value == ""


async def test_the_history_is_bounded():
    async with Sheet().run_test(size=(30, 5)) as pilot:
        await edit(pilot, COMMAND)
        history = pilot.app.line.history
        history[:] = [f"line {number}" for number in range(HISTORY)]
        await press(pilot, "z", "enter")
        assert len(history) == HISTORY
        assert (history[0], history[-1]) == ("line 1", "z")


async def test_tab_takes_the_completion():
    async with Sheet().run_test(size=(30, 5)) as pilot:
        await edit(pilot, COMMAND)
        await press(pilot, *"agent u")
        await pilot.pause()
        await press(pilot, "tab")
        assert pilot.app.line.value == "agent use beta"
        assert pilot.app.prompt.editing == COMMAND


async def test_a_filter_is_completed_from_its_history():
    async with Sheet().run_test(size=(30, 5)) as pilot:
        await type_lines(pilot, FILTER, "dn>1M", "dn>2M")
        await edit(pilot, FILTER)
        assert pilot.app.prompt.completions("dn") == ["dn>2M", "dn>1M"]
        await press(pilot, "d", "n")
        await pilot.pause()
        await press(pilot, "tab")
        assert pilot.app.line.value == "dn>2M"
