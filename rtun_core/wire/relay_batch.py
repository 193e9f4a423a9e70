"""The relay frame codec for a whole batch of datagrams, in uint64 vector arithmetic.

A batch is a byte matrix, one datagram per row. Results equal those of `rtun_core.wire.relay_frame`
for every input (wire spec 9.2, 9.3); frames with a sequence number, which no known peer sends, go
through that scalar codec.

Measured on one core, obfs-v2: 64 headers are written in 30 us and read in 42 us, against 166 us and
242 us for 64 calls of the scalar codec. Nearly all of it is the fixed price of some thirty numpy calls,
so the smallest batches go through the scalar codec too: 5 us and 7 us for a single frame.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtun_core.errors import RemoteProtocolError
from rtun_core.wire.relay_frame import (
    FLAG_SEQUENCE,
    GOLDEN,
    MAX_HEADER,
    MIX_1,
    MIX_2,
    CodecKind,
    RelayCodec,
    flag_masks,
    header_masks,
)

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Ints = NDArray[np.int64]

OK: Final = 0
SHORT: Final = 1
LENGTH: Final = 2
TAG: Final = 3
FLAGS: Final = 4
SEQ: Final = 5
ERROR_REASONS: Final = ("ok", "short", "length", "tag", "flags", "seq")
"""The scalar codec's reason for each value in `Decoded.errors`; entry 0 is a good frame."""

SCALAR_ROWS = 6
"""Batches up to this size go through the scalar codec, which is faster there."""

_GOLDEN = np.uint64(GOLDEN)
_MIX_1 = np.uint64(MIX_1)
_MIX_2 = np.uint64(MIX_2)
_M16 = np.uint64(0xFFFF)
_M32 = np.uint64(0xFFFFFFFF)
_M48 = np.uint64(0xFFFFFFFFFFFF)
_LENGTH_FIELD = np.uint64(0xFFFF0000)
_BITS = {n: np.uint64(n) for n in (16, 27, 30, 31, 32)}


class Decoded(NamedTuple):
    """One entry per row: `flows`, `payload_at` (column), `payload_len` (bytes) and `errors`.

    Where `errors` is not OK the other three are 0.
    """

    flows: Words
    payload_at: Ints
    payload_len: Ints
    errors: Bytes


class _Tables(NamedTuple):
    """What depends on seed and nonce alone, indexed by nonce."""

    header: Words
    flags: Bytes
    tag: Words


