"""The batch codec beside the scalar one: the same bytes and the same findings, wherever datagrams lie."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.errors import RemoteProtocolError
from rtun_core.wire.relay_batch import ERROR_REASONS, OK, BatchCodec
from rtun_core.wire.relay_frame import CodecKind, flag_masks, header_masks, make_codec

KINDS = st.sampled_from(CodecKind)
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
NONCE = st.integers(0, 255)
FILL = st.sampled_from([0, 0xEE])
RANDOM = st.randoms(use_true_random=False)


def lay_out(rng, sizes):
    """Where areas of these sizes begin in one buffer, in any order, mostly close together; and its end."""
    places, end = [0] * len(sizes), rng.choice([0, 1, 64])
    for index in rng.sample(range(len(sizes)), len(sizes)):
        places[index] = end
        end += sizes[index] + rng.choice([0, 0, 1, 7, 200])
    return places, end


def column(values, dtype=np.int64):
    return np.array(values, dtype)


# ---- encoding -------------------------------------------------------------------------------------------


@st.composite
def outgoing(draw):
    """Flow, payload and nonce of each datagram."""
    one = st.tuples(U64, st.binary(max_size=40), NONCE)
    return draw(st.lists(one, max_size=24))


def encode(codec, data, starts, frames):
    """Write the headers of frames (flow, payload length, nonce) into a buffer."""
    flows, lengths, nonces = zip(*frames, strict=True) if frames else ((), (), ())
    BatchCodec(codec).encode_headers(
        np.frombuffer(data, np.uint8),
        column(starts),
        column(flows, np.uint64),
        column(lengths),
        column(nonces, np.uint8),
    )


@given(kind=KINDS, seed=U32, frames=outgoing(), fill=FILL, rng=RANDOM)
def test_encodes_as_the_scalar_codec_does_and_touches_nothing_else(kind, seed, frames, fill, rng):
    codec = make_codec(kind, seed)
    size = codec.header_size
    places, end = lay_out(rng, [size + len(payload) for _, payload, _ in frames])
    data = bytearray([fill]) * max(end, 8)
    for place, (_, payload, _) in zip(places, frames, strict=True):
        data[place + size : place + size + len(payload)] = payload
    expected = bytearray(data)
    for place, (flow, payload, nonce) in zip(places, frames, strict=True):
        expected[place : place + size + len(payload)] = codec.encode(flow, payload, nonce)
    starts = [place + size for place in places]
    encode(codec, data, starts, [(flow, len(payload), nonce) for flow, payload, nonce in frames])
    assert data == expected


@pytest.mark.parametrize("kind", CodecKind)
def test_a_header_may_stand_at_either_end_of_the_buffer(kind):
    codec = make_codec(kind, 7)
    size = codec.header_size
    data = bytearray(2 * size)
    encode(codec, data, [size, 2 * size], [(3, 0, 1), (4, 0, 2)])
    assert data == codec.encode(3, b"", 1) + codec.encode(4, b"", 2)


@pytest.mark.parametrize("kind", CodecKind)
def test_every_length_is_declared_as_the_scalar_codec_does(kind):
    codec = make_codec(kind, 0xC0FFEE)
    size = codec.header_size
    lengths = [0, 1, 255, 256, codec.max_payload, 0x7FFF, 0x8000, 0xFFFF]
    data = bytearray(size * len(lengths))
    starts = [size * (index + 1) for index in range(len(lengths))]
    encode(codec, data, starts, [(2**32 - 1, length, 200) for length in lengths])
    expected = [codec.encode(2**32 - 1, bytes(length), 200)[:size] for length in lengths]
    assert data == b"".join(expected)


# ---- decoding -------------------------------------------------------------------------------------------


@st.composite
def incoming(draw, kind, seed):
    """Good frames, frames with a changed or missing byte, odd flags and sequences, and plain garbage."""
    codec = make_codec(kind, seed)
    seqs = st.none() | U64 if kind is CodecKind.OBFS_V2 else st.none()
    good = st.builds(codec.encode, U64, st.binary(max_size=40), NONCE, seqs)
    padded = st.builds(bytes.__add__, good, st.binary(max_size=5))
    cut = st.builds(lambda frame, n: frame[: max(0, len(frame) - n)], good, st.integers(1, 60))
    changed = st.builds(flip, good, st.integers(0, 30), st.integers(1, 255))
    odd = st.builds(odd_flags, st.just(seed), NONCE, NONCE, st.binary(max_size=12))
    return draw(st.lists(st.one_of(good, padded, cut, changed, odd, st.binary(max_size=60)), max_size=24))


def flip(frame, at, bits):
    changed = bytearray(frame)
    changed[at % len(changed)] ^= bits
    return bytes(changed)


def odd_flags(seed, nonce, flags, rest):
    meta = 7 << 32 ^ header_masks(seed)[nonce]
    return bytes([nonce]) + meta.to_bytes(8, "big") + bytes([flags ^ flag_masks(seed)[nonce]]) + rest


def scalar_result(codec, datagram):
    try:
        frame = codec.decode(datagram)
    except RemoteProtocolError as error:
        return error.reason
    return frame.flow, frame.payload


def decode(codec, datagrams, fill, rng):
    """The results of a buffer with the datagrams somewhere in it, which ends a header after the last."""
    places, end = lay_out(rng, [len(datagram) for datagram in datagrams])
    data = bytearray([fill]) * (end + codec.header_size)
    for place, datagram in zip(places, datagrams, strict=True):
        data[place : place + len(datagram)] = datagram
    before, starts = bytes(data), column(places)
    lengths = column([len(datagram) for datagram in datagrams])
    got = BatchCodec(codec).decode_headers(np.frombuffer(data, np.uint8), starts, lengths)
    assert data == before
    assert starts.tolist() == places
    assert lengths.tolist() == [len(datagram) for datagram in datagrams]
    return before, got


@given(kind=KINDS, seed=U32, fill=FILL, rng=RANDOM, draw=st.data())
def test_decodes_as_the_scalar_codec_does(kind, seed, fill, rng, draw):
    datagrams = draw.draw(incoming(kind, seed))
    codec = make_codec(kind, seed)
    data, got = decode(codec, datagrams, fill, rng)
    columns = got[:3] if got.errors is None else got
    assert [len(each) for each in columns] == [len(datagrams)] * len(columns)
    assert [each.dtype for each in columns] == [np.uint64, np.int64, np.int64, np.uint8][: len(columns)]
    for row, datagram in enumerate(datagrams):
        assert batch_result(data, got, row) == scalar_result(codec, datagram)


def batch_result(data, got, row):
    start, length, error = int(got.starts[row]), int(got.lengths[row]), OK
    if got.errors is not None:
        error = got.errors[row]
    if error != OK:
        assert (got.flows[row], start, length) == (0, 0, 0)
        return ERROR_REASONS[error]
    return int(got.flows[row]), data[start : start + length]


@given(kind=KINDS, seed=U32, frames=outgoing(), rng=RANDOM)
def test_good_frames_alone_need_no_list_of_errors(kind, seed, frames, rng):
    codec = make_codec(kind, seed)
    _, got = decode(codec, [codec.encode(*frame) for frame in frames], 0xEE, rng)
    assert got.errors is None


@pytest.mark.parametrize("kind", CodecKind)
def test_one_changed_bit_among_good_frames_is_found(kind):
    codec = make_codec(kind, 0xC0FFEE)
    good = codec.encode(5, b"payload", 77)
    for at in range(codec.header_size):
        for bit in range(8):
            datagrams = [good, flip(good, at, 1 << bit), good]
            data, got = decode(codec, datagrams, 0xEE, random.Random(at))
            results = [batch_result(data, got, row) for row in range(3)]
            assert results == [scalar_result(codec, datagram) for datagram in datagrams]


@given(kind=KINDS, seed=U32, frames=outgoing(), rng=RANDOM)
def test_what_was_encoded_is_decoded(kind, seed, frames, rng):
    codec = make_codec(kind, seed)
    size = codec.header_size
    places, end = lay_out(rng, [size + len(payload) for _, payload, _ in frames])
    data = bytearray(end + size)
    for place, (_, payload, _) in zip(places, frames, strict=True):
        data[place + size : place + size + len(payload)] = payload
    starts = [place + size for place in places]
    encode(codec, data, starts, [(flow, len(payload), nonce) for flow, payload, nonce in frames])
    lengths = [len(payload) for _, payload, _ in frames]
    whole = column([length + size for length in lengths])
    got = BatchCodec(codec).decode_headers(np.frombuffer(data, np.uint8), column(places), whole)
    bits = 48 if kind in (CodecKind.LEGACY, CodecKind.OBFS_V1) else 32
    assert got.flows.tolist() == [flow % 2**bits for flow, _, _ in frames]
    assert (got.starts.tolist(), got.lengths.tolist(), got.errors) == (starts, lengths, None)


@pytest.mark.parametrize("kind", CodecKind)
def test_an_empty_batch(kind):
    codec = make_codec(kind, 7)
    data = bytearray(64)
    encode(codec, data, [], [])
    assert data == bytes(64)
    none = column([])
    got = BatchCodec(codec).decode_headers(np.frombuffer(data, np.uint8), none, none)
    assert [len(each) for each in got[:3]] == [0, 0, 0]


def test_every_reason_of_the_scalar_codec_has_a_number():
    assert set(ERROR_REASONS[1:]) == {"short", "length", "tag", "flags", "seq"}
    assert ERROR_REASONS[OK] == "ok"
