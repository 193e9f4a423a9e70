"""Every command of the relay, done and refused, on a relay with two rules and two agents."""

import pytest

from rtun_core import commands as cmd
from rtun_core.commands import parse_command
from rtun_core.errors import CommandRefused
from rtun_core.events import FlowMoved, TunnelClosed, TunnelReplaced, TunnelUp
from rtun_core.model import RuleState
from rtun_core.relay import pool as pool_module
from rtun_core.relay.command_handler import HANDLED
from rtun_core.wire.relay_rule import RelayRule
from tests.relay.world import LOCAL, until


@pytest.fixture
async def relay(stage):
    """Rules r1 and r2 with up to three tunnels each, t1 and t2 up, and agents alpha (in use) and beta."""
    await stage.agent("alpha")
    await stage.agent("beta", expire_in=3600)
    rule = RelayRule(LOCAL, stage.echo.address)
    relay = await stage.relay(rules=(rule, rule), max_channels=3)
    await until(lambda: all(rule.pool.usable() for rule in relay.rules))
    await until(lambda: len(relay.director.policy.known) == 2)
    return relay


@pytest.fixture
def do(relay):
    """Carry out a command line; returns the text of the answer."""

    async def call(line):
        return (await relay.handle(parse_command(line))).text

    return call


@pytest.fixture
def refuse(do):
    """Carry out a command line that must be refused; returns the sentence."""

    async def call(line):
        with pytest.raises(CommandRefused) as caught:
            await do(line)
        return str(caught.value)

    return call


@pytest.fixture
def alone(monkeypatch):
    """Pools open no tunnel for want of flows: the number there is stays as commands make it."""
    monkeypatch.setattr(
        pool_module.PoolPolicy, "wanted", lambda policy, flows: min(policy.max, policy.min + policy.extra)
    )
    monkeypatch.setattr(pool_module, "IDLE_GRACE", 0.0)


def names(relay, rule=0):
    """The tunnels of a rule that take flows."""
    return [each.id for each in relay.rules[rule].pool.usable() if not each.draining]


async def flows(stage, relay, count, rule=0):
    """Clients whose flows are open."""
    clients = [stage.client(relay, rule) for _ in range(count)]
    for client in clients:
        await client.ask(b"open")
    return clients


def ids(relay, rule=0):
    table = relay.rules[rule].table
    return [f"{each:08x}" for each in table.ids[table.rows()].tolist()]


def test_every_command_but_those_of_the_engine_is_for_the_relay():
    own = {cmd.Quit, cmd.StartRecording, cmd.StopRecording}  # of the engine itself
    assert set(HANDLED) == set(cmd.COMMANDS) - own


async def test_what_is_not_for_the_relay(relay):
    assert not relay.handles(cmd.Quit())
    with pytest.raises(CommandRefused, match="quit is not for the relay"):
        await relay.handle(cmd.Quit())


# ---- agents ---------------------------------------------------------------------------------------------


async def test_agent_use(stage, relay, do, refuse):
    await flows(stage, relay, 2)
    assert await do("agent use beta") == "agent beta in use, 2 flows moved"
    assert relay.director.link.entry.name == "beta"
    assert "is in use already" in await refuse("agent use beta")
    assert "agent delta is not registered" in await refuse("agent use delta")
    assert "alpha/xyz is not registered" in await refuse("agent use alpha --instance xyz")


async def test_agent_use_of_one_that_gives_nothing(stage, relay, refuse):
    stage.published["beta"].agent.refusal = "no room"
    assert "refused the channel" in await refuse("agent use beta")
    assert "refused the channel" in await refuse("agent use beta --force")
    assert relay.director.link.entry.name == "alpha"


async def test_agent_probe(stage, relay, do, refuse):
    result = await relay.handle(cmd.ProbeAgent(name="beta"))
    assert result.text.startswith("agent beta answers in ")
    assert result.data["rtt_ms"] > 0
    stage.published["beta"].agent.refusal = "no room"
    text = await refuse("agent probe beta")
    assert text.startswith("the probe of beta failed: ")
    assert "no room" in text
    assert "not registered" in await refuse("agent probe delta")


async def test_agent_pin_and_unpin(relay, do):
    assert await do("agent pin") == "pinned: no automatic switch"
    assert relay.director.policy.pinned
    assert await do("agent unpin") == "automatic switches are allowed"
    assert not relay.director.policy.pinned


async def test_without_an_agent(stage):
    relay = await stage.relay()
    with pytest.raises(CommandRefused, match="no agent is in use that could be pinned"):
        await relay.handle(cmd.PinAgent())
    with pytest.raises(CommandRefused, match="known: none"):
        await relay.handle(cmd.SwitchAgent(name="alpha"))
    with pytest.raises(CommandRefused, match="no signalling session to open a tunnel with"):
        await relay.handle(cmd.OpenTunnel())
    assert (await relay.handle(cmd.UnpinAgent())).text


