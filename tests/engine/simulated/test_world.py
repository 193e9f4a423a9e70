"""The simulated world as a whole: repeatable, and true to the relay whatever is asked of it."""

import itertools
from contextlib import suppress

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtun_core import commands as cmd
from rtun_core.engine.simulated.world import STEP, SimulatedWorld
from rtun_core.errors import CommandRefused, LocalProtocolError
from rtun_core.events import (
    AgentSwitchDone,
    AgentSwitchProbed,
    AgentSwitchStarted,
    FlowOpened,
    ServiceListening,
    TunnelClosed,
    TunnelDegraded,
    TunnelDraining,
    TunnelOpening,
    TunnelUp,
)
from rtun_core.flow_rows import FlowRows
from rtun_core.model import Rates, TunnelState
from tests.lazy import encode_lazy

START = 1_700_000_000.0


def told(world):
    """Everything that can be seen, as JSON."""
    picture = msgspec.json.encode(world.picture(), enc_hook=encode_lazy)
    return picture, msgspec.json.encode(world.take_events())


def tunnels(world):
    return {tunnel.id: tunnel for tunnel in world.picture(flows=False).tunnels}


# ---- the story ------------------------------------------------------------------------------------------


def test_same_seed_same_story(make_world):
    one, other = make_world(seed=7), make_world(seed=7)
    for _ in range(10):
        one.advance(60.0)
        for _ in range(240):
            other.advance(STEP)
        assert told(one) == told(other)


def test_another_seed_another_story(make_world):
    one, other = make_world(seed=1), make_world(seed=2)
    assert told(one) != told(other)


def test_the_opening_scene():
    world = SimulatedWorld(start=START)
    picture = world.picture()
    assert len(picture.flows) == 1284
    assert isinstance(picture.flows, FlowRows)
    assert [(agent.id, agent.state.value) for agent in picture.agents] == [
        ("beta/7f3c", "in use"),
        ("alpha/19d0", "ready"),
        ("gamma/c2aa", "ready"),
        ("delta/0b51", "expiring"),
        ("beta/6a90", "lost"),
    ]
    states = {name: tunnel.state.value for name, tunnel in tunnels(world).items() if tunnel.rule == "r1"}
    assert states == {"t3": "draining", "t4": "degraded", "t5": "up", "t6": "up", "t7": "opening"}
    assert 0.08 < tunnels(world)["t4"].rtt_ms / 1e3 < 0.11
    assert len({flow.target for flow in picture.flows}) == 6
    assert len({flow.source for flow in picture.flows}) == 1284
    assert any(flow.source.startswith("[2001:db8:") for flow in picture.flows)
    assert sum(flow.source.startswith("10.0.") for flow in picture.flows) > 1000


def test_few_flows_carry_most(make_world):
    world = make_world(flows=2000)
    world.advance(10.0)
    rates = sorted((flow.down_rate for flow in world.picture().flows), reverse=True)
    assert sum(rates[:100]) > 0.4 * sum(rates)
    assert rates.count(0.0) > 400
    assert 100e6 < 8 * sum(rates) < 700e6


def test_running_up_leads_to_the_same_scene():
    world = SimulatedWorld(start=START)
    pictures = list(world.run_up(300))
    assert world.now == START
    assert [picture.ts for picture in pictures] == [START - 299 + second for second in range(300)]
    assert all(len(picture.flows) == 0 for picture in pictures)
    states = {name: tunnel.state.value for name, tunnel in tunnels(world).items() if tunnel.rule == "r1"}
    assert states == {"t3": "draining", "t4": "degraded", "t5": "up", "t6": "up", "t7": "opening"}
    assert 20 < tunnels(world)["t3"].flows < 120
    events = world.take_events()
    assert [event.tunnel for event in events if isinstance(event, TunnelDegraded)] == ["t4"]
    assert [event.reason for event in events if isinstance(event, TunnelDraining)] == ["requested"]
    down = [picture.rates.down_bytes for picture in pictures]
    steps = [abs(after - before) for before, after in itertools.pairwise(down)]
    assert max(down) > 1.4 * min(down)
    assert sum(steps) / len(steps) < 0.06 * max(down)


def test_a_world_that_has_advanced_is_not_run_up(world):
    world.advance(STEP)
    with pytest.raises(LocalProtocolError, match="only before it advances"):
        next(world.run_up(10))


