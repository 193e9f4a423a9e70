"""Frames over a QUIC stream, and what a client says when it cannot connect."""

import asyncio
import socket

import pytest

from rtun_core.errors import SignalingError, UsageError
from rtun_core.net import quic_transport
from rtun_core.net.endpoint import SignalEndpoint
from rtun_core.net.quic_transport import MAX_WAITING, QuicStream, connect_quic
from rtun_core.wire.frames import encode_frame
from rtun_core.wire.signal_url import parse_signal_url


class Link:
    """Stands for the connection below a stream."""

    def __init__(self):
        self.closed = False
        self.reason = ""
        self.written = []

    async def write(self, data, *, end=False):
        self.written.append((data, end))

    async def flush(self, timeout):
        self.written.append("flush")

    def close(self, reason, *, peer_reason=""):
        self.closed, self.reason = True, reason


@pytest.fixture
def stream():
    stream = QuicStream("192.0.2.1:1", allowance=20, max_frame=100)
    stream.attach(Link())
    return stream


async def test_frames_are_cut_however_they_arrive(stream):
    for byte in encode_frame(b"one") + encode_frame(b""):
        stream.on_data(bytes([byte]), False)
    assert [await stream.recv(), await stream.recv()] == [b"one", b""]


async def test_frames_before_the_end_are_read_and_then_the_reason(stream):
    stream.on_data(encode_frame(b"last"), True)
    stream.on_closed("later")
    assert await stream.recv() == b"last"
    with pytest.raises(SignalingError, match="peer ended the QUIC stream"):
        await stream.recv()
    assert not stream.link.closed


async def test_the_end_wakes_a_reader(stream):
    reading = asyncio.get_running_loop().create_task(stream.recv())
    await asyncio.sleep(0)
    stream.on_closed("gone")
    with pytest.raises(SignalingError, match="gone"):
        await reading


@pytest.mark.parametrize(
    ("data", "end", "fault"),
    [
        (b"\0\0\0\x65", False, "oversize"),
        (b"\xff\xff\xff\xff", False, "oversize"),
        (b"\0\0\0\x09abc", True, "truncated"),
        (b"\0" * 21, False, "oversize"),
    ],
)
async def test_a_broken_stream_closes_the_connection(stream, data, end, fault):
    stream.on_data(data, end)
    assert stream.fault == fault
    assert stream.link.closed
    stream.on_data(b"more", False)


async def test_a_trusted_peer_may_send_more(stream):
    stream.on_data(encode_frame(b"request"), False)
    stream.trust()
    stream.on_data(encode_frame(b"x" * 100), False)
    assert await stream.recv() == b"request"
    assert len(await stream.recv()) == 100


async def test_unread_frames_are_bounded(stream):
    stream.trust()
    for _ in range(MAX_WAITING + 1):
        stream.on_data(encode_frame(b""), False)
    assert stream.fault == "flood"


async def test_sending_finishing_and_closing(stream):
    await stream.send(b"a")
    await stream.finish(b"b")
    assert stream.link.written == [(b"\0\0\0\x01a", False), (b"\0\0\0\x01b", True), "flush"]
    await stream.close()
    assert stream.link.reason == "the QUIC connection was closed on this side"


def test_a_stream_without_link_is_our_mistake():
    with pytest.raises(RuntimeError):
        _ = QuicStream("peer").link


def endpoint(port, host="127.0.0.1", **options):
    return SignalEndpoint(url=parse_signal_url(f"quic://{host}:{port}"), secret=b"s", **options)


@pytest.fixture
def silent_port():
    """A UDP port on which nobody ever answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.fixture
def closed_port(silent_port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


async def test_nobody_answers(silent_port):
    with pytest.raises(SignalingError, match=r"cannot connect to quic://127.0.0.1:\d+: no answer within 0.2"):
        await connect_quic(endpoint(silent_port), timeout=0.2)


async def test_a_closed_port_is_refused_at_once(closed_port):
    with pytest.raises(SignalingError, match="Connection refused"):
        await connect_quic(endpoint(closed_port), timeout=20)


async def test_an_unknown_name(monkeypatch):
    async def getaddrinfo(*_args, **_kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    with pytest.raises(SignalingError, match=r"the name nowhere\.invalid is not resolved: Name or service"):
        await connect_quic(endpoint(1, "nowhere.invalid"), timeout=5)


async def test_a_name_server_that_does_not_answer(monkeypatch):
    async def getaddrinfo(*_args, **_kwargs):
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    with pytest.raises(SignalingError, match=r"not resolved within 0\.05 s"):
        await connect_quic(endpoint(1, "nowhere.invalid"), timeout=0.05)


async def test_every_address_of_a_name_is_tried(monkeypatch, closed_port):
    tried = []
    attempt = quic_transport._try

    async def getaddrinfo(*_args, **_kwargs):
        return [(0, 0, 0, "", (f"127.0.0.{last}", closed_port)) for last in (1, 2, 1)]

    async def recording(target, address, timeout):
        tried.append(address.host)
        return await attempt(target, address, timeout)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(quic_transport, "_try", recording)
    with pytest.raises(SignalingError, match="refused"):
        await connect_quic(endpoint(closed_port, "two.example"), timeout=10)
    assert tried == ["127.0.0.1", "127.0.0.2"]


async def test_a_bad_ca_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"CA file .*missing\.pem"):
        await connect_quic(endpoint(1, ca=tmp_path / "missing.pem"), timeout=1)
