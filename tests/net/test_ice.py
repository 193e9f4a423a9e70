"""ICE sessions on loopback sockets: gathering from small STUN servers, two sessions, and other ICE stacks."""

import asyncio
import ipaddress
import socket as os_socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aioice
import pytest
from aioice import stun as codec

from rtun_core.errors import LocalProtocolError, RtunError
from rtun_core.net import ice
from rtun_core.net.ice import MAX_EARLY, Gathering, IceConfig, IceSession, SelectedPath
from rtun_core.wire.address import Address
from rtun_core.wire.candidate import format_candidate, host_candidate, parse_candidate
from rtun_core.wire.ice_checker import IceParams
from rtun_core.wire.stun import is_stun, parse_stun

LOOPBACK = (ipaddress.ip_network("127.0.0.1"),)
OFFLINE = IceConfig(stun_servers=(), candidate_cidrs=LOOPBACK)
MAPPED = Address("203.0.113.5", 6000)
OTHER = Address("203.0.113.5", 6001)


class StunServer(asyncio.DatagramProtocol):
    """Answers every Binding request with `mapped`; None keeps silent."""

    def __init__(self, mapped: Address | None) -> None:
        self.mapped = mapped
        self.requests: list[bytes] = []

    def connection_made(self, transport):
        self.transport = transport
        self.address = Address(*transport.get_extra_info("sockname"))

    def datagram_received(self, data, source):
        self.requests.append(data)
        if self.mapped is not None:
            self.transport.sendto(server_answer(data, self.mapped), source)


def server_answer(request: bytes, mapped: Address, name: str = "XOR-MAPPED-ADDRESS") -> bytes:
    attributes = {name: tuple(mapped)}
    transaction_id = parse_stun(request).transaction_id
    return bytes(codec.Message(codec.Method.BINDING, codec.Class.RESPONSE, transaction_id, attributes))


@asynccontextmanager
async def servers(*mapped: Address | None) -> AsyncIterator[list[StunServer]]:
    loop = asyncio.get_running_loop()
    started = []
    for address in mapped:
        _, server = await loop.create_datagram_endpoint(
            lambda address=address: StunServer(address), local_addr=("127.0.0.1", 0)
        )
        started.append(server)
    try:
        yield started
    finally:
        for server in started:
            server.transport.close()


async def gather_from(started: list[StunServer], *, limit: float = 5.0) -> IceSession:
    config = IceConfig(tuple(server.address for server in started), LOOPBACK, limit)
    return await IceSession.gather(config, controlling=True)


def offered(session: IceSession) -> list[tuple[str, Address]]:
    return [(candidate.kind, candidate.address) for candidate in session.local.candidates]


def host_of(session: IceSession) -> tuple[str, Address]:
    return "host", Address("127.0.0.1", session.local.candidates[-1].address.port)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until `condition` holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.001)


# Gathering, the rules


def gathering_with(*names: str) -> tuple[Gathering, list[bytes]]:
    gathering = Gathering(0.0, limit=2.0)
    for name in names:
        gathering.ask(Address(name, 3478), 0.0)
    return gathering, [data for data, _ in gathering.datagrams_to_send(0.0)]


def test_queries_are_bare_requests_and_repeated():
    gathering, sent = gathering_with("192.0.2.1", "192.0.2.2")
    assert [len(data) for data in sent] == [20, 20]
    assert gathering.datagrams_to_send(0.01) == []
    assert gathering.next_timer() == pytest.approx(0.02)
    assert [data for data, _ in gathering.datagrams_to_send(0.02)] == sent
    assert gathering.next_timer() == pytest.approx(0.22)


def test_gathering_ends_when_all_have_answered():
    gathering, sent = gathering_with("192.0.2.1", "192.0.2.2")
    assert gathering.receive(server_answer(sent[0], MAPPED))
    assert not gathering.is_finished(0.1)
    assert gathering.receive(server_answer(sent[1], MAPPED, "MAPPED-ADDRESS"))
    assert gathering.is_finished(0.1)
    assert gathering.mapped == [MAPPED]


def test_gathering_waits_for_names():
    gathering, sent = gathering_with("192.0.2.1")
    gathering.lookups = 1
    gathering.receive(server_answer(sent[0], MAPPED))
    assert not gathering.is_finished(1.9)
    assert gathering.is_finished(2.0)


