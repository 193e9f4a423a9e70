"""The QUIC driver: two state machines joined in memory, with the network in the test's hands."""

import asyncio
import ssl

import pytest
from aioquic.quic.connection import QuicConnection

from rtun_core.errors import SignalingError
from rtun_core.net import quic, tls
from rtun_core.net.quic import QuicLink
from rtun_core.wire.address import Address

CLIENT, SERVER = Address("192.0.2.1", 1), Address("192.0.2.2", 2)
PAIR = tls.CertificatePair(*tls.self_signed(["rtun.example"]))


class End:
    """A link and what it reported."""

    def __init__(self, connection, net):
        self.data = bytearray()
        self.ended = False
        self.closed = asyncio.get_running_loop().create_future()
        self.arrived = asyncio.Event()
        self.link = QuicLink(connection, net, on_data=self.on_data, on_closed=self.closed.set_result)

    def on_data(self, data, end):
        self.data += data
        self.ended |= end
        self.arrived.set()

    async def until(self, size):
        while len(self.data) < size:
            self.arrived.clear()
            await asyncio.wait_for(self.arrived.wait(), 5)


class Net:
    """Joins a client and a server; `cut` loses every datagram."""

    def __init__(self, *, insecure=True, ca=None, host="rtun.example"):
        self.loop = asyncio.get_running_loop()
        self.cut = False
        self.carried = asyncio.Queue()
        configuration = quic.client_configuration(host, ca=ca, insecure=insecure)
        self.client = End(QuicConnection(configuration=configuration), self.up)
        self.server_configuration = quic.server_configuration(PAIR)
        self.server = None

    def up(self, data, _address):
        if not self.cut:
            self.carried.put_nowait(data)
            self.loop.call_soon(self.to_server, data)

    def down(self, data, _address):
        if not self.cut:
            self.carried.put_nowait(data)
            self.loop.call_soon(self.client.link.receive, data, SERVER)

    def to_server(self, data):
        if self.server is None:
            original = self.client.link.connection.original_destination_connection_id
            connection = QuicConnection(
                configuration=self.server_configuration, original_destination_connection_id=original
            )
            self.server = End(connection, self.down)
        self.server.link.receive(data, CLIENT)

    async def connect(self):
        self.client.link.connect(SERVER)
        await asyncio.wait_for(self.client.link.connected(), 5)
        await asyncio.wait_for(self.server.link.connected(), 5)
        return self


@pytest.fixture
async def net():
    net = await Net().connect()
    yield net
    net.client.link.close("the test is over")
    net.server.link.close("the test is over")


async def test_the_stream_carries_bytes_both_ways(net):
    await net.client.link.write(b"up")
    await net.server.until(2)
    await net.server.link.write(b"down", end=True)
    await net.client.until(4)
    assert (bytes(net.server.data), bytes(net.client.data)) == (b"up", b"down")
    assert net.client.ended
    assert net.client.link.established


async def test_no_alpn_and_the_name_only_if_it_is_one():
    configuration = quic.client_configuration("192.0.2.1", ca=None, insecure=False)
    assert configuration.alpn_protocols is None
    assert configuration.idle_timeout == 30
    assert configuration.verify_mode is None
    assert quic.client_configuration("h", ca=None, insecure=True).verify_mode == ssl.CERT_NONE
    net = Net(host="192.0.2.1")
    hello = []
    net.client.link._send = lambda data, address: hello.append(data)
    net.client.link.connect(SERVER)
    assert b"192.0.2.1" not in _initial_plaintext(net.client.link.connection, hello[0])
    net.client.link.close("over")


def _initial_plaintext(connection, _datagram):
    """The ClientHello, as the state machine keeps it for retransmission."""
    from aioquic.tls import Epoch

    return bytes(connection._crypto_streams[Epoch.INITIAL].sender._buffer)


async def test_pings_keep_the_connection(net, monkeypatch):
    monkeypatch.setattr(quic, "PING_INTERVAL", 0.01)
    net.client.link._ping()
    net.carried = asyncio.Queue()
    for _ in range(6):
        await asyncio.wait_for(net.carried.get(), 5)


async def test_writes_wait_while_too_much_is_unacknowledged(net):
    net.cut = True
    await net.client.link.write(b"x" * (quic.MAX_UNSENT + 1))
    waiting = asyncio.get_running_loop().create_task(net.client.link.write(b"y"))
    await asyncio.sleep(0)
    assert not waiting.done()
    net.cut = False
    await asyncio.wait_for(waiting, 30)
    await net.server.until(quic.MAX_UNSENT + 2)


