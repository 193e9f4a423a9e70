import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.errors import RemoteProtocolError
from rtun_core.wire.rtunnel_packet import DATA, EOF, Packet
from rtun_core.wire.rtunnel_receive import HeldPackets, ReceiveQueue


def push(queue: ReceiveQueue, seq: int, payload: bytes = b"") -> bool:
    return queue.push(DATA, seq, memoryview(payload))


@given(st.lists(st.binary(max_size=50), max_size=40), st.integers(), st.integers(1, 100))
def test_any_order_gives_the_stream_once(payloads: list[bytes], seed: int, limit: int) -> None:
    queue = ReceiveQueue()
    packets = list(enumerate(payloads, 1)) * 2
    random.Random(seed).shuffle(packets)
    out = b""
    for seq, payload in packets:
        push(queue, seq, payload)
        out += b"".join(queue.read(limit))
    while data := queue.read(limit):
        out += b"".join(data)
    queue.delivered()
    assert out == b"".join(payloads)
    assert (queue.received, queue.accepted, queue.unread) == (len(payloads), len(payloads), 0)


def test_accepted_means_delivered() -> None:
    queue = ReceiveQueue()
    push(queue, 1, b"a")
    push(queue, 2, b"b")
    assert (queue.received, queue.accepted, queue.unread) == (2, 0, 2)
    assert queue.read(1) == [b"a"]
    assert (queue.accepted, queue.unread) == (0, 2)
    queue.delivered()
    assert (queue.accepted, queue.unread) == (1, 1)


def test_empty_packets_are_accepted_with_what_is_before_them() -> None:
    queue = ReceiveQueue()
    push(queue, 1)
    assert queue.accepted == 1
    push(queue, 2, b"x")
    push(queue, 3)
    assert queue.accepted == 1
    queue.read(100)
    push(queue, 4)
    assert queue.accepted == 1
    queue.delivered()
    assert queue.accepted == 4


def test_a_duplicate_is_told() -> None:
    queue = ReceiveQueue()
    assert push(queue, 1, b"a")
    assert not push(queue, 1, b"A")
    assert push(queue, 3, b"c")
    assert not push(queue, 3, b"C")
    assert queue.gap
    assert push(queue, 2, b"b")
    assert not queue.gap
    assert b"".join(queue.read(100)) == b"abc"


def test_the_end_comes_in_order() -> None:
    queue = ReceiveQueue()
    queue.push(EOF, 2, memoryview(b""))
    assert not queue.eof
    push(queue, 1, b"x")
    assert queue.eof
    with pytest.raises(RemoteProtocolError) as caught:
        push(queue, 3, b"y")
    assert caught.value.reason == "after-eof"


def test_packets_far_ahead_end_it() -> None:
    queue = ReceiveQueue()
    for seq in range(2, 1026):
        push(queue, seq)
    with pytest.raises(RemoteProtocolError) as caught:
        push(queue, 1026)
    assert caught.value.reason == "overflow"


def test_bytes_beyond_a_window_end_it() -> None:
    queue = ReceiveQueue(limit=100_000)
    block = bytes(50_000)
    for seq in (1, 2, 3):
        push(queue, seq, block)
    with pytest.raises(RemoteProtocolError):
        push(queue, 4, block)


def test_discard_lets_go() -> None:
    queue = ReceiveQueue()
    push(queue, 1, b"x")
    push(queue, 3, b"x")
    queue.discard()
    assert (queue.unread, queue.drained, queue.gap, queue.read(9)) == (0, True, False, [])


def test_held_packets_are_kept_once_and_bounded() -> None:
    held = HeldPackets()
    packet = Packet(DATA, 5, 0, memoryview(bytes(60_000)))
    assert held.hold(packet, 0)
    assert not held.hold(packet, 0)
    with pytest.raises(RemoteProtocolError) as caught:
        held.hold(packet._replace(seq=6), 0)
    assert caught.value.reason == "overflow"
    assert held.release() == [packet]
    assert held.release() == []
