from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.errors import LocalProtocolError, RemoteProtocolError
from rtun_core.wire.frames import MAX_FRAME, FrameReader, encode_frame


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def read(parts: list[bytes], max_size: int = MAX_FRAME) -> tuple[list[bytes], str]:
    """All bodies of a stream, and how it ended."""
    reader = FrameReader(max_size)
    bodies: list[bytes] = []
    try:
        for part in parts:
            bodies += reader.feed(part)
        reader.eof()
    except RemoteProtocolError as error:
        return bodies, error.reason
    return bodies, "end"


def test_vector() -> None:
    assert encode_frame(b'{"kind":"sessions"}').hex() == "000000137b226b696e64223a2273657373696f6e73227d"
    assert encode_frame(b"") == bytes(4)


@given(st.lists(st.binary(max_size=50), max_size=8), st.lists(st.integers(0, 400), max_size=8))
def test_any_split_of_good_frames_reads_alike(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(encode_frame, bodies))
    assert read(chunks(stream, cuts)) == (bodies, "end")


@given(st.binary(max_size=120), st.lists(st.integers(0, 120), max_size=8))
def test_any_split_of_any_bytes_reads_alike(stream: bytes, cuts: list[int]) -> None:
    assert read(chunks(stream, cuts), max_size=20) == read([stream], max_size=20)


@given(
    st.lists(st.binary(max_size=20), max_size=3),
    st.integers(21, 2**32 - 1),
    st.lists(st.integers(0, 80), max_size=8),
)
def test_frames_before_an_oversize_one_are_delivered(bodies: list[bytes], size: int, cuts: list[int]) -> None:
    stream = b"".join(map(encode_frame, bodies)) + size.to_bytes(4, "big") + b"rest"
    assert read(chunks(stream, cuts), max_size=20) == (bodies, "oversize")


def test_one_byte_at_a_time_is_linear() -> None:
    body = bytes(200_000)
    reader = FrameReader()
    done = [found for byte in encode_frame(body) for found in reader.feed(bytes([byte]))]
    assert done == [body]


def test_many_frames_in_one_chunk_are_linear() -> None:
    assert len(FrameReader().feed(encode_frame(b"x") * 100_000)) == 100_000


@pytest.mark.parametrize("rest", [b"\0", b"\0\0\0", b"\0\0\0\x05", b"\0\0\0\x05abcd"])
def test_truncated(rest: bytes) -> None:
    reader = FrameReader()
    assert reader.feed(encode_frame(b"a") + rest) == [b"a"]
    with pytest.raises(RemoteProtocolError) as caught:
        reader.eof()
    assert caught.value.reason == "truncated"


def test_a_broken_stream_stays_broken() -> None:
    reader = FrameReader()
    for data in (b"\x01\0\0\x01", encode_frame(b"a"), b""):
        with pytest.raises(RemoteProtocolError, match="16777217 bytes") as caught:
            reader.feed(data)
        assert caught.value.reason == "oversize"
    with pytest.raises(RemoteProtocolError):
        reader.eof()


def test_the_biggest_frame() -> None:
    body = bytes(MAX_FRAME)
    assert FrameReader().feed(encode_frame(body)) == [body]
    with pytest.raises(LocalProtocolError, match="too big"):
        encode_frame(body + b"x")