async def test_a_closed_connection_wakes_and_refuses_writers(net):
    net.cut = True
    await net.client.link.write(b"x" * (quic.MAX_UNSENT + 1))
    waiting = asyncio.get_running_loop().create_task(net.client.link.write(b"y"))
    await asyncio.sleep(0)
    net.client.link.close("enough")
    with pytest.raises(SignalingError, match="enough"):
        await waiting
    with pytest.raises(SignalingError, match="enough"):
        await net.client.link.write(b"z")


async def test_flush_waits_for_acknowledgement_but_not_for_ever(net):
    await net.client.link.write(b"x")
    await net.client.link.flush(5)
    assert net.client.link._unsent() == 0
    net.cut = True
    await net.client.link.write(b"y")
    await net.client.link.flush(0.01)
    assert net.client.link._unsent() == 1


async def test_the_peers_close_has_a_reason(net):
    net.client.link.close("we are done", peer_reason="goodbye")
    assert await asyncio.wait_for(net.client.closed, 5) == "we are done"
    assert await asyncio.wait_for(net.server.closed, 5) == "the peer closed the QUIC connection: goodbye"
    assert net.server.link.close_reason.endswith("goodbye")


@pytest.mark.parametrize("action", ["reset_stream", "stop_stream"])
async def test_a_cancelled_stream_ends_the_connection(net, action):
    await net.client.link.write(b"x")
    await net.server.until(1)
    getattr(net.client.link.connection, action)(quic.STREAM, 7)
    net.client.link.transmit()
    assert await asyncio.wait_for(net.server.closed, 5) == "the peer cancelled the QUIC stream (code 7)"


async def test_writing_on_a_finished_stream_is_an_error_of_signalling(net):
    await net.client.link.write(b"x", end=True)
    with pytest.raises(SignalingError, match="stopped reading"):
        await net.client.link.write(b"y")


async def test_other_streams_are_refused_and_too_many_end_the_connection(net):
    connection = net.client.link.connection
    await net.client.link.write(b"x")
    for stream_id in (4, 2, 8):
        connection.send_stream_data(stream_id, b"foreign")
    net.client.link.transmit()
    await net.client.link.write(b"x")
    await net.server.until(2)
    assert bytes(net.server.data) == b"xx"
    for number in range(3, 20):
        connection.send_stream_data(4 * number, b"foreign")
    net.client.link.transmit()
    assert await asyncio.wait_for(net.server.closed, 5) == "the peer opened too many QUIC streams"


async def test_silence_ends_the_connection(monkeypatch):
    monkeypatch.setattr(quic, "IDLE_TIMEOUT", 1.0)
    net = await Net().connect()
    net.cut = True
    assert "silent for too long" in await asyncio.wait_for(net.client.closed, 10)
    net.server.link.close("over")


async def test_an_untrusted_certificate_is_named_as_such():
    net = Net(insecure=False)
    net.client.link.connect(SERVER)
    with pytest.raises(SignalingError, match=r"not trusted.*--ca FILE or --insecure"):
        await asyncio.wait_for(net.client.link.connected(), 5)
    assert not net.client.link.established
    net.server.link.close("over")


@pytest.mark.parametrize(("host", "good"), [("rtun.example", True), ("other.example", False)])
async def test_a_ca_file_is_heeded_and_the_name_checked(tmp_path, host, good):
    (tmp_path / "ca.pem").write_bytes(PAIR.cert_pem)
    net = Net(insecure=False, ca=tmp_path / "ca.pem", host=host)
    net.client.link.connect(SERVER)
    if good:
        await asyncio.wait_for(net.client.link.connected(), 5)
    else:
        with pytest.raises(SignalingError, match="doesn't match"):
            await asyncio.wait_for(net.client.link.connected(), 5)
    net.client.link.close("over")
    net.server.link.close("over")


async def test_another_certificate_is_used_by_the_next_connection(tmp_path):
    other = tls.CertificatePair(*tls.self_signed(["rtun.example"]))
    (tmp_path / "ca.pem").write_bytes(other.cert_pem)
    net = Net(insecure=False, ca=tmp_path / "ca.pem")
    quic.install(net.server_configuration, other)
    await net.connect()
    net.client.link.close("over")
    net.server.link.close("over")


async def test_whatever_breaks_in_the_library_costs_one_connection(net, monkeypatch):
    def broken(*_args, **_kwargs):
        raise AssertionError

    monkeypatch.setattr(net.server.link.connection, "receive_datagram", broken)
    await net.client.link.write(b"x")
    assert await asyncio.wait_for(net.server.closed, 5) == "the QUIC library failed: AssertionError"


async def test_garbage_does_not_raise(net):
    for size in (0, 1, 20, 1200, 9000):
        net.server.link.receive(b"\xc3" * size, CLIENT)
        net.client.link.receive(b"\x40" * size, SERVER)
    await net.client.link.write(b"alive")
    await net.server.until(5)
