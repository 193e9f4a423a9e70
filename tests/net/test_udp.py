import asyncio
import socket
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtun_core.errors import BindError
from rtun_core.net import udp_mmsg
from rtun_core.net.sockaddr import pack_sockaddr
from rtun_core.net.udp import BATCH, HEADROOM, ROOM, STRIDE, Spans, UdpSocket
from rtun_core.net.udp_open import open_socket, thread_io
from rtun_core.net.udp_send import QUEUE_PACKETS
from rtun_core.net.udp_watch import MAX_ROUNDS
from rtun_core.wire.address import Address
from tests.net.name_key import name_key

V4 = Address("127.0.0.1", 0)
V6 = Address("::1", 0)
MAX_UDP = 65507

LOOPS = {"asyncio": asyncio.new_event_loop}
if sys.platform != "win32":
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop

needs_mmsg = pytest.mark.skipif(not udp_mmsg.available(), reason="no recvmmsg here")


@pytest.fixture(params=LOOPS)
def runner(request):
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield runner


@pytest.fixture(params=[False, True], ids=["best", "portable"])
def portable(request):
    return request.param


class Reader:
    """Keeps what a socket receives, and waits for it."""

    def __init__(self, sock):
        self.got, self.errors, self.batches = [], [], []
        self._changed = asyncio.Event()
        sock.start(self.on_batch, self.on_error)

    def on_batch(self, batch):
        keys = batch.name_keys()
        marks = [False] * batch.count if batch.truncated is None else batch.truncated.tolist()
        assert len(keys) == len(batch.starts) == len(marks) == batch.count
        assert batch.sizes == batch.lengths.tolist()
        self.batches.append(batch.count)
        for row, key in enumerate(keys):
            assert key == name_key(batch.names[row].tobytes())
            self.got.append((batch.payload(row), marks[row], batch.address(row)))
        self._changed.set()

    def on_error(self, error):
        self.errors.append(error)
        self._changed.set()

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def received(self, count):
        await self.until(lambda: len(self.got) >= count)
        assert len(self.got) == count
        return self.got

    def payloads(self):
        return [payload for payload, _, _ in self.got]


def spans_of(payloads):
    """Payloads in a flat buffer, in reverse order and with room in front of each."""
    lengths = np.array([*map(len, payloads)], np.int64)
    ends = np.cumsum((lengths + HEADROOM)[::-1])[::-1]
    data = np.zeros(int(lengths.sum()) + HEADROOM * len(payloads), np.uint8)
    for end, payload in zip(ends.tolist(), payloads, strict=True):
        data[end - len(payload) : end] = np.frombuffer(payload, np.uint8)
    return Spans(data, ends - lengths, lengths)


def names_of(addresses):
    return np.frombuffer(b"".join(map(pack_sockaddr, addresses)), np.uint8).reshape(-1, 28)


