"""One relay frame per datagram: the four header forms that peers in the field use (wire spec 9.2, 9.3, 9.8).

    legacy    flow(6) length(2)                           seed 0: nothing is masked
    obfs-v1   nonce(1) [flow(6) length(2)]                bracketed fields are masked
    tagged-9  nonce(1) [flow(4) length(2) tag(2)]
    obfs-v2   nonce(1) [flow(4) length(2) tag(2)] [flags(1)] sequence(0..10)

Integers are big-endian; the payload follows the header unmasked. The masks depend on the seed and the
nonce byte alone, so each seed has two tables of 256 entries. `rtun_core.wire.relay_batch` is the same
codec for many datagrams at once.
"""

from __future__ import annotations

import enum
import struct
from functools import lru_cache
from typing import NamedTuple

from rtun_core.errors import LocalProtocolError, RemoteProtocolError

MAX_DATAGRAM = 1452
"""Bytes of UDP payload that one frame may fill, header included (wire spec 9.1)."""

FLAG_SEQUENCE = 0x01
GOLDEN = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB

_FLAGS_SALT = 0xA5A55A5AD3D3C3C3
_M64 = (1 << 64) - 1
_M48 = (1 << 48) - 1
_M32 = (1 << 32) - 1
_MAX_LENGTH = 0xFFFF
_MAX_VARINT = 10

MAX_HEADER = 10 + _MAX_VARINT
"""The longest header: obfs-v2 with the longest sequence number."""

_U64 = struct.Struct(">Q")
_NONCE_META = struct.Struct(">BQ")
_NONCE_META_FLAGS = struct.Struct(">BQB")


class CodecKind(enum.Enum):
    """The generation of the frame header. The values are the names that logs and tables show."""

    LEGACY = "legacy"
    OBFS_V1 = "obfs-v1"
    TAGGED_9 = "tagged-9"
    OBFS_V2 = "obfs-v2"


_HEADER_SIZE = {CodecKind.LEGACY: 8, CodecKind.OBFS_V1: 9, CodecKind.TAGGED_9: 9, CodecKind.OBFS_V2: 10}


class Frame(NamedTuple):
    """A decoded datagram. `seq` is None unless the sender numbered the frame (obfs-v2 only)."""

    flow: int
    payload: bytes
    seq: int | None


class Header(NamedTuple):
    """What a header says: the payload is the `length` bytes from `start` on."""

    flow: int
    start: int
    length: int
    seq: int | None


