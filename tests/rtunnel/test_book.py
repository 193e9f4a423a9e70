from rtun_core.events import (
    AgentLost,
    AgentSeen,
    FlowClosed,
    FlowOpened,
    TunnelClosed,
    TunnelDegraded,
    TunnelOpening,
    TunnelUp,
)
from rtun_core.rtunnel import book as book_module
from rtun_core.wire.address import Address
from tests.rtunnel.stage import until

STORY = (AgentSeen, TunnelOpening, FlowOpened, TunnelUp, TunnelDegraded, FlowClosed, TunnelClosed)


async def test_events_of_a_session(stage):
    proxy = await stage.proxied()
    agent = stage.client.peer.id
    await stage.event(AgentSeen, lambda event: event.agent == agent)
    reader, writer = await stage.app()
    writer.write(b"x")
    await reader.readexactly(1)
    proxy.cut()
    await until(lambda: len(stage.events(TunnelDegraded)) == 4)
    writer.write_eof()
    assert await reader.read(-1) == b""
    await until(lambda: len(stage.events(TunnelClosed)) == 2)
    ours = [
        type(event)
        for event in stage.events()
        if isinstance(event, STORY) and getattr(event, "agent", agent) == agent
    ]
    for kind in (TunnelOpening, TunnelUp):
        assert ours.count(kind) == 1
    assert [kind for kind in ours if kind in (TunnelOpening, TunnelUp)] == [TunnelOpening, TunnelUp]
    assert {event.reason for event in stage.events(TunnelClosed)} == {"done"}
    assert all(event.opened for event in stage.events(TunnelClosed))
    assert sorted(event.recovered for event in stage.events(TunnelDegraded)) == [False, False, True, True]


async def test_tunnel_that_never_opened(stage):
    await stage.connect(1, connect_timeout=1)
    await stage.app()
    closed = await stage.event(TunnelClosed)
    assert (closed.opened, closed.reason) == (False, "unreachable")


async def test_refused_target(stage):
    await stage.serve(Address("127.0.0.1", 1))
    await stage.connect()
    await stage.app()
    await until(lambda: len(stage.events(TunnelClosed)) == 2)
    assert "target" in {event.reason for event in stage.events(FlowClosed)}


async def test_server_forgets_clients_after_a_while(stage, monkeypatch):
    monkeypatch.setattr(book_module, "AGENT_MEMORY", 0.2)
    await stage.pair()
    for _ in range(2):
        reader, writer = await stage.app()
        writer.write_eof()
        assert await reader.read(-1) == b""
    assert not stage.events(AgentLost)
    event = await stage.event(AgentLost)
    assert (event.agent, event.reason) == ("127.0.0.1", "no session left")
    assert not stage.server.book.peers
    assert len([each for each in stage.events(AgentSeen) if each.agent == "127.0.0.1"]) == 1