# ---- tunnels --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("alone")
async def test_a_tunnel_that_was_asked_for_stays_until_one_is_closed_on_request(relay, do):
    assert await do("tunnel open --rule r1") == "opening a tunnel for r1"
    await until(lambda: len(names(relay)) == 2)
    assert len(names(relay, 1)) == 1
    relay.rules[0].step(0.0)
    assert len(names(relay)) == 2
    first = names(relay)[0]
    assert await do(f"tunnel close {first}") == f"tunnel {first} closed"
    assert len(names(relay)) == 1
    assert relay.rules[0].pool.policy.attempt is None


@pytest.mark.usefixtures("alone")
async def test_a_tunnel_that_was_asked_for_can_be_drained_again(relay, do):
    await do("tunnel open --rule r1")
    await until(lambda: len(names(relay)) == 2)
    extra = names(relay)[1]
    assert await do(f"tunnel drain {extra}") == f"tunnel {extra} draining, 0 flows left"
    assert extra in relay.rules[0].pool.channels, "answers may be under way"
    await until(lambda: extra not in relay.rules[0].pool.channels)
    assert relay.rules[0].pool.policy.extra == 0
    assert relay.rules[0].pool.policy.attempt is None


@pytest.mark.usefixtures("alone")
async def test_each_request_is_one_tunnel_up_to_the_limit(relay, do, refuse):
    await do("tunnel open --rule r1")
    await do("tunnel open --rule r1")
    await until(lambda: len(names(relay)) == 3)
    assert await refuse("tunnel open --rule r1") == "rule r1 has its 3 tunnels; see tunnel limits --max"
    assert await refuse("tunnel open") == "rule r1 has its 3 tunnels; see tunnel limits --max"
    assert relay.rules[1].pool.policy.extra == 0, "a refused command does nothing at all"
    assert await refuse("tunnel open --rule r9") == "there is no rule r9; known: r1, r2"


@pytest.mark.usefixtures("alone")
async def test_tunnel_open_without_a_rule_is_for_all(relay, do):
    assert await do("tunnel open") == "opening a tunnel for r1, r2"
    await until(lambda: len(names(relay)) == len(names(relay, 1)) == 2)


async def test_draining_moves_the_flows(stage, relay, do):
    (client,) = await flows(stage, relay, 1)
    await until(lambda: len(names(relay)) == 3)
    busy = next(each.id for each in relay.rules[0].pool.usable() if each.flows)
    assert await do(f"tunnel drain {busy}") == f"tunnel {busy} draining, 0 flows left"
    assert [event.reason for event in stage.events.of(FlowMoved)][-1] == "draining"
    assert await client.ask(b"on") == b"on"


async def test_draining_twice_takes_back_only_one(stage, relay, do):
    await flows(stage, relay, 1)
    relay.rules[0].pool.policy.set_limits(1, 1)
    relay.rules[0].pool.policy.extra = 2
    relay.director.link._session.end("so that nothing is opened")
    await until(lambda: len(names(relay)) == 1)
    (only,) = names(relay)
    relay.rules[0].pool.link = None
    for _ in range(2):
        assert await do(f"tunnel drain {only}") == f"tunnel {only} draining, 1 flow left"
    assert relay.rules[0].pool.policy.extra == 1
    await do(f"tunnel close {only}")
    assert relay.rules[0].pool.policy.extra == 1


async def test_closing_is_told_and_the_tunnel_replaced(stage, relay, do):
    (client,) = await flows(stage, relay, 1)
    (first, *_) = names(relay)
    await do(f"tunnel close {first}")
    assert [(event.tunnel, event.reason) for event in stage.events.of(TunnelClosed)] == [
        (first, "closed on request")
    ]
    assert await client.ask(b"on") == b"on"
    await until(lambda: len(names(relay)) == 3)


async def test_recycling_replaces(stage, relay, do):
    (first,) = names(relay, 1)
    assert await do(f"tunnel recycle {first}") == f"tunnel {first} is being replaced"
    (replaced,) = await until(lambda: stage.events.of(TunnelReplaced))
    assert replaced.tunnel == first
    assert [event.source for event in stage.events.of(TunnelUp) if event.tunnel == replaced.by] == ["rotate"]


@pytest.mark.parametrize("verb", ["drain", "close", "recycle", "prefer"])
async def test_a_tunnel_that_is_not_there(refuse, verb):
    assert await refuse(f"tunnel {verb} t99") == "there is no tunnel t99"


async def test_a_tunnel_of_a_former_agent_is_not_in_use(relay, do, refuse):
    (old,) = names(relay)
    await do("agent use beta")
    assert await refuse(f"tunnel drain {old}") == f"tunnel {old} is not in use"


async def test_preferring_a_tunnel(stage, relay, do, refuse):
    await flows(stage, relay, 1)
    await until(lambda: len(names(relay)) == 3)
    last = names(relay)[-1]
    assert await do(f"tunnel prefer {last}") == f"new flows prefer tunnel {last}"
    chosen = relay.rules[0].pool.channels[last]
    assert chosen.preferred
    before = chosen.flows
    await flows(stage, relay, 2)
    await until(lambda: chosen.flows >= before + 2)
    assert await do("tunnel prefer none") == "no tunnel is preferred"
    assert not any(each.preferred for each in relay.rules[0].pool.channels.values())


