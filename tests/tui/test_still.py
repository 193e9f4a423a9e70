"""The source without threads or a clock: the same steps give the same picture."""

from __future__ import annotations

import pytest

from rtun_core.commands import DrainTunnel
from rtun_core.errors import CommandRefused
from rtun_core.events import CommandDone, CommandWasRefused
from rtun_core.view.page import ViewSpec
from rtun_tui.still import StillSource
from tests.tui.conftest import START, world

FLOWS = ViewSpec(table="flows", limit=50)


def source(**changes):
    return StillSource(world(**changes), past=10)


def test_the_same_steps_give_the_same_picture():
    first, second = source(), source()
    for each in (first, second):
        each.advance(2.5)
    one, other = first.look([FLOWS]), second.look([FLOWS])
    assert one.pages == other.pages
    assert one.snapshot.ts == other.snapshot.ts == START + 2.5
    assert [each.event for each in first.events()] == [each.event for each in second.events()]


def test_it_stands_still_until_it_is_moved():
    still = source()
    assert still.look([FLOWS]).pages == still.look([FLOWS]).pages
    before = still.look([FLOWS])
    still.advance(1)
    assert still.look([FLOWS]).pages != before.pages
    assert still.look([]).history.end > before.history.end


def test_holding_freezes_looks_pages_and_selections():
    still = source()
    still.hold(on=True)
    before, keys = still.look([FLOWS]).pages, still.select(FLOWS)
    still.events()
    still.advance(30)
    assert still.look([FLOWS]).pages == before
    assert still.select(FLOWS) == keys
    assert still.events()
    still.hold(on=False)
    assert still.look([FLOWS]).pages != before


async def test_one_page_on_demand():
    still = source()
    assert await still.page(FLOWS) == still.look([FLOWS]).pages["flows"]


async def test_a_command_is_carried_out_and_told():
    still = source()
    await still.start()
    still.events()
    result = await still.execute(DrainTunnel(tunnel="t5"))
    assert "t5" in result.text
    assert still.executed == [DrainTunnel(tunnel="t5")]
    done = [each.event for each in still.events() if isinstance(each.event, CommandDone)]
    assert [(each.who, each.command) for each in done] == [("console", "tunnel drain t5")]
    await still.close()


async def test_a_refusal_is_raised_and_told():
    still = source()
    still.events()
    with pytest.raises(CommandRefused):
        await still.execute(DrainTunnel(tunnel="t99"))
    assert any(isinstance(each.event, CommandWasRefused) for each in still.events())
