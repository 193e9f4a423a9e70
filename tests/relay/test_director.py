"""Which agent is in use: a whole relay with a real server and agents that come, go, refuse and expire."""

import asyncio
import re

import psutil
import pytest

from rtun_core.errors import CommandRefused, SignalingError
from rtun_core.events import (
    AgentExpiring,
    AgentLost,
    AgentSeen,
    AgentSelected,
    AgentSwitchDone,
    AgentSwitchFailed,
    AgentSwitchProbed,
    AgentSwitchStarted,
    FlowMoved,
    SignalConnected,
    SignalLost,
    TunnelClosed,
    TunnelUp,
)
from rtun_core.relay import agent_choice, agent_link
from rtun_core.wire.control import error_p2p
from rtun_core.wire.relay_rule import RelayRule
from tests.relay.world import LOCAL, until


def in_use(relay):
    """The name of the agent in use that gives a tunnel, or None."""
    link = relay.director.link
    up = link is not None and any(rule.pool.usable() for rule in relay.rules)
    return link.entry.name if up else None


async def uses(relay, name):
    await until(lambda: in_use(relay) == name, f"agent {name} in use")


async def looks(relay, more):
    """Let the director look at the registry so many times again."""
    enough = relay.director.looks + more
    await until(lambda: relay.director.looks > enough)


# ---- finding an agent -----------------------------------------------------------------------------------


async def test_an_agent_that_appears_later_is_taken(stage):
    relay = await stage.relay()
    await until(lambda: relay.rules[0].pool.reason == "no agent that matches is registered")
    assert not relay.director.signal_connected
    agent = await stage.agent("alpha")
    client = stage.client(relay)
    assert await client.ask(b"hello") == b"hello"
    assert in_use(relay) == "alpha"
    (seen,) = stage.events.of(AgentSeen)
    (selected,) = stage.events.of(AgentSelected)
    assert seen.agent == selected.agent == relay.director.link.id
    assert selected.expires_at is None
    assert [event.agent for event in stage.events.of(SignalConnected)] == [selected.agent]
    assert agent.asked


async def test_only_agents_that_match_are_used(stage):
    await stage.agent("alpha")
    relay = await stage.relay(agent=re.compile("^b"))
    await until(lambda: relay.rules[0].pool.reason == "no agent that matches is registered")
    await stage.agent("beta", expire_in=3600)
    await uses(relay, "beta")
    assert [event.agent.split("/")[0] for event in stage.events.of(AgentSeen)] == ["beta"]
    assert stage.events.of(AgentSelected)[0].expires_at is not None


async def test_the_server_may_come_later(stage):
    await stage.server.stop(drain=False)
    relay = await stage.relay()
    await until(lambda: stage.events.of(SignalLost))
    assert relay.director.signal_reason
    await stage.start_server()
    await stage.agent("alpha")
    await uses(relay, "alpha")
    assert relay.director.signal_reason == ""
    assert len(stage.events.of(SignalLost)) == 1


# ---- signalling is lost ---------------------------------------------------------------------------------


async def test_the_data_plane_outlives_the_session_which_comes_back_to_the_same_agent(stage):
    await stage.agent("alpha")
    relay = await stage.relay()
    client = stage.client(relay)
    await client.ask(b"before")
    link = relay.director.link
    link._session.end("cut by the test")
    await until(lambda: stage.events.of(SignalLost))
    assert [event.reason for event in stage.events.of(SignalLost)] == ["cut by the test"]
    assert await client.ask(b"meanwhile") == b"meanwhile"
    await until(lambda: len(stage.events.of(SignalConnected)) == 2)
    assert relay.director.link is link
    assert stage.events.of(TunnelClosed, AgentLost) == []
    assert len(stage.events.of(AgentSelected)) == 1


async def test_behind_live_tunnels_it_comes_back_to_an_agent_registered_anew(stage):
    agent = await stage.agent("alpha")
    relay = await stage.relay()
    client = stage.client(relay)
    await client.ask(b"before")
    link, before = relay.director.link, relay.director.link.id
    await stage.server.stop(drain=False)
    await until(lambda: not link.connected)
    assert await client.ask(b"no server") == b"no server"
    await stage.start_server()
    await until(lambda: stage.events.of(AgentLost))
    assert await client.ask(b"no agent") == b"no agent"
    assert relay.director.link is link
    await stage.publish("alpha", agent)
    await until(lambda: link.connected)
    assert link.id != before
    assert await client.ask(b"after") == b"after"
    assert stage.events.of(TunnelClosed) == []
    assert [event.reason for event in stage.events.of(AgentLost)] == ["no longer registered"]
    assert relay.director.policy.current == link.entry


