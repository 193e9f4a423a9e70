import asyncio

import numpy as np

from rtun_core.net.sockaddr import pack_sockaddr
from rtun_core.net.udp_batch import (
    BATCH,
    DROP_REASONS,
    HEADROOM,
    ROOM,
    STRIDE,
    DatagramBatch,
    UdpStats,
    guard,
)
from rtun_core.wire.address import Address
from tests.net.name_key import name_key

V4 = [Address("192.0.2.1", 53), Address("192.0.2.2", 53), Address("192.0.2.1", 54)]
V6 = [Address("2001:db8::1", 53), Address("fe80::1%3", 53)]


def filled(payloads, addresses):
    batch = DatagramBatch()
    lengths, _ = batch.columns()
    for row, (payload, address) in enumerate(zip(payloads, addresses, strict=True)):
        batch.data[row, HEADROOM : HEADROOM + len(payload)] = np.frombuffer(payload, np.uint8)
        batch.names[row] = np.frombuffer(pack_sockaddr(address), np.uint8)
        lengths[row] = len(payload)
        batch.ipv6 = batch.ipv6 or address.is_ipv6
    batch.resize(len(payloads))
    return batch


def test_shape():
    batch = DatagramBatch()
    assert batch.data.shape == (BATCH, STRIDE)
    assert batch.data.ctypes.data % 64 == 0
    assert STRIDE % 64 == 0
    assert HEADROOM + ROOM == STRIDE
    assert batch.names.shape == (BATCH, 28)
    assert len(batch.memory) > BATCH * STRIDE
    assert batch.count == len(batch.lengths) == len(batch.truncated) == 0
    assert batch.name_keys() == []


def test_rows_as_values():
    batch = filled([b"one", b"", b"three"], V4)
    assert [batch.payload(row) for row in range(3)] == [b"one", b"", b"three"]
    assert [batch.address(row) for row in range(3)] == V4
    assert batch.lengths.tolist() == [3, 0, 5]


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
