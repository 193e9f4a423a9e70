"""STUN Binding messages of the ICE dialect: bytes <-> values (wire spec 8.4, RFC 8489).

aioice's codec packs and unpacks the attributes. What it leaves open is decided here: the magic cookie
is required (RFC 7983), no attribute may reach past the end, requests carry no FINGERPRINT, and
MESSAGE-INTEGRITY is checked against the exact bytes received, in constant time.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from aioice import stun as codec

from rtun_core.errors import RemoteProtocolError
from rtun_core.wire.address import Address

COOKIE = codec.COOKIE.to_bytes(4, "big")
TRANSACTION_ID_LENGTH = 12
SOFTWARE = "rtun"

_HEADER = 20
_MAX_LENGTH = 1500
_MESSAGE_INTEGRITY = 0x0008
_FINGERPRINT = 0x8028
_HMAC_SHA1 = 20

MessageKind = Literal["request", "success", "error", "other"]
_KINDS: dict[int, MessageKind] = {
    codec.Class.REQUEST: "request",
    codec.Class.RESPONSE: "success",
    codec.Class.ERROR: "error",
}


class StunMessage(NamedTuple):
    """The parts of a STUN message that the dialect looks at.

    `kind` is "other" for indications and for methods other than Binding. `controlling` is the role
    that the sender claims, None if it claims none; `tie_breaker` belongs to it. `mapped` is
    XOR-MAPPED-ADDRESS, or MAPPED-ADDRESS where only that is present. `has_integrity` says that
    MESSAGE-INTEGRITY is present, not that it is right: see `verify_integrity`.
    """

    kind: MessageKind
    transaction_id: bytes
    username: str | None = None
    priority: int | None = None
    use_candidate: bool = False
    controlling: bool | None = None
    tie_breaker: int | None = None
    mapped: Address | None = None
    has_integrity: bool = False


def is_stun(data: bytes | memoryview) -> bool:
    """Whether a datagram is STUN rather than QUIC or a relay frame: first two bits, cookie, length."""
    return len(data) >= _HEADER and data[0] < 0x40 and data[4:8] == COOKIE


def binding_request(
    transaction_id: bytes,
    *,
    username: str,
    key: str,
    tie_breaker: int,
    controlling: bool,
    priority: int,
    nominate: bool,
) -> bytes:
    """A connectivity check: `username` is `<receiver ufrag>:<sender ufrag>`, `key` the receiver's pwd.

    Attributes in the order of the original, without FINGERPRINT (wire spec 8.4).
    """
    attributes: dict[str, Any] = {"SOFTWARE": SOFTWARE, "USERNAME": username}
    attributes["ICE-CONTROLLING" if controlling else "ICE-CONTROLLED"] = tie_breaker
    if nominate:
        attributes["USE-CANDIDATE"] = None
    attributes["PRIORITY"] = priority
    message = codec.Message(codec.Method.BINDING, codec.Class.REQUEST, transaction_id, attributes)
    message.attributes["MESSAGE-INTEGRITY"] = codec.message_integrity(bytes(message), key.encode())
    return bytes(message)


def plain_binding_request(transaction_id: bytes) -> bytes:
    """A Binding request without attributes, as a STUN server is asked while gathering (wire spec 8.3)."""
    return bytes(codec.Message(codec.Method.BINDING, codec.Class.REQUEST, transaction_id))


def binding_success(transaction_id: bytes, *, address: Address, key: str) -> bytes:
    """The answer to a check from `address`, signed with our own pwd, with FINGERPRINT."""
    attributes = {"XOR-MAPPED-ADDRESS": tuple(address)}
    message = codec.Message(codec.Method.BINDING, codec.Class.RESPONSE, transaction_id, attributes)
    message.add_message_integrity(key.encode())
    return bytes(message)


def parse_stun(data: bytes | memoryview) -> StunMessage:
    """Read a STUN message; a FINGERPRINT, if present, must be right.

    Raises RemoteProtocolError(reason="stun") for anything malformed. Credentials are not checked.
    """
    raw = bytes(data[: _MAX_LENGTH + 1])
    if not is_stun(raw) or len(raw) > _MAX_LENGTH:
        raise RemoteProtocolError(f"a datagram of {len(data)} bytes is not STUN", reason="stun")
    for _ in _attributes(raw):
        pass
    try:
        message = codec.parse_message(raw)
    except (ValueError, struct.error) as error:
        raise RemoteProtocolError(f"malformed STUN message: {error}", reason="stun") from None
    return _to_value(message)


def verify_integrity(data: bytes | memoryview, key: str) -> bool:
    """Whether MESSAGE-INTEGRITY is present and made with `key` (HMAC-SHA-1, short-term credentials)."""
    raw = bytes(data)
    try:
        position = next((at for kind, at, _ in _attributes(raw) if kind == _MESSAGE_INTEGRITY), None)
    except RemoteProtocolError:
        return False
    if position is None:
        return False
    given = raw[position + 4 : position + 4 + _HMAC_SHA1]
    return hmac.compare_digest(given, codec.message_integrity(raw[:position], key.encode()))


def _attributes(raw: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (type, offset of its header, length of its value) of each attribute.

    Raises RemoteProtocolError(reason="stun") as soon as one has a wrong length or a wrong place.
    """
    if len(raw) < _HEADER or len(raw) != _HEADER + int.from_bytes(raw[2:4], "big") or len(raw) % 4:
        raise RemoteProtocolError("the length of a STUN message is not what its header says", reason="stun")
    position = _HEADER
    while position < len(raw):
        kind, length = struct.unpack_from("!HH", raw, position)
        end = position + 4 + (length + 3) // 4 * 4
        if end > len(raw) or (kind == _MESSAGE_INTEGRITY and length != _HMAC_SHA1):
            raise RemoteProtocolError(f"STUN attribute {kind:#06x} has a wrong length", reason="stun")
        if kind == _FINGERPRINT and end != len(raw):
            raise RemoteProtocolError("a STUN fingerprint is not the last attribute", reason="stun")
        yield kind, position, length
        position = end


def _to_value(message: codec.Message) -> StunMessage:
    attributes = message.attributes
    binding = message.message_method == codec.Method.BINDING
    role, tie_breaker = _role(attributes)
    mapped = attributes.get("XOR-MAPPED-ADDRESS") or attributes.get("MAPPED-ADDRESS")
    return StunMessage(
        kind=_KINDS.get(message.message_class, "other") if binding else "other",
        transaction_id=message.transaction_id,
        username=attributes.get("USERNAME"),
        priority=attributes.get("PRIORITY"),
        use_candidate="USE-CANDIDATE" in attributes,
        controlling=role,
        tie_breaker=tie_breaker,
        mapped=Address(*mapped) if mapped else None,
        has_integrity="MESSAGE-INTEGRITY" in attributes,
    )


def _role(attributes: dict[str, Any]) -> tuple[bool | None, int | None]:
    for name, controlling in (("ICE-CONTROLLING", True), ("ICE-CONTROLLED", False)):
        if name in attributes:
            return controlling, attributes[name]
    return None, None
