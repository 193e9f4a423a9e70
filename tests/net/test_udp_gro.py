"""Datagrams that the kernel joined: cut up right, and on real sockets as if they had come one by one."""

import asyncio
import errno
import socket
import struct
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtun_core.net import udp_gro, udp_mmsg
from rtun_core.net.udp import BATCH, ROOM, Spans, UdpSocket
from rtun_core.net.udp_gro import SLOTS, UDP_GRO, next_limit, segment_size, segment_slots, split_segments
from rtun_core.net.udp_mmsg import MmsgIO
from rtun_core.net.udp_open import open_socket
from rtun_core.wire.address import Address

V4 = Address("127.0.0.1", 0)
V6 = Address("::1", 0)


def has_gro():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return udp_mmsg.available() and udp_gro.enable(sock)


needs_gro = pytest.mark.skipif(not has_gro(), reason="no UDP_GRO here")


# ---- cutting ------------------------------------------------------------------------------------------


def split_one(start, size, segment):
    """The pieces of one message, as (start, length)."""
    if segment <= 0:
        return [(start, size)]
    return [(start + at, min(segment, size - at)) for at in range(0, size, segment)] or [(start, 0)]


@given(
    st.lists(
        st.tuples(st.integers(0, 65507), st.integers(0, 1500) | st.integers(0, 65535)).filter(
            lambda message: message[1] == 0 or message[0] // message[1] <= 128
        ),
        min_size=1,
        max_size=SLOTS,
    )
)
def test_messages_are_cut_as_a_simple_model_cuts_them(messages):
    sizes, segments = ([message[part] for message in messages] for part in range(2))
    slots = segment_slots().starts.tolist()[: len(messages)]
    starts, lengths = split_segments(slots, sizes, segments)
    model = [
        piece for slot, message in zip(slots, messages, strict=True) for piece in split_one(slot, *message)
    ]
    assert list(zip(starts, lengths, strict=True)) == model


def test_slots_hold_the_largest_message_and_do_not_overlap():
    slots = segment_slots()
    assert len(slots.starts) == SLOTS
    assert slots.lengths.min() > 65507
    assert (np.diff(slots.starts) >= slots.lengths[:-1]).all()
    assert slots.starts[-1] + slots.lengths[-1] <= len(slots.data)


# ---- control messages ---------------------------------------------------------------------------------


def control(level, kind, body):
    word = struct.calcsize("@N")
    header = struct.calcsize("@Nii")
    return struct.pack("@Nii", header + len(body), level, kind) + body + bytes(-len(body) % word)


SIZE = control(socket.IPPROTO_UDP, UDP_GRO, struct.pack("@i", 1210))
DROPS = control(socket.SOL_SOCKET, udp_mmsg.SO_RXQ_OVFL, struct.pack("@I", 77))


def test_the_size_is_found_among_control_messages():
    assert segment_size(SIZE) == segment_size(DROPS + SIZE) == segment_size(SIZE + DROPS) == 1210
    assert segment_size(SIZE + bytes(40)) == 1210
    assert segment_size(b"") == segment_size(DROPS) == segment_size(bytes(64)) == 0
    assert segment_size(control(socket.IPPROTO_UDP, UDP_GRO, struct.pack("@i", -5))) == 0


@given(
    st.binary(max_size=80)
    | st.builds(lambda whole, size: whole[:size], st.just(DROPS + SIZE), st.integers(0, 48))
    | st.builds(
        lambda size, level, kind, rest: struct.pack("@Nii", size, level, kind) + rest,
        st.integers(0, 100) | st.integers(0, 2**64 - 1),
        st.sampled_from([socket.IPPROTO_UDP, socket.SOL_SOCKET]),
        st.sampled_from([UDP_GRO, udp_mmsg.SO_RXQ_OVFL]),
        st.binary(max_size=40),
    )
)
def test_no_bytes_whatsoever_upset_the_search(data):
    assert 0 <= segment_size(data) < 2**31


# ---- how much to ask for ------------------------------------------------------------------------------


@given(st.integers(1, SLOTS), st.integers(1, 128), st.integers(1, SLOTS))
def test_what_is_asked_for_next_is_bounded(messages, each, limit):
    found = next_limit(messages, messages * each, limit)
    assert 1 <= found <= SLOTS
    if each > 1:
        assert found == 1 or found * each <= BATCH
    else:
        assert found >= limit


