import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.errors import LocalProtocolError, RemoteProtocolError
from rtun_core.wire.relay_frame import (
    MAX_DATAGRAM,
    CodecKind,
    RelayCodec,
    detect_codec,
    flag_masks,
    header_masks,
    make_codec,
)

HELLO = b"hello".hex()
U32 = st.integers(0, 2**32 - 1)
NONCE = st.integers(0, 255)
KINDS = st.sampled_from(CodecKind)

# wire spec 17.2: seed, nonce, flow, seq, payload, HMASK, FMASK, frame
V2_VECTORS = [
    (0x12345678, 0x00, 0, None, "", 0x94107AC2021F9F77, 0x9E, "0094107ac2021f39479e"),
    (0x12345678, 0x5A, 1, None, HELLO, 0x4748B51385809433, 0xBD, "5a4748b512858596b8bd68656c6c6f"),
    (1, 0xFF, 0xFFFFFFFF, None, "000102", 0xBA0917C42B0B66DE, 0x27, "ff45f6e83b2b08ad8f27000102"),
    (0x075BCD15, 0x07, 12345, None, HELLO, 0xCCED8E889650CE25, 0x6B, "07ccedbeb196553d646b68656c6c6f"),
    (0x4D2, 0x10, 7, 300, HELLO, 0xBD2E0D59FE5FCF9B, 0x57, "10bd2e0d5efe5a606656ac0268656c6c6f"),
    (0xDEADBEEF, 0x80, 0x01020304, 0, "", 0x0526870F55AFD6D6, 0xB4, "800424840b55af86c4b500"),
    (
        0xDEADBEEF,
        0x81,
        9,
        2**64 - 1,
        b"payload".hex(),
        0x1CCD2FA44079F1A2,
        0x44,
        "811ccd2fad407e634445ffffffffffffffffff017061796c6f6164",
    ),
]

# wire spec 17.3: form, seed, nonce, flow, payload, frame
OLDER_VECTORS = [
    ("legacy", 0, 0, 0, "", "0000000000000000"),
    ("legacy", 0, 0, 12345, HELLO, "000000003039000568656c6c6f"),
    ("legacy", 0, 0, 0xA1B2C3D4E5F6, b"xyz".hex(), "a1b2c3d4e5f6000378797a"),
    ("obfs-v1", 0x12345678, 0x00, 0, "", "0094107ac2021f9f77"),
    ("obfs-v1", 0x12345678, 0x5A, 1, HELLO, "5a4748b5138581943668656c6c6f"),
    ("obfs-v1", 1, 0xFF, 0xFFFFFFFF, "000102", "ffba09e83bd4f466dd000102"),
    ("obfs-v1", 0x075BCD15, 0x07, 12345, HELLO, "07cced8e88a669ce2068656c6c6f"),
    ("tagged-9", 0x12345678, 0x00, 0, "", "0094107ac2021f3947"),
    ("tagged-9", 0x12345678, 0x5A, 1, HELLO, "5a4748b512858596b868656c6c6f"),
    ("tagged-9", 1, 0xFF, 0xFFFFFFFF, "000102", "ff45f6e83b2b08ad8f000102"),
    ("tagged-9", 0x075BCD15, 0x07, 12345, HELLO, "07ccedbeb196553d6468656c6c6f"),
]

ALL_VECTORS = [
    *(
        (CodecKind.OBFS_V2, seed, nonce, flow, seq, payload, frame)
        for seed, nonce, flow, seq, payload, _, _, frame in V2_VECTORS
    ),
    *(
        (CodecKind(form), seed, nonce, flow, None, payload, frame)
        for form, seed, nonce, flow, payload, frame in OLDER_VECTORS
    ),
]


@pytest.mark.parametrize(("kind", "seed", "nonce", "flow", "seq", "payload", "frame"), ALL_VECTORS)
def test_vectors(kind, seed, nonce, flow, seq, payload, frame):
    codec = make_codec(kind, seed)
    data = bytes.fromhex(payload)
    assert codec.encode(flow, data, nonce, seq).hex() == frame
    assert codec.decode(bytes.fromhex(frame)) == (flow, data, seq)


@pytest.mark.parametrize("vector", V2_VECTORS)
def test_masks_of_the_vectors(vector):
    seed, nonce, *_, header_mask, flag_mask, _ = vector
    assert header_masks(seed)[nonce] == header_mask
    assert flag_masks(seed)[nonce] == flag_mask


@pytest.mark.parametrize(("kind", "header"), zip(CodecKind, (8, 9, 9, 10), strict=True))
def test_sizes(kind, header):
    codec = make_codec(kind, 7)
    assert codec.header_size == header == len(codec.heartbeat(5))
    assert codec.max_payload == MAX_DATAGRAM - header
    assert codec.decode(codec.heartbeat(5)) == (0, b"", None)


@given(kind=KINDS, seed=U32, nonce=NONCE, flow=st.integers(0, 2**64 - 1), payload=st.binary(max_size=64))
def test_round_trip_truncates_the_flow(kind, seed, nonce, flow, payload):
    codec = make_codec(kind, seed)
    bits = 48 if kind in (CodecKind.LEGACY, CodecKind.OBFS_V1) else 32
    padded = codec.encode(flow, payload, nonce) + b"padding"
    assert codec.decode(padded) == (flow % 2**bits, payload, None)
    assert codec.decode(memoryview(padded)) == codec.decode(bytearray(padded)) == codec.decode(padded)


