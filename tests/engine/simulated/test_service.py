import asyncio
import json

import pytest

from rtun_core.bus import EventBus
from rtun_core.commands import PinAgent, Quit, SwitchAgent
from rtun_core.engine.engine import Engine
from rtun_core.engine.simulated import SimulatedService
from rtun_core.engine.simulated.service import MOST_STEPS
from rtun_core.errors import CommandRefused
from rtun_core.event import event_json
from rtun_core.events import AgentSwitchDone, ServiceListening


class Clock:
    """Monotonic seconds that run `speed` times as fast as they should."""

    def __init__(self, speed):
        self._speed = speed

    def __call__(self):
        return asyncio.get_running_loop().time() * self._speed


@pytest.fixture
async def play(world):
    """Starts services that play the world fast; they are stopped at the end."""
    services = []

    async def start(bus, **options):
        service = SimulatedService(world, bus, mono=Clock(200.0), **options)
        services.append(service)
        await service.start()
        return service

    yield start
    for service in services:
        await service.stop(drain=True)


async def test_it_plays_until_its_time_is_over(play, world):
    bus = EventBus()
    told = bus.subscribe(10_000)
    begun = world.now
    service = await play(bus, seconds=30.0)
    assert await asyncio.wait_for(service.wait(), 20) == "the simulation is over"
    assert 30.0 <= world.now - begun <= 30.0 + MOST_STEPS * 0.25
    events = [stamped.event for stamped in told.drain()]
    assert [type(event) for event in events[:6]] == [ServiceListening] * 6
    assert {json.loads(event_json(stamped))["type"] for stamped in bus.after(0)} > {
        "tunnel.up",
        "flow.opened",
    }
    assert service.counters() == world.counters()
    assert service.snapshot().service == service.name == "relay"
    assert len(service.snapshot(flows=False).flows) == 0


async def test_commands_take_their_time(play, world):
    bus = EventBus()
    told = bus.subscribe(10_000)
    service = await play(bus)
    assert service.handles(PinAgent())
    assert not service.handles(Quit())
    assert (await service.handle(PinAgent())).text == "pinned: no automatic switch"
    result = await asyncio.wait_for(service.handle(SwitchAgent(name="alpha")), 20)
    assert result.text.startswith("agent alpha in use")
    await asyncio.wait_for(told.get(), 5)
    with pytest.raises(CommandRefused, match="in use already"):
        await service.handle(SwitchAgent(name="alpha"))
    with pytest.raises(CommandRefused, match="it is stopping"):
        await asyncio.wait_for(service.handle(SwitchAgent(name="delta")), 20)


async def test_a_failure_ends_the_run(play, world, monkeypatch):
    def fail(seconds):
        raise ArithmeticError("no such number")

    service = await play(EventBus())
    monkeypatch.setattr(world, "advance", fail)
    with pytest.raises(ArithmeticError):
        await asyncio.wait_for(service.wait(), 20)


async def test_an_engine_runs_it(world):
    bus = EventBus()
    told = bus.subscribe(10_000)
    engine = Engine([SimulatedService(world, bus, mono=Clock(200.0))], bus)
    await engine.start()
    try:
        result = await asyncio.wait_for(engine.execute(SwitchAgent(name="alpha"), "ctl"), 20)
        assert result.data["flows"] > 0
        picture = engine.snapshot(fresh=True)
        assert picture.services == ("relay",)
        assert len(picture.flows) > 250
        engine.request_stop("enough")
        assert await engine.run_until_stopped() == 0
    finally:
        await engine.stop()
    assert any(isinstance(stamped.event, AgentSwitchDone) for stamped in told.drain())


async def test_its_past_fills_the_history_and_is_not_told(world):
    bus = EventBus()
    engine = Engine([SimulatedService(world, bus, past=120.0)], bus)
    opening = world.now
    await engine.start()
    try:
        assert world.now == opening
        history = engine.history
        assert len(history.down) == 120
        assert history.down.min() > 0
        assert abs(history.end - opening) <= 1
        assert sum(engine.snapshot(fresh=True).drops.values()) > 0
        engine.report_counters()
        types = {stamped.event.__struct_config__.tag for stamped in bus.after(0)}
        assert types <= {"engine.started", "service.listening", "console.attached"}
    finally:
        await engine.stop()


async def test_without_a_past_the_history_begins_empty(world):
    bus = EventBus()
    engine = Engine([SimulatedService(world, bus)], bus)
    await engine.start()
    assert len(engine.history.down) == 0
    await engine.stop()


def test_the_past_is_the_same_for_the_same_seed(make_world):
    services = [SimulatedService(make_world(), EventBus(), past=20.0) for _ in range(2)]
    first, second = [[picture.rates.down_bytes for picture in service.past()] for service in services]
    assert first == second
    assert len(first) == 20
