"""Commands of the engine: what is asked is in `screens/test_confirm.py`; here is what comes of them."""

from __future__ import annotations

import asyncio

from rtun_core.commands import CommandResult, PinAgent
from rtun_core.errors import RtunError
from rtun_tui.execution import COMMAND_TIME
from rtun_tui.widgets.prompt import MESSAGE_TIME


async def test_a_command_stands_there_until_it_is_answered(console, monkeypatch):
    async with console() as c:
        answered = asyncio.Event()

        async def slow(command):
            await answered.wait()
            return CommandResult(text="pinned")

        monkeypatch.setattr(c.source, "execute", slow)
        c.app.execution.start(PinAgent())
        await c.until(lambda: c.said == "agent pin ...")
        assert c.app.overview.prompt._message._interval == COMMAND_TIME
        answered.set()
        await c.until(lambda: c.said == "pinned")
        assert c.app.overview.prompt._message._interval == MESSAGE_TIME


async def test_an_error_of_the_source_is_told(console, monkeypatch):
    async with console() as c:

        async def lost(command):
            raise RtunError("the engine does not answer")

        monkeypatch.setattr(c.source, "execute", lost)
        await c.line("agent pin")
        assert c.said == "the engine does not answer"
