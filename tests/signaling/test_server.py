"""The server as its users meet it, over every transport: register, list, attach, ask, replace, reload."""

import asyncio
import socket
from contextlib import contextmanager, suppress

import pytest

from rtun_core.bus import EventBus
from rtun_core.commands import OpenTunnel
from rtun_core.errors import BindError, CommandRefused, SignalingError, Unauthorized, UsageError
from rtun_core.events import AgentLost, AgentSeen, Notice, ServiceListening
from rtun_core.model import AgentState, TunnelState
from rtun_core.net import tls
from rtun_core.net.signal_client import list_agents, open_pub, open_sub
from rtun_core.signaling import server as server_module
from rtun_core.signaling.config import ServerConfig, ServerLimits
from rtun_core.signaling.server import SignalingServer
from rtun_core.wire.address import Address
from rtun_core.wire.pb import rtun_pb2 as pb
from rtun_core.wire.signal_json import NEVER
from rtun_core.wire.token import PUBLIC_SECRET

TRANSPORTS = pytest.mark.parametrize("scheme", ["http", "https", "quic"])


@TRANSPORTS
async def test_an_agent_is_registered_listed_asked_and_forgotten(serve, register, attach, p2p, scheme):
    running = await serve(scheme)
    agent = await register(running, "beta")
    assert (await running.event(AgentSeen)).agent.startswith("beta/")
    (entry,) = await list_agents(running.endpoint)
    assert (entry.name, entry.expire_at, entry.ver) == ("beta", NEVER, "0.1.0.py")
    assert entry.addr.startswith("127.0.0.1:")
    client = await attach(running, "beta", entry.instance_id)
    assert await client.ping(5) < 5
    answer = await client.request(p2p("192.0.2.9:53"), timeout=5)
    assert answer.args.udp_relay.target_addr == "192.0.2.9:53"
    await agent.session.close("enough")
    assert "beta/" in (await running.event(AgentLost)).agent
    assert await list_agents(running.endpoint) == []


@TRANSPORTS
async def test_a_wrong_secret_is_unauthorized_but_may_list(serve, scheme):
    running = await serve(scheme)
    stranger = running.as_stranger()
    with pytest.raises(Unauthorized):
        await open_sub(stranger, agent="beta", instance=None)
    with pytest.raises(Unauthorized):
        await open_pub(stranger, agent="beta", expire_in_ms=None, ver="1")
    assert await list_agents(stranger) == []
    assert running.faults["token"] == 2


@TRANSPORTS
async def test_unknown_agents_and_other_instances_are_refused(serve, register, attach, scheme):
    running = await serve(scheme)
    await register(running, "beta")
    for name in ("gamma", None):
        with pytest.raises(SignalingError, match=rf"not found agent \[{name or 'local'}\]"):
            await attach(running, name)
    actual = (await list_agents(running.endpoint))[0].instance_id
    sentence = rf"instance mismatch for agent \[beta\], want \[OTHER\], actual \[{actual}\]"
    with pytest.raises(SignalingError, match=sentence):
        await attach(running, "beta", "OTHER")


@TRANSPORTS
async def test_the_last_agent_of_a_name_replaces_and_kicks_the_one_before(serve, register, scheme):
    running = await serve(scheme)
    old = await register(running, "beta")
    first = (await list_agents(running.endpoint))[0].instance_id
    await register(running, "beta")
    assert await asyncio.wait_for(old.running, 10) == "kicked down by the peer: replace by other session"
    assert old.session.kicked
    (entry,) = await list_agents(running.endpoint)
    assert entry.instance_id != first
    lost = await running.event(AgentLost)
    assert (lost.agent, lost.reason) == (f"beta/{first}", "replaced by a newer session")


@TRANSPORTS
async def test_the_fields_of_a_request_that_we_do_not_know_reach_the_agent(
    serve, register, attach, p2p, scheme
):
    running = await serve(scheme)
    agent = await register(running)
    client = await attach(running)
    unknown = b"\xba\x3e\x03new"  # field 999
    args = pb.P2PArgs.FromString(p2p("192.0.2.9:53").open_p2p.SerializeToString() + unknown)
    answer = await client.request(pb.C2ARequest(open_p2p=args), timeout=5)
    assert unknown in (await agent.seen.get()).open_p2p.SerializeToString()
    assert unknown in answer.args.SerializeToString()


@TRANSPORTS
async def test_a_nameless_agent_gets_a_name(serve, register, scheme):
    running = await serve(scheme)
    agent = await register(running, None)
    assert len(agent.name) == 8
    assert [entry.name for entry in await list_agents(running.endpoint)] == [agent.name]


@TRANSPORTS
async def test_the_server_tells_its_agents_and_clients_when_it_stops(serve, register, attach, scheme):
    running = await serve(scheme)
    agent = await register(running)
    client = await attach(running)
    stopping = asyncio.get_running_loop().create_task(running.server.wait())
    await running.server.stop(drain=True)
    await asyncio.wait_for(client.closed.wait(), 10)
    await asyncio.wait_for(agent.running, 10)
    assert not agent.session.kicked
    assert await stopping == "stopped"
    with pytest.raises(SignalingError, match="Connection refused"):
        await list_agents(running.endpoint)


