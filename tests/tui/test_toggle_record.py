"""The key that records: it begins, and ends what is being recorded."""

from dataclasses import replace

import msgspec

from rtun_core.commands import StartRecording, StopRecording


async def test_it_begins_and_ends(console):
    async with console() as c:
        await c.press("R")
        overview = c.app.overview
        snapshot = msgspec.structs.replace(overview.picture.snapshot, recording="/x.rec")
        overview.picture = replace(overview.picture, snapshot=snapshot)
        c.app.effects.toggle_record()
        await c.settle()
        assert c.executed == [StartRecording(), StopRecording()]


async def test_it_is_refused_where_nothing_can_be_changed(console):
    async with console(manner={"read_only": True}) as c:
        await c.press("R")
        assert c.executed == []
        assert "read-only" in c.said