def test_what_follows_the_scene(world, check):
    world.advance(1800.0)
    kinds = {type(event).__name__ for event in world.take_events()}
    assert kinds >= {
        "AgentLost",
        "AgentSeen",
        "FlowClosed",
        "FlowMoved",
        "FlowOpened",
        "TunnelClosed",
        "TunnelDegraded",
        "TunnelDraining",
        "TunnelOpening",
        "TunnelReplaced",
        "TunnelUp",
    }
    assert 270 <= len(check(world).flows) <= 300


def test_the_agent_in_use_is_replaced_before_it_expires(make_world, check):
    world = make_world(flows=50)
    world.advance(2500.0)
    done = [event for event in world.take_events() if isinstance(event, AgentSwitchDone)]
    assert done[0].old == "beta/7f3c"
    assert check(world).rules[0].agent != "beta/7f3c"


def test_a_pinned_agent_that_expires_takes_its_tunnels_with_it(make_world, check):
    world = make_world(flows=50, agents=1)
    world.handle(cmd.PinAgent())
    world.advance(2461.0)
    world.take_events()
    world.advance(1.0)
    picture = check(world)
    assert picture.tunnels == ()
    assert {rule.state.value for rule in picture.rules} == {"waiting"}
    assert {flow.state.value for flow in picture.flows} == {"waiting"}
    assert picture.signal[0].state == "no agent"
    world.advance(600.0)
    assert check(world).tunnels


# ---- sizes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size",
    [
        {"flows": 0},
        {"flows": 1},
        {"agents": 0},
        {"agents": 1},
        {"agents": 9},
        {"tunnels": 2},
        {"tunnels": 12},
        {"rules": 1},
        {"rules": 14},
    ],
    ids=str,
)
def test_every_size(make_world, check, size):
    world = make_world(**size)
    check(world)
    world.advance(30.0)
    picture = check(world)
    assert len(picture.rules) == size.get("rules", 6)
    if size.get("agents", 5) > 1:
        assert len(picture.agents) == size.get("agents", 5)
    if not size.keys() & {"agents", "flows"}:
        first = [tunnel for tunnel in picture.tunnels if tunnel.rule == "r1"]
        assert len(first) >= size.get("tunnels", 5) - 1


@pytest.mark.parametrize("size", [{"flows": -1}, {"agents": -1}, {"tunnels": 1}, {"rules": 0}, {"seed": -1}])
def test_impossible_sizes(make_world, size):
    with pytest.raises(ValueError, match="accepted"):
        make_world(**size)


def test_rules_differ(make_world):
    rules = make_world(rules=20).picture(flows=False).rules
    assert len({rule.listen for rule in rules}) == len({rule.target for rule in rules}) == 20


def test_it_says_what_it_listens_on(world):
    events = world.listening()
    assert all(isinstance(event, ServiceListening) for event in events)
    assert events[0].text() == "relay r1 listening on 0.0.0.0:10443 -> 198.51.100.4:443"


# ---- time -----------------------------------------------------------------------------------------------


def test_time_goes_in_steps(world):
    world.advance(0.1)
    assert world.now == START
    world.advance(0.2)
    assert world.now == START + STEP
    world.advance(0.2)
    assert world.now == START + 2 * STEP


def test_counters_never_fall(world):
    before = None
    for _ in range(60):
        world.advance(10.0)
        picture = world.picture(flows=False)
        now = [*msgspec.structs.astuple(picture.traffic), *picture.drops.values()]
        now += [value for rule in picture.rules for value in msgspec.structs.astuple(rule.traffic)]
        if before is not None:
            assert all(one <= other for one, other in zip(before[:4], now, strict=False))
            assert all(one <= other for one, other in zip(before[-24:], now[-24:], strict=True))
        before = now
    assert world.counters() == (picture.drops, picture.faults)


def test_rates_add_up(world):
    world.advance(5.0)
    picture = world.picture()
    assert picture.rates.down_bytes == pytest.approx(sum(flow.down_rate for flow in picture.flows), rel=0.05)
    assert picture.rates.up_bytes == pytest.approx(sum(rule.rates.up_bytes for rule in picture.rules))
    for rule in picture.rules:
        mine = [tunnel.rates.down_packets for tunnel in picture.tunnels if tunnel.rule == rule.id]
        assert rule.rates.down_packets == pytest.approx(sum(mine))


# ---- commands -------------------------------------------------------------------------------------------


