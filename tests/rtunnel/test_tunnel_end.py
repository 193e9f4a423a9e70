"""What both ends have in common: commands, counters, and that nothing is left of sessions that are over."""

import asyncio
import gc
import os
from collections import Counter

import pytest

from rtun_core.commands import PauseRule, PinAgent, ResumeRule
from rtun_core.events import Notice
from rtun_core.rtunnel import serve
from rtun_core.rtunnel.carrier import Carrier
from tests.rtunnel.stage import until

MANY = 300
KEPT = 10


def both(stage):
    return stage.server, stage.client


async def test_it_never_ends_by_itself_and_listens_where_it_says(stage):
    await stage.pair()
    for end in both(stage):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(end.wait(), 0.01)
        assert end.address.port
        assert end.snapshot().rules[0].listen == str(end.address)


async def test_commands(stage):
    await stage.pair()
    for end in both(stage):
        assert end.handles(PauseRule(rule="r1"))
        assert not end.handles(PinAgent())
        assert (await end.handle(PauseRule(rule="r1"))).text == "rule r1 paused"
        assert end.paused
        assert (await end.handle(ResumeRule(rule="r1"))).text == "rule r1 resumed"
        assert not end.paused


async def test_counters_are_copies(stage):
    await stage.pair()
    drops, faults = stage.server.counters()
    drops["x"] = faults["x"] = 1
    assert stage.server.counters() == ({}, {})


async def test_a_bug_is_told(stage):
    await stage.serve()
    stage.server._task_failed("session", ValueError("no"))
    notice = await stage.event(Notice)
    assert notice.message == "session failed: ValueError: no"
    stage._seen.clear()  # it would fail the test otherwise


def left(stage):
    """Everything that could pile up, by name."""
    gc.collect()
    server, client = both(stage)
    carriers = sum(type(each) is Carrier for each in gc.get_objects())
    return Counter(
        tasks=len(asyncio.all_tasks()),
        files=len(os.listdir("/proc/self/fd")),
        carriers=carriers - len(server._known),
        live=len(server.book.live) + len(client.book.live),
        linked=len(server.book.linked) + len(client.book.linked),
        strangers=len(server._entrance._waiting),
        dials=len(client._dialer._responses),
        under_way=server.book._budget.used + client.book._budget.used,
    )


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts files as Linux shows them")
async def test_nothing_is_left_of_many_connections(stage, monkeypatch):
    """Of ended sessions the server remembers the last ones, for clients that come back; nothing else."""
    monkeypatch.setattr(serve, "MAX_TOMBSTONES", KEPT)
    await stage.pair()

    async def visit(number):
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.client.address.port)
        writer.write(b"%64d" % number)
        assert await reader.readexactly(64) == b"%64d" % number
        if number % 2:
            writer.transport.abort()
        else:
            writer.close()
            await writer.wait_closed()

    async def quiet():
        ends = [end.book for end in both(stage)]
        await until(lambda: not any(book.live or book.linked for book in ends))
        await until(
            lambda: (
                len(stage.last_target.writers) == sum(one.is_closing() for one in stage.last_target.writers)
            )
        )
        stage.last_target.writers.clear()
        await asyncio.sleep(0)

    await visit(0)
    await quiet()
    before = left(stage)
    for start in range(0, MANY, 50):
        await asyncio.gather(*map(visit, range(start, start + 50)))
    await quiet()
    await until(lambda: left(stage) <= before)
    assert len(stage.server._known) == len(stage.server._graves) == KEPT
