import asyncio
import threading

import msgspec
import pytest

from rtun_core.bus import EventBus
from rtun_core.commands import ProbeAgent, SwitchAgent
from rtun_core.engine.engine import Engine
from rtun_core.engine.engine_thread import EngineThread
from rtun_core.engine.live_source import LiveSource
from rtun_core.errors import CommandRefused, RtunError
from rtun_core.view.filter_text import FilterError
from rtun_core.view.page import Sort, ViewSpec

SPEC = ViewSpec(table="flows", sort=(Sort("up_total", descending=True),))


class Behind:
    """An engine on a thread, whose one service has some flows."""

    def __init__(self, fake, flows):
        self.fake, self.flows = fake, flows
        self.service = None
        self.thread = EngineThread(self.body, asyncio.new_event_loop)

    async def body(self, made):
        self.service = self.fake("relay", flows=self.flows)
        engine = Engine([self.service], EventBus())
        made(engine)
        await engine.start()
        try:
            await engine.run_until_stopped()
        finally:
            await engine.stop()
        return engine.status

    def grow(self, *flows):
        self.service.view = msgspec.structs.replace(
            self.service.view, flows=(*self.service.view.flows, *flows)
        )


@pytest.fixture
def behind(fake, flow):
    behind = Behind(fake, tuple(flow(number, up=number) for number in range(1, 4)))
    behind.thread.start()
    assert behind.thread.engine
    yield behind
    behind.thread.hurry(0)
    behind.thread.wait()


@pytest.fixture
async def source(behind, until):
    source = LiveSource(behind.thread)
    await source.start()
    await until(lambda: source.look([SPEC]))
    yield source
    await source.close()


def keys(picture):
    return [int(row.id, 16) for row in picture.pages["flows"].rows]


def test_the_first_look_finds_nothing_yet(behind):
    source = LiveSource(behind.thread)
    behind.thread.call(lambda: None)
    first = source.look([SPEC])
    assert first is None or keys(first) == [3, 2, 1]
    assert source.select(SPEC) in ([], ["00000003", "00000002", "00000001"]) or first is not None


async def test_an_engine_that_is_still_to_come(fake, until):
    behind = Behind(fake, ())
    source, told = LiveSource(behind.thread), []
    source.watch(lambda: told.append(threading.current_thread()))
    await source.start()
    assert source.look([SPEC]) is None
    assert (source.title, source.status.word) == ("", "LIVE")
    assert source.refusal == "the engine is still starting"
    assert source.events() == []
    with pytest.raises(CommandRefused, match="still starting"):
        await source.execute(SwitchAgent(name="beta"))
    behind.thread.start()
    await until(lambda: told)
    assert told == [threading.current_thread()]
    picture = source.look([SPEC])
    assert picture.snapshot.services == ("relay",)
    assert (source.title, source.refusal) == ("relay", "")
    await source.close()
    behind.thread.hurry(0)
    behind.thread.wait()


async def test_before_the_first_picture_there_is_no_page(behind):
    source = LiveSource(behind.thread)
    assert source.select(SPEC) == []
    with pytest.raises(RtunError, match="nothing is known yet"):
        await source.page(SPEC)


async def test_a_look_has_the_pages_and_no_flows(source):
    assert (source.title, source.status.word, source.refusal) == ("relay", "LIVE", "")
    picture = source.look([SPEC, ViewSpec(table="agents")])
    assert keys(picture) == [3, 2, 1]
    assert picture.pages["agents"].total == 0
    assert picture.snapshot.flows == ()
    assert set(picture.costs) == {"flows", "agents"}
    assert not source.waiting
    assert picture.history.step == 1.0


async def test_each_look_has_the_next_picture_taken(source, behind, until, flow):
    behind.grow(flow(9, up=9))
    await until(lambda: keys(source.look([SPEC])) == [9, 3, 2, 1])


async def test_a_picture_that_is_taken_before_the_asking_returns(source, behind, until, flow):
    """The engine's thread may be quicker than the rest of a statement on this one."""
    ask = behind.thread.call

    def slow(function, *arguments):
        done = threading.Event()
        asked = ask(lambda: (function(*arguments), done.set()))
        assert done.wait(10)
        return asked

    await until(lambda: not source._asked)
    behind.thread.call = slow
    for number in range(7, 10):
        behind.grow(flow(number, up=number))
        source.look([SPEC])
        assert keys(source.look([SPEC]))[0] == number


async def test_while_nobody_looks_no_picture_is_taken(source, behind, until):
    await until(lambda: not source._asked)
    taken = behind.service.snapshots
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    behind.thread.call(lambda: loop.call_soon_threadsafe(done.set))
    await done.wait()
    assert behind.service.snapshots - taken <= 1  # the engine's own sample of the second
    source.look([SPEC])
    await until(lambda: behind.service.snapshots > taken)


async def test_held_the_view_stands_still_and_collection_goes_on(source, behind, until, flow):
    source.hold(on=True)
    behind.grow(flow(9, up=9))
    taken = behind.service.snapshots
    await until(lambda: source.look([SPEC]) and behind.service.snapshots > taken + 1)
    assert keys(source.look([SPEC])) == [3, 2, 1]
    assert (await source.page(SPEC)).total == 3
    assert len(source.select(SPEC)) == 3
    source.hold(on=False)
    await until(lambda: keys(source.look([SPEC])) == [9, 3, 2, 1])


async def test_keys_and_pages_of_all_that_pass(source):
    spec = ViewSpec(table="flows", filter="up_total>=2", limit=1)
    assert sorted(source.select(spec)) == ["00000002", "00000003"]
    page = await source.page(spec)
    assert (page.total, page.shown, len(page.rows)) == (3, 2, 1)
    marked = ViewSpec(table="flows", filter="@marked", marks=("00000001",))
    assert source.select(marked) == ["00000001"]


async def test_a_filter_that_cannot_be_read(source):
    with pytest.raises(FilterError):
        source.look([ViewSpec(table="flows", filter="colour=red")])
    assert keys(source.look([SPEC])) == [3, 2, 1]


async def test_a_picture_that_could_not_be_taken_does_not_end_the_looking(source, behind, until, flow):
    failures = []
    behind.thread.call(
        asyncio.BaseEventLoop.set_exception_handler, behind.thread._loop, lambda *_: failures.append(1)
    )
    good, behind.service.snapshot = behind.service.snapshot, None
    await until(lambda: source.look([SPEC]) and failures)
    behind.service.snapshot = good
    behind.grow(flow(9, up=9))
    await until(lambda: keys(source.look([SPEC])) == [9, 3, 2, 1])


async def test_commands(source):
    assert (await source.execute(SwitchAgent(name="beta"))).text == "using beta"
    with pytest.raises(CommandRefused, match="nobody is not known"):
        await source.execute(ProbeAgent(name="nobody"))
    told = [stamped.event for stamped in source.events()]
    assert [event.who for event in told if hasattr(event, "who")] == ["console", "console"]
    assert source.events() == []


async def test_after_the_end(source, behind, until):
    behind.thread.request_stop("enough")
    await until(behind.thread.done.done)
    assert source.status.word == "ENDED"
    assert source.refusal == "the engine has ended"
    with pytest.raises(CommandRefused, match="has ended"):
        await source.execute(SwitchAgent(name="beta"))
    assert keys(source.look([SPEC])) == [3, 2, 1]


async def test_closed_it_gets_no_more_events(source, behind, until):
    await source.close()
    await until(lambda: behind.thread.events.closed)
    source.events()
    await source.execute(SwitchAgent(name="beta"))
    assert source.events() == []