async def test_limits(relay, do, refuse):
    assert await do("tunnel limits --max 2") == "tunnels 1..2"
    assert await do("tunnel limits --min 2 --rule r2") == "tunnels 2..2"
    await until(lambda: len(names(relay, 1)) == 2)
    assert await do("tunnel limits --max 3") == "tunnels 1..3, 2..3"
    assert await refuse("tunnel limits --max 1") == (
        "limits 2..1 cannot be; accepted: 0 <= min <= max, max >= 1"
    )
    assert relay.rules[0].pool.policy.max == 3, "a refused command does nothing at all"
    assert await refuse("tunnel limits --min 5") == (
        "limits 5..3 cannot be; accepted: 0 <= min <= max, max >= 1"
    )


async def test_limits_forget_what_was_asked_for(relay, do):
    relay.rules[0].pool.policy.extra = 1
    await do("tunnel limits --min 1")
    assert relay.rules[0].pool.policy.extra == 0


# ---- flows ----------------------------------------------------------------------------------------------


async def test_moving_a_flow(stage, relay, do, refuse):
    (client,) = await flows(stage, relay, 1)
    await until(lambda: len(names(relay)) == 3)
    (flow,) = ids(relay)
    for target in names(relay):
        await do(f"flow move {flow} --to {target}")
        assert relay.rules[0].pool.channels[target].flows == 1
        assert await client.ask(b"on") == b"on"
    assert await do(f"flow move {flow} --to {target}") == "0 flows moved"
    assert await do(f"flow move {flow}") == "1 flow moved"
    assert stage.events.of(FlowMoved)[-1].reason == "requested"
    assert await refuse("flow move ffffffff") == "there is no flow ffffffff"
    assert await refuse(f"flow move {flow} --to t99") == "there is no tunnel t99"


async def test_moving_to_a_tunnel_that_takes_none(stage, relay, do, refuse):
    await flows(stage, relay, 1)
    await until(lambda: len(names(relay)) == 3)
    (flow,) = ids(relay)
    other = names(relay, 1)[0]
    assert await refuse(f"flow move {flow} --to {other}") == (
        f"tunnel {other} belongs to rule r2, the flow to rule r1"
    )
    busy = relay.rules[0].pool.usable()[0]
    busy.stage = busy.stage.DRAINING
    for line in (f"flow move {flow} --to {busy.id}", f"tunnel prefer {busy.id}"):
        assert await refuse(line) == f"tunnel {busy.id} is draining and takes no flows"


async def test_moving_all_flows_to_a_tunnel_means_those_of_its_rule(stage, relay, do):
    await flows(stage, relay, 2)
    await flows(stage, relay, 1, rule=1)
    await until(lambda: len(names(relay)) == len(names(relay, 1)) == 3)
    target = names(relay, 1)[-1]
    await do(f"flow move @all --to {target}")
    assert relay.rules[1].pool.channels[target].flows == 1
    assert await do(f"flow move @all --to {target}") == "0 flows moved"


async def test_moving_without_another_tunnel_moves_nothing_at_all(stage, relay, do, refuse):
    relay.rules[1].pool.policy.set_limits(1, 1)
    await flows(stage, relay, 1)
    await flows(stage, relay, 1, rule=1)
    await until(lambda: len(names(relay)) == 3)
    moved = len(stage.events.of(FlowMoved))
    assert await refuse("flow move @all") == "rule r2 has no other tunnel to move flows to"
    assert len(stage.events.of(FlowMoved)) == moved


async def test_closing_flows(stage, relay, do, refuse):
    assert await refuse("flow close @all") == "there are no flows"
    await flows(stage, relay, 2)
    await flows(stage, relay, 1, rule=1)
    one, two = ids(relay)
    assert await do(f"flow close {one}") == "1 flow closed"
    assert ids(relay) == [two]
    assert await do("flow close @all") == "2 flows closed"
    assert await refuse(f"flow close {one} {two}") == f"there is no flow {one}, {two}"


# ---- rules ----------------------------------------------------------------------------------------------


async def test_pausing_a_rule(stage, relay, do, refuse):
    (client,) = await flows(stage, relay, 1)
    assert await do("rule pause r1") == "rule r1 paused"
    assert relay.rules[0].state is RuleState.PAUSED
    assert await refuse("rule pause r1") == "rule r1 is paused already"
    client.send(b"dropped")
    await until(lambda: relay.counters()[0].get("paused"))
    assert await do("rule resume r1") == "rule r1 resumed"
    assert await refuse("rule resume r1") == "rule r1 is not paused"
    assert await client.ask(b"carried") == b"carried"
    assert await refuse("rule pause r9") == "there is no rule r9; known: r1, r2"