async def test_an_agent_that_is_gone_is_told_once_and_another_is_taken(stage):
    alpha = await stage.agent("alpha")
    relay = await stage.relay()
    client = stage.client(relay)
    await client.ask(b"one")
    gone = relay.director.link.id
    await stage.withdraw("alpha")
    await until(lambda: stage.events.of(AgentLost))
    assert await client.ask(b"two") == b"two"
    assert relay.director.link.id == gone
    await stage.agent("beta")
    alpha.close_tunnels()

    def moved():
        client.send(b"knock")
        return in_use(relay) == "beta"

    await until(moved)
    assert [(event.agent, event.reason) for event in stage.events.of(AgentLost)] == [
        (gone, "no longer registered")
    ]


# ---- agents that do not work ----------------------------------------------------------------------------


async def test_an_agent_that_gives_no_tunnel_is_given_up_and_blocked(stage):
    bad = await stage.agent("bad", refusal="no room")
    await stage.agent("good", expire_in=3600)
    relay = await stage.relay()
    await uses(relay, "good")
    (lost,) = stage.events.of(AgentLost)
    assert lost.agent.startswith("bad/")
    assert "no room" in lost.reason
    assert len(bad.asked) >= 2
    blocked = relay.director.policy._blocked
    assert list(blocked) == [lost.agent]
    assert relay.director.policy.choose(0).name == "good"


async def test_when_all_are_blocked_they_are_tried_again(stage):
    bad = await stage.agent("bad", refusal="no room")
    relay = await stage.relay()
    await until(lambda: len(stage.events.of(AgentLost)) == 2)
    bad.refusal = None
    await uses(relay, "bad")
    await until(lambda: not relay.director.policy._blocked)


async def test_an_agent_that_cannot_be_attached_to_is_left_for_another(stage, monkeypatch):
    await stage.agent("alpha")
    await stage.agent("beta", expire_in=3600)
    refuse_attaching(monkeypatch, "alpha")
    relay = await stage.relay()
    await uses(relay, "beta")
    assert [event.reason for event in stage.events.of(SignalLost)] == ["not today"]


def refuse_attaching(monkeypatch, name):
    """Attaching to this agent fails from now on."""
    open_sub = agent_link.open_sub

    async def refuse(endpoint, *, agent, instance):
        if agent == name:
            raise SignalingError("not today")
        return await open_sub(endpoint, agent=agent, instance=instance)

    monkeypatch.setattr(agent_link, "open_sub", refuse)


async def test_an_agent_that_cannot_be_attached_to_again_is_kept_while_its_tunnels_live(stage, monkeypatch):
    alpha = await stage.agent("alpha")
    await stage.agent("beta", expire_in=3600)
    relay = await stage.relay()
    client = stage.client(relay)
    await client.ask(b"before")
    refuse_attaching(monkeypatch, "alpha")
    relay.director.link._session.end("cut")
    await until(lambda: stage.events.of(SignalLost))
    await looks(relay, 3)
    assert await client.ask(b"go on") == b"go on"
    assert in_use(relay) == "alpha"
    alpha.close_tunnels()

    def moved():
        client.send(b"knock")
        return in_use(relay) == "beta"

    await until(moved)
    (lost,) = stage.events.of(AgentLost)
    assert (lost.agent.split("/")[0], lost.reason) == ("alpha", "not today")


async def test_a_rule_on_demand_that_has_nothing_to_do_is_looked_after_calmly(stage):
    await stage.agent("alpha")
    relay = await stage.relay(min_channels=0)
    await until(lambda: relay.director.signal_connected)
    await looks(relay, 2)
    assert relay.director._seeking == 0


# ---- switching by itself --------------------------------------------------------------------------------


async def test_before_it_expires_an_agent_is_replaced_by_a_later_one(stage):
    await stage.agent("soon", expire_in=300)
    relay = await stage.relay()
    client = stage.client(relay)
    await client.ask(b"before")
    (expiring,) = await until(lambda: stage.events.of(AgentExpiring))
    assert expiring.agent.startswith("soon/")
    assert 0 < expiring.seconds_left <= 300
    await stage.agent("hardly later", expire_in=300 + agent_choice.WORTHWHILE_MS / 1e3 - 5)
    await until(lambda: len(relay.director.policy.known) == 2)
    await stage.agent("later", expire_in=400)
    await uses(relay, "later")
    (done,) = await until(lambda: stage.events.of(AgentSwitchDone))
    assert (done.old, done.flows) == (expiring.agent, 1)
    assert [event.reason for event in stage.events.of(AgentSwitchStarted)] == [
        "the agent in use expires soon"
    ]
    assert await client.ask(b"after") == b"after"
    assert len(stage.events.of(AgentExpiring)) <= 2  # the later one is in its last minutes as well
    assert len(stage.events.of(AgentSelected)) == 2


