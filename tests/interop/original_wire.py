"""The bytes of the original programs, written from the wire spec alone and shared by their models.

Nothing here imports `rtun_core` but the generated protobuf messages: what the models check must not be
checked with our own codecs.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import struct
import time
import zlib
from dataclasses import dataclass
from ipaddress import IPv4Address

Address = tuple[str, int]

_M64 = (1 << 64) - 1
_COOKIE = 0x2112A442
_ID_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

# STUN message types and attributes (wire spec 8.4)
REQUEST, SUCCESS = 0x0001, 0x0101
USERNAME, INTEGRITY, XOR_MAPPED, PRIORITY, USE_CANDIDATE = 0x0006, 0x0008, 0x0020, 0x0024, 0x0025
SOFTWARE, FINGERPRINT, CONTROLLED, CONTROLLING = 0x8022, 0x8028, 0x8029, 0x802A


class Undecodable(Exception):
    """Bytes that an original program does not take for a frame."""


# ---- identifiers and token (3.2, 3.3) ----------------------------------------------------------------


def random_id() -> str:
    """Eight characters of base 62, as ICE user names and passwords are."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(8))


def token(secret: str, nonce: int | None = None) -> str:
    """The token of a client that was started at `nonce` (ms)."""
    raw = (time.time_ns() // 1_000_000 if nonce is None else nonce).to_bytes(8, "big")
    mac = hmac.new(secret.encode(), raw, hashlib.sha256).digest()
    return base64.b64encode(raw + mac).decode().rstrip("=")


def token_fault(secret: str, text: str) -> str:
    """Why a token is refused, empty when it is not."""
    if "=" in text or len(text) % 4 == 1:
        return "invalid token"
    raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    if len(raw) < 8:
        return "token too short"
    mac = hmac.new(secret.encode(), raw[:8], hashlib.sha256).digest()
    return "" if hmac.compare_digest(mac, raw[8:]) else "invalid token"


# ---- packets of a switch session (6.1) ---------------------------------------------------------------


def varint(value: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def packet(channel: int, payload: bytes) -> bytes:
    """A packet as it is on a WebSocket."""
    head = b"\x08" + varint(channel) if channel else b""
    return head + (b"\x12" + varint(len(payload)) + payload if payload else b"")


def read_packet(data: bytes) -> tuple[int, bytes]:
    """Channel and payload of a packet."""
    channel, payload, at = 0, b"", 0
    while at < len(data):
        key, at = read_varint(data, at)
        value, at = read_varint(data, at)
        if key == 0x08:
            channel = value
        else:
            assert key == 0x12, f"field key {key:#x} in a packet"
            payload, at = data[at : at + value], at + value
    return channel, payload


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def framed(body: bytes) -> bytes:
    """A frame of a QUIC signalling stream (5.2)."""
    return struct.pack(">I", len(body)) + body


# ---- STUN (8.4) --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stun:
    """A STUN message with its attributes in order."""

    kind: int
    transaction: bytes
    attributes: tuple[tuple[int, bytes], ...]
    raw: bytes

    def get(self, number: int) -> bytes | None:
        """The value of an attribute."""
        return next((value for kind, value in self.attributes if kind == number), None)

    @property
    def order(self) -> list[int]:
        """Attribute numbers as they came."""
        return [kind for kind, _ in self.attributes]

    @property
    def nominates(self) -> bool:
        """Whether USE-CANDIDATE is set."""
        return USE_CANDIDATE in self.order

    def signed_with(self, key: str) -> bool:
        """Whether MESSAGE-INTEGRITY is there and right."""
        at = 20
        for kind, value in self.attributes:
            if kind == INTEGRITY:
                covered = self.raw[:2] + struct.pack(">H", at + 4) + self.raw[4:at]
                return hmac.digest(key.encode(), covered, "sha1") == value
            at += 4 + len(value) + -len(value) % 4
        return False


def stun(
    kind: int,
    transaction: bytes,
    attributes: list[tuple[int, bytes]],
    *,
    key: str,
    fingerprint: bool = False,
) -> bytes:
    """Build a message that is signed with `key`."""
    body = b"".join(_attribute(number, value) for number, value in attributes)
    signed = _header(kind, len(body) + 24, transaction) + body
    body += _attribute(INTEGRITY, hmac.digest(key.encode(), signed, "sha1"))
    if fingerprint:
        whole = _header(kind, len(body) + 8, transaction) + body
        body += _attribute(FINGERPRINT, struct.pack(">I", zlib.crc32(whole) ^ 0x5354554E))
    return _header(kind, len(body), transaction) + body


def check_request(
    transaction: bytes, *, username: str, key: str, tie_breaker: int, role: int, priority: int, nominate: bool
) -> bytes:
    """A connectivity check, with or without nomination."""
    attributes = [(SOFTWARE, b"rtun"), (USERNAME, username.encode()), (role, struct.pack(">Q", tie_breaker))]
    if nominate:
        attributes.append((USE_CANDIDATE, b""))
    return stun(REQUEST, transaction, [*attributes, (PRIORITY, struct.pack(">I", priority))], key=key)


def check_success(transaction: bytes, source: Address, key: str) -> bytes:
    """The answer to a check from `source`."""
    host = int.from_bytes(bytes(map(int, source[0].split("."))), "big")
    mapped = struct.pack(">BBHI", 0, 1, source[1] ^ _COOKIE >> 16, host ^ _COOKIE)
    return stun(SUCCESS, transaction, [(XOR_MAPPED, mapped)], key=key, fingerprint=True)


def read_stun(data: bytes) -> Stun | None:
    """Read a message; None for what is not STUN."""
    if len(data) < 20 or data[0] >= 0x40:
        return None
    kind, length, cookie = struct.unpack_from(">HHI", data)
    if cookie != _COOKIE or length != len(data) - 20:
        return None
    attributes, at = [], 20
    while at < len(data):
        number, size = struct.unpack_from(">HH", data, at)
        attributes.append((number, data[at + 4 : at + 4 + size]))
        at += 4 + size + -size % 4
    return Stun(kind, data[8:20], tuple(attributes), data)


def _attribute(number: int, value: bytes) -> bytes:
    return struct.pack(">HH", number, len(value)) + value + bytes(-len(value) % 4)


def _header(kind: int, length: int, transaction: bytes) -> bytes:
    return struct.pack(">HHI", kind, length, _COOKIE) + transaction


# ---- candidates (8.2) --------------------------------------------------------------------------------

HOST_PRIORITY = 126 << 24 | 65534 << 8 | 255


def host_candidate(address: Address) -> str:
    """The string of a host candidate."""
    return f"candidate:3142597162 1 udp {HOST_PRIORITY} {address[0]} {address[1]} typ host"


def read_candidate(text: str) -> tuple[Address, int]:
    """Address and priority of a candidate. Raises ValueError for what the originals cannot parse."""
    words = text.split(" ")
    if len(words) < 8 or words[6] != "typ" or words[7] not in ("host", "prflx", "srflx", "relay"):
        raise ValueError(f"bad candidate {text!r}")
    if not 0 <= int(words[1]) < 1 << 16 or not 0 <= int(words[3]) < 1 << 32:
        raise ValueError(f"number out of range in {text!r}")
    return (str(IPv4Address(words[4])), int(words[5])), int(words[3])


# ---- relay frames (9.2, 9.3, 9.8) --------------------------------------------------------------------

LEGACY, OBFS_V1, TAGGED_9, OBFS_V2 = "legacy", "obfs-v1", "tagged-9", "obfs-v2"
HEADER_SIZE = {LEGACY: 8, OBFS_V1: 9, TAGGED_9: 9, OBFS_V2: 10}


def encode_frame(
    form: str, seed: int, flow: int, payload: bytes, nonce: int, seq: int | None = None
) -> bytes:
    """One datagram of the given form."""
    if form == LEGACY:
        return flow.to_bytes(6, "big") + len(payload).to_bytes(2, "big") + payload
    if form == OBFS_V1:
        meta = (flow << 16 | len(payload)) ^ _hmask(seed, nonce)
        return struct.pack(">BQ", nonce, meta) + payload
    flags = 0 if seq is None else 1
    flow &= 0xFFFFFFFF
    meta = flow << 32 | len(payload) << 16 | _tag(seed, nonce, flow, len(payload), flags, seq)
    frame = struct.pack(">BQ", nonce, meta ^ _hmask(seed, nonce))
    if form == OBFS_V2:
        frame += bytes([flags ^ _fmask(seed, nonce)]) + (b"" if seq is None else varint(seq))
    return frame + payload


def decode_frame(form: str, seed: int, data: bytes) -> tuple[int, bytes]:
    """Flow and payload of a datagram. Raises Undecodable."""
    size = HEADER_SIZE[form]
    if len(data) < size:
        raise Undecodable("too short")
    if form == LEGACY:
        return _cut(int.from_bytes(data[:6], "big"), int.from_bytes(data[6:8], "big"), data[8:])
    nonce, masked = struct.unpack_from(">BQ", data)
    meta = masked ^ _hmask(seed, nonce)
    if form == OBFS_V1:
        return _cut(meta >> 16, meta & 0xFFFF, data[9:])
    flags, seq = 0, None
    if form == OBFS_V2:
        flags = data[9] ^ _fmask(seed, nonce)
        if flags & 1:
            seq, size = read_varint(data, 10)
        if flags & ~1:
            raise Undecodable("unknown relay flags")
    flow, length = meta >> 32, meta >> 16 & 0xFFFF
    if meta & 0xFFFF != _tag(seed, nonce, flow, length, flags, seq):
        raise Undecodable("tag mismatch")
    return _cut(flow, length, data[size:])


def _cut(flow: int, length: int, rest: bytes) -> tuple[int, bytes]:
    if length > len(rest):
        raise Undecodable("declared length exceeds the datagram")
    return flow, rest[:length]


def _mix(z: int) -> int:
    z = (z + 0x9E3779B97F4A7C15) & _M64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _M64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _M64
    return z ^ (z >> 31)


def _hmask(seed: int, nonce: int) -> int:
    return _mix((seed << 8) | nonce)


def _fmask(seed: int, nonce: int) -> int:
    z = ((seed << 8) | nonce) ^ 0xA5A55A5AD3D3C3C3
    z = ((z ^ (z >> 29)) * 0x94D049BB133111EB) & _M64
    return (z ^ (z >> 32)) & 0xFF


def _tag(seed: int, nonce: int, flow: int, length: int, flags: int, seq: int | None) -> int:
    z = (seed << 32) | flow
    z ^= nonce << 56
    z ^= length << 16
    z ^= flags << 8
    if seq is not None:
        z ^= (seq * 0x9E3779B97F4A7C15) & _M64
        turn = seq % 32 + 1
        z = (z << turn | z >> (64 - turn)) & _M64
    z = _mix(z)
    return (z ^ (z >> 16) ^ (z >> 32) ^ (z >> 48)) & 0xFFFF
