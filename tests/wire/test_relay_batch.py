import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.errors import RemoteProtocolError
from rtun_core.wire.relay_batch import ERROR_REASONS, OK, BatchCodec
from rtun_core.wire.relay_frame import CodecKind, flag_masks, header_masks, make_codec

STRIDE = 160
AT = 64
KINDS = st.sampled_from(CodecKind)
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
NONCE = st.integers(0, 255)


@st.composite
def outgoing(draw):
    """Flow, payload and nonce of each datagram."""
    one = st.tuples(U64, st.binary(max_size=40), NONCE)
    return draw(st.lists(one, max_size=24))


@given(kind=KINDS, seed=U32, frames=outgoing(), order=st.randoms(use_true_random=False))
def test_encodes_as_the_scalar_codec_does(kind, seed, frames, order):
    codec = make_codec(kind, seed)
    data = np.full((24, STRIDE), 0xEE, np.uint8)
    rows = order.sample(range(24), len(frames))
    for row, (_, payload, _) in zip(rows, frames, strict=True):
        data[row, AT : AT + len(payload)] = np.frombuffer(payload, np.uint8)
    BatchCodec(codec).encode_headers(
        data,
        AT,
        np.array(rows, np.intp),
        np.array([flow for flow, _, _ in frames], np.uint64),
        np.array([len(payload) for _, payload, _ in frames], np.int64),
        np.array([nonce for _, _, nonce in frames], np.uint8),
    )
    start = AT - codec.header_size
    for row, (flow, payload, nonce) in zip(rows, frames, strict=True):
        assert data[row, start : AT + len(payload)].tobytes() == codec.encode(flow, payload, nonce)
    assert (data[:, :start] == 0xEE).all()
    untouched = [row for row in range(24) if row not in rows]
    assert (data[untouched] == 0xEE).all()


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


@given(st.data())
def test_decodes_as_the_scalar_codec_does(draw):
    kind, seed = draw.draw(KINDS), draw.draw(U32)
    datagrams = draw.draw(incoming(kind, seed))
    at = draw.draw(st.sampled_from([0, 3, 64]))
    codec = make_codec(kind, seed)
    data = np.full((24, STRIDE), draw.draw(st.sampled_from([0, 0xEE])), np.uint8)
    for row, datagram in enumerate(datagrams):
        data[row, at : at + len(datagram)] = np.frombuffer(datagram, np.uint8)
    before = data.copy()
    lengths = np.array([*map(len, datagrams), *[0] * 4], np.int64)
    got = BatchCodec(codec).decode_headers(data, at, lengths, len(datagrams))
    assert [len(column) for column in got] == [len(datagrams)] * 4
    assert [column.dtype for column in got] == [np.uint64, np.int64, np.int64, np.uint8]
    assert (data == before).all()
    for row, datagram in enumerate(datagrams):
        assert batch_result(data, got, row) == scalar_result(codec, datagram)


def batch_result(data, got, row):
    if got.errors[row] != OK:
        assert (got.flows[row], got.payload_at[row], got.payload_len[row]) == (0, 0, 0)
        return ERROR_REASONS[got.errors[row]]
    start, length = int(got.payload_at[row]), int(got.payload_len[row])
    return int(got.flows[row]), data[row, start : start + length].tobytes()


@pytest.mark.parametrize("kind", CodecKind)
def test_an_empty_batch(kind):
    codec = BatchCodec(make_codec(kind, 7))
    data = np.zeros((1, STRIDE), np.uint8)
    none = np.zeros(0, np.int64)
    codec.encode_headers(data, AT, none.astype(np.intp), none.astype(np.uint64), none, none.astype(np.uint8))
    assert len(codec.decode_headers(data, AT, none, 0).flows) == 0


def test_every_reason_of_the_scalar_codec_has_a_number():
    assert set(ERROR_REASONS[1:]) == {"short", "length", "tag", "flags", "seq"}
    assert ERROR_REASONS[OK] == "ok"