async def test_a_replacement_that_gives_no_tunnel_is_blocked(stage):
    await stage.agent("soon", expire_in=300)
    relay = await stage.relay()
    await uses(relay, "soon")
    bad = await stage.agent("later", expire_in=3600, refusal="no room")
    await until(lambda: stage.events.of(AgentSwitchFailed))
    await until(lambda: relay.director.policy._blocked)
    await looks(relay, 3)
    assert len(bad.asked) == 1
    assert in_use(relay) == "soon"


async def test_a_pinned_agent_is_not_replaced(stage):
    await stage.agent("soon", expire_in=300)
    relay = await stage.relay()
    await uses(relay, "soon")
    relay.director.policy.pinned = True
    await stage.agent("later", expire_in=3600)
    await until(lambda: len(relay.director.policy.known) == 2)
    await looks(relay, 3)
    assert in_use(relay) == "soon"
    relay.director.policy.pinned = False
    await uses(relay, "later")


# ---- switching on request -------------------------------------------------------------------------------


@pytest.fixture
async def pair(stage):
    """A relay with two rules that uses alpha; beta is there too."""
    await stage.agent("alpha")
    await stage.agent("beta", expire_in=3600)
    rule = RelayRule(LOCAL, stage.echo.address)
    relay = await stage.relay(rules=(rule, rule))
    await until(lambda: all(rule.pool.usable() for rule in relay.rules))
    await until(lambda: len(relay.director.policy.known) == 2)
    return relay


async def switch(relay, name, *, force=False):
    return await relay.director.switch(relay.director.find(name, None), force=force)


async def closes_all_but(agent, descriptors):
    """Close the agent's tunnels, also one that comes up only now, until that many descriptors are left."""

    def closed():
        agent.close_tunnels()
        return psutil.Process().num_fds() <= descriptors

    await until(closed, f"at most {descriptors} descriptors")


def tunnels(relay):
    return [channel.id for rule in relay.rules for channel in rule.pool.channels.values()]


async def test_a_switch_moves_every_flow_of_every_rule(stage, pair):
    clients = [stage.client(pair, rule) for rule in (0, 0, 1)]
    for client in clients:
        await client.ask(b"before")
    old = pair.director.link.id
    assert await switch(pair, "beta") == 3
    assert in_use(pair) == "beta"
    (started,) = stage.events.of(AgentSwitchStarted)
    (done,) = stage.events.of(AgentSwitchDone)
    (probed,) = stage.events.of(AgentSwitchProbed)
    new = pair.director.link.id
    assert (started.old, started.new, started.reason) == (old, new, "requested")
    assert (done.old, done.new, done.flows) == (old, new, 3)
    assert probed.new == new
    assert pair.director.probes[new][0] == pytest.approx(probed.rtt_ms / 1e3)
    assert sum(event.count for event in stage.events.of(FlowMoved)) == 3
    for client in clients:
        assert await client.ask(b"after") == b"after"
    assert pair.director.switching is None
    with pytest.raises(CommandRefused, match="in use already"):
        await switch(pair, "beta")


async def test_a_target_that_gives_nothing_leaves_everything_as_it_was(stage, pair):
    client = stage.client(pair)
    await client.ask(b"before")
    stage.published["beta"].agent.refusal = "no room"
    before, descriptors, tasks = tunnels(pair), psutil.Process().num_fds(), len(asyncio.all_tasks())
    link = pair.director.link
    for _ in range(3):
        with pytest.raises(CommandRefused, match="no room"):
            await switch(pair, "beta")
    assert pair.director.link is link
    assert link.connected
    assert tunnels(pair) == before
    assert pair.director.switching is None
    await until(lambda: psutil.Process().num_fds() <= descriptors)
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    assert [event.new.split("/")[0] for event in stage.events.of(AgentSwitchFailed)] == ["beta"] * 3
    assert pair.rules[0].pool.reason == ""
    assert await client.ask(b"after") == b"after"


async def test_all_rules_or_none(stage, pair):
    beta = stage.published["beta"].agent
    beta.handle = refuse_the_second(beta)
    before = tunnels(pair)
    with pytest.raises(CommandRefused, match="only one"):
        await switch(pair, "beta")
    assert tunnels(pair) == before
    assert [event.reason for event in stage.events.of(TunnelClosed) if event.opened] == [
        "agent switch failed"
    ]


async def test_by_force_a_rule_may_be_left_without(stage, pair):
    beta = stage.published["beta"].agent
    beta.handle = refuse_the_second(beta)
    await switch(pair, "beta", force=True)
    assert in_use(pair) == "beta"
    del beta.handle
    await until(lambda: all(rule.pool.usable() for rule in pair.rules))


