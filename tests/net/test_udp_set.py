import asyncio
import contextlib
import select
import socket
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtun_core.net import udp_mmsg, udp_open, udp_set
from rtun_core.net.udp import BATCH, ROOM, Spans, UdpSocket, UdpSocketSet
from rtun_core.net.udp_send import QUEUE_PACKETS
from rtun_core.wire.address import Address

V4 = Address("127.0.0.1", 0)
V6 = Address("::1", 0)

LOOPS = {"asyncio": asyncio.new_event_loop}
if sys.platform != "win32":
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


@pytest.fixture(params=LOOPS)
def runner(request):
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield runner


@pytest.fixture(params=[False, True], ids=["best", "portable"])
def portable(request):
    return request.param


class Flows:
    """A socket set that keeps what it receives."""

    def __init__(self, portable):
        self.got, self.errors, self.batches = [], [], []
        self._changed = asyncio.Event()
        self.set = UdpSocketSet(self.on_batch, self.on_error, portable=portable)

    def on_batch(self, batch, handles):
        assert batch.count == len(handles) <= BATCH
        self.batches.append(handles)
        self.got += [(handle, batch.payload(row)) for row, handle in enumerate(handles)]
        self._changed.set()

    def on_error(self, handle, error):
        self.errors.append((handle, error))
        self._changed.set()

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def echo_server(local=V4):
    server = UdpSocket.open(local=local)

    def echo(batch):
        server.send_spans(batch.spans(), batch.names[: batch.count])

    server.start(echo, lambda error: None)
    return server


def spans_of(payloads):
    """Payloads one behind the other."""
    lengths = np.array([*map(len, payloads)], np.int64)
    return Spans(np.frombuffer(b"".join(payloads), np.uint8), np.cumsum(lengths) - lengths, lengths)


def test_two_hundred_sockets(runner, portable):
    async def check():
        servers = [echo_server(), echo_server(V6)]
        flows = Flows(portable)
        handles = [flows.set.open(servers[index % 2].local) for index in range(200)]
        assert len(set(handles)) == len(flows.set) == 200
        expected = []
        for handle in handles:
            payloads = [f"{handle}/{number}".encode() for number in range(1 + handle % 5)]
            assert flows.set.send(handle, payloads[0])
            assert flows.set.send_spans(handle, spans_of(payloads[1:])) == len(payloads) - 1
            expected += [(handle, payload) for payload in payloads]
        await flows.until(lambda: len(flows.got) >= len(expected))
        assert sorted(flows.got) == sorted(expected)
        ours = {handle: flows.set.local_address(handle) for handle in handles}
        assert len(set(ours.values())) == 200
        stats = flows.set.stats
        size = sum(len(payload) for _, payload in expected)
        assert (stats.tx_packets, stats.tx_bytes, stats.rx_packets, stats.rx_bytes) == (
            len(expected), size, len(expected), size,
        )  # fmt: skip
        flows.set.close_all()
        assert len(flows.set) == 0
        for server in servers:
            server.close()

    runner.run(check())


def test_handles_are_never_used_twice(runner, portable):
    async def check():
        server = echo_server()
        flows = Flows(portable)
        first = flows.set.open(server.local)
        flows.set.send(first, b"for a closed flow")
        flows.set.close(first)
        flows.set.close(first)
        second = flows.set.open(server.local)
        assert second != first
        assert not flows.set.send(first, b"x")
        assert flows.set.send_spans(first, spans_of([b"x"] * 4)) == 0
        assert flows.set.stats.tx_dropped["socket"] == 5
        with pytest.raises(KeyError):
            flows.set.local_address(first)
        flows.set.send(second, b"hello")
        await flows.until(lambda: flows.got)
        assert flows.got == [(second, b"hello")]
        flows.set.close_all()
        third = flows.set.open(server.local)  # a set may be filled again
        flows.set.send(third, b"again")
        await flows.until(lambda: len(flows.got) == 2)
        assert flows.got[1] == (third, b"again")
        flows.set.close_all()
        flows.set.close_all()
        server.close()

    runner.run(check())


