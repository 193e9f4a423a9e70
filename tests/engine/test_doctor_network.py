"""STUN and signalling servers on loopback that answer well, badly or not at all."""

import asyncio
import socket
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from aioice import stun as codec

from rtun_core.bus import EventBus
from rtun_core.engine import doctor_network
from rtun_core.engine.doctor import Finding
from rtun_core.engine.doctor_network import (
    StunAnswer,
    StunSurvey,
    check_server,
    check_stun,
    judge_certificate,
    judge_clock,
    judge_nat,
    judge_stun,
    look_up,
)
from rtun_core.errors import BindError, UsageError
from rtun_core.net import tls
from rtun_core.net.endpoint import SignalEndpoint
from rtun_core.signaling.config import ServerConfig
from rtun_core.signaling.server import SignalingServer
from rtun_core.wire.address import Address
from rtun_core.wire.signal_url import parse_signal_url
from rtun_core.wire.stun import parse_stun

LIMIT = 5.0
SHORT = 0.2  # how long a silent server is waited for
A, B, C = (Address(f"192.0.2.{number}", 3478) for number in (1, 2, 3))
MAPPED = Address("203.0.113.5", 6000)
OTHER = Address("203.0.113.5", 6001)


class StunServer(asyncio.DatagramProtocol):
    """Answers with `mapped`: an address, "source" for where the request came from, None for an error.

    The first `deaf` requests are not heard.
    """

    def __init__(self, mapped, deaf=0):
        self.mapped = mapped
        self.deaf = deaf
        self.requests = []

    def connection_made(self, transport):
        self.transport = transport
        self.address = Address(*transport.get_extra_info("sockname"))

    def datagram_received(self, data, source):
        self.requests.append(data)
        if len(self.requests) > self.deaf:
            self.transport.sendto(b"no answer at all", source)
            self.transport.sendto(self.answer(data, source), source)
            self.transport.sendto(self.answer(data, source), source)

    def answer(self, data, source):
        kind = codec.Class.ERROR if self.mapped is None else codec.Class.RESPONSE
        mapped = source if self.mapped == "source" else self.mapped
        attributes = {} if mapped is None else {"XOR-MAPPED-ADDRESS": tuple(mapped)}
        return bytes(codec.Message(codec.Method.BINDING, kind, parse_stun(data).transaction_id, attributes))


@pytest.fixture
async def stun():
    """`await stun(mapped, deaf=0)` starts a server and returns it."""
    started = []

    async def start(mapped, deaf=0):
        _, server = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: StunServer(mapped, deaf), local_addr=("127.0.0.1", 0)
        )
        started.append(server)
        return server

    yield start
    for server in started:
        server.transport.close()


async def findings_of(*servers, limit=LIMIT):
    findings = await check_stun([server.address for server in servers], limit=limit)
    return {finding.name: finding for finding in findings}


async def test_nobody_is_asked():
    assert await check_stun([]) == []


async def test_two_servers_that_agree(stun):
    found = await findings_of(await stun(MAPPED), await stun(MAPPED))
    assert found["stun"] == Finding("stun", "ok", "2 of 2 servers answered")
    assert found["nat"] == Finding("nat", "ok", "cone: all see us at 203.0.113.5:6000")


async def test_two_servers_that_see_different_addresses(stun):
    found = await findings_of(await stun(MAPPED), await stun(OTHER))
    assert found["nat"].grade == "hint"
    assert found["nat"].text.startswith("symmetric: ")


async def test_no_nat(stun):
    found = await findings_of(await stun("source"))
    assert found["nat"] == Finding("nat", "ok", "none: servers see our own address, 127.0.0.1")


async def test_a_silent_server_is_named(stun, monkeypatch):
    monkeypatch.setattr(doctor_network, "_RETRANSMISSION", 60)
    good, silent = await stun(MAPPED), await stun(MAPPED, deaf=1000)
    found = await findings_of(good, silent, limit=1.0)
    assert found["stun"].text == f"1 of 2 servers answered; silent: {silent.address}"
    assert (found["stun"].grade, found["nat"].grade) == ("hint", "hint")
    assert len(good.requests) == 1


@pytest.mark.parametrize(("mapped", "deaf"), [(MAPPED, 1000), (None, 0)])
async def test_without_any_address(stun, mapped, deaf):
    found = await findings_of(await stun(mapped, deaf), limit=SHORT)
    assert found.keys() == {"stun"}
    assert (found["stun"].grade, found["stun"].text.partition(":")[0]) == (
        "problem",
        "0 of 1 servers answered",
    )


async def test_a_lost_request_is_sent_again(stun, monkeypatch):
    monkeypatch.setattr(doctor_network, "_RETRANSMISSION", 0.01)
    server = await stun(MAPPED, deaf=2)
    assert (await findings_of(server))["stun"].grade == "ok"
    assert len(set(server.requests)) == 1
    assert len(server.requests) >= 3