class RelayCodec:
    """Encodes and decodes the frames of one channel.

    `header_size` is the header without a sequence number; `max_payload` the largest payload that fits
    `MAX_DATAGRAM`. The codec does not enforce `max_payload`: both ends may have agreed on less.
    """

    __slots__ = ("_flag_masks", "_masks", "header_size", "kind", "max_payload", "seed")

    def __init__(self, kind: CodecKind, seed: int) -> None:
        if not 0 <= seed <= _M32:
            raise LocalProtocolError(f"relay seed {seed} is outside 0..{_M32}")
        self.kind = kind
        self.seed = seed
        self.header_size = _HEADER_SIZE[kind]
        self.max_payload = MAX_DATAGRAM - self.header_size
        self._masks = header_masks(seed)
        self._flag_masks = flag_masks(seed)

    def __repr__(self) -> str:
        return f"RelayCodec({self.kind.value})"  # the seed is a shared secret of sorts: not in logs

    def encode(self, flow: int, payload: bytes, nonce: int, seq: int | None = None) -> bytes:
        """One frame. Sent are the low 32 bits of `flow` (48 for legacy and obfs-v1) and the low 8 of `nonce`.

        Raises LocalProtocolError when the payload does not fit the length field, or when a sequence
        number (0..2^64-1) is out of range or given to a form that has none.
        """
        length = len(payload)
        if length > _MAX_LENGTH:
            raise LocalProtocolError(f"a relay frame carries at most {_MAX_LENGTH} bytes, not {length}")
        if seq is not None:
            return self._encode_numbered(flow & _M32, payload, nonce & 0xFF, seq)
        return self.header(flow, length, nonce & 0xFF) + payload

    def heartbeat(self, nonce: int) -> bytes:
        """The empty frame of flow 0 that keeps a channel alive (wire spec 9.4)."""
        return self.header(0, 0, nonce & 0xFF)

    def decode(self, datagram: bytes | bytearray | memoryview) -> Frame:
        """Read one frame; bytes after the declared payload are ignored.

        Raises RemoteProtocolError whose reason is `short`, `seq`, `flags`, `tag` or `length`, checked in
        that order.
        """
        flow, start, length, seq = self.read_header(datagram, len(datagram))
        return Frame(flow, bytes(datagram[start : start + length]), seq)

    def header(self, flow: int, length: int, nonce: int) -> bytes:
        """What stands in front of a payload of `length` bytes (0..65535). `nonce` is 0..255."""
        if self.kind is CodecKind.LEGACY:
            return _U64.pack((flow & _M48) << 16 | length)
        if self.kind is CodecKind.OBFS_V1:
            return _NONCE_META.pack(nonce, ((flow & _M48) << 16 | length) ^ self._masks[nonce])
        masked = self._tagged_meta(flow & _M32, length, nonce, 0, None) ^ self._masks[nonce]
        if self.kind is CodecKind.TAGGED_9:
            return _NONCE_META.pack(nonce, masked)
        return _NONCE_META_FLAGS.pack(nonce, masked, self._flag_masks[nonce])

    def read_header(self, head: bytes | bytearray | memoryview, size: int) -> Header:
        """Read the header of a datagram of `size` bytes; `head` is at least its first MAX_HEADER bytes.

        Raises RemoteProtocolError as `decode` does.
        """
        if size < self.header_size:
            raise RemoteProtocolError(
                f"relay frame of {size} bytes, a header has {self.header_size}", reason="short"
            )
        header = self._unmask(head)
        if header.length > size - header.start:
            raise RemoteProtocolError(
                f"relay frame declares {header.length} payload bytes, {size - header.start} follow",
                reason="length",
            )
        return header

    def _encode_numbered(self, flow: int, payload: bytes, nonce: int, seq: int) -> bytes:
        if self.kind is not CodecKind.OBFS_V2:
            raise LocalProtocolError(f"{self.kind.value} relay frames have no sequence number")
        if not 0 <= seq <= _M64:
            raise LocalProtocolError(f"relay sequence number {seq} is outside 0..2^64-1")
        meta = self._tagged_meta(flow, len(payload), nonce, FLAG_SEQUENCE, seq)
        flags = FLAG_SEQUENCE ^ self._flag_masks[nonce]
        return _NONCE_META_FLAGS.pack(nonce, meta ^ self._masks[nonce], flags) + _encode_varint(seq) + payload

    def _unmask(self, head: bytes | bytearray | memoryview) -> Header:
        if self.kind is CodecKind.OBFS_V2:
            return self._unmask_v2(head)
        if self.kind is CodecKind.LEGACY:
            (meta,) = _U64.unpack_from(head)
            return Header(meta >> 16, 8, meta & 0xFFFF, None)
        nonce, masked = _NONCE_META.unpack_from(head)
        meta = masked ^ self._masks[nonce]
        if self.kind is CodecKind.OBFS_V1:
            return Header(meta >> 16, 9, meta & 0xFFFF, None)
        self._check_tag(nonce, meta, 0, None)
        return Header(meta >> 32, 9, meta >> 16 & 0xFFFF, None)

    def _unmask_v2(self, head: bytes | bytearray | memoryview) -> Header:
        nonce, masked, masked_flags = _NONCE_META_FLAGS.unpack_from(head)
        meta = masked ^ self._masks[nonce]
        flags = masked_flags ^ self._flag_masks[nonce]
        seq, start = None, 10
        if flags & FLAG_SEQUENCE:
            seq, start = _decode_varint(head, 10)
        if flags & ~FLAG_SEQUENCE:
            raise RemoteProtocolError(f"unknown relay flags {flags:#04x}", reason="flags")
        self._check_tag(nonce, meta, flags, seq)
        return Header(meta >> 32, start, meta >> 16 & 0xFFFF, seq)

    def _check_tag(self, nonce: int, meta: int, flags: int, seq: int | None) -> None:
        expected = _tag(self.seed, nonce, meta >> 32, meta >> 16 & 0xFFFF, flags, seq)
        if meta & 0xFFFF != expected:
            raise RemoteProtocolError(
                f"relay tag mismatch [{meta & 0xFFFF:04x}], expected [{expected:04x}]", reason="tag"
            )

    def _tagged_meta(self, flow: int, length: int, nonce: int, flags: int, seq: int | None) -> int:
        return flow << 32 | length << 16 | _tag(self.seed, nonce, flow, length, flags, seq)