async def test_draining_gives_the_answers_on_their_way(serve, register, attach, p2p):
    running = await serve()
    agent = await register(running)
    client = await attach(running)
    loop = asyncio.get_running_loop()
    waiting = loop.create_task(client.request(p2p("wait"), timeout=5))
    await agent.seen.get()
    stopping = loop.create_task(running.server.stop(drain=True))
    await asyncio.sleep(0)
    agent.release.set()
    assert (await waiting).args.udp_relay.target_addr == "wait"
    await stopping


async def test_a_slow_agent_delays_neither_pings_nor_other_agents(serve, register, attach, p2p):
    running = await serve()
    slow, quick = await register(running, "slow"), await register(running, "quick")
    first, second = await attach(running, "slow"), await attach(running, "quick")
    waiting = asyncio.get_running_loop().create_task(first.request(p2p("wait"), timeout=20))
    await slow.seen.get()
    assert (await second.request(p2p("x"), timeout=5)).args.udp_relay.target_addr == "x"
    third = await attach(running, "slow")
    assert await third.ping(5) < 5
    slow.release.set()
    await waiting
    assert quick.seen.qsize() == 1


@pytest.mark.parametrize(("ver", "reached"), [("0.1.0.py", 2), ("0.2.0.8af2851", 1)])
async def test_only_our_own_agents_get_several_requests_at_a_time(serve, register, attach, p2p, ver, reached):
    running = await serve()
    agent = await register(running, "beta", ver=ver)
    loop = asyncio.get_running_loop()
    clients = [await attach(running) for _ in range(2)]
    asked = [loop.create_task(client.request(p2p("wait"), timeout=5)) for client in clients]
    for _ in range(reached):
        await asyncio.wait_for(agent.seen.get(), 5)
    await (await attach(running)).ping(5)
    assert agent.seen.empty()
    agent.release.set()
    await asyncio.gather(*asked)


async def test_a_request_to_a_dead_agent_times_out_and_blocks_nobody(serve, register, attach, p2p):
    running = await serve(limits=ServerLimits(request_timeout=0.1))
    await register(running, "dead", ver="0.2.0.8af2851")
    await register(running, "alive")
    client = await attach(running, "dead")
    answer = await client.request(p2p("wait"), timeout=5)
    assert answer.status.code == -1
    assert "no answer within 0.1 s" in answer.status.reason
    answer = await client.request(p2p("x"), timeout=5)
    assert "not sent within 0.1 s" in answer.status.reason
    assert (await (await attach(running, "alive")).request(p2p("x"), timeout=5)).HasField("args")


async def test_a_replaced_agent_that_is_dead_holds_up_nobody(serve, register, monkeypatch):
    monkeypatch.setattr("rtun_core.signaling.switchboard.KICK_TIMEOUT", 0.1)
    running = await serve()
    dead, _ = await open_pub(running.endpoint, agent="beta", expire_in_ms=None, ver="1")
    await register(running, "beta")
    assert len(await list_agents(running.endpoint)) == 1
    await running.until(lambda: running.faults.get("kick unanswered"))
    await dead.close("over")


async def test_a_client_finds_its_agent_again_under_the_same_name(serve, register, attach, p2p):
    running = await serve()
    agent = await register(running)
    instance = (await list_agents(running.endpoint))[0].instance_id
    by_name, pinned = await attach(running), await attach(running, "beta", instance)
    await agent.session.close("gone for a moment")
    await running.event(AgentLost)
    answer = await by_name.request(p2p("x"), timeout=5)
    assert answer.status.reason == "not found agent [beta]"
    await register(running)
    assert (await by_name.request(p2p("x"), timeout=5)).HasField("args")
    assert "instance mismatch" in (await pinned.request(p2p("x"), timeout=5)).status.reason


async def test_expired_agents_are_purged(serve, register, monkeypatch):
    monkeypatch.setattr(server_module, "PURGE_INTERVAL", 0.05)
    monkeypatch.setattr("rtun_core.signaling.registry.GRACE_MS", 100)
    running = await serve()
    agent = await register(running, "short", expire_in_ms=50)
    (view,) = running.server.snapshot().agents
    assert view.state is AgentState.EXPIRING
    assert view.expires_at is not None
    lost = await running.event(AgentLost)
    assert lost.reason == "expired"
    assert await asyncio.wait_for(agent.running, 10) == "kicked down by the peer: expired"
    assert await list_agents(running.endpoint) == []


async def test_the_local_agent_answers_unless_the_server_only_bridges(serve, register, attach, p2p):
    class Local:
        async def handle(self, request):
            return pb.OpenP2PResponse(args=request.open_p2p)

    running = await serve(local=Local())
    for name in (None, "local"):
        client = await attach(running, name)
        assert (await client.request(p2p("x"), timeout=5)).HasField("args")
    assert await list_agents(running.endpoint) == []
    bridge = await serve(local=Local(), bridge_only=True)
    with pytest.raises(SignalingError, match=r"not found agent \[local\]"):
        await attach(bridge, None)
    await register(bridge, "local")
    assert (await (await attach(bridge, None)).request(p2p("x"), timeout=5)).HasField("args")