async def test_a_server_named_twice_is_asked_once(stun, monkeypatch):
    monkeypatch.setattr(doctor_network, "_RETRANSMISSION", 60)
    server = await stun(MAPPED)
    assert (await findings_of(server, server))["stun"].text == "1 of 1 servers answered"
    assert len(server.requests) == 1


async def test_ipv6_is_not_asked():
    (finding,) = await check_stun([Address("::1", 3478)], limit=LIMIT)
    assert finding.grade == "problem"


async def test_without_a_socket(monkeypatch):
    def refuse():
        raise BindError("cannot bind UDP 0.0.0.0:0: no")

    monkeypatch.setattr(doctor_network.UdpSocket, "open", refuse)
    assert await check_stun([A]) == [Finding("stun", "problem", "cannot bind UDP 0.0.0.0:0: no")]


async def test_an_error_of_the_socket_is_silence():
    survey = StunSurvey()
    survey._on_error(OSError("refused"))
    assert survey.answers == {}
    survey.close()


async def test_names_are_looked_up(monkeypatch, stun):
    server = await stun(MAPPED)
    known = {"good.example": [(0, 0, 0, "", ("127.0.0.1", 0))]}

    def getaddrinfo(host, *_rest):
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return known[host]

    monkeypatch.setattr(doctor_network.socket, "getaddrinfo", getaddrinfo)
    good, bad = Address("good.example", server.address.port), Address("bad.example", 3478)
    assert await look_up(bad) is None
    finding, _nat = await check_stun([good, bad], limit=LIMIT)
    assert finding.text == "1 of 2 servers answered; silent: bad.example:3478"


async def test_a_resolver_that_hangs_holds_nobody_up(monkeypatch):
    released, left = threading.Event(), threading.Event()

    def getaddrinfo(*_args):
        released.wait(10)
        left.set()
        raise OSError("too late")

    monkeypatch.setattr(doctor_network.socket, "getaddrinfo", getaddrinfo)
    (finding,) = await check_stun([Address("slow.example", 3478)], limit=SHORT)
    assert finding.grade == "problem"
    released.set()
    assert await asyncio.to_thread(left.wait, 10)
    # What the thread tells now, nobody waits for.
    for thread in [thread for thread in threading.enumerate() if thread.name.startswith("look up")]:
        await asyncio.to_thread(thread.join, 10)
    await asyncio.sleep(0)


def test_most_servers_are_enough():
    finding = judge_stun([A, B, C], {A: StunAnswer(A, MAPPED), B: StunAnswer(B, MAPPED)})
    assert finding == Finding("stun", "ok", f"2 of 3 servers answered; silent: {C}")


def test_one_server_under_two_names_tells_nothing_of_the_nat():
    answers = {A: StunAnswer(C, MAPPED), B: StunAnswer(C, MAPPED)}
    finding = judge_nat(answers, 5000, {"192.168.0.2"})
    assert (finding.grade, finding.text) == ("hint", f"unknown: one server alone sees us, at {MAPPED}")


