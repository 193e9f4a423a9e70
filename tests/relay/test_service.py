"""The relay as the engine runs it: it starts whole or not at all, ticks, and stops without leftovers."""

import asyncio

import psutil
import pytest

from rtun_core.bus import EventBus
from rtun_core.commands import PinAgent, Quit
from rtun_core.errors import BindError, CommandRefused, NoAgentError
from rtun_core.events import Notice, RuleChanged, ServiceListening
from rtun_core.net.endpoint import SignalEndpoint
from rtun_core.relay import service as service_module
from rtun_core.relay.config import RelayConfig
from rtun_core.relay.service import RelayService
from rtun_core.wire.relay_rule import RelayRule
from rtun_core.wire.signal_url import parse_signal_url
from rtun_core.wire.token import PUBLIC_SECRET
from tests.relay.world import ICE, LOCAL, Events, Peer, until

NOWHERE = parse_signal_url("http://127.0.0.1:1")


def plain_config(*rules, secret=b"secret", **options):
    """A relay whose server is not there."""
    endpoint = SignalEndpoint(url=NOWHERE, secret=secret)
    return RelayConfig(endpoint=endpoint, rules=rules, ice=ICE, **options)


def rule(to, listen=LOCAL):
    return RelayRule(listen, to.address)


# ---- starting -------------------------------------------------------------------------------------------


async def test_it_tells_where_it_listens(bus, events, make_peer):
    target = make_peer()
    service = RelayService(plain_config(rule(target), rule(target)), bus)
    assert service.snapshot().rules[0].state == "stopped"
    await service.start()
    first, second = events.of(ServiceListening)
    assert (first.service, second.service) == ("relay r1", "relay r2")
    assert first.address == str(service.rules[0].port.local)
    assert first.detail == f"-> {target.address}"
    assert events.of(Notice) == []
    await service.stop(drain=False)


async def test_the_public_secret_is_warned_of(bus, events, make_peer):
    service = RelayService(plain_config(rule(make_peer()), secret=PUBLIC_SECRET), bus)
    await service.start()
    (notice,) = events.of(Notice)
    assert (notice.topic, "RTUN_SECRET" in notice.message) == ("secret", True)
    await service.stop(drain=False)


async def test_a_port_in_use_leaves_nothing_open(bus, events, make_peer):
    taken, target = make_peer(), make_peer()
    descriptors, tasks = psutil.Process().num_fds(), len(asyncio.all_tasks())
    service = RelayService(plain_config(rule(target), rule(target, taken.address)), bus)
    with pytest.raises(BindError, match=str(taken.address)):
        await service.start()
    assert psutil.Process().num_fds() == descriptors
    assert len(asyncio.all_tasks()) == tasks
    assert [each.port.is_open for each in service.rules] == [False, False]
    assert events.of(ServiceListening) == []
    await service.stop(drain=False)


async def test_the_port_of_the_first_rule_is_free_again(bus, make_peer):
    free = Peer()
    free.close()
    taken, target = make_peer(), make_peer()
    rules = (rule(target, free.address), rule(target, taken.address))
    with pytest.raises(BindError):
        await RelayService(plain_config(*rules), bus).start()
    service = RelayService(plain_config(rules[0]), bus)
    await service.start()
    assert service.rules[0].port.local == free.address
    await service.stop(drain=False)


# ---- waiting --------------------------------------------------------------------------------------------


async def test_no_tunnel_in_time_ends_it(bus, make_peer):
    service = RelayService(plain_config(rule(make_peer()), wait_agent=0.1), bus)
    await service.start()
    with pytest.raises(NoAgentError, match=r"no tunnel was up within 0.1 s: cannot connect to .*127.0.0.1:1"):
        await service.wait()
    await service.stop(drain=False)


async def test_why_no_tunnel_came_up_is_told(stage):
    await stage.agent("alpha", refusal="no room")
    relay = await stage.relay(wait_agent=0.3)
    with pytest.raises(NoAgentError, match=r"within 0.3 s: .*no "):
        await relay.wait()


async def test_a_tunnel_in_time_is_all_that_was_asked_for(stage):
    await stage.agent("alpha")
    relay = await stage.relay(wait_agent=0.5)
    waiting = asyncio.get_running_loop().create_task(relay.wait())
    await stage.client(relay).ask(b"hello")
    await until(
        lambda: not [each for each in asyncio.all_tasks() if each.get_name().endswith("for an agent")]
    )
    assert not waiting.done()
    waiting.cancel()