def test_different_answers_end_gathering_at_once():
    gathering, sent = gathering_with("192.0.2.1", "192.0.2.2", "192.0.2.3")
    gathering.receive(server_answer(sent[0], MAPPED))
    gathering.receive(server_answer(sent[2], OTHER))
    assert gathering.is_finished(0.0)
    assert gathering.mapped == [MAPPED, OTHER]


def test_silence_ends_gathering_later():
    gathering, _ = gathering_with("192.0.2.1")
    assert not gathering.is_finished(2.9)
    assert gathering.is_finished(3.0)


def test_what_is_no_answer_is_left_to_others():
    gathering, sent = gathering_with("192.0.2.1")
    assert not gathering.receive(b"nonsense")
    assert not gathering.receive(sent[0])
    assert not gathering.receive(server_answer(b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12), MAPPED))
    assert not gathering.is_finished(0.1)


@pytest.mark.parametrize("mapped", [Address("0.0.0.0", 9), Address("203.0.113.5", 0), Address("::1", 9)])
def test_answers_of_no_use_are_left_out(mapped):
    gathering, sent = gathering_with("192.0.2.1")
    assert gathering.receive(server_answer(sent[0], mapped))
    assert gathering.mapped == []
    assert gathering.is_finished(0.0)


# Gathering, the sockets


async def test_without_servers_there_are_host_candidates_at_once():
    session = await IceSession.gather(OFFLINE, controlling=True)
    assert offered(session) == [host_of(session)]
    assert session.local.candidates[0].address.port > 0
    assert (len(session.local.ufrag), len(session.local.pwd)) == (8, 8)
    session.close()
    session.close()


async def test_one_mapped_address():
    async with servers(MAPPED, MAPPED) as started:
        session = await gather_from(started)
        assert offered(session) == [("srflx", MAPPED), host_of(session)]
        assert session.local.candidates[0].related == host_of(session)[1]
        session.close()


async def test_different_mapped_addresses_do_not_wait_for_a_silent_server():
    async with servers(None, MAPPED, OTHER) as started:
        async with asyncio.timeout(4):
            session = await gather_from(started)
        assert {address for kind, address in offered(session) if kind == "srflx"} == {MAPPED, OTHER}
        session.close()


async def test_a_silent_server_is_asked_again_until_the_limit():
    async with servers(None, MAPPED) as started:
        began = asyncio.get_running_loop().time()
        session = await gather_from(started, limit=0.3)
        assert asyncio.get_running_loop().time() - began >= 0.3
        assert offered(session) == [("srflx", MAPPED), host_of(session)]
        await until(lambda: len(started[0].requests) >= 2)
        assert len(set(started[0].requests)) == 1
        session.close()


async def test_silence_of_all_leaves_the_host_candidates():
    async with servers(None) as started:
        session = await gather_from(started, limit=0.3)
        assert offered(session) == [host_of(session)]
        session.close()


async def test_names_are_looked_up_in_the_loops_resolver(monkeypatch):
    async with servers(MAPPED) as started:
        asked = resolver(monkeypatch, {"stun.example": started[0].address})
        names = (
            Address("stun.example", started[0].address.port),
            Address("nobody.example", 1),
            Address("slow.example", 1),
        )
        config = IceConfig((*names, Address("::1", 1)), None, 0.3)
        session = await IceSession.gather(config, controlling=True)
        assert asked == ["stun.example", "nobody.example", "slow.example"]
        assert ("srflx", MAPPED) in offered(session)
        assert session.local.candidates[0].related.host == "0.0.0.0"
        assert session.counters["lookup"] == 1
        session.close()