def make_codec(kind: CodecKind, seed: int) -> RelayCodec:
    """The codec of a channel. Raises LocalProtocolError unless `seed` fits 32 bits."""
    return RelayCodec(kind, seed)


def detect_codec(seed: int, datagram: bytes) -> CodecKind | None:
    """Which generation sent `datagram`, the first one of a channel; None if it is not a relay frame.

    A heartbeat tells by its length, data by its tag (wire spec 9.4, 9.8). obfs-v1 data has no tag; it
    is recognised when its length field is exactly the rest of the datagram, as likely a mistake as
    a tag is. The newer forms are tried first: the bytes of an obfs-v2 frame also read as tagged-9.
    """
    if seed == 0:
        return CodecKind.LEGACY if _decodes(CodecKind.LEGACY, 0, datagram) else None
    if datagram == bytes(8):
        return CodecKind.LEGACY
    if _is_v1_heartbeat(seed, datagram):
        return CodecKind.OBFS_V1
    for kind in (CodecKind.OBFS_V2, CodecKind.TAGGED_9):
        if _decodes(kind, seed, datagram):
            return kind
    return CodecKind.OBFS_V1 if _is_v1_data(seed, datagram) else None


@lru_cache(maxsize=128)
def header_masks(seed: int) -> tuple[int, ...]:
    """HMASK of each nonce, 64 bits (wire spec 9.3)."""
    return tuple(mix(seed << 8 | nonce) for nonce in range(256))


@lru_cache(maxsize=128)
def flag_masks(seed: int) -> tuple[int, ...]:
    """FMASK of each nonce, 8 bits (wire spec 9.3)."""
    return tuple(_flag_mask(seed << 8 | nonce) for nonce in range(256))


def mix(z: int) -> int:
    """The 64-bit finalizer MIX (wire spec 9.3)."""
    z = z + GOLDEN & _M64
    z = (z ^ z >> 30) * MIX_1 & _M64
    z = (z ^ z >> 27) * MIX_2 & _M64
    return z ^ z >> 31


def _flag_mask(z: int) -> int:
    z ^= _FLAGS_SALT
    z = (z ^ z >> 29) * MIX_2 & _M64
    return (z ^ z >> 32) & 0xFF


def _tag(seed: int, nonce: int, flow: int, length: int, flags: int, seq: int | None) -> int:
    z = (seed << 32 | flow) ^ nonce << 56 ^ length << 16 ^ flags << 8
    if seq is not None:
        z ^= seq * GOLDEN & _M64
        turn = seq % 32 + 1
        z = (z << turn | z >> 64 - turn) & _M64
    z = mix(z)
    return (z ^ z >> 16 ^ z >> 32 ^ z >> 48) & 0xFFFF


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _decode_varint(head: bytes | bytearray | memoryview, start: int) -> tuple[int, int]:
    """The canonical unsigned LEB128 number at `start`, and where it ends."""
    value = 0
    for index, byte in enumerate(head[start : start + _MAX_VARINT]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if value > _M64 or (byte == 0 and index > 0):
                break
            return value, start + index + 1
    raise RemoteProtocolError(
        "relay sequence number is cut, too large or not in its shortest form", reason="seq"
    )


def _decodes(kind: CodecKind, seed: int, datagram: bytes) -> bool:
    try:
        RelayCodec(kind, seed).decode(datagram)
    except RemoteProtocolError:
        return False
    return True


def _is_v1_heartbeat(seed: int, datagram: bytes) -> bool:
    return len(datagram) == 9 and datagram[1:] == header_masks(seed)[datagram[0]].to_bytes(8, "big")


def _is_v1_data(seed: int, datagram: bytes) -> bool:
    if len(datagram) <= 9:
        return False
    meta = header_masks(seed)[datagram[0]] ^ int.from_bytes(datagram[1:9], "big")
    return meta & 0xFFFF == len(datagram) - 9
