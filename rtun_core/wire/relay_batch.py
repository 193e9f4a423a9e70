"""The relay frame codec for many datagrams at once, in uint64 vector arithmetic.

Datagrams lie anywhere in one flat buffer: a vector of positions and a vector of lengths say where. Results
equal those of `rtun_core.wire.relay_frame` for every input (wire spec 9.2, 9.3); frames with a sequence
number, which no known peer sends, go through that scalar codec.

Measured on one core, obfs-v2: 64 headers are written in 13 us and read in 17 us, 4 in 12 and 16 us; a single
one costs 1.2 and 1.6 us by the scalar codec. Nearly all of it is the fixed price of some twenty-five numpy
calls. Constants are arrays without dimensions: an operation with one takes 0.26 us where a scalar takes 0.5.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

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


def _word(value: int) -> Words:
    return np.array(value, np.uint64)


_GOLDEN = _word(GOLDEN)
_MIX_1, _MIX_2 = _word(MIX_1), _word(MIX_2)
_M16, _M32, _M48 = _word(0xFFFF), _word(0xFFFFFFFF), _word(0xFFFFFFFFFFFF)
_LENGTH_FIELD = _word(0xFFFF0000)
_16, _27, _30, _31, _32 = (_word(bits) for bits in (16, 27, 30, 31, 32))


class Decoded(NamedTuple):
    """One entry a datagram: `flows`, and where the payload is, `starts` and `lengths` (bytes).

    `errors` is None when all are good frames; where an entry of it is not OK the other three are 0.
    """

    flows: Words
    starts: Ints
    lengths: Ints
    errors: Bytes | None


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

    def encode_headers(self, data: Bytes, starts: Ints, flows: Words, lengths: Ints, nonces: Bytes) -> None:
        """Write a header in front of each payload, into the `header_size` bytes before `starts[k]`.

        It declares `lengths[k]` bytes (0..65535) of flow `flows[k]`, truncated as the scalar codec does.
        `data` is flat; what stood before the payload is overwritten.
        """
        words, at = _big_endian_words(data), starts - self.header_size
        if self.kind is CodecKind.LEGACY:
            words[at] = _plain_meta(flows, lengths).astype(">u8")
            return
        data[at] = nonces
        at += 1
        words[at] = self._masked_meta(flows, lengths, nonces).astype(">u8")
        if self.kind is CodecKind.OBFS_V2:
            at += 8
            data[at] = self._tables.flags.take(nonces)

    def decode_headers(self, data: Bytes, starts: Ints, lengths: Ints) -> Decoded:
        """Read the frames at `starts`, `lengths[k]` bytes each.

        `data` is flat and goes on for at least a header after each start, also after frames that are shorter.
        """
        words = _big_endian_words(data)
        if self.kind is CodecKind.LEGACY:
            return self._plain(words[starts].astype(np.uint64), starts, lengths)
        nonces = data[starts]
        meta = words[starts + 1].astype(np.uint64)
        meta ^= self._tables.header.take(nonces)
        if self.kind is CodecKind.OBFS_V1:
            return self._plain(meta, starts, lengths)
        return self._tagged(data, meta, nonces, starts, lengths)

    def _masked_meta(self, flows: Words, lengths: Ints, nonces: Bytes) -> Words:
        if self.kind is CodecKind.OBFS_V1:
            meta = _plain_meta(flows, lengths)
        else:
            field = lengths.astype(np.uint64)
            field &= _M16
            field <<= _16
            meta = self._tags(flows & _M32, field, nonces)
            meta &= _M16
            meta |= field
            np.left_shift(flows, _32, out=field)
            meta |= field
        meta ^= self._tables.header.take(nonces)
        return meta

    def _tags(self, flows: Words, length_field: Words, nonces: Bytes) -> Words:
        """TAG of frames without flags, in the low 16 bits. `length_field`: payload length times 65536."""
        z = self._tables.tag.take(nonces)
        z ^= flows
        z ^= length_field
        z += _GOLDEN
        shifted = z >> _30
        z ^= shifted
        z *= _MIX_1
        z ^= np.right_shift(z, _27, out=shifted)
        z *= _MIX_2
        z ^= np.right_shift(z, _31, out=shifted)
        z ^= np.right_shift(z, _32, out=shifted)
        z ^= np.right_shift(z, _16, out=shifted)
        return z

    def _plain(self, meta: Words, starts: Ints, lengths: Ints) -> Decoded:
        payload: Ints = (meta & _M16).view(np.int64)
        too_long = payload > lengths - self.header_size
        decoded = Decoded(meta >> _16, starts + self.header_size, payload, None)
        if not np.count_nonzero(too_long):
            return decoded
        return self._with_errors(decoded, np.where(too_long, LENGTH, OK).astype(np.uint8), lengths)

    def _tagged(self, data: Bytes, meta: Words, nonces: Bytes, starts: Ints, lengths: Ints) -> Decoded:
        flows = meta >> _32
        field = meta & _LENGTH_FIELD
        wrong = self._tags(flows, field, nonces)
        wrong ^= meta
        wrong &= _M16
        np.right_shift(field, _16, out=field)
        decoded = Decoded(flows, starts + self.header_size, field.view(np.int64), None)
        too_long = decoded.lengths > lengths - self.header_size
        flags = None
        if self.kind is CodecKind.OBFS_V2:
            flags = data[starts + 9]
            flags ^= self._tables.flags.take(nonces)
            too_long |= flags != 0
        if not (np.count_nonzero(wrong) or np.count_nonzero(too_long)):
            return decoded
        return self._judge(data, decoded, wrong, flags, starts, lengths)

    def _judge(
        self, data: Bytes, decoded: Decoded, wrong: Words, flags: Bytes | None, starts: Ints, lengths: Ints
    ) -> Decoded:
        """Say what is wrong with each frame, in the order in which the scalar codec looks."""
        errors = np.zeros(len(starts), np.uint8)
        errors[decoded.lengths > lengths - self.header_size] = LENGTH
        errors[wrong != 0] = TAG
        if flags is None:
            return self._with_errors(decoded, errors, lengths)
        errors[flags != 0] = FLAGS
        judged = self._with_errors(decoded, errors, lengths)
        for index in np.flatnonzero(flags & FLAG_SEQUENCE).tolist():
            self._read_one(judged, index, data, int(starts[index]), int(lengths[index]))
        return judged

    def _with_errors(self, decoded: Decoded, errors: Bytes, lengths: Ints) -> Decoded:
        errors[lengths < self.header_size] = SHORT
        bad = errors != OK
        for column in decoded[:3]:
            column[bad] = 0
        return decoded._replace(errors=errors)

    def _read_one(self, decoded: Decoded, index: int, data: Bytes, start: int, length: int) -> None:
        """Read one frame with the scalar codec into its place in `decoded`."""
        assert decoded.errors is not None
        head = data[start : start + min(length, MAX_HEADER)].tobytes()
        try:
            header = self.codec.read_header(head, length)
        except RemoteProtocolError as error:
            decoded.errors[index] = ERROR_REASONS.index(error.reason)
            return
        decoded.errors[index] = OK
        decoded.flows[index] = header.flow
        decoded.starts[index] = start + header.start
        decoded.lengths[index] = header.length


def _plain_meta(flows: Words, lengths: Ints) -> Words:
    meta = flows & _M48
    meta <<= _16
    meta |= lengths.astype(np.uint64)
    return meta


def _big_endian_words(data: Bytes) -> NDArray[Any]:
    """The word that begins at each byte of `data`, for reading and writing."""
    return np.ndarray((len(data) - 7,), ">u8", data, 0, (1,))


@lru_cache(maxsize=128)
def _tables(seed: int) -> _Tables:
    nonces = np.arange(256, dtype=np.uint64)
    return _Tables(
        np.array(header_masks(seed), np.uint64),
        np.array(flag_masks(seed), np.uint8),
        (nonces << np.uint64(56)) ^ np.uint64(seed << 32),
    )