def content(index, size):
    return (index.to_bytes(4, "big") * (size // 4 + 1))[:size]


SIZES = st.one_of(
    st.integers(0, 1500), st.sampled_from([0, ROOM - 1, ROOM, ROOM + 1, 9000, MAX_UDP, MAX_UDP + 1])
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # the runner serves all examples
@given(
    batches=st.lists(st.lists(st.tuples(st.integers(0, 2), SIZES), min_size=1, max_size=12), max_size=4),
    runs=st.booleans(),
)
def test_batches_carry_what_single_datagrams_would(runner, portable, batches, runs):
    runner.run(check_against_model(portable, batches, runs))


async def check_against_model(portable, batches, runs):
    sender = UdpSocket.open(local=V4, portable=portable)
    sockets = [UdpSocket.open(local=V4, portable=portable) for _ in range(3)]
    readers = [Reader(sock) for sock in sockets]
    model, oversize, sizes = [[], [], []], 0, []
    for batch in batches:
        payloads = [content(index, size) for index, (_, size) in enumerate(batch)]
        for (to, size), payload in zip(batch, payloads, strict=True):
            if size <= MAX_UDP:
                model[to].append((payload[:ROOM], size > ROOM, sender.local))
                sizes.append(size)
            else:
                oversize += 1
        names = names_of([sockets[to].local for to, _ in batch])
        peers = [to for to, _ in batch] if runs else None
        sent = sender.send_spans(spans_of(payloads), names, peers)
        assert sent == sum(size <= MAX_UDP for _, size in batch)
        for reader, expected in zip(readers, model, strict=True):
            assert await reader.received(len(expected)) == expected
    assert sender.stats.tx_dropped == {
        "oversize": oversize,
        "refused": 0,
        "buffers": 0,
        "queue": 0,
        "socket": 0,
    }
    assert (sender.stats.tx_packets, sender.stats.tx_bytes) == (len(sizes), sum(sizes))
    for sock, expected in zip(sockets, model, strict=True):
        assert sock.stats.rx_packets == len(expected)
        assert sock.stats.rx_bytes == sum(len(payload) for payload, _, _ in expected)
        sock.close()
    sender.close()


@pytest.mark.parametrize("local", [V4, V6])
@pytest.mark.parametrize("count", [1, 2, 5, BATCH, BATCH + 1, 2 * BATCH + 7])
def test_connected_sockets_in_both_directions(runner, portable, local, count):
    async def check():
        server = UdpSocket.open(local=local, portable=portable)
        client = UdpSocket.open(remote=server.local, portable=portable)
        at_server, at_client = Reader(server), Reader(client)
        payloads = [content(index, index * 7 % 900) for index in range(count)]
        assert client.send_spans(spans_of(payloads)) == count
        await at_server.received(count)
        assert at_server.got == [(payload, False, client.local) for payload in payloads]
        assert max(at_server.batches) <= BATCH
        assert all(server.send(payload, client.local) for payload in payloads)
        await at_client.received(count)
        assert at_client.got == [(payload, False, server.local) for payload in payloads]
        server.close()
        client.close()

    runner.run(check())


def test_a_reader_rewrites_rows_and_sends_them_on(runner, portable):
    async def check():
        target = UdpSocket.open(local=V4, portable=portable)
        relay = UdpSocket.open(local=V4, portable=portable)
        out = UdpSocket.open(remote=target.local, portable=portable)
        source = UdpSocket.open(remote=relay.local, portable=portable)

        def forward(batch):
            assert batch.starts.tolist() == [row * STRIDE + HEADROOM for row in range(batch.count)]
            before = batch.starts[:, None] - np.arange(3, 0, -1)
            batch.data[before] = np.frombuffer(b"hd:", np.uint8)
            out.send_spans(Spans(batch.data, batch.starts - 3, batch.lengths + 3))

        relay.start(forward, pytest.fail)
        reader = Reader(target)
        payloads = [content(index, 100 + index) for index in range(BATCH)]
        source.send_spans(spans_of(payloads))
        await reader.received(BATCH)
        assert reader.payloads() == [b"hd:" + payload for payload in payloads]
        for sock in (target, relay, out, source):
            sock.close()

    runner.run(check())


def test_ipv4_rows_are_padded_after_ipv6_rows(runner, portable):
    async def check():
        for local in (V6, V4):
            server = UdpSocket.open(local=local, portable=portable)
            client = UdpSocket.open(remote=server.local, portable=portable)
            reader = Reader(server)
            client.send(b"x")
            await reader.received(1)
            assert thread_io(portable=portable).batch.names[0].tobytes() == pack_sockaddr(client.local)
            server.close()
            client.close()

    runner.run(check())


@pytest.mark.parametrize("count", [2, 10])
def test_an_oversize_datagram_costs_no_neighbour(runner, portable, count):
    async def check():
        server = UdpSocket.open(local=V4, portable=portable)
        client = UdpSocket.open(remote=server.local, portable=portable)
        reader = Reader(server)
        payloads = [content(index, 50) for index in range(count)]
        for bad in range(count):
            mixed = payloads.copy()
            mixed[bad] = bytes(MAX_UDP + 1)
            assert client.send_spans(spans_of(mixed)) == count - 1
        await reader.received(count * (count - 1))
        assert reader.payloads() == [p for bad in range(count) for p in payloads if p != payloads[bad]]
        assert client.stats.tx_dropped["oversize"] == count
        assert not client.send(bytes(MAX_UDP + 1))
        assert client.stats.tx_dropped["oversize"] == count + 1
        server.close()
        client.close()

    runner.run(check())


def closed_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return Address("127.0.0.1", sock.getsockname()[1])


@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_refused_port_is_reported_and_reading_goes_on(runner, portable, count):
    async def check():
        if portable and type(asyncio.get_running_loop()).__module__.startswith("uvloop"):
            pytest.skip("libuv stops watching a socket after an error: why Linux has an epoll between")
        port = closed_port()
        client = UdpSocket.open(remote=port, portable=portable)
        reader = Reader(client)
        for _ in range(2):  # the second meets the pending error of the first
            assert client.send_spans(spans_of([b"hello"] * count)) == count
            assert client.send(b"hello")
        assert not reader.errors  # never from inside send
        await reader.until(lambda: reader.errors)
        assert all(isinstance(error, ConnectionRefusedError) for error in reader.errors)
        assert client.stats.tx_packets == 2 * count + 2
        server = UdpSocket.open(local=port, portable=portable)
        server.send(b"back", client.local)
        await reader.received(1)
        client.close()
        server.close()

    runner.run(check())


def test_an_error_without_a_reader_is_not_fatal(runner, portable):
    async def check():
        client = UdpSocket.open(remote=closed_port(), portable=portable)
        assert client.send(b"one")
        assert client.send(b"two")
        await asyncio.sleep(0)
        client.close()

    runner.run(check())


def test_a_failing_callback_costs_its_batch_only(runner, portable):
    async def check():
        reports = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        server = UdpSocket.open(local=V4, portable=portable)
        client = UdpSocket.open(remote=server.local, portable=portable)
        failed = asyncio.Event()

        def fail(batch):
            failed.set()
            raise ZeroDivisionError

        server.start(fail, pytest.fail)
        client.send(b"one")
        async with asyncio.timeout(10):
            await failed.wait()
        reader = Reader(server)
        client.send(b"two")
        await reader.received(1)
        assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]
        server.close()
        client.close()

    runner.run(check())


def test_handing_over_pausing_and_resuming(runner, portable):
    async def check():
        server = UdpSocket.open(local=V4, portable=portable)
        client = UdpSocket.open(remote=server.local, portable=portable)
        server.resume_reading()  # before the first start there is nobody to read
        client.send(b"waits in the kernel")
        first = Reader(server)
        await first.received(1)
        second = Reader(server)
        client.send(b"for the second")
        await second.received(1)
        server.pause_reading()
        server.pause_reading()
        client.send(b"later")
        third = Reader(client)
        server.send(b"the loop turned", client.local)
        await third.received(1)
        assert len(second.got) == 1
        server.resume_reading()
        await second.received(2)
        assert len(first.got) == 1
        server.close()
        client.close()

    runner.run(check())


def test_one_wake_up_is_bounded(runner, portable):
    async def check():
        server = UdpSocket.open(local=V4, portable=portable)
        client = UdpSocket.open(remote=server.local, portable=portable)
        total = BATCH * (MAX_ROUNDS + 1)
        for _ in range(MAX_ROUNDS + 1):
            client.send_spans(spans_of([b"x"] * BATCH))
        reader, seen_by_others = Reader(server), []
        loop = asyncio.get_running_loop()
        on_batch = reader.on_batch

        def watch(batch):
            if not reader.batches:
                loop.call_soon(lambda: seen_by_others.append(len(reader.batches)))
            on_batch(batch)

        server.start(watch, pytest.fail)
        await reader.received(total)
        assert seen_by_others == [MAX_ROUNDS]
        server.close()
        client.close()

    runner.run(check())


@pytest.mark.parametrize("act", ["close", "pause_reading"])
def test_stopping_inside_the_callback(runner, portable, act):
    async def check():
        server = UdpSocket.open(local=V4, portable=portable)
        client = UdpSocket.open(remote=server.local, portable=portable)
        for _ in range(2):
            client.send_spans(spans_of([b"x"] * BATCH))
        batches, done = [], asyncio.Event()

        def stop(batch):
            batches.append(batch.count)
            getattr(server, act)()
            done.set()

        server.start(stop, pytest.fail)
        async with asyncio.timeout(10):
            await done.wait()
        await asyncio.sleep(0)
        assert batches == [BATCH]
        server.close()
        client.close()

    runner.run(check())


def test_a_closed_socket_drops_and_counts(runner, portable):
    async def check():
        sock = UdpSocket.open(local=V4, portable=portable)
        sock.start(pytest.fail, pytest.fail)
        sock.close()
        sock.close()
        sock.resume_reading()
        assert sock.closed
        assert not sock.send(b"x", sock.local)
        assert sock.send_spans(spans_of([b"x"] * 5)) == 0
        assert sock.stats.tx_dropped["socket"] == 6

    runner.run(check())


@needs_mmsg
def test_kernel_drops_are_counted(runner):
    async def check():
        raw = open_socket(local=V4, remote=None, family=None, small_buffers=True)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server = UdpSocket(raw, asyncio.get_running_loop())
        client = UdpSocket.open(remote=server.local)
        client.send_spans(spans_of([bytes(1000)] * 50))
        reader = Reader(server)
        await reader.until(lambda: reader.got)
        client.send(b"the next datagram tells")
        await reader.until(lambda: b"the next datagram tells" in reader.payloads())
        assert server.stats.kernel_drops == 51 - len(reader.got) > 0
        server.close()
        client.close()

    runner.run(check())


def test_connect_and_ttl(runner, portable):
    async def check():
        for local in (V4, V6):
            server = UdpSocket.open(local=local, portable=portable)
            client = UdpSocket.open(family=server.family, portable=portable)
            assert client.local.host in ("0.0.0.0", "::")
            client.connect(server.local)
            assert client.local.host == local.host
            client.set_ttl(3)
            reader = Reader(server)
            assert client.send(memoryview(b"connected"))
            assert (await reader.received(1))[0][2] == client.local
            server.close()
            client.close()

    runner.run(check())


def test_ttl_reaches_the_system(runner):
    async def check():
        raw = open_socket(local=V4, remote=None, family=None, small_buffers=True)
        sock = UdpSocket(raw, asyncio.get_running_loop(), portable=True)
        sock.set_ttl(3)
        assert raw.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 3
        sock.close()

    runner.run(check())


def test_bind_errors_name_the_address(runner):
    async def check():
        first = UdpSocket.open(local=V4)
        with pytest.raises(BindError, match=f"cannot bind UDP {first.local}: .*in use"):
            UdpSocket.open(local=first.local)
        first.close()

    runner.run(check())


class Gate(socket.socket):
    """A UDP socket whose kernel buffer is full while `shut`."""

    shut = True
    __slots__ = ()

    def send(self, data, flags=0):
        if Gate.shut:
            raise BlockingIOError
        return super().send(data, flags)

    def sendto(self, data, address):
        if Gate.shut:
            raise BlockingIOError
        return super().sendto(data, address)


@pytest.mark.parametrize("connected", [True, False])
def test_what_the_kernel_does_not_take_waits(runner, connected):
    async def check():
        Gate.shut = True
        server = UdpSocket.open(local=V4)
        reader = Reader(server)
        raw = Gate(socket.AF_INET, socket.SOCK_DGRAM)
        raw.setblocking(False)
        if connected:
            raw.connect(tuple(server.local))
        client = UdpSocket(raw, asyncio.get_running_loop(), portable=True)
        to = None if connected else server.local
        names = None if connected else names_of([server.local] * 400)
        assert client.send(b"dropped for newer ones", to)
        payloads = [content(index, 4) for index in range(400)]
        assert client.send_spans(spans_of(payloads), names) == 400
        assert client.send_spans(spans_of(payloads), names) == 400
        dropped = 801 - QUEUE_PACKETS
        assert client.stats.tx_dropped["queue"] == dropped
        assert client.stats.tx_packets == 0
        await asyncio.sleep(0)
        Gate.shut = False
        await reader.received(QUEUE_PACKETS)
        assert reader.payloads() == (payloads * 2)[-QUEUE_PACKETS:]
        assert client.send(b"direct again", to)
        await reader.received(QUEUE_PACKETS + 1)
        Gate.shut = True
        client.send(b"lost by closing", to)
        client.close()
        assert client.stats.tx_dropped["queue"] == dropped + 1
        server.close()

    runner.run(check())


def test_imports_where_there_is_no_recvmmsg():
    program = """
import asyncio, ctypes, select, sys, numpy
sys.platform = "darwin"
ctypes.PyDLL = ctypes.CDLL = None
del select.epoll
from rtun_core.net import udp_mmsg
from rtun_core.net.udp import UdpSocket, UdpSocketSet
from rtun_core.net.udp_open import thread_io
assert not udp_mmsg.available()
assert type(thread_io()).__name__ == "PlainIO"
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
