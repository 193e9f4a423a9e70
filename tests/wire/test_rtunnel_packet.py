import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.errors import LocalProtocolError, RemoteProtocolError
from rtun_core.wire.rtunnel_packet import (
    ACK,
    BIND,
    DATA,
    EOF,
    FIN,
    FIN_PACKET,
    HEADER_SIZE,
    MAX_MESSAGE,
    MAX_PAYLOAD,
    PROBE_PACKET,
    decode_packet,
    encode_ack,
    encode_data,
    encode_eof,
)

SSH = b"SSH-2.0-X\r\n"
SESSION_ID = b"0f8fad5b-d9cb-469f-a165-70867728950e"
VECTORS = {
    "R1": (encode_data(1, [b"hello"], 5), "01000000000000000100000000000000000000000568656c6c6f"),
    "R2": (encode_ack(1), "020000000000000000000000000000000100000000"),
    "R3": (encode_ack(300), "020000000000000000000000000000012c00000000"),
    "R4": (FIN_PACKET, "040000000000000000000000000000000000000000"),
    "R5": (encode_data(2**40 + 7, [b"\0\xff"], 2), "01000001000000000700000000000000000000000200ff"),
    "R6": (
        encode_data(1, [SSH], 11),
        "01000000000000000100000000000000000000000b5353482d322e302d580d0a",
    ),
    "R8": (encode_data(3, [], 0), "010000000000000003000000000000000000000000"),
    "R9": (PROBE_PACKET, "010000000000000000000000000000000000000000"),
}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str) -> None:
    encoded, expected = VECTORS[name]
    assert encoded.hex() == expected


def test_the_biggest_packet_of_the_original() -> None:
    """Vector R12."""
    packet = encode_data(2, [b"A" * 16_384], 16_384)
    assert packet[:HEADER_SIZE].hex() == "010000000000000002000000000000000000004000"
    assert len(packet) == 16_405


def test_bind_is_read() -> None:
    """Vector R7."""
    message = bytes.fromhex("030000000000000000000000000000000000000024") + SESSION_ID
    assert decode_packet(message) == (BIND, 0, 0, SESSION_ID)


@pytest.mark.parametrize(
    ("message", "reason"),
    [("01", "short"), ("", "short"), ("010000000000000001000000000000000000000005616263", "length")],
)
def test_what_is_no_packet(message: str, reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_packet(bytes.fromhex(message))
    assert caught.value.reason == reason


def test_bytes_after_the_payload_are_ignored() -> None:
    message = bytes.fromhex("01000000000000000100000000000000000000000261626364")
    packet = decode_packet(message)
    assert packet == (DATA, 1, 0, b"ab")
    assert len(packet.payload.obj) == HEADER_SIZE + 2


def test_an_unknown_flag_is_a_packet() -> None:
    assert decode_packet(b"\xff" + bytes(20)) == (255, 0, 0, b"")


def test_the_flags_of_ours() -> None:
    assert decode_packet(encode_eof(9)) == (EOF, 9, 0, b"")
    assert decode_packet(encode_ack(3, received=7)) == (ACK, 7, 3, b"")
    assert decode_packet(FIN_PACKET).flag == FIN


@pytest.mark.parametrize(
    "message",
    [
        bytes(17) + (MAX_PAYLOAD + 1).to_bytes(4, "big") + bytes(MAX_PAYLOAD + 1),
        bytes(17) + b"\xff\xff\xff\xff",
        bytes(MAX_MESSAGE + 1),
    ],
)
def test_what_is_too_big(message: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_packet(message)
    assert caught.value.reason == "oversize"


def test_what_cannot_be_written() -> None:
    with pytest.raises(LocalProtocolError):
        encode_data(1, [bytes(MAX_PAYLOAD + 1)], MAX_PAYLOAD + 1)
    with pytest.raises(LocalProtocolError):
        encode_data(1 << 64, [], 0)


@given(seq=st.integers(0, 2**64 - 1), parts=st.lists(st.binary(max_size=100), max_size=5))
def test_data_reads_back(seq: int, parts: list[bytes]) -> None:
    whole = b"".join(parts)
    assert decode_packet(encode_data(seq, parts, len(whole))) == (DATA, seq, 0, whole)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_packet_or_refused(message: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert len(decode_packet(message).payload) <= len(message) - HEADER_SIZE