async def test_a_bug_in_a_task_ends_it_loudly(stage, monkeypatch):
    relay = await stage.relay()
    monkeypatch.setattr(relay.rules[0], "tick", lambda now: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await relay.wait()
    (notice,) = stage.events.of(Notice)
    assert (notice.topic, notice.message) == ("bug", "relay:tick failed: ZeroDivisionError: division by zero")


# ---- running --------------------------------------------------------------------------------------------


async def test_commands(stage):
    await stage.agent("alpha")
    relay = await stage.relay()
    await stage.client(relay).ask(b"hello")
    assert relay.handles(PinAgent())
    assert not relay.handles(Quit())
    assert (await relay.handle(PinAgent())).text == "pinned: no automatic switch"


async def test_waiting_and_working_again_are_told(stage):
    agent = await stage.agent("alpha")
    relay = await stage.relay()
    client = stage.client(relay)
    await client.ask(b"hello")
    await until(lambda: relay._states.get("r1") == "active")
    stage.events.forget()
    agent.gate.clear()
    (channel,) = relay.rules[0].pool.usable()
    relay.rules[0].pool.remove(channel, "the test says so")
    await until(lambda: stage.events.of(RuleChanged))
    agent.gate.set()
    await until(lambda: len(stage.events.of(RuleChanged)) == 2)
    assert [(event.rule, event.state) for event in stage.events.of(RuleChanged)] == [
        ("r1", "waiting"),
        ("r1", "active"),
    ]


async def test_two_relays_share_an_agent(stage):
    await stage.agent("alpha")
    relays = [await stage.relay(), await stage.relay()]
    clients = [stage.client(relay) for relay in relays]
    for client in clients:
        assert await client.ask(b"hello") == b"hello"
    assert relays[0].config is not relays[1].config


# ---- stopping -------------------------------------------------------------------------------------------


async def test_answers_under_way_are_delivered_when_it_drains(stage, monkeypatch):
    monkeypatch.setattr(service_module, "DRAIN_QUIET", 0.1)
    await stage.agent("alpha")
    target = stage.peer()
    relay = await stage.relay(rules=(rule(target),))
    client = stage.client(relay)
    client.send(b"question")
    _, source = await target.recv()
    stopping = asyncio.get_running_loop().create_task(relay.stop(drain=True))
    await asyncio.sleep(0)
    client.send(b"too late")
    target.send(b"answer", source)
    assert (await client.recv())[0] == b"answer"
    await stopping
    assert target.waiting() == []
    assert not relay.rules[0].port.is_open


async def test_draining_ends_in_time_though_answers_never_do(stage, monkeypatch):
    monkeypatch.setattr(service_module, "DRAIN_TIME", 0.2)
    monkeypatch.setattr(service_module, "DRAIN_QUIET", 0.05)
    await stage.agent("alpha")
    target = stage.peer()
    relay = await stage.relay(rules=(rule(target),))
    client = stage.client(relay)
    client.send(b"question")
    _, source = await target.recv()
    stopping = asyncio.get_running_loop().create_task(relay.stop(drain=True))
    while not stopping.done():
        target.send(b"and on", source)
        await asyncio.sleep(0.01)
    assert relay.snapshot().traffic.down_packets > 1


async def one_life(stage, *, drain):
    """A relay from start to stop; afterwards, the stage is at rest again."""
    one = rule(stage.echo)
    relay = await stage.relay(rules=(one, one), min_channels=2, max_channels=2)
    for index in (0, 1):
        await stage.client(relay, index).ask(b"hello")
    await until(lambda: all(len(rule.pool.usable()) == 2 for rule in relay.rules))
    await relay.stop(drain=drain)
    assert [each for each in asyncio.all_tasks() if each.get_name().startswith(("relay", "sub"))] == []
    for peer in stage._peers:
        peer.close()
    for published in stage.published.values():
        published.agent.close_tunnels()
        published.agent.control.close_flows(None)
    await until(lambda: not stage.server.snapshot().tunnels)


async def test_a_stopped_relay_leaves_no_task_and_no_descriptor(stage):
    await stage.agent("alpha")
    await one_life(stage, drain=False)  # the first one makes the agent tick
    await until(lambda: len(psutil.Process().net_connections("tcp")) <= 3)  # the server's and the agent's
    descriptors, tasks = psutil.Process().num_fds(), len(asyncio.all_tasks())
    for drain in (True, False):
        await one_life(stage, drain=drain)
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        await until(lambda: psutil.Process().num_fds() <= descriptors)


@pytest.mark.parametrize("turns", range(5))
async def test_stopping_while_the_session_ends(stage, turns):
    await stage.agent("alpha")
    relay = await stage.relay()
    await until(lambda: relay.director.signal_connected and relay.rules[0].pool.usable())
    relay.director.link._session.end("cut")
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await relay.stop(drain=False)


async def test_stopping_during_a_switch_leaves_no_channel(stage):
    await stage.agent("alpha")
    beta = await stage.agent("beta", expire_in=3600)
    relay = await stage.relay()
    await until(lambda: relay.rules[0].pool.usable() and len(relay.director.policy.known) == 2)
    beta.gate.clear()
    entry = relay.director.find("beta", None)
    switch = asyncio.get_running_loop().create_task(relay.director.switch(entry, force=False))
    await until(lambda: beta.asked)
    await relay.stop(drain=False)
    beta.gate.set()
    with pytest.raises(CommandRefused, match=r"the relay stops|session"):
        await switch
    assert relay.rules[0].pool.channels == {}


async def test_stopping_before_it_started(make_peer):
    bus = EventBus()
    events = Events(bus)
    service = RelayService(plain_config(rule(make_peer())), bus)
    await service.stop(drain=True)
    assert events.of(Notice) == []
