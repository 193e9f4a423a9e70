import asyncio

import msgspec
import pytest

from rtun_core.commands import CloseFlow, CommandResult, PauseRule, ProbeAgent, Quit, SwitchAgent
from rtun_core.engine.engine import Engine
from rtun_core.errors import BindError, CommandRefused, NoAgentError
from rtun_core.events import CommandDone, CommandWasRefused, Drops, EngineStopping, Faults, Notice
from rtun_core.model import Rates, RuleState, RuleView, Traffic, TunnelState, TunnelView


def last(subscription, kind):
    return [stamped.event for stamped in subscription.drain() if isinstance(stamped.event, kind)][-1]


async def test_life_of_an_engine(bus, fake, names):
    events = bus.subscribe()
    service = fake()
    engine = Engine([service], bus)
    assert not engine.is_up
    await engine.start()
    assert engine.is_up
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
    await until(lambda: len(events._queue))
    assert last(events, Drops).counts == {"kernel": 1}
    await engine.stop()


def carrying(packets):
    return Traffic(
        up_packets=packets, up_bytes=100 * packets, down_packets=2 * packets, down_bytes=1000 * packets
    )


def views(packets):
    """A rule and a tunnel that have carried that much."""
    rule = RuleView(
        id="r1", family="relay", listen="a", target="b", state=RuleState.ACTIVE, traffic=carrying(packets)
    )
    tunnel = TunnelView(
        id="t1", rule="r1", agent=None, state=TunnelState.UP, kind="p2p", opened_at=0.0, rtt_ms=20.0
    )
    tunnel = msgspec.structs.replace(tunnel, traffic=carrying(packets))
    return {"rules": (rule,), "tunnels": (tunnel,), "traffic": carrying(packets)}


class Clock:
    """Monotonic and wall clock at once."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


async def sampled(bus, service, seconds, *, packets=10):
    """An engine that was sampled once a second while its service carried `packets` in each."""
    clock = Clock()
    engine = Engine([service], bus, wall=clock, mono=clock)
    await engine.start()
    for second in range(seconds):
        service.view = msgspec.structs.replace(service.view, **views(packets * second))
        engine._sample()
        clock.now += 1.0
    return engine


async def test_rates_of_everything_of_rules_and_of_tunnels(bus, fake):
    engine = await sampled(bus, fake(), 3)
    expected = Rates(up_packets=10.0, up_bytes=1000.0, down_packets=20.0, down_bytes=10_000.0)
    snapshot = engine.snapshot()
    assert snapshot.rates == snapshot.rules[0].rates == snapshot.tunnels[0].rates == expected
    await engine.stop()


async def test_before_two_samples_there_are_no_rates(bus, fake):
    engine = await sampled(bus, fake(), 1)
    assert engine.snapshot().rates == engine.snapshot().tunnels[0].rates == Rates()
    await engine.stop()


async def test_looking_often_does_not_change_the_rates(bus, fake):
    engine = await sampled(bus, fake(), 3)
    first = engine.snapshot(fresh=True).rates
    assert all(engine.snapshot(fresh=True).rates == first for _ in range(5))
    await engine.stop()


async def test_the_history_is_kept_whether_somebody_looks_or_not(bus, fake):
    engine = await sampled(bus, fake(), 4)
    history = engine.history
    assert history.up.tolist() == [0.0, 1000.0, 1000.0, 1000.0]
    assert history.down.tolist() == [0.0, 10_000.0, 10_000.0, 10_000.0]
    assert history.tunnels["t1"].rtt.tolist() == [20.0] * 4
    assert history.tunnels["t1"].up.tolist()[-1] == 1000.0
    assert history.end == 1003.0
    await engine.stop()


async def test_a_sample_leaves_the_flows_alone(bus, fake, flow):
    service = fake(flows=(flow(1),))
    asked = []
    take = service.snapshot
    service.snapshot = lambda *, flows=True: asked.append(flows) or take(flows=flows)
    engine = await sampled(bus, service, 2)
    assert asked == [False, False]
    assert len(engine.snapshot().flows) == 1
    await engine.stop()


async def test_an_engine_that_was_never_sampled_has_an_empty_history(bus, fake):
    engine = Engine([fake()], bus)
    assert len(engine.history.up) == 0
    assert engine.history.tunnels == {}


async def test_the_tick_samples_by_itself(bus, fake, until, monkeypatch):
    monkeypatch.setattr("rtun_core.engine.engine.TICK", 0.001)
    engine = Engine([fake()], bus)
    await engine.start()
    await until(lambda: len(engine.history.up))
    await engine.stop()


async def test_flows_can_be_named_by_a_filter(bus, fake, flow):
    service = fake(flows=(flow(1, up=5000), flow(2)))
    service.handles = lambda command: isinstance(command, CloseFlow)
    taken = []

    async def handle(command):
        taken.append(command)
        return CommandResult(text="closed")

    service.handle = handle
    engine = Engine([service], bus)
    await engine.start()
    await engine.execute(CloseFlow(flows=("up_total>1kB",)), "console")
    assert taken == [CloseFlow(flows=("00000001",))]
    with pytest.raises(CommandRefused, match="no flow passes"):
        await engine.execute(CloseFlow(flows=("up_total>1GB",)), "console")
    await engine.stop()


async def test_faults_of_the_engine_itself_are_counted(bus, fake):
    service = fake()
    engine = Engine([service], bus)
    await engine.start()
    service.faults = {"view": 1, "token": 2}
    for _ in range(3):
        engine.count_fault("view")
    engine.report_counters()
    assert bus.after(0)[-1].event == Faults(counts={"view": 4, "token": 2})
    assert engine.snapshot(fresh=True).faults == {"view": 3}
    await engine.stop()
