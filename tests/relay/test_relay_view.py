"""The relay's picture: what it says of live objects, and that it has a JSON form."""

import time

import msgspec
import pytest

from rtun_core.commands import PauseRule, PinAgent, ProbeAgent, SwitchAgent
from rtun_core.flow_rows import FlowRows
from rtun_core.model import (
    AgentState,
    FlowState,
    RuleState,
    ServiceSnapshot,
    TunnelState,
)
from rtun_core.relay.agent_choice import entry_id
from rtun_core.relay.channel import Stage
from rtun_core.relay.health import Grade
from rtun_core.wire.relay_rule import RelayRule
from tests.lazy import encode_lazy
from tests.relay.world import LOCAL, until


def decoded(snapshot):
    """The snapshot after a trip through JSON."""
    data = msgspec.json.encode(snapshot, enc_hook=encode_lazy)
    return msgspec.json.decode(data, type=ServiceSnapshot)


@pytest.fixture
async def relay(stage):
    await stage.agent("alpha")
    await stage.agent("beta", expire_in=300)
    rule = RelayRule(LOCAL, stage.echo.address)
    relay = await stage.relay(rules=(rule, rule), max_channels=2)
    await until(lambda: all(rule.pool.usable() for rule in relay.rules))
    await until(lambda: len(relay.director.policy.known) == 2)
    return relay


async def test_before_anything_happened(stage):
    await stage.server.stop(drain=False)
    relay = await stage.relay()
    snapshot = relay.snapshot()
    assert snapshot.service == "relay"
    assert snapshot.signal[0].state == "connecting"
    assert (snapshot.agents, snapshot.tunnels, list(snapshot.flows)) == ((), (), [])
    (rule,) = snapshot.rules
    assert (rule.id, rule.family, rule.state, rule.agent) == ("r1", "relay", RuleState.WAITING, None)
    assert rule.listen == str(relay.rules[0].port.local)
    assert not rule.listen.endswith(":0")
    assert (rule.tunnels_up, rule.tunnels_min, rule.tunnels_max, rule.drops) == (0, 1, 1, {})
    await until(lambda: relay.snapshot().signal[0].state == "lost")
    assert relay.snapshot().signal[0].reason
    assert decoded(relay.snapshot()).rules == relay.snapshot().rules


async def test_a_live_relay(stage, relay):
    one, two = stage.client(relay), stage.client(relay, 1)
    for client in (one, one, two):
        await client.ask(b"12345")
    snapshot = relay.snapshot()
    assert snapshot.signal[0].state == "connected"
    assert [rule.state for rule in snapshot.rules] == [RuleState.ACTIVE] * 2
    assert [rule.flows for rule in snapshot.rules] == [1, 1]
    assert (snapshot.traffic.up_packets, snapshot.traffic.down_bytes) == (3, 15)
    assert snapshot.rules[0].traffic.up_bytes == 10
    assert snapshot.rules[0].agent == relay.director.link.id
    assert isinstance(snapshot.flows, FlowRows)
    first, second = snapshot.flows
    assert (first.rule, second.rule) == ("r1", "r2")
    assert first.source == str(one.address)
    assert first.target == str(stage.echo.address)
    assert (first.up_packets, first.down_packets, first.state) == (2, 2, FlowState.ACTIVE)
    tunnel = next(each for each in snapshot.tunnels if each.id == first.tunnel)
    assert (tunnel.rule, tunnel.agent, tunnel.kind) == ("r1", relay.director.link.id, "p2p")
    assert (tunnel.state, tunnel.codec, tunnel.reason) == (TunnelState.UP, "obfs-v2", "")
    assert tunnel.rtt_ms > 0
    assert tunnel.expires_at > tunnel.opened_at
    assert tunnel.traffic.up_packets >= 2
    assert tunnel.local.startswith("127.0.0.1:")
    again = decoded(snapshot)
    assert again.rules == snapshot.rules
    assert again.agents == snapshot.agents
    assert [flow.id for flow in again.flows] == [first.id, second.id]