def test_a_refused_flow_is_told_and_lives_on(runner, portable):
    async def check():
        if portable and type(asyncio.get_running_loop()).__module__.startswith("uvloop"):
            pytest.skip("libuv stops watching a socket after an error: why Linux has an epoll between")
        port = UdpSocket.open(local=V4)
        port.close()
        server = echo_server()
        flows = Flows(portable)
        refused, fine = flows.set.open(port.local), flows.set.open(server.local)
        for _ in range(2):
            assert flows.set.send(refused, b"x")
            assert flows.set.send_spans(refused, spans_of([b"x"] * 5)) == 5
        assert flows.set.send(fine, b"y")
        assert not flows.errors
        await flows.until(lambda: flows.errors and flows.got)
        assert {handle for handle, _ in flows.errors} == {refused}
        assert all(isinstance(error, ConnectionRefusedError) for _, error in flows.errors)
        late = echo_server(port.local)
        flows.set.send(refused, b"now it listens")
        await flows.until(lambda: len(flows.got) == 2)
        assert flows.got[1] == (refused, b"now it listens")
        flows.set.close_all()
        late.close()
        server.close()

    runner.run(check())


def test_an_error_of_a_flow_closed_meanwhile_is_not_told(runner, portable):
    async def check():
        port = UdpSocket.open(local=V4)
        port.close()
        flows = Flows(portable)
        for close in (flows.set.close, lambda _: flows.set.close_all()):
            handle = flows.set.open(port.local)
            flows.set.send(handle, b"x")
            flows.set.send(handle, b"x")
            close(handle)
        await asyncio.sleep(0)
        assert not flows.errors

    runner.run(check())


def test_a_flooding_flow_leaves_room_for_others(runner, portable):
    async def check():
        server = UdpSocket.open(local=V4)
        flows = Flows(portable)
        loud, quiet = flows.set.open(server.local), flows.set.open(server.local)
        for number in range(3 * BATCH):
            server.send(b"%d" % number, flows.set.local_address(loud))
        server.send(b"quiet", flows.set.local_address(quiet))
        await flows.until(lambda: len(flows.got) == 3 * BATCH + 1)
        assert [payload for handle, payload in flows.got if handle == loud] == [
            b"%d" % number for number in range(3 * BATCH)
        ]
        if not portable:
            assert quiet in flows.batches[0]
        flows.set.close_all()
        server.close()

    runner.run(check())


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="without epoll every socket has its own wake-up")
@pytest.mark.parametrize("place", [0, 100, 200])
def test_a_flooding_flow_starves_none_of_two_hundred_within_a_wake_up(runner, place):
    async def check():
        server = UdpSocket.open(local=V4)
        flows = Flows(False)
        handles = [flows.set.open(server.local) for _ in range(201)]
        loud = handles[place]
        flood = [b"%d" % number for number in range(5 * BATCH)]
        for handle in handles:
            for payload in flood if handle == loud else [b"quiet"]:
                server.send(payload, flows.set.local_address(handle))
        first_wake_up, on_batch = [], flows.on_batch

        def watch(batch, owners):
            if not flows.got:
                asyncio.get_running_loop().call_soon(lambda: first_wake_up.extend(flows.got))
            on_batch(batch, owners)

        flows.set._on_batch = watch
        await flows.until(lambda: len(flows.got) == 200 + len(flood))
        assert {handle for handle, _ in first_wake_up} == set(handles)
        assert len([handle for handle, _ in first_wake_up if handle == loud]) < len(flood)
        assert [payload for handle, payload in flows.got if handle == loud] == flood
        flows.set.close_all()
        server.close()

    runner.run(check())


def test_the_first_of_a_burst_goes_ahead_alone_only_once(runner, portable):
    async def check():
        server = UdpSocket.open(local=V4)
        flows = Flows(portable)
        handle = flows.set.open(server.local)

        async def sizes_of_batches(burst):
            flows.batches, flows.got = [], []
            for number in range(burst):
                server.send(b"%d" % number, flows.set.local_address(handle))
            await flows.until(lambda: len(flows.got) == burst)
            return [len(handles) for handles in flows.batches]

        assert await sizes_of_batches(5) == [1, 4]
        assert await sizes_of_batches(5) == [5]
        assert await sizes_of_batches(1) == [1]
        assert await sizes_of_batches(5) == [1, 4]
        flows.set.close_all()
        server.close()

    runner.run(check())