def refuse_the_second(agent):
    """An agent's answers with one channel allowed."""
    handle = type(agent).handle
    seen = []

    async def answer(request):
        seen.append(request)
        return await handle(agent, request) if len(seen) == 1 else error_p2p("only one")

    return answer


async def test_a_second_switch_meanwhile_is_refused(stage, pair):
    await stage.agent("gamma")
    await until(lambda: len(pair.director.policy.known) == 3)
    beta = stage.published["beta"].agent
    beta.gate.clear()
    first = asyncio.get_running_loop().create_task(switch(pair, "beta"))
    await until(lambda: beta.asked)
    assert pair.director.switching.startswith("beta/")
    with pytest.raises(CommandRefused, match="another agent switch is under way"):
        await switch(pair, "gamma")
    beta.gate.set()
    await first
    assert in_use(pair) == "beta"


async def test_a_switch_that_is_cancelled_leaves_nothing(stage, pair):
    before, descriptors = tunnels(pair), psutil.Process().num_fds()
    beta = stage.published["beta"].agent
    handle = type(beta).handle
    late = asyncio.Event()

    async def half(request):
        if beta.asked:
            await late.wait()
            return error_p2p("too late")  # a channel would keep a socket for its 10 s of ICE checks
        return await handle(beta, request)

    beta.handle = half
    attempt = asyncio.get_running_loop().create_task(switch(pair, "beta"))
    await until(lambda: len(tunnels(pair)) == len(before) + 1)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    late.set()
    assert tunnels(pair) == before
    assert pair.director.switching is None
    assert [event.reason for event in stage.events.of(AgentSwitchFailed)] == ["no longer wanted"]
    del beta.handle
    await closes_all_but(beta, descriptors)
    assert await switch(pair, "beta") == 0


async def test_a_bug_in_a_switch_is_not_hidden(pair, monkeypatch):
    before = tunnels(pair)

    async def broken(link, source, *, timeout):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(pair.rules[1].pool, "open", broken)
    with pytest.raises(ZeroDivisionError):
        await switch(pair, "beta", force=True)
    assert tunnels(pair) == before


async def test_a_name_that_is_not_registered(pair):
    with pytest.raises(CommandRefused, match=r"agent delta is not registered.*known: alpha, beta"):
        pair.director.find("delta", None)
    with pytest.raises(CommandRefused, match="agent beta/nobody is not registered"):
        pair.director.find("beta", "nobody")
    entry = pair.director.find("beta", None)
    assert pair.director.find("beta", entry.instance_id) == entry


async def test_a_switch_waits_while_the_first_agent_is_being_taken(stage, monkeypatch):
    await stage.agent("alpha")
    await stage.agent("beta", expire_in=3600)
    open_sub, gate = agent_link.open_sub, asyncio.Event()

    async def slowly(endpoint, *, agent, instance):
        await gate.wait()
        return await open_sub(endpoint, agent=agent, instance=instance)

    monkeypatch.setattr(agent_link, "open_sub", slowly)
    relay = await stage.relay()
    await until(lambda: len(relay.director.policy.known) == 2 and relay.director._lock.locked())
    request = asyncio.get_running_loop().create_task(switch(relay, "beta"))
    await asyncio.sleep(0)
    gate.set()
    await request
    assert in_use(relay) == "beta"


# ---- probing --------------------------------------------------------------------------------------------


async def test_a_probe_measures_and_leaves_nothing_behind(stage, pair):
    before, descriptors = tunnels(pair), psutil.Process().num_fds()
    ups = len(stage.events.of(TunnelUp))
    beta = pair.director.find("beta", None)
    rtt = await pair.director.probe(beta)
    assert 0 < rtt < 5
    assert pair.director.probes[agent_choice.entry_id(beta)][0] == rtt
    assert tunnels(pair) == before
    assert in_use(pair) == "alpha"
    assert len(stage.events.of(TunnelUp)) == ups
    await closes_all_but(stage.published["beta"].agent, descriptors)


async def test_a_probe_that_fails_is_no_fault_of_the_agent_in_use(stage, pair):
    stage.published["beta"].agent.refusal = "no room"
    with pytest.raises(SignalingError, match="no room"):
        await pair.director.probe(pair.director.find("beta", None))
    assert pair.director.probes == {}
    assert pair.rules[0].pool.reason == ""
    assert pair.rules[0].pool.failures == 0


async def test_what_was_measured_of_an_agent_goes_with_it(stage, pair):
    await pair.director.probe(pair.director.find("beta", None))
    await stage.withdraw("beta")
    await until(lambda: pair.director.probes == {})
