import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.errors import LocalProtocolError
from rtun_core.wire.rtunnel_packet import DATA, EOF, decode_packet
from rtun_core.wire.rtunnel_send_window import SendWindow
from rtun_core.wire.rtunnel_terms import OWN_SHAPE, Counters

MANY = 100_000_000


def window(buffer: int = 10_000_000) -> SendWindow:
    return SendWindow(buffer, Counters())


def payload(packets: list[bytes]) -> bytes:
    return b"".join(bytes(decode_packet(packet).payload) for packet in packets)


def test_small_writes_travel_together() -> None:
    send = window()
    for _ in range(1_000):
        assert send.write(b"x") == 1
    packets = send.take(MANY)
    assert len(packets) == 1
    assert payload(packets) == b"x" * 1_000


@given(st.lists(st.binary(max_size=9_000), max_size=20), st.integers(1, 50_000))
def test_what_goes_in_comes_out(blocks: list[bytes], budget: int) -> None:
    send = window()
    out = b""
    for block in blocks:
        assert send.write(bytearray(block)) == len(block)
        out += payload(send.take(budget))
    while packets := send.take(budget):
        out += payload(packets)
    assert out == b"".join(blocks)


def test_a_changed_bytearray_changes_nothing() -> None:
    send = window()
    block = bytearray(b"a" * 5_000)
    send.write(memoryview(block))
    block[:] = b"b" * 5_000
    assert payload(send.take(MANY)) == b"a" * 5_000


def test_whole_packets_are_cut_at_once_when_the_window_is_open() -> None:
    send = window()
    assert (send.write(bytes(40_000)), send.unsent) == (40_000, 40_000)
    assert [len(decode_packet(packet).payload) for packet in send.take(MANY)] == [16_384, 16_384, 7_232]
    block = bytearray(b"a" * 40_000)
    assert send.write(memoryview(block)) == 40_000
    block[:] = b"b" * 40_000
    assert (send.unsent, send.in_flight, send.sent) == (7_232, 5, 3)
    assert send.write(b"c" * 20_000) == 20_000
    assert (send.unsent, send.in_flight) == (27_232, 5)
    packets = send.take(MANY)
    assert payload(packets) == b"a" * 40_000 + b"c" * 20_000
    assert [decode_packet(packet).seq for packet in packets] == [4, 5, 6, 7]


def test_a_closed_window_lets_data_wait() -> None:
    send = window()
    send.take(MANY)
    send.write(bytes(16_384 * 130))
    assert (send.in_flight, send.unsent) == (128, 2 * 16_384)
    assert (len(send.take(MANY)), send.write(bytes(16_384))) == (128, 16_384)
    assert (send.in_flight, send.unsent) == (128, 3 * 16_384)


def test_room_is_bounded() -> None:
    send = window(buffer=10)
    assert send.write(b"x" * 30) == 10
    assert (send.room, send.write(b"y")) == (0, 0)
    send.take(MANY)
    assert send.room == 10


def test_the_window_of_the_original_is_128_packets() -> None:
    send = window()
    send.write(bytes(16_384 * 130))
    assert len(send.take(MANY)) == 128
    assert send.in_flight_bytes == 128 * 16_384
    assert send.acknowledge(1)
    assert [decode_packet(packet).seq for packet in send.take(MANY)] == [129]


def test_our_own_packets_are_bigger_and_the_window_has_a_size() -> None:
    send = window()
    send.adopt(OWN_SHAPE, numbered_eof=True)
    send.write(bytes(9_000_000))
    packets = send.take(MANY)
    assert len(packets[0]) == 65_536 + 21
    assert 0 <= sum(map(len, packets)) - OWN_SHAPE.window < len(packets[0])


def test_nothing_is_sent_twice_until_a_new_websocket() -> None:
    send = window()
    send.write(bytes(16_384 * 4))
    first = send.take(MANY)
    assert send.take(MANY) == []
    send.acknowledge(1)
    send.rewind(2)
    assert send.take(MANY) == first[2:]


def test_packets_that_never_left_are_no_resends() -> None:
    counters = Counters()
    send = SendWindow(100_000, counters)
    send.write(bytes(16_384 * 3))
    send.take(1)
    send.rewind(0)
    send.take(MANY)
    assert counters.resends == 1
    assert send.sent == 3


def test_a_numbered_end_comes_last_and_is_kept() -> None:
    send = window()
    send.write(b"last")
    send.finish()
    send.adopt(OWN_SHAPE, numbered_eof=True)
    packets = [decode_packet(packet) for packet in send.take(MANY)]
    assert [(packet.flag, packet.seq) for packet in packets] == [(DATA, 1), (EOF, 2)]
    send.acknowledge(1)
    assert not send.drained
    send.acknowledge(2)
    assert send.drained


def test_towards_the_original_the_end_is_no_packet() -> None:
    send = window()
    send.finish()
    assert send.take(MANY) == []
    assert send.drained


def test_a_greeting_is_empty_and_first() -> None:
    send = window()
    send.write(b"x")
    send.greet()
    assert [len(decode_packet(packet).payload) for packet in send.take(MANY)] == [0, 1]


def test_after_the_end_nothing_is_written() -> None:
    send = window()
    send.finish()
    assert send.room == 0
    with pytest.raises(LocalProtocolError):
        send.write(b"x")


def test_discard_lets_go() -> None:
    send = window()
    send.write(bytes(100_000))
    send.take(20_000)
    send.discard()
    assert (send.unsent, send.in_flight_bytes, send.drained) == (0, 0, True)
