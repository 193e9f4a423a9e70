import asyncio
import socket

import numpy as np
import pytest

from rtun_core.net.sockaddr import pack_sockaddr
from rtun_core.net.udp_batch import (
    BATCH,
    DROP_REASONS,
    HEADROOM,
    ROOM,
    STRIDE,
    DatagramBatch,
    Spans,
    UdpStats,
    guard,
)
from rtun_core.wire.address import Address
from tests.net.name_key import name_key

V4 = [Address("192.0.2.1", 53), Address("192.0.2.2", 53), Address("192.0.2.1", 54)]
V6 = [Address("2001:db8::1", 53), Address("fe80::1%3", 53)]


def filled(payloads, addresses):
    batch = DatagramBatch()
    lengths = batch.length_column()
    for row, (payload, address) in enumerate(zip(payloads, addresses, strict=True)):
        start = row * STRIDE + HEADROOM
        batch.data[start : start + len(payload)] = np.frombuffer(payload, np.uint8)
        batch.set_name(row, pack_sockaddr(address))
        lengths[row] = len(payload)
        batch.ipv6 = batch.ipv6 or address.is_ipv6
    batch.resize(len(payloads))
    return batch


def test_shape():
    batch = DatagramBatch()
    assert batch.data.shape == (len(batch.memory),)
    assert batch.data.ctypes.data % 64 == 0
    assert STRIDE % 64 == 0
    assert HEADROOM + ROOM == STRIDE
    assert batch.names.shape == (BATCH, 28)
    assert len(batch.memory) > BATCH * STRIDE
    assert batch.count == len(batch.starts) == len(batch.lengths) == len(batch.sizes) == 0
    assert batch.truncated is None
    assert batch.name_keys() == []


def test_rows_as_values():
    batch = filled([b"one", b"", b"three"], V4)
    assert [batch.payload(row) for row in range(3)] == [b"one", b"", b"three"]
    assert [batch.address(row) for row in range(3)] == V4
    assert batch.lengths.tolist() == batch.sizes == [3, 0, 5]
    assert batch.truncated is None
    assert [bytes(payload) for payload in batch.spans().payloads()] == [b"one", b"", b"three"]


def test_a_length_above_the_room_becomes_a_mark_until_the_next_batch():
    batch = filled([b"", b"x", b""], V4)
    batch.length_column()[[0, 2]] = ROOM + 1, 65507
    batch.resize(3)
    assert batch.sizes == batch.lengths.tolist() == [ROOM, 1, ROOM]
    assert batch.truncated.tolist() == [True, False, True]
    batch.length_column()[:2] = ROOM, 0
    batch.resize(2)
    assert (batch.sizes, batch.truncated) == ([ROOM, 0], None)


def test_datagrams_may_be_placed_anywhere_in_bytes_of_ones_own():
    data = np.frombuffer(b"-onetwo--three", np.uint8).copy()
    batch = DatagramBatch(Spans(data, np.array([0, 7]), np.array([7, 7])))
    batch.length_column()[:] = 7, 9
    batch.resize(2)
    assert [batch.payload(index) for index in range(2)] == [b"-onetwo", b"--three"]
    assert batch.truncated.tolist() == [False, True]
    batch.length_column()[:] = 7
    batch.resize(2)
    batch.place([1, 4, 9, 4], [3, 3, 5, 0])
    assert (batch.count, batch.sizes, batch.truncated) == (4, [3, 3, 5, 0], None)
    assert [batch.payload(index) for index in range(4)] == [b"one", b"two", b"three", b""]


def test_a_plain_read_fills_one_row_and_notices_what_is_too_large():
    batch = DatagramBatch()
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        receiver.setblocking(False)
        sizes = [5, ROOM, ROOM + 1, 9000]
        for number, size in enumerate(sizes):
            sender.send(bytes([number + 1]) * size)
        for row in range(BATCH - 4, BATCH):
            batch.read_from(receiver, row)
        with pytest.raises(BlockingIOError):
            batch.read_from(receiver, 0)
    batch.resize(BATCH)
    assert batch.sizes[-4:] == [5, ROOM, ROOM, ROOM]
    assert batch.truncated[-4:].tolist() == [False, False, True, True]
    assert [batch.payload(BATCH - 4 + number)[:5] for number in range(4)] == [
        bytes([n]) * 5 for n in range(1, 5)
    ]


def test_spans_can_be_chosen_and_cut():
    spans = Spans(np.frombuffer(b"onetwothree", np.uint8), np.array([0, 3, 6]), np.array([3, 3, 5]))

    def payloads(spans, first=0):
        return [bytes(payload) for payload in spans.payloads(first)]

    assert payloads(spans) == [b"one", b"two", b"three"]
    assert payloads(spans, 2) == [b"three"]
    assert payloads(spans.part(1, 3)) == [b"two", b"three"]
    assert payloads(spans.take(np.array([2, 0, 2]))) == [b"three", b"one", b"three"]
    assert payloads(spans.take(np.array([False, True, False]))) == [b"two"]


def test_keys_are_ints_for_ipv4_and_bytes_for_ipv6():
    for addresses in (V4, V6):
        keys = filled([b"x"] * len(addresses), addresses).name_keys()
        assert keys == [name_key(pack_sockaddr(address)) for address in addresses]
        assert {type(key) for key in keys} == {bytes if addresses is V6 else int}
        assert len(set(keys)) == len(addresses)


def test_stats_count_datagrams_and_bytes():
    stats = UdpStats()
    stats.received(filled([b"one", b"", b"three"], V4))
    stats.sent(2, 100)
    assert (stats.rx_packets, stats.rx_bytes, stats.tx_packets, stats.tx_bytes) == (3, 8, 2, 100)
    assert stats.tx_dropped == dict.fromkeys(DROP_REASONS, 0)


async def test_a_failing_callback_is_the_loops_to_report():
    reports, loop = [], asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reports.append(context))
    guard(loop, "reader", lambda number: 1 / number, 0)
    guard(loop, "reader", lambda number: 1 / number, 1)
    assert [report["message"] for report in reports] == ["reader failed"]
    assert isinstance(reports[0]["exception"], ZeroDivisionError)