def resolver(monkeypatch: pytest.MonkeyPatch, known: dict[str, Address]) -> list[str]:
    """Resolve `known` names to that address; others fail, and slow.example never ends."""
    asked: list[str] = []

    async def getaddrinfo(host, port, *, family, type):  # noqa: A002
        asked.append(host)
        if host == "slow.example":
            await asyncio.Event().wait()
        if host not in known:
            raise os_socket.gaierror("no such name")
        return [(family, type, 17, "", tuple(known[host]))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return asked


async def test_a_loopback_socket_asks_no_distant_server(monkeypatch):
    asked = resolver(monkeypatch, {})
    distant = (Address("stun.example", 1), Address("192.0.2.1", 1))
    session = await IceSession.gather(IceConfig(distant, LOOPBACK), controlling=True)
    assert asked == []
    session.close()


async def test_nothing_to_offer_is_an_error():
    with pytest.raises(RtunError, match="no local IPv4 address can be offered"):
        await IceSession.gather(IceConfig((), candidate_cidrs=()), controlling=True)


async def test_a_cancelled_gathering_closes_its_socket(monkeypatch):
    closed = []
    monkeypatch.setattr(ice.IceSession, "close", lambda self: closed.append(self._socket.close()))
    async with servers(None) as started:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await gather_from(started)
    assert closed == [None]


def test_the_default_servers():
    assert [str(server) for server in IceConfig().stun_servers] == [
        "stun.miwifi.com:3478",
        "stun.chat.bilibili.com:3478",
        "stun.cloudflare.com:3478",
        "stun1.l.google.com:19302",
        "stun2.l.google.com:19302",
        "stun.qq.com:3478",
    ]


# Two sessions


class Tap:
    """A socket that notes TTLs and drops what `drops` says."""

    def __init__(self, inner, drops: Callable[[bytes], bool] = lambda _: False) -> None:
        self._inner = inner
        self.drops = drops
        self.ttls: list[int] = []
        self.dropped = 0

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def set_ttl(self, ttl):
        self.ttls.append(ttl)
        self._inner.set_ttl(ttl)

    def send(self, payload, to=None):
        if self.drops(bytes(payload)):
            self.dropped += 1
            return True
        return self._inner.send(payload, to)


class Owner:
    """Reads a selected path as a relay would: answers STUN through the responder, keeps the rest."""

    def __init__(self, path: SelectedPath) -> None:
        self.received = list(path.early)
        self.answered = 0
        self._path = path
        path.socket.start(self._on_batch, lambda error: None)

    def _on_batch(self, batch):
        for row in range(batch.count):
            data = bytes(batch.payload(row))
            if not is_stun(data):
                self.received.append(data)
            elif (answer := self._path.responder(data, batch.address(row))) is not None:
                self.answered += 1
                self._path.socket.send(answer)


class Unconnectable(Tap):
    """A socket whose system refuses to connect it."""

    def connect(self, remote):
        raise OSError("no route")


async def two_sessions() -> tuple[IceSession, IceSession]:
    client = await IceSession.gather(OFFLINE, controlling=True)
    agent = await IceSession.gather(OFFLINE, controlling=False)
    return client, agent


def tap(session: IceSession) -> Tap:
    session._socket = Tap(session._socket)
    return session._socket


def is_answer(data: bytes) -> bool:
    return is_stun(data) and parse_stun(data).kind == "success"


async def test_two_sessions_find_each_other():
    client, agent = await two_sessions()
    ttls = tap(client), tap(agent)
    agent.prime(client.local)
    paths = await asyncio.gather(client.connect(agent.local), agent.connect(client.local))
    assert paths[0].remote == agent.local.candidates[0].address
    assert paths[1].remote == client.local.candidates[0].address
    assert all(path.rtt is not None and 0 <= path.rtt < 5 for path in paths)
    assert [t.ttls for t in ttls] == [[64], [1, 2, 3, 64]]
    owners = [Owner(path) for path in paths]
    paths[0].socket.send(b"\xffhello")
    paths[1].socket.send(b"\xffworld")
    await until(lambda: owners[0].received and owners[1].received)
    assert [owner.received for owner in owners] == [[b"\xffworld"], [b"\xffhello"]]
    client.close()
    assert paths[0].socket.send(b"\xffstill open")
    for path in paths:
        path.socket.close()


async def test_a_peer_that_was_quicker_is_not_forgotten():
    client, agent = await two_sessions()
    async with asyncio.TaskGroup() as tasks:
        connecting = tasks.create_task(agent.connect(client.local))
        await until(lambda: client._pending)
        path = await client.connect(agent.local)
    assert path.remote == agent.local.candidates[0].address
    path.socket.close()
    connecting.result().socket.close()


async def test_data_before_the_new_owner_reads_is_kept():
    client, agent = await two_sessions()
    paths = await asyncio.gather(client.connect(agent.local), agent.connect(client.local))
    for number in range(MAX_EARLY + 5):
        paths[1].socket.send(b"\xff%d" % number)
        await until(lambda number=number: len(paths[0].early) + client.counters["overflow"] > number)
    assert paths[0].early == [b"\xff%d" % number for number in range(MAX_EARLY)]
    assert client.counters["overflow"] == 5
    owner = Owner(paths[0])
    paths[1].socket.send(b"\xfflast")
    await until(lambda: owner.received[-1] == b"\xfflast")
    for path in paths:
        path.socket.close()


async def test_data_of_strangers_is_not_kept():
    client, agent = await two_sessions()
    stranger = ice.UdpSocket.open(local=Address("127.0.0.1", 0))
    stranger.send(b"\xffboo", client.local.candidates[0].address)
    await until(lambda: client.counters["stray"] == 1)
    paths = await asyncio.gather(client.connect(agent.local), agent.connect(client.local))
    assert paths[0].early == []
    for each in (*(path.socket for path in paths), stranger):
        each.close()


async def test_a_lost_nomination_answer_is_given_by_the_new_owner():
    client, agent = await two_sessions()
    tap(agent).drops = lambda data: is_answer(data) and agent._checker.state == "connected"
    async with asyncio.TaskGroup() as tasks:
        connecting = tasks.create_task(client.connect(agent.local))
        agents_path = await agent.connect(client.local)
        assert agents_path.socket.dropped >= 1
        assert not connecting.done()
        agents_path.socket.drops = lambda data: False
        owner = Owner(agents_path)
    assert owner.answered >= 1
    for each in (connecting.result(), agents_path):
        each.socket.close()


async def test_data_replaces_a_lost_nomination_answer_and_is_early_data():
    client, agent = await two_sessions()
    tap(agent).drops = lambda data: is_answer(data) and agent._checker.state == "connected"
    async with asyncio.TaskGroup() as tasks:
        connecting = tasks.create_task(client.connect(agent.local))
        agents_path = await agent.connect(client.local)
        agents_path.socket.send(b"\xffheartbeat")
    assert connecting.result().early == [b"\xffheartbeat"]
    for each in (connecting.result(), agents_path):
        each.socket.close()


async def test_no_path_is_one_clear_sentence():
    session = await IceSession.gather(OFFLINE, controlling=True)
    silent = IceParams("nobodyxx", "xxxxxxxx", (host_candidate(session.local.candidates[0].address),))
    with pytest.raises(
        RtunError, match=r"no path to the peer: .*1 local candidates, 1 of 1 remote"
    ) as caught:
        await session.connect(silent, timeout=0.1)
    assert "xxxxxxxx" not in str(caught.value)
    with pytest.raises(LocalProtocolError):
        await session.connect(silent)


async def test_a_socket_that_cannot_be_connected_is_an_error():
    client, agent = await two_sessions()
    client._socket = Unconnectable(client._socket)
    async with asyncio.TaskGroup() as tasks:
        connecting = tasks.create_task(agent.connect(client.local))
        with pytest.raises(RtunError, match=r"cannot be connected to 127\.0\.0\.1:\d+: no route"):
            await client.connect(agent.local)
    connecting.result().socket.close()


async def test_a_cancelled_connect_closes_the_session():
    session = await IceSession.gather(OFFLINE, controlling=True)
    nobody = IceParams("nobodyxx", "xxxxxxxx", ())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await session.connect(nobody)
    assert session._closed


async def test_a_session_has_one_peer():
    session = await IceSession.gather(OFFLINE, controlling=False)
    session.prime(IceParams("nobodyxx", "xxxxxxxx", ()))
    with pytest.raises(LocalProtocolError):
        await session.connect(IceParams("otherxxx", "xxxxxxxx", ()))
    session.close()


# Another ICE stack at the other end


@pytest.mark.parametrize("controlling", [True, False], ids=["we control", "we are controlled"])
async def test_aioice_as_the_peer(monkeypatch, controlling):
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])
    session = await IceSession.gather(OFFLINE, controlling=controlling)
    peer = aioice.Connection(ice_controlling=not controlling, use_ipv6=False)
    peer.remote_is_lite = True
    await peer.gather_candidates()
    await introduce(peer, session.local)
    candidates = tuple(parse_candidate(candidate.to_sdp()) for candidate in peer.local_candidates)
    params = IceParams(peer.local_username, peer.local_password, candidates)
    path, _ = await asyncio.gather(session.connect(params), peer.connect())
    owner = Owner(path)
    await peer.send(b"\xffhello")
    path.socket.send(b"\xffworld")
    assert await peer.recv() == b"\xffworld"
    await until(lambda: owner.received == [b"\xffhello"])
    await peer.close()
    path.socket.close()


async def introduce(peer: aioice.Connection, params: IceParams) -> None:
    peer.remote_username, peer.remote_password = params.ufrag, params.pwd
    for candidate in params.candidates:
        await peer.add_remote_candidate(aioice.Candidate.from_sdp(format_candidate(candidate)))
    await peer.add_remote_candidate(None)
