"""ICE candidates as text (wire spec 8.2)."""

from __future__ import annotations

import ipaddress
from binascii import crc32
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from rtun_core.errors import RemoteProtocolError
from rtun_core.wire.address import Address

CandidateKind = Literal["host", "srflx", "prflx", "relay"]

MAX_LENGTH: Final = 512
"""Longest candidate string that is read, in characters."""

_PREFIX = "candidate:"
_COMPONENT = 1
_TYPE_PREFERENCE: dict[CandidateKind, int] = {"host": 126, "prflx": 110, "srflx": 100, "relay": 0}
_LOCAL_PREFERENCE = {4: 65534, 6: 65535}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A transport address at which a peer may be reached.

    `address` and `related` are IP literals in canonical form. `foundation` is without `candidate:`.
    """

    foundation: str
    component: int
    priority: int
    address: Address
    kind: CandidateKind
    related: Address | None = None


def parse_candidate(text: str) -> Candidate:
    """Read a candidate as the original does: prefix optional, anything behind the known fields ignored.

    Raises RemoteProtocolError(reason="candidate") for what is not a candidate, has a host name for an
    address, is not UDP, or is longer than MAX_LENGTH.
    """
    words = text.split() if len(text) <= MAX_LENGTH else []
    if len(words) < 8 or words[6] != "typ" or words[7] not in get_args(CandidateKind):
        raise _refused(text, "has not the form FOUNDATION COMPONENT udp PRIORITY IP PORT typ TYPE")
    if words[2].lower() != "udp":
        raise _refused(text, f"has the transport {words[2]!r}; only udp is used")
    return Candidate(
        foundation=words[0].removeprefix(_PREFIX),
        component=_number(text, words[1], 0xFFFF),
        priority=_number(text, words[3], 0xFFFFFFFF),
        address=Address(_ip(text, words[4]), _number(text, words[5], 0xFFFF)),
        kind=cast(CandidateKind, words[7]),
        related=_related(words[8:]),
    )


def format_candidate(candidate: Candidate) -> str:
    """Write a candidate exactly as the original emits it, without line end or extensions."""
    host, port = candidate.address
    text = (
        f"{_PREFIX}{candidate.foundation} {candidate.component} udp {candidate.priority} "
        f"{host} {port} typ {candidate.kind}"
    )
    if candidate.related is None:
        return text
    return f"{text} raddr {candidate.related.host} rport {candidate.related.port}"


def host_candidate(address: Address) -> Candidate:
    """Our socket as seen on a local interface."""
    return _local("host", address, base=address, related=None)


def srflx_candidate(mapped: Address, base: Address) -> Candidate:
    """Our socket as a STUN server sees it; `base` is the address the socket is bound to."""
    return _local("srflx", mapped, base=base, related=base)


def candidate_priority(kind: CandidateKind, host: str) -> int:
    """Priority of component 1 by RFC 8445 5.1.2.1, with one local preference per address family."""
    local = _LOCAL_PREFERENCE[ipaddress.ip_address(host).version]
    return _TYPE_PREFERENCE[kind] << 24 | local << 8 | (256 - _COMPONENT)


def _local(kind: CandidateKind, address: Address, *, base: Address, related: Address | None) -> Candidate:
    foundation = str(crc32(f"{kind} {base.host}".encode()))
    priority = candidate_priority(kind, address.host)
    return Candidate(foundation, _COMPONENT, priority, address, kind, related)


def _related(words: list[str]) -> Address | None:
    """`raddr IP rport PORT` if `words` begin with it; anything else there is ignored, not refused."""
    if len(words) < 4 or words[0] != "raddr" or words[2] != "rport":
        return None
    try:
        return Address(_ip("", words[1]), _number("", words[3], 0xFFFF))
    except RemoteProtocolError:
        return None


def _ip(text: str, word: str) -> str:
    try:
        if "%" in word:
            raise ValueError(word)
        return str(ipaddress.ip_address(word))
    except ValueError:
        raise _refused(text, f"has the address {word!r}; only IP addresses are used") from None


def _number(text: str, word: str, highest: int) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= 10 and int(word) <= highest):
        raise _refused(text, f"has the number {word!r}; accepted: 0 to {highest}")
    return int(word)


def _refused(text: str, why: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"candidate {text[:100]!r} {why}", reason="candidate")