def test_single_datagrams_raise_the_limit_and_full_messages_lower_it():
    limit = 4
    for _ in range(4):
        limit = next_limit(limit, limit, limit)
    assert limit == SLOTS
    assert next_limit(SLOTS, SLOTS * 53, SLOTS) == 2
    assert next_limit(1, 1, 8) == 8


# ---- real sockets -------------------------------------------------------------------------------------


def spans_of(payloads):
    """Payloads one behind the other."""
    lengths = np.array([*map(len, payloads)], np.int64)
    return Spans(np.frombuffer(b"".join(payloads), np.uint8), np.cumsum(lengths) - lengths, lengths)


def contents(sizes):
    return [(index.to_bytes(2, "big") * (size // 2 + 1))[:size] for index, size in enumerate(sizes)]


class Reader:
    """Keeps what a socket receives, and waits for it."""

    def __init__(self, sock):
        self.got, self.batches, self.truncated = [], [], 0
        self._changed = asyncio.Event()
        sock.start(self.on_batch, pytest.fail)

    def on_batch(self, batch):
        assert batch.sizes == batch.lengths.tolist()
        assert len(batch.starts) == batch.count
        self.batches.append(batch.count)
        self.truncated += 0 if batch.truncated is None else int(batch.truncated.sum())
        self.got += [bytes(payload) for payload in batch.spans().payloads()]
        self._changed.set()

    async def received(self, count):
        async with asyncio.timeout(10):
            while len(self.got) < count:
                self._changed.clear()
                await self._changed.wait()
        assert len(self.got) == count


def joined_pair(local=V4):
    """A socket that takes segments, and one that sends to it."""
    server = UdpSocket.open(local=local)
    client = UdpSocket.open(remote=server.local)
    server.connect(client.local)
    assert server.take_segments()
    return server, client


MIXES = {
    "one run": [1210] * 53,
    "a shorter last one": [1210] * 52 + [7],
    "two runs": [1210] * 40 + [700] * 40,
    "pairs of long and short": [1210, 700] * 30,
    "singles": [5, 1400, 6, 1300, 7, 1200],
    "empty ones between": [100] * 8 + [0, 0] + [100] * 8,
    "tiny": [1] * BATCH,
    "larger than a row": [ROOM + 1] * 5 + [9000, 9000, 8999] + [65507],
}


@needs_gro
@pytest.mark.parametrize("local", [V4, V6], ids=["v4", "v6"])
@pytest.mark.parametrize("sizes", MIXES.values(), ids=MIXES)
async def test_every_datagram_arrives_as_it_was_and_in_order(local, sizes):
    server, client = joined_pair(local)
    reader, payloads = Reader(server), contents(sizes)
    assert client.send_spans(spans_of(payloads)) == len(sizes)
    await reader.received(len(sizes))
    assert reader.got == payloads
    assert reader.truncated == 0
    assert (server.stats.rx_packets, server.stats.rx_bytes) == (len(sizes), sum(sizes))
    assert client.stats.segments
    server.close()
    client.close()


@needs_gro
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from([0, 1, 699, 700, 1210, 3000]), st.integers(1, 40)),
            min_size=1,
            max_size=5,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_mix_comes_as_single_datagrams_would(sends):
    asyncio.run(check_mix([[size for size, times in runs for _ in range(times)] for runs in sends]))


async def check_mix(sends):
    server, client = joined_pair()
    reader, expected = Reader(server), []
    for sizes in sends:
        payloads = contents(sizes)
        expected += payloads
        assert client.send_spans(spans_of(payloads)) == len(sizes)
        assert client.send(b"alone")
        expected.append(b"alone")
    await reader.received(len(expected))
    assert reader.got == expected
    server.close()
    client.close()


@needs_gro
@pytest.mark.parametrize("each", [1, 20])
async def test_more_messages_than_one_call_takes(each):
    server, client = joined_pair()
    payloads = contents([1000] * (3 * SLOTS * each))
    if each == 1:
        assert all(client.send(payload) for payload in payloads)
    else:
        for at in range(0, len(payloads), each):
            assert client.send_spans(spans_of(payloads[at : at + each])) == each
    reader = Reader(server)
    await reader.received(len(payloads))
    assert reader.got == payloads
    assert len(reader.batches) > 3
    assert max(reader.batches[1:]) <= max(BATCH, each)
    server.close()
    client.close()


@needs_gro
def test_a_call_takes_no_more_messages_than_it_is_told():
    io = MmsgIO()
    with open_socket(local=V4, remote=None, family=None, small_buffers=False) as server:
        udp_gro.enable(server)
        with open_socket(
            local=None, remote=Address(*server.getsockname()), family=None, small_buffers=False
        ) as client:
            for number in range(6):
                client.send(b"%d" % number)
            assert io.receive_segments(server, 4) == io.segments.count == 4
            assert [bytes(payload) for payload in io.segments.spans().payloads()] == [b"0", b"1", b"2", b"3"]
            run = spans_of([b"abc"] * 9 + [b"d"])
            io.sender.load(run, None, None)
            assert io.sender.transmit(client, 0, 10) == 10
            assert (io.receive_segments(server, 99), io.segments.count) == (3, 12)
            assert [bytes(payload) for payload in io.segments.spans().payloads()] == [
                b"4",
                b"5",
                *[b"abc"] * 9,
                b"d",
            ]
            assert (io.receive_segments(server, 4), io.segments.count, io.error) == (0, 0, None)
            server.connect(client.getsockname())
            server.send(b"to be refused")
            client.close()
            server.send(b"refused")
            assert (io.receive_segments(server, 4), io.segments.count) == (0, 0)
            assert io.error.errno == errno.ECONNREFUSED


@needs_gro
async def test_a_socket_that_did_not_ask_gets_rows_with_names():
    server = UdpSocket.open(local=V4)
    client = UdpSocket.open(remote=server.local)
    other, sender = joined_pair()
    got, done = [], asyncio.Event()

    def on_batch(batch):
        got.extend((batch.payload(row), batch.address(row)) for row in range(batch.count))
        if len(got) >= 60:
            done.set()

    server.start(on_batch, pytest.fail)
    reader = Reader(other)
    payloads = contents([1210] * 60)
    client.send_spans(spans_of(payloads))
    sender.send_spans(spans_of(payloads))
    await asyncio.wait_for(done.wait(), 10)
    await reader.received(60)
    assert got == [(payload, client.local) for payload in payloads]
    assert reader.got == payloads
    for sock in (server, client, other, sender):
        sock.close()


@needs_gro
@pytest.mark.parametrize("joined", [False, True])
async def test_kernel_drops_are_counted_with_segments_too(joined):
    raw = open_socket(local=V4, remote=None, family=None, small_buffers=True)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    server = UdpSocket(raw, asyncio.get_running_loop())
    assert server.take_segments()
    client = UdpSocket.open(remote=server.local)
    for _ in range(20):
        if joined:
            client.send_spans(spans_of([bytes(1000)] * 5))
        else:
            client.send(bytes(1000))
    reader = Reader(server)
    await asyncio.wait_for(until_quiet(reader), 10)
    before = len(reader.got)
    client.send(b"the next datagram tells")
    await reader.received(before + 1)
    assert reader.got[-1] == b"the next datagram tells"
    lost = (100 if joined else 20) - before
    # the kernel counts a joined message once, and those before it tell how many datagrams it had
    assert server.stats.kernel_drops == lost > 0
    server.close()
    client.close()


async def until_quiet(reader):
    """Until some came and the loop has turned without more: what waits in the kernel comes at once."""
    seen = -1
    while not reader.got or seen != len(reader.got):
        seen = len(reader.got)
        for _ in range(10):
            await asyncio.sleep(0)


async def test_where_there_is_no_joining_nothing_changes(monkeypatch):
    portable = UdpSocket.open(local=V4, portable=True)
    assert not portable.take_segments()
    portable.close()
    monkeypatch.setattr(udp_gro, "enable", lambda sock: False)
    monkeypatch.setattr("rtun_core.net.udp.enable", lambda sock: False)
    server = UdpSocket.open(local=V4)
    client = UdpSocket.open(remote=server.local)
    assert not server.take_segments()
    reader = Reader(server)
    client.send_spans(spans_of([b"one", b"two", b"three", b"four"]))
    await reader.received(4)
    assert reader.got == [b"one", b"two", b"three", b"four"]
    server.close()
    client.close()


def test_systems_and_kernels_that_do_not_have_it(monkeypatch):
    class Refusing:
        def setsockopt(self, *args):
            raise OSError(errno.ENOPROTOOPT, "unknown option")

    assert not udp_gro.enable(Refusing())
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not udp_gro.enable(None)


@needs_gro
async def test_asking_twice_changes_nothing():
    server, client = joined_pair()
    assert server.take_segments()
    reader = Reader(server)
    client.send(b"x")
    await reader.received(1)
    server.close()
    client.close()