async def test_the_snapshot_shows_listeners_agents_and_clients(serve, register, attach):
    running = await serve("quic")
    await register(running)
    await attach(running)
    snapshot = running.server.snapshot()
    assert snapshot.service == "server"
    urls = [f"https://127.0.0.1:{running.port}", f"quic://127.0.0.1:{running.port}"]
    assert [view.url for view in snapshot.signal] == urls
    assert {view.state for view in snapshot.signal} == {"listening"}
    (agent,) = snapshot.agents
    assert (agent.name, agent.state, agent.tunnels) == ("beta", AgentState.READY, 1)
    assert (agent.version, agent.expires_at) == ("0.1.0.py", None)
    (tunnel,) = snapshot.tunnels
    assert (tunnel.id, tunnel.kind, tunnel.agent) == ("s1", "signal", agent.id)
    assert tunnel.state is TunnelState.UP
    assert tunnel.remote.startswith("127.0.0.1:")
    events = [stamped.event for stamped in running.events.drain()]
    assert [event.address for event in events if isinstance(event, ServiceListening)] == urls


async def test_it_takes_no_commands(serve):
    running = await serve()
    command = OpenTunnel()
    assert not running.server.handles(command)
    with pytest.raises(CommandRefused):
        await running.server.handle(command)


async def test_a_server_without_certificate_says_that_quic_is_off(serve):
    running = await serve("http")
    assert "QUIC signalling is off" in (await running.event(Notice)).message


async def test_the_public_secret_is_shouted_about(serve):
    running = await serve(secret=PUBLIC_SECRET)
    message = (await running.event(Notice, "SECRET")).message
    assert "--secret" in message
    assert PUBLIC_SECRET.decode() not in message


async def test_a_self_signed_server_needs_no_files(serve):
    running = await serve("quic", self_signed=True)
    assert "self-signed" in (await running.event(Notice)).message
    with pytest.raises(SignalingError, match="not trusted"):
        await list_agents(running.endpoint)


@pytest.mark.parametrize("given", ["cert", "key"])
async def test_certificate_and_key_go_together(certificate, given):
    path = certificate[0] if given == "cert" else certificate[1]
    config = ServerConfig(listen=Address("127.0.0.1", 0), secret=b"s", **{given: path})
    with pytest.raises(UsageError, match="go together"):
        await SignalingServer(config, EventBus(), local=None).start()


@contextmanager
def taken(kind):
    """A port that is in use for one kind of socket, and free for the other."""
    other = {socket.SOCK_STREAM: socket.SOCK_DGRAM, socket.SOCK_DGRAM: socket.SOCK_STREAM}[kind]
    while True:
        with socket.socket(socket.AF_INET, kind) as sock, socket.socket(socket.AF_INET, other) as probe:
            sock.bind(("127.0.0.1", 0))
            if kind == socket.SOCK_STREAM:
                sock.listen()
            try:
                probe.bind(sock.getsockname())
            except OSError:  # somebody has it; the system will give another one
                continue
            probe.close()
            yield sock.getsockname()[1]
            return


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
async def test_a_port_in_use_leaves_nothing_open(serve, kind):
    with taken(kind) as port, pytest.raises(BindError, match=rf"(TCP|UDP) 127\.0\.0\.1:{port}"):
        await serve("https", listen=Address("127.0.0.1", port))
    running = await serve("https", listen=Address("127.0.0.1", port))
    assert running.port == port


@pytest.fixture
def changing(tmp_path, certificate):
    """Certificate files that a test may change."""
    for source in certificate:
        (tmp_path / source.name).write_bytes(source.read_bytes())
    return tmp_path / "cert.pem", tmp_path / "key.pem"


@pytest.mark.parametrize("scheme", ["https", "quic"])
async def test_a_changed_certificate_is_loaded_while_sessions_go_on(
    serve, register, attach, p2p, changing, tmp_path, scheme
):
    cert, key = changing
    timing = {"certificate_poll": 0.02, "certificate_settle": 0.04}
    running = await serve(scheme, cert=cert, key=key, timing=timing)
    await register(running)
    client = await attach(running)
    with suppress(SignalingError):
        await list_agents(running.endpoint)
    new_cert, new_key = tls.self_signed(["127.0.0.1"])
    cert.write_bytes(new_cert)
    await running.event(Notice, "does not belong to the certificate")
    key.write_bytes(new_key)
    await running.event(Notice, "certificate reloaded")
    assert len(await list_agents(running.endpoint)) == 1  # trusts exactly the new file
    assert (await client.request(p2p("x"), timeout=5)).HasField("args")


async def test_a_vanished_certificate_file_changes_nothing(serve, changing, certificate):
    cert, key = changing
    running = await serve(
        "https", cert=cert, key=key, timing={"certificate_poll": 0.02, "certificate_settle": 0.0}
    )
    key.unlink()
    await running.event(Notice, "cannot be read")
    assert await list_agents(running.as_stranger()) == []