class BatchCodec:
    """The same frames as `codec`, many at a time. Holds no buffers; one may serve many channels."""

    __slots__ = ("_tables", "codec", "header_size", "kind")

    def __init__(self, codec: RelayCodec) -> None:
        self.codec = codec
        self.kind = codec.kind
        self.header_size = codec.header_size
        self._tables = _tables(codec.seed)

    def encode_headers(
        self,
        data: Bytes,
        payload_at: int,
        rows: NDArray[np.intp],
        flows: Words,
        lengths: Ints,
        nonces: Bytes,
    ) -> None:
        """Write a header in front of the payload of each of `rows`.

        The header of row `rows[k]` fills the columns [payload_at - header_size, payload_at) and declares
        `lengths[k]` bytes (0..65535) of flow `flows[k]`, truncated as the scalar codec does.
        """
        start = payload_at - self.header_size
        if len(rows) > SCALAR_ROWS:
            data[rows, start:payload_at] = self._headers(flows, lengths, nonces)
            return
        for row, *fields in zip(
            rows.tolist(), flows.tolist(), lengths.tolist(), nonces.tolist(), strict=True
        ):
            data[row, start:payload_at] = np.frombuffer(self.codec.header(*fields), np.uint8)

    def decode_headers(self, data: Bytes, at: int, lengths: Ints, count: int) -> Decoded:
        """Read the frames that start at column `at` of the rows 0..count, `lengths[k]` bytes each.

        `at` plus the header must lie within the matrix even for rows that are shorter.
        """
        if count <= SCALAR_ROWS:
            return self._one_by_one(data, at, lengths, count)
        header = np.ascontiguousarray(data[:count, at : at + self.header_size])
        if self.kind is CodecKind.LEGACY:
            return self._plain(_words(header), at, lengths[:count])
        nonces = header[:, 0]
        meta = _words(header[:, 1:9])
        meta ^= self._tables.header.take(nonces)
        if self.kind is CodecKind.OBFS_V1:
            return self._plain(meta, at, lengths[:count])
        return self._tagged(data, header, meta, at, lengths[:count])

    def _headers(self, flows: Words, lengths: Ints, nonces: Bytes) -> Bytes:
        header = np.empty((len(flows), self.header_size), np.uint8)
        if self.kind is CodecKind.LEGACY:
            header[:] = _big_endian(_plain_meta(flows, lengths))
            return header
        header[:, 0] = nonces
        header[:, 1:9] = _big_endian(self._masked_meta(flows, lengths, nonces))
        if self.kind is CodecKind.OBFS_V2:
            header[:, 9] = self._tables.flags.take(nonces)
        return header

    def _masked_meta(self, flows: Words, lengths: Ints, nonces: Bytes) -> Words:
        if self.kind is CodecKind.OBFS_V1:
            meta = _plain_meta(flows, lengths)
        else:
            meta = flows << _BITS[32]
            length = lengths.astype(np.uint64)
            length <<= _BITS[16]
            meta |= length
            meta |= self._tags(flows & _M32, length, nonces)
        meta ^= self._tables.header.take(nonces)
        return meta

    def _tags(self, flows: Words, length_field: Words, nonces: Bytes) -> Words:
        """TAG of frames without flags. `length_field` is the payload length times 65536."""
        z = self._tables.tag.take(nonces)
        z ^= flows
        z ^= length_field
        z += _GOLDEN
        z ^= z >> _BITS[30]
        z *= _MIX_1
        z ^= z >> _BITS[27]
        z *= _MIX_2
        z ^= z >> _BITS[31]
        z ^= z >> _BITS[32]
        z ^= z >> _BITS[16]
        z &= _M16
        return z

    def _plain(self, meta: Words, at: int, lengths: Ints) -> Decoded:
        payload_len = (meta & _M16).view(np.int64)
        errors = np.zeros(len(meta), np.uint8)
        errors[payload_len > lengths - self.header_size] = LENGTH
        return self._finish(meta >> _BITS[16], payload_len, errors, at, lengths)

    def _tagged(self, data: Bytes, header: Bytes, meta: Words, at: int, lengths: Ints) -> Decoded:
        nonces = header[:, 0]
        flows = meta >> _BITS[32]
        length_field = meta & _LENGTH_FIELD
        payload_len = (length_field >> _BITS[16]).view(np.int64)
        errors = np.zeros(len(meta), np.uint8)
        errors[payload_len > lengths - self.header_size] = LENGTH
        errors[(meta & _M16) != self._tags(flows, length_field, nonces)] = TAG
        if self.kind is CodecKind.TAGGED_9:
            return self._finish(flows, payload_len, errors, at, lengths)
        flags = header[:, 9] ^ self._tables.flags.take(nonces)
        if not flags.any():
            return self._finish(flows, payload_len, errors, at, lengths)
        errors[flags != 0] = FLAGS
        decoded = self._finish(flows, payload_len, errors, at, lengths)
        for row in np.flatnonzero(flags & FLAG_SEQUENCE):
            self._read_one(decoded, int(row), data, at, int(lengths[row]))
        return decoded

    def _finish(self, flows: Words, payload_len: Ints, errors: Bytes, at: int, lengths: Ints) -> Decoded:
        errors[lengths < self.header_size] = SHORT
        payload_at = np.full(len(flows), at + self.header_size, np.int64)
        if errors.any():
            bad = errors != OK
            flows[bad] = 0
            payload_at[bad] = 0
            payload_len[bad] = 0
        return Decoded(flows, payload_at, payload_len, errors)

    def _one_by_one(self, data: Bytes, at: int, lengths: Ints, count: int) -> Decoded:
        decoded = Decoded(
            np.zeros(count, np.uint64),
            np.zeros(count, np.int64),
            np.zeros(count, np.int64),
            np.zeros(count, np.uint8),
        )
        for row, length in enumerate(lengths[:count].tolist()):
            self._read_one(decoded, row, data, at, length)
        return decoded

    def _read_one(self, decoded: Decoded, row: int, data: Bytes, at: int, length: int) -> None:
        """Read one frame with the scalar codec into its row of `decoded`, which says "bad frame" or 0."""
        head = data[row, at : at + min(length, MAX_HEADER)].tobytes()
        try:
            header = self.codec.read_header(head, length)
        except RemoteProtocolError as error:
            decoded.errors[row] = ERROR_REASONS.index(error.reason)
            return
        decoded.errors[row] = OK
        decoded.flows[row] = header.flow
        decoded.payload_at[row] = at + header.start
        decoded.payload_len[row] = header.length


def _plain_meta(flows: Words, lengths: Ints) -> Words:
    meta = flows & _M48
    meta <<= _BITS[16]
    meta |= lengths.astype(np.uint64)
    return meta


def _big_endian(meta: Words) -> Bytes:
    """The words as rows of eight bytes."""
    return meta.astype(">u8").view(np.uint8).reshape(len(meta), 8)


def _words(rows: Bytes) -> Words:
    """Rows of eight bytes as words, in an array of its own."""
    return np.ascontiguousarray(rows).view(">u8").astype(np.uint64).reshape(len(rows))


@lru_cache(maxsize=128)
def _tables(seed: int) -> _Tables:
    nonces = np.arange(256, dtype=np.uint64)
    return _Tables(
        np.array(header_masks(seed), np.uint64),
        np.array(flag_masks(seed), np.uint8),
        (nonces << np.uint64(56)) ^ np.uint64(seed << 32),
    )