@given(seed=U32, nonce=NONCE, flow=U32, seq=st.integers(0, 2**64 - 1), payload=st.binary(max_size=64))
def test_round_trip_with_a_sequence(seed, nonce, flow, seq, payload):
    codec = make_codec(CodecKind.OBFS_V2, seed)
    assert codec.decode(codec.encode(flow, payload, nonce, seq)) == (flow, payload, seq)


@given(kind=KINDS, seed=U32, datagram=st.binary(max_size=40))
def test_garbage_is_the_peers_fault(kind, seed, datagram):
    assert outcome(make_codec(kind, seed), datagram) in {"frame", "short", "length", "tag", "flags", "seq"}


def outcome(codec, datagram):
    try:
        codec.decode(datagram)
    except RemoteProtocolError as error:
        return error.reason
    return "frame"


def reason(codec, datagram):
    with pytest.raises(RemoteProtocolError) as caught:
        codec.decode(datagram)
    return caught.value.reason


@pytest.mark.parametrize("kind", CodecKind)
def test_short_and_cut_frames(kind):
    codec = make_codec(kind, 7)
    frame = codec.encode(3, b"hello", 9)
    assert reason(codec, frame[: codec.header_size - 1]) == "short"
    assert reason(codec, b"") == "short"
    assert reason(codec, frame[:-1]) == "length"


@pytest.mark.parametrize("kind", [CodecKind.TAGGED_9, CodecKind.OBFS_V2])
@pytest.mark.parametrize("at", range(1, 9))
def test_a_changed_header_breaks_the_tag(kind, at):
    codec = make_codec(kind, 7)
    frame = bytearray(codec.encode(3, b"hello", 9))
    frame[at] ^= 0x40
    assert reason(codec, frame) == "tag"


def numbered(sequence: bytes, flags: int = 1) -> bytes:
    nonce = 4
    head = bytearray(make_codec(CodecKind.OBFS_V2, 7).heartbeat(nonce))
    head[9] = flags ^ flag_masks(7)[nonce]
    return bytes(head) + sequence


@pytest.mark.parametrize(
    "sequence",
    [
        b"",
        b"\x80",
        b"\x80\x00",  # not the shortest form of 0
        b"\xff" * 9 + b"\x02",  # 2^64 and more
        b"\xff" * 10 + b"\x01",
    ],
)
def test_bad_sequence_numbers(sequence):
    assert reason(make_codec(CodecKind.OBFS_V2, 7), numbered(sequence)) == "seq"


def test_order_of_checks():
    codec = make_codec(CodecKind.OBFS_V2, 7)
    assert reason(codec, numbered(b"", flags=0x03)) == "seq"
    assert reason(codec, numbered(b"\x05", flags=0x03)) == "flags"
    assert reason(codec, numbered(b"", flags=0x80)) == "flags"
    assert reason(codec, numbered(b"\x05")) == "tag"


def test_misuse_is_ours():
    with pytest.raises(LocalProtocolError, match="seed"):
        make_codec(CodecKind.OBFS_V2, 2**32)
    codec = make_codec(CodecKind.OBFS_V2, 7)
    with pytest.raises(LocalProtocolError, match="65536"):
        codec.encode(1, bytes(65536), 0)
    with pytest.raises(LocalProtocolError, match="2\\^64"):
        codec.encode(1, b"", 0, 2**64)
    with pytest.raises(LocalProtocolError, match="no sequence"):
        make_codec(CodecKind.TAGGED_9, 7).encode(1, b"", 0, 1)


def test_the_seed_is_not_shown():
    assert repr(RelayCodec(CodecKind.OBFS_V2, 305419896)) == "RelayCodec(obfs-v2)"


@pytest.mark.parametrize(("kind", "seed", "nonce", "flow", "seq", "payload", "frame"), ALL_VECTORS)
def test_every_vector_is_detected(kind, seed, nonce, flow, seq, payload, frame):
    assert detect_codec(seed, bytes.fromhex(frame)) is kind


@given(
    kind=st.sampled_from([CodecKind.OBFS_V1, CodecKind.TAGGED_9, CodecKind.OBFS_V2]),
    seed=st.integers(1, 200),
    nonce=NONCE,
)
def test_heartbeats_are_detected(kind, seed, nonce):
    codec = make_codec(kind, seed)
    detected = detect_codec(seed, codec.heartbeat(nonce))
    # one heartbeat in 65536 has a tag of zero, and so is obfs-v1 and tagged-9 at once
    assert detected is kind or codec.heartbeat(nonce)[:9] == make_codec(CodecKind.OBFS_V1, seed).heartbeat(
        nonce
    )


def test_an_agent_that_fell_back_to_legacy_is_detected():
    assert detect_codec(7, bytes(8)) is CodecKind.LEGACY


@pytest.mark.parametrize(
    ("seed", "datagram"),
    [
        (0, b"short"),
        (0, b"\0\0\0\0\0\1\0\5hell"),
        (7, b""),
        (7, bytes(9)),
        (7, bytes.fromhex("000100002112a442") + bytes(12)),  # a STUN binding request
        (8, make_codec(CodecKind.OBFS_V2, 7).heartbeat(1)),
    ],
)
def test_other_datagrams_are_not_detected(seed, datagram):
    assert detect_codec(seed, datagram) is None