async def test_agents(stage, relay):
    await relay.handle(PinAgent())
    await relay.handle(ProbeAgent(name="beta"))
    alpha, beta = relay.snapshot().agents
    assert (alpha.name, alpha.state, alpha.pinned) == ("alpha", AgentState.IN_USE, True)
    assert (alpha.expires_at, alpha.rtt_ms, alpha.version) == (None, None, "0.1.0.py")
    assert alpha.tunnels == 2
    assert alpha.id == f"alpha/{alpha.instance}"
    assert (beta.name, beta.state, beta.pinned, beta.tunnels) == ("beta", AgentState.EXPIRING, False, 0)
    assert beta.rtt_ms > 0
    assert beta.probed_at > beta.expires_at - 400
    await stage.agent("gamma", expire_in=3600)
    await until(lambda: len(relay.snapshot().agents) == 3)
    assert {each.name: each.state for each in relay.snapshot().agents}["gamma"] is AgentState.READY


async def test_an_agent_in_use_that_is_no_longer_registered_is_still_shown(stage, relay):
    await stage.withdraw("alpha")
    await until(lambda: relay.director.policy.find("alpha") is None)
    states = {each.name: each.state for each in relay.snapshot().agents}
    assert states["alpha"] is AgentState.LOST


async def test_a_target_of_a_switch_is_probing(stage, relay):
    relay.director.switching = entry_id(relay.director.find("beta", None))
    states = {each.name: each.state for each in relay.snapshot().agents}
    assert states == {"alpha": AgentState.IN_USE, "beta": AgentState.PROBING}


async def test_tunnel_states(relay):
    (channel,) = relay.rules[0].pool.usable()

    def view():
        return next(each for each in relay.snapshot().tunnels if each.id == channel.id)

    channel.preferred = True
    assert view().preferred
    channel.health.grade, channel.health.reason = Grade.DEGRADED, "loss 9.0%"
    assert (view().state, view().reason) == (TunnelState.DEGRADED, "loss 9.0%")
    channel.stage = Stage.DRAINING
    assert view().state is TunnelState.DRAINING
    channel.stage = Stage.PREPARED
    assert view().state is TunnelState.OPENING


async def test_tunnels_of_a_former_agent_are_draining(relay):
    before = {each.id for each in relay.snapshot().tunnels}
    await relay.handle(SwitchAgent(name="beta"))
    states = {each.id: each.state for each in relay.snapshot().tunnels}
    assert {states[each] for each in before} == {TunnelState.DRAINING}
    assert relay.snapshot().rules[0].tunnels_up == 1


async def test_paused_and_waiting(stage, relay):
    await relay.handle(PauseRule(rule="r1"))
    client = stage.client(relay)
    client.send(b"dropped")
    await until(lambda: relay.snapshot().drops == {"paused": 1})
    rule = relay.snapshot().rules[0]
    assert (rule.state, rule.drops) == (RuleState.PAUSED, {"paused": 1})
    other = stage.client(relay, 1)
    await other.ask(b"hello")
    for published in stage.published.values():
        published.agent.gate.clear()
    for channel in list(relay.rules[1].pool.channels.values()):
        relay.rules[1].pool.remove(channel, "the test says so")
    snapshot = relay.snapshot()
    assert snapshot.rules[1].state is RuleState.WAITING
    (flow,) = snapshot.flows
    assert (flow.state, flow.tunnel) == (FlowState.WAITING, None)
    for published in stage.published.values():
        published.agent.gate.set()


async def test_drops_and_faults_of_channels_that_are_gone_still_count(relay):
    pool = relay.rules[0].pool
    (channel,) = pool.usable()
    channel.frames.drop("oversize", 2)
    channel.frames.faults["unsolicited"] += 1
    counted = ({"oversize": 2}, {"unsolicited": 1})
    assert relay.counters() == counted
    pool.remove(channel, "the test says so")
    assert relay.counters() == counted
    snapshot = relay.snapshot()
    assert (snapshot.drops, snapshot.faults) == ({"oversize": 2}, {"unsolicited": 1})
    assert snapshot.rules[0].drops == {"oversize": 2}


async def test_flows_have_rates_once_a_second_has_passed(stage, relay):
    client = stage.client(relay)
    await client.ask(b"12345")
    now = time.monotonic()
    relay.rules[0].tick(now + 1)
    await client.ask(b"1234567890")
    relay.rules[0].tick(now + 3)
    (flow,) = relay.snapshot().flows
    assert (flow.up_rate, flow.down_rate) == (5.0, 5.0)