# per datagram: which socket it goes from (3 is closed, 4 waits for its kernel) and its size
EACH = st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0, 1, 900, 65508])), max_size=20)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(datagrams=EACH)
def test_datagrams_from_many_sockets_go_as_they_would_one_by_one(runner, portable, datagrams):
    payloads = [bytes([index]) * size for index, (_, size) in enumerate(datagrams)]
    whom = [flow for flow, _ in datagrams]
    together = runner.run(sent_by(portable, whom, payloads, each=True))
    assert together == runner.run(sent_by(portable, whom, payloads, each=False))
    assert together[0] == [
        index for index, (flow, size) in enumerate(datagrams) if flow == 3 or (size > 65507 and flow != 4)
    ]


async def sent_by(portable, whom, payloads, *, each):
    """What is dropped, what each of the flows' targets gets, and the counters."""
    servers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(5)]
    sockets = UdpSocketSet(lambda *_: None, lambda *_: None, portable=portable)
    handles = []
    for server in servers:
        server.bind(tuple(V4))
        server.setblocking(False)
        handles.append(sockets.open(Address(*server.getsockname())))
    sockets.close(handles[3])
    sockets._queue(handles[4], sockets._sockets[handles[4]])
    handles_of = [handles[flow] for flow in whom]
    if each:
        dropped = sockets.send_each(handles_of, spans_of(payloads))
    else:
        sends = zip(handles_of, payloads, strict=True)
        dropped = [
            index for index, (handle, payload) in enumerate(sends) if not sockets.send(handle, payload)
        ]
    got = [list(waiting(server)) for server in servers]
    stats = sockets.stats
    counted = (stats.tx_packets, stats.tx_bytes, dict(stats.tx_dropped), len(sockets._queues[handles[4]]))
    sockets.close_all()
    for server in servers:
        server.close()
    return dropped, got, counted


def waiting(sock):
    with contextlib.suppress(BlockingIOError):
        while True:
            yield sock.recv(4096)


@pytest.mark.parametrize("sends", [1, 3])
def test_a_refusal_that_many_sends_meet_is_told(runner, portable, sends):
    async def check():
        if portable and type(asyncio.get_running_loop()).__module__.startswith("uvloop"):
            pytest.skip("libuv stops watching a socket after an error: why Linux has an epoll between")
        port = UdpSocket.open(local=V4)
        port.close()
        flows = Flows(portable)
        handle = flows.set.open(port.local)
        for _ in range(sends):
            assert flows.set.send_each([handle] * 2, spans_of([b"x", b"y"])) == []
        assert not flows.errors
        await flows.until(lambda: flows.errors)
        assert {type(error) for _, error in flows.errors} == {ConnectionRefusedError}
        assert flows.set.stats.tx_packets == 2 * sends
        flows.set.close_all()

    runner.run(check())


@pytest.mark.skipif(not udp_mmsg.available(), reason="no recvmmsg here")
def test_kernel_drops_of_all_flows_are_added_up(runner, monkeypatch):
    monkeypatch.setattr(udp_open, "FLOW_BUFFER_BYTES", 64 * 1024)

    async def check():
        server = UdpSocket.open(local=V4)
        flows = Flows(False)
        handles = [flows.set.open(server.local) for _ in range(2)]
        for handle in handles:
            for _ in range(500):
                server.send(bytes(1000), flows.set.local_address(handle))
        await flows.until(lambda: set(handles) <= {handle for handle, _ in flows.got})
        for handle in handles * 2:
            server.send(b"the second of two datagrams tells", flows.set.local_address(handle))
        await flows.until(lambda: sum(len(payload) < 1000 for _, payload in flows.got) == 4)
        assert flows.set.stats.kernel_drops == 1004 - len(flows.got) > 0
        flows.set.close_all()
        server.close()

    runner.run(check())


