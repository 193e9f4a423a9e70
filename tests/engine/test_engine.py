import asyncio

import pytest

from rtun_core.commands import PauseRule, ProbeAgent, Quit, SwitchAgent
from rtun_core.engine.engine import Engine
from rtun_core.errors import BindError, CommandRefused, NoAgentError
from rtun_core.events import CommandDone, CommandWasRefused, Drops, EngineStopping, Faults, Notice


def last(subscription, kind):
    return [stamped.event for stamped in subscription.drain() if isinstance(stamped.event, kind)][-1]


async def test_life_of_an_engine(bus, fake, names):
    events = bus.subscribe()
    service = fake()
    engine = Engine([service], bus)
    await engine.start()
    engine.request_stop("enough", status=7)
    assert await engine.run_until_stopped() == 7
    await engine.stop()
    await engine.stop()
    assert service.calls == ["start", "drain"]
    assert names(events) == ["engine.started", "engine.stopping"]


async def test_only_the_first_reason_counts(bus, fake):
    events = bus.subscribe()
    engine = Engine([fake()], bus)
    await engine.start()
    engine.request_stop("first", 0)
    engine.request_stop("second", 5)
    await engine.stop()
    assert engine.status == 0
    assert last(events, EngineStopping).reason == "first"


async def test_a_service_that_ends_ends_the_engine(bus, fake):
    service = fake()
    engine = Engine([service], bus)
    await engine.start()
    service.ended.set_result("expired")
    assert await engine.run_until_stopped() == 0
    await engine.stop()


async def test_a_service_that_fails_ends_the_engine_with_its_error(bus, fake):
    service = fake()
    engine = Engine([service], bus)
    await engine.start()
    service.ended.set_exception(NoAgentError("no agent in 3 s"))
    with pytest.raises(NoAgentError, match="no agent in 3 s"):
        await engine.run_until_stopped()
    await engine.stop()
    assert engine.status == 4
    assert service.calls[-1] == "drain"


async def test_a_failed_start_leaves_nothing_open(bus, fake):
    events = bus.subscribe()
    good, bad, never = fake("good"), fake("bad"), fake("never")
    bad.errors["start"] = BindError("in use")
    engine = Engine([good, bad, never], bus)
    with pytest.raises(BindError):
        await engine.start()
    assert good.calls == ["start", "close"]
    assert never.calls == []
    assert engine.status == 3
    assert last(events, EngineStopping).reason == "in use"


async def test_a_stop_interrupts_a_slow_start(bus, fake, until):
    slow, after = fake("slow"), fake("after")
    slow.gates["start"] = asyncio.Event()
    engine = Engine([slow, after], bus)
    starting = asyncio.get_running_loop().create_task(engine.start())
    await until(lambda: slow.calls)
    engine.request_stop("SIGTERM")
    await starting
    assert await engine.run_until_stopped() == 0
    await engine.stop()
    assert slow.calls == ["start", "close"]
    assert after.calls == []


async def test_a_timeout_of_the_service_itself_is_its_error(bus, fake):
    service = fake()
    service.errors["start"] = TimeoutError("resolver")
    with pytest.raises(TimeoutError, match="resolver"):
        await Engine([service], bus).start()


async def test_draining_is_bounded(bus, fake):
    service = fake()
    service.gates["drain"] = asyncio.Event()
    engine = Engine([service], bus, drain_limit=0.01)
    await engine.start()
    await engine.stop()
    assert service.calls == ["start", "drain", "close"]


async def test_hurry_cuts_draining_short(bus, fake, until):
    service = fake()
    service.gates["drain"] = asyncio.Event()
    engine = Engine([service], bus, drain_limit=60)
    await engine.start()
    engine.request_stop("SIGINT")
    stopping = asyncio.get_running_loop().create_task(engine.stop())
    await until(lambda: "drain" in service.calls)
    assert engine.stopping
    engine.hurry(130)
    await stopping
    assert engine.status == 130
    assert service.calls[-1] == "close"


async def test_a_failure_while_stopping_is_told_and_the_service_closed(bus, fake):
    events = bus.subscribe()
    service = fake()
    service.errors["drain"] = RuntimeError("boom")
    engine = Engine([service], bus)
    await engine.start()
    await engine.stop()
    assert service.calls == ["start", "drain", "close"]
    assert "boom" in last(events, Notice).message


async def test_snapshot_is_cached_for_a_quarter_second(bus, fake, some_traffic):
    now = [100.0]
    service = fake(traffic=some_traffic, drops={"oversize": 1})
    engine = Engine([service], bus, wall=lambda: 5.0, mono=lambda: now[0])
    await engine.start()
    first = engine.snapshot()
    now[0] += 0.2
    assert engine.snapshot() is first
    assert engine.snapshot(fresh=True) is not first
    now[0] += 0.3
    third = engine.snapshot()
    assert service.snapshots == 3
    assert (third.uptime_s, third.ts, third.seq) == (pytest.approx(0.5), 5.0, bus.seq)
    assert (third.services, third.traffic, third.drops) == (("fake",), some_traffic, {"oversize": 1})
    await engine.stop()


async def test_a_service_that_has_not_started_is_not_in_the_picture(bus, fake):
    service = fake()
    assert Engine([service], bus).snapshot().services == ("fake",)
    assert service.snapshots == 0


async def test_execute_done(engine, bus):
    events = bus.subscribe()
    result = await engine.execute(SwitchAgent(name="beta", instance="7f3c"), "ctl")
    assert result.data == {"name": "beta"}
    done = last(events, CommandDone)
    assert (done.who, done.command) == ("ctl", "agent use beta --instance 7f3c")
    assert done.result == "using beta"


async def test_execute_refused_by_the_service(engine, bus):
    events = bus.subscribe()
    with pytest.raises(CommandRefused, match="agent nobody is not known"):
        await engine.execute(ProbeAgent(name="nobody"), "console")
    refused = last(events, CommandWasRefused)
    assert (refused.who, refused.reason) == ("console", "agent nobody is not known")


async def test_execute_without_a_service_for_it(engine, bus):
    events = bus.subscribe()
    with pytest.raises(
        CommandRefused, match="'rule pause' is not a command of this process, which runs fake"
    ):
        await engine.execute(PauseRule(rule="r1"), "ctl")
    assert last(events, CommandWasRefused).command == "rule pause r1"


async def test_quit(engine):
    await engine.execute(Quit(), "ctl")
    assert await engine.run_until_stopped() == 0


async def test_counters_are_reported_as_growth(bus, fake):
    service = fake()
    engine = Engine([service], bus)
    await engine.start()
    events = bus.subscribe()
    engine.report_counters()
    assert events.drain() == []
    service.drops = {"oversize": 2}
    service.faults = {"tag": 1}
    engine.report_counters()
    assert [stamped.event for stamped in events.drain()] == [
        Drops(counts={"oversize": 2}),
        Faults(counts={"tag": 1}),
    ]
    service.drops = {"oversize": 3}
    await engine.stop()
    assert last(events, Drops).counts == {"oversize": 1}


async def test_the_tick_reports_by_itself(bus, fake, until, monkeypatch):
    monkeypatch.setattr("rtun_core.engine.engine.TICK", 0.001)
    service = fake()
    engine = Engine([service], bus)
    await engine.start()
    events = bus.subscribe()
    service.drops = {"kernel": 1}
    await until(lambda: events.lag)
    assert last(events, Drops).counts == {"kernel": 1}
    await engine.stop()