def test_a_switch_makes_before_it_breaks(world, check):
    world.advance(1.0)
    world.take_events()
    answer = world.begin(cmd.SwitchAgent(name="alpha"))
    carried = []
    while not answer.given:
        world.advance(STEP)
        carried.append(check(world).rates.down_bytes)
    assert min(carried) > 0
    assert answer.result().text.startswith("agent alpha in use, ")
    assert 2.0 < len(carried) * STEP < 10.0
    events = world.take_events()
    kinds = [type(event) for event in events]
    up = next(i for i, event in enumerate(events) if isinstance(event, TunnelUp) and event.source == "switch")
    order = [
        kinds.index(AgentSwitchStarted),
        next(i for i, event in enumerate(events) if getattr(event, "source", "") == "switch"),
        kinds.index(AgentSwitchProbed),
        up,
        kinds.index(AgentSwitchDone),
    ]
    assert order == sorted(order)
    assert answer.result().data["flows"] == events[order[-1]].flows
    world.advance(8.0)
    assert {tunnel.agent for tunnel in check(world).tunnels} == {"alpha/19d0"}


def test_events_of_a_tunnel_come_in_order(world):
    world.advance(1500.0)
    stages = {}
    for event in world.take_events():
        name = getattr(event, "tunnel", None)
        if isinstance(event, TunnelOpening):
            assert name not in stages
            stages[name] = "opening"
        elif isinstance(event, TunnelUp):
            assert stages.get(name, "opening") == "opening"
            stages[name] = "up"
        elif isinstance(event, TunnelDraining):
            assert stages.get(name, "up") == "up"
            stages[name] = "draining"
        elif isinstance(event, TunnelClosed):
            stages[name] = "closed"
        elif isinstance(event, FlowOpened):
            assert stages.get(event.tunnel, "up") == "up"
    there = tunnels(world)
    for name, stage in stages.items():
        assert (stage == "closed") == (name not in there)


names = st.sampled_from(["alpha", "beta", "gamma", "delta", "nobody"])
tunnel_names = st.integers(1, 16).map(lambda number: f"t{number}")
rule_names = st.sampled_from(["r1", "r2", "r6", "r9"])
flow_names = st.lists(
    st.one_of(
        st.integers(0, 300).map(lambda n: f"{0x00A1EE00 + n:08x}"), st.sampled_from(["@all", "nonsense"])
    ),
    min_size=1,
    max_size=4,
).map(tuple)
requests = st.one_of(
    st.builds(cmd.SwitchAgent, name=names),
    st.builds(cmd.ProbeAgent, name=names),
    st.just(cmd.PinAgent()),
    st.just(cmd.UnpinAgent()),
    st.builds(cmd.OpenTunnel, rule=st.one_of(st.none(), rule_names)),
    st.builds(cmd.DrainTunnel, tunnel=tunnel_names),
    st.builds(cmd.CloseTunnel, tunnel=tunnel_names),
    st.builds(cmd.RecycleTunnel, tunnel=tunnel_names),
    st.builds(cmd.PreferTunnel, tunnel=st.one_of(tunnel_names, st.just("none"))),
    st.builds(cmd.SetLimits, min=st.integers(0, 5), max=st.integers(1, 5), rule=st.none() | rule_names),
    st.builds(cmd.MoveFlow, flows=flow_names, to=st.none() | tunnel_names),
    st.builds(cmd.CloseFlow, flows=flow_names),
    st.builds(cmd.PauseRule, rule=rule_names),
    st.builds(cmd.ResumeRule, rule=rule_names),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000),
    story=st.lists(st.tuples(requests, st.sampled_from([0.0, 0.25, 1.0, 7.0])), max_size=14),
)
def test_whatever_is_asked_the_picture_is_sound(check, seed, story):
    world = SimulatedWorld(seed=seed, flows=80, start=START)
    before = check(world)
    gone = set()
    for command, seconds in story:
        with suppress(CommandRefused):
            world.begin(command)
        world.advance(seconds)
        picture = check(world)
        for event in world.take_events():
            if isinstance(event, TunnelClosed):
                gone.add(event.tunnel)
        assert not gone & {tunnel.id for tunnel in picture.tunnels}
        counters = zip(*map(msgspec.structs.astuple, (before.traffic, picture.traffic)), strict=True)
        assert all(one <= other for one, other in counters)
        before = picture


def test_a_picture_does_not_change(world):
    picture = world.picture()
    before = msgspec.json.encode(picture, enc_hook=encode_lazy)
    world.handle(cmd.CloseFlow(flows=tuple(flow.id for flow in picture.flows[:50])))
    world.advance(5.0)
    assert msgspec.json.encode(picture, enc_hook=encode_lazy) == before


def test_without_flows(world):
    picture = world.picture(flows=False)
    assert len(picture.flows) == 0
    assert sum(tunnel.flows for tunnel in picture.tunnels) == 300
    assert picture.rates == Rates()
    assert any(tunnel.state is TunnelState.OPENING for tunnel in picture.tunnels)