def test_callbacks_may_close_everything_and_may_fail(runner, portable):
    async def check():
        reports, done = [], asyncio.Event()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        server = echo_server()

        def on_batch(batch, handles):
            sockets.close_all()
            done.set()
            raise ZeroDivisionError

        sockets = UdpSocketSet(on_batch, pytest.fail, portable=portable)
        for handle in [sockets.open(server.local) for _ in range(5)]:
            sockets.send_spans(handle, spans_of([b"x"] * 20))
        async with asyncio.timeout(10):
            await done.wait()
        await asyncio.sleep(0)
        assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]
        server.close()

    runner.run(check())


def test_large_answers_are_cut_and_large_questions_counted(runner, portable):
    async def check():
        server = UdpSocket.open(local=V4)
        cut = []
        changed = asyncio.Event()

        def on_batch(batch, handles):
            marks = [False] * batch.count if batch.truncated is None else batch.truncated.tolist()
            cut.extend(zip(batch.lengths.tolist(), marks, strict=True))
            changed.set()

        sockets = UdpSocketSet(on_batch, pytest.fail, portable=portable)
        handle = sockets.open(server.local)
        assert not sockets.send(handle, bytes(65508))
        assert sockets.stats.tx_dropped["oversize"] == 1
        for size in (0, ROOM, ROOM + 1, 9000):
            server.send(bytes(size), sockets.local_address(handle))
        async with asyncio.timeout(10):
            while len(cut) < 4:
                changed.clear()
                await changed.wait()
        assert cut == [(0, False), (ROOM, False), (ROOM, True), (ROOM, True)]
        sockets.close_all()
        server.close()

    runner.run(check())


class Gate(socket.socket):
    """A UDP socket whose kernel buffer is full while `shut`."""

    shut = True
    __slots__ = ()

    def send(self, data, flags=0):
        if Gate.shut:
            raise BlockingIOError
        return super().send(data, flags)


def gate(**options):
    sock = Gate(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.connect(tuple(options["remote"]))
    return sock


def test_what_the_kernel_does_not_take_waits(runner, portable, monkeypatch):
    async def check():
        Gate.shut = True
        server = UdpSocket.open(local=V4)
        monkeypatch.setattr(udp_set, "open_socket", gate)
        got, changed = [], asyncio.Event()

        def on_batch(batch):
            got.extend(batch.payload(row) for row in range(batch.count))
            changed.set()

        server.start(on_batch, pytest.fail)
        flows = Flows(portable)
        handle, other = flows.set.open(server.local), flows.set.open(server.local)
        assert flows.set.send(handle, b"dropped for newer ones")
        payloads = [b"%d" % number for number in range(QUEUE_PACKETS)]
        assert all(flows.set.send(handle, payload) for payload in payloads[:-3])
        assert flows.set.send_spans(handle, spans_of(payloads[-3:])) == 3
        assert flows.set.send_spans(other, spans_of([b"goes with its flow"] * 2)) == 2
        flows.set.close(other)
        assert flows.set.stats.tx_dropped["queue"] == 3
        await asyncio.sleep(0)
        Gate.shut = False
        async with asyncio.timeout(10):
            while len(got) < QUEUE_PACKETS:
                changed.clear()
                await changed.wait()
        assert got == payloads
        assert flows.set.stats.tx_packets == QUEUE_PACKETS
        assert not flows.set._queues
        flows.set.close_all()
        server.close()

    runner.run(check())


def test_opening_reports_what_is_wrong(runner, monkeypatch):
    async def check():
        flows = Flows(False)
        with pytest.raises(ValueError, match="not an IP address"):
            flows.set.open(Address("localhost", 1))
        with pytest.raises(OSError, match=r"denied|unreachable|Network"):
            flows.set.open(Address("255.255.255.255", 1))
        monkeypatch.setattr(udp_set, "make_watch", full)
        with pytest.raises(OSError, match="No space"):
            flows.set.open(Address("127.0.0.1", 1))
        assert len(flows.set) == 0

    runner.run(check())


def full(*args, **options):
    raise OSError(28, "No space left on device")
