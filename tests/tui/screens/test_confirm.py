"""Nothing is done by accident: Cancel has the focus, Enter alone changes nothing, much is typed."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from textual.widgets import Button, Input

from rtun_core.commands import CloseFlow, DrainTunnel, SwitchAgent
from rtun_tui.operations import Proposal
from rtun_tui.palette import MONO
from rtun_tui.screens.confirm import Confirm
from tests.tui.keys import settle
from tests.tui.screens.asking import PENDING, Asking, one_by_one, press

DRAIN = Proposal(
    command=DrainTunnel(tunnel="t1"),
    question="Drain tunnel t1?",
    verb="Drain t1",
    facts=(("tunnel", "up, 18.4ms"), ("flows", "3 flows, moved to t2")),
)
DRAIN_MANY = {
    "command": DrainTunnel(tunnel="t1"),
    "question": "Drain tunnel t1?",
    "verb": "Drain t1",
    "typed": "t1",
}
MANY = Proposal(**DRAIN_MANY)


def dialog(proposal=DRAIN):
    return Confirm(proposal, MONO)


@pytest.mark.parametrize(
    ("keys", "answer"),
    [
        (["y"], True),
        (["n"], False),
        (["escape"], False),
        (["q"], False),
        (["enter"], False),
        (["right", "enter"], True),
        (["l", "h", "enter"], False),
        (["tab", "enter"], True),
        (["space"], PENDING),
        (["x", "down"], PENDING),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)
async def test_keys(keys, answer):
    assert await press(dialog(), *keys) is answer


@pytest.mark.parametrize(
    ("keys", "answer"),
    [
        (["enter"], PENDING),
        (["y"], PENDING),
        (["y", "enter"], PENDING),
        (["t", "enter"], PENDING),
        (["t", "1", "x", "enter"], PENDING),
        (["t", "1", "enter"], True),
        (["t", "1", "tab", "tab", "enter"], True),
        (["t", "tab", "enter"], False),
        (["tab", "y"], PENDING),
        (["t", "1", "escape"], False),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)
async def test_where_the_name_is_to_be_typed_nothing_else_confirms(keys, answer):
    assert await press(dialog(MANY), *keys) is answer


async def test_it_says_what_will_happen_and_how_to_do_it_elsewhere():
    app = Asking(dialog())
    async with app.run_test(size=(100, 30)):
        for words in (
            "Confirm",
            "Drain tunnel t1?",
            "tunnel    up, 18.4ms",
            "flows     3 flows, moved to t2",
            "same as   rtun ctl tunnel drain t1",
            "Cancel",
            "Drain t1",
            "y / n",
        ):
            assert words in app.text
        assert app.focused is app.screen.query_one("#cancel")


async def test_the_button_works_once_the_name_is_there():
    app = Asking(dialog(MANY))
    async with app.run_test(size=(100, 30)) as pilot:
        go = app.screen.query_one("#go", Button)
        assert "type t1 to go on" in app.text
        assert go.disabled
        await one_by_one(pilot, "t", "1")
        assert not go.disabled
        await one_by_one(pilot, "backspace")
        assert go.disabled
        await one_by_one(pilot, "1")
        await pilot.click(go)
        await settle(pilot)
        assert app.answer is True


@pytest.mark.parametrize(("button", "answer"), [("#go", True), ("#cancel", False)])
async def test_clicks(button, answer):
    app = Asking(dialog())
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.click(button)
        await settle(pilot)
        assert app.answer is answer


async def test_a_long_command_is_cut():
    flows = tuple(f"{number:08x}" for number in range(500))
    app = Asking(dialog(Proposal(command=CloseFlow(flows=flows), question="Close?", verb="Close")))
    async with app.run_test(size=(100, 40)):
        assert "..." in app.text
        assert "000001f3" not in app.text


NAMES = st.one_of(
    st.sampled_from(["[/x]", "[bold]", "[", "\x1b[31m", "a\nb"]), st.text(min_size=1, max_size=12)
)


@given(name=NAMES, typed=st.booleans())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
async def test_the_name_of_a_peer_is_only_text(name, typed):
    proposal = Proposal(
        command=SwitchAgent(name=name),
        question=f"Use agent {name}?",
        verb=f"Use {name}",
        facts=(("probe", name),),
        typed="use" if typed else "",
    )
    app = Asking(dialog(proposal))
    async with app.run_test(size=(100, 30)):
        assert "\x1b" not in app.text
        assert bool(app.screen.query(Input)) == typed


@pytest.mark.parametrize("name", ["[/x]", "[bold]"])
async def test_brackets_are_drawn_as_they_are(name):
    proposal = Proposal(
        command=SwitchAgent(name=name), question=f"Use {name}?", verb=f"Use {name}", typed=name
    )
    app = Asking(dialog(proposal))
    async with app.run_test(size=(100, 30)):
        assert f"Use {name}?" in app.text
        assert f"type {name} to go on" in app.text
        assert app.text.count(f"Use {name}") == 2


@pytest.mark.parametrize("size", [(20, 6), (60, 15)])
async def test_a_small_screen_can_still_say_no(size):
    assert await press(dialog(), "n", size=size) is False


async def test_on_few_lines_everything_is_there_that_is_to_be_read_and_typed():
    facts = (*DRAIN.facts, ("flows", "1,284 flows, waiting until another tunnel of this rule is up again"))
    app = Asking(dialog(Proposal(**(DRAIN_MANY | {"facts": facts}))))
    async with app.run_test(size=(60, 15)) as pilot:
        typed = app.screen.query_one("#typed")
        assert app.screen.region.contains_region(typed.region)
        assert all(
            text in app.text for text in ("Drain tunnel t1?", "type t1 to go on", "Cancel", "Drain t1")
        )
        await one_by_one(pilot, "t", "1", "enter")
        assert app.answer is True


async def test_in_private_no_whole_address_is_shown():
    proposal = Proposal(
        command=DrainTunnel(tunnel="t1"),
        question="Drain 203.0.113.9?",
        verb="Drain 203.0.113.9",
        facts=(("tunnel", "up, to 203.0.113.9:41822"),),
    )
    app = Asking(Confirm(proposal, MONO, private=True))
    async with app.run_test(size=(100, 30)):
        assert "up, to 203.0.*.*:41822" in app.text
        assert "203.0.113" not in app.text
