import pytest

from rtun_core import commands as cmd
from rtun_core.errors import CommandRefused
from rtun_core.events import FlowClosed, RuleChanged, TunnelDegraded, TunnelDraining
from rtun_core.model import TunnelState
from tests.rtunnel.stage import until


@pytest.fixture
async def talking(stage):
    """A pair of services with one application that has been answered."""
    await stage.pair()
    stage.reader, stage.writer = await stage.app()
    stage.writer.write(b"x")
    await stage.reader.readexactly(1)
    return stage


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize(
    "command",
    [
        cmd.CloseFlow(flows=("1",)),
        cmd.CloseFlow(flows=("00000001", "ff")),
        cmd.CloseFlow(flows=(cmd.ALL,)),
        cmd.CloseTunnel(tunnel="t1"),
    ],
)
async def test_closing_resets_both_ends(talking, side, command):
    service = getattr(talking, side)
    assert service.handles(command)
    await service.handle(command)
    with pytest.raises(ConnectionResetError):
        await talking.reader.read(-1)
    await talking.event(FlowClosed, lambda event: event.reason == "closed on request")
    await until(lambda: not (talking.client.book.live or talking.server.book.live))


@pytest.mark.parametrize("side", ["client", "server"])
async def test_recycle_gives_the_session_another_websocket(talking, side):
    result = await getattr(talking, side).handle(cmd.RecycleTunnel(tunnel="t1"))
    assert result.text == "tunnel t1 gets a new WebSocket"
    await talking.event(TunnelDegraded, lambda event: event.recovered)
    talking.writer.write(b"again")
    assert await talking.reader.readexactly(5) == b"again"
    (flow,) = talking.client.snapshot().flows
    assert flow.moves == 1
    (tunnel,) = talking.client.snapshot().tunnels
    assert "1 reconnects" in tunnel.reason


@pytest.mark.parametrize("side", ["client", "server"])
async def test_drain_lets_the_flow_end(talking, side):
    service = getattr(talking, side)
    result = await service.handle(cmd.DrainTunnel(tunnel="t1"))
    assert result.text == "tunnel t1 draining, its flow has 30 s to end"
    assert talking.events(TunnelDraining)
    (tunnel,) = service.snapshot().tunnels
    assert tunnel.state is TunnelState.DRAINING
    with pytest.raises(CommandRefused, match="already"):
        await service.handle(cmd.DrainTunnel(tunnel="t1"))
    talking.writer.write(b"still")
    assert await talking.reader.readexactly(5) == b"still"
    talking.writer.write_eof()
    assert await talking.reader.read(-1) == b""
    await talking.event(FlowClosed, lambda event: event.reason == "done")


async def test_pause_of_the_client_turns_applications_away(talking):
    client = talking.client
    await client.handle(cmd.PauseRule(rule="r1"))
    assert client.snapshot().rules[0].state == "paused"
    reader, _ = await talking.app()
    with pytest.raises(ConnectionResetError):
        await reader.read(-1)
    assert client.counters()[0] == {"paused": 1}
    talking.writer.write(b"y")
    assert await talking.reader.readexactly(1) == b"y"
    await client.handle(cmd.ResumeRule(rule="r1"))
    assert [event.state for event in talking.events(RuleChanged)] == ["paused", "active"]
    reader, writer = await talking.app()
    writer.write(b"z")
    assert await reader.readexactly(1) == b"z"


async def test_pause_of_the_server_refuses_new_sessions(talking):
    await talking.server.handle(cmd.PauseRule(rule="r1"))
    _, writer = await talking.app()
    writer.write(b"late")
    await until(lambda: talking.server.counters()[0].get("paused"))
    await talking.server.handle(cmd.ResumeRule(rule="r1"))
    await until(lambda: len(talking.server.book.live) == 2)


async def test_probes(talking):
    client, server = talking.client, talking.server
    for service in (client, server):
        (agent,) = service.snapshot().agents
        result = await service.handle(cmd.ProbeAgent(name=agent.id))
        assert result.data["rtt_ms"] > 0
        assert service.snapshot().agents[0].rtt_ms == result.data["rtt_ms"]


async def test_probe_that_fails(stage):
    client = await stage.connect(1)
    with pytest.raises(CommandRefused, match="Connection refused"):
        await client.handle(cmd.ProbeAgent(name=client.peer.id))


async def test_probe_of_a_client_that_has_left(talking):
    talking.writer.close()
    await until(lambda: not talking.server.book.linked)
    with pytest.raises(CommandRefused, match="no WebSocket"):
        await talking.server.handle(cmd.ProbeAgent(name="127.0.0.1"))


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (cmd.CloseFlow(flows=("zz",)), "not a flow id"),
        (cmd.CloseFlow(flows=("99",)), "no flow 99"),
        (cmd.CloseTunnel(tunnel="t9"), "no tunnel t9"),
        (cmd.PauseRule(rule="r2"), "no rule r2"),
        (cmd.ResumeRule(rule="r1"), "not paused"),
        (cmd.ProbeAgent(name="nobody"), "no agent nobody"),
        (cmd.PinAgent(), "agent pin is not for this tunnel"),
    ],
)
async def test_refusals(talking, command, reason):
    with pytest.raises(CommandRefused, match=reason):
        await talking.client.handle(command)


async def test_refusals_without_flows_or_websocket(stage):
    proxy = await stage.proxied()
    with pytest.raises(CommandRefused, match="no flows"):
        await stage.client.handle(cmd.CloseFlow(flows=(cmd.ALL,)))
    await stage.app()
    await until(lambda: stage.server.book.linked)
    proxy.target = 1
    proxy.cut()
    await until(lambda: not stage.server.book.linked)
    with pytest.raises(CommandRefused, match="no WebSocket at the moment"):
        await stage.server.handle(cmd.RecycleTunnel(tunnel="t1"))


async def test_foreign_commands_are_not_handled(stage):
    await stage.pair()
    assert not stage.client.handles(cmd.PinAgent())
    assert not stage.server.handles(cmd.Quit())