def test_our_own_address_with_another_port_is_a_nat():
    answers = {A: StunAnswer(A, MAPPED), B: StunAnswer(B, MAPPED)}
    assert judge_nat(answers, 5000, {MAPPED.host}).text.startswith("cone")
    assert judge_nat(answers, MAPPED.port, {MAPPED.host}).text.startswith("none")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A pair for 127.0.0.1, and the file that makes it trusted."""
    pair = tls.CertificatePair(*tls.self_signed(["127.0.0.1"]))
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_bytes(pair.cert_pem)
    return pair, path


@pytest.fixture
async def serve():
    """Start an HTTP server that answers everything alike; returns its endpoint."""
    servers = []

    async def start(*, body=b"[]", status=200, date=None, pair=None, **options):
        async def answer(_request):
            return web.Response(status=status, body=body, headers=None if date is None else {"Date": date})

        server = RawTestServer(answer, scheme="https" if pair else "http")
        await server.start_server(ssl=tls.pair_context(pair) if pair else None)
        servers.append(server)
        return SignalEndpoint(
            url=parse_signal_url(f"{server.scheme}://127.0.0.1:{server.port}"), secret=b"s", **options
        )

    yield start
    for server in servers:
        await server.close()


async def examined(endpoint, **options):
    return {finding.name: finding for finding in await check_server(endpoint, limit=LIMIT, **options)}


async def test_a_server_with_agents(serve):
    body = (
        b'[{"name":"a","addr":"192.0.2.1:1","expire_at":5},{"name":"b","addr":"192.0.2.1:1","expire_at":5}]'
    )
    endpoint = await serve(body=body)
    found = await examined(endpoint)
    assert list(found) == ["server", "certificate", "clock"]
    assert found["server"] == Finding("server", "ok", f"{endpoint.url} answers and lists 2 agents")
    assert (found["certificate"].grade, found["clock"].grade) == ("hint", "ok")


async def test_a_server_without_agents(serve):
    endpoint = await serve()
    finding = (await examined(endpoint))["server"]
    assert (finding.grade, finding.text) == ("hint", f"{endpoint.url} answers and lists no agent")
    assert finding.remedy.startswith(f"rtun agent pub {endpoint.url}")


async def test_a_server_that_is_down():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    for scheme in ("http", "https", "quic"):
        endpoint = SignalEndpoint(url=parse_signal_url(f"{scheme}://127.0.0.1:{port}"), secret=b"s")
        (finding,) = await check_server(endpoint, limit=LIMIT)
        assert (finding.name, finding.grade) == ("server", "problem")
        assert finding.text.startswith(f"cannot connect to {endpoint.url}")


async def test_another_server(serve):
    found = await examined(await serve(status=500, body=b"oops"))
    assert list(found) == ["server"]
    assert "answers with status 500: oops" in found["server"].text


@pytest.mark.parametrize(
    ("ahead", "grade", "text"),
    [
        (0, "ok", "agrees with the server's"),
        (60, "hint", "60 s behind the server's"),
        (-60, "hint", "60 s ahead of the server's"),
        (3600, "problem", "3600 s behind the server's: agents are taken for expired, or used too long"),
    ],
)
async def test_a_skewed_clock(serve, ahead, grade, text):
    now = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    endpoint = await serve(date=format_datetime(now + timedelta(seconds=ahead), usegmt=True))
    # The header stands for the middle of its second.
    found = await examined(endpoint, clock=lambda: now.timestamp() + 0.5)
    assert (found["clock"].grade, found["clock"].text) == (grade, text)


async def test_a_server_that_tells_no_time(serve):
    assert (await examined(await serve(date="yesterday")))["clock"] == judge_clock(None)
    assert judge_clock(None).grade == "hint"


async def test_a_server_that_goes_away_before_it_tells_the_time():
    async def answer_once(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]")
        server.close()
        writer.close()

    server = await asyncio.start_server(answer_once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    endpoint = SignalEndpoint(url=parse_signal_url(f"http://127.0.0.1:{port}"), secret=b"s")
    assert (await examined(endpoint))["clock"] == judge_clock(None)


async def test_a_trusted_certificate(serve, certificate):
    pair, ca = certificate
    found = await examined(await serve(pair=pair, ca=ca))
    assert list(found) == ["server", "certificate", "clock"]
    assert found["certificate"].grade == "ok"
    assert found["certificate"].text == f"trusted, valid until {pair.chain()[0].not_valid_after_utc:%Y-%m-%d}"
    assert found["clock"].grade == "ok"


async def test_a_certificate_that_nobody_looks_at(serve, certificate):
    found = await examined(await serve(pair=certificate[0], insecure=True))
    assert found["certificate"].grade == "hint"
    assert found["certificate"].text.startswith("not checked, as --insecure was given; valid until ")


async def test_a_certificate_that_is_not_trusted(serve, certificate):
    (finding,) = await check_server(await serve(pair=certificate[0]), limit=LIMIT)
    assert (finding.name, finding.grade) == ("certificate", "problem")
    assert finding.text.startswith("not trusted: self-signed certificate")


async def test_a_ca_file_that_cannot_be_used(serve, certificate, tmp_path):
    with pytest.raises(UsageError):
        await check_server(await serve(pair=certificate[0], ca=tmp_path / "missing.pem"), limit=LIMIT)


@pytest.mark.parametrize(
    ("days", "grade", "text"),
    [
        (400, "ok", "trusted, valid until 2027-03-10"),
        (3, "hint", "trusted, but only until 2026-02-06, 3 days from now"),
        (1, "hint", "trusted, but only until 2026-02-04, 1 day from now"),
    ],
)
def test_a_certificate_that_ends(days, grade, text):
    now = datetime(2026, 2, 3, tzinfo=UTC)
    finding = judge_certificate(now + timedelta(days=days), now, insecure=False)
    assert (finding.grade, finding.text) == (grade, text)


@pytest.mark.parametrize(("insecure", "grade"), [(False, "ok"), (True, "hint")])
async def test_quic(certificate, tmp_path, insecure, grade):
    pair, ca = certificate
    (tmp_path / "key.pem").write_bytes(pair.key_pem)
    config = ServerConfig(
        listen=Address("127.0.0.1", 0), secret=b"s", cert=ca, key=tmp_path / "key.pem", bridge_only=True
    )
    server = SignalingServer(config, EventBus(), local=None)
    await server.start()
    url = parse_signal_url(f"quic://127.0.0.1:{server.address.port}")
    trust = {"insecure": True} if insecure else {"ca": ca}
    found = await examined(SignalEndpoint(url=url, secret=b"s", **trust))
    assert list(found) == ["server", "certificate"]
    assert found["server"].text == f"{url} answers and lists no agent"
    assert found["certificate"].grade == grade
    await server.stop(drain=False)
