"""Relay rules: `[udp://]LISTEN?to=TARGET` (wire spec 2.3).

Wider than the rules of the field in two points: a listen address may be IPv6 in brackets, and a
target may be a host name, which the agent resolves.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl

from rtun_core.wire.address import Address, parse_address

_ACCEPTED = "[udp://]IP:PORT?to=HOST:PORT"


@dataclass(frozen=True)
class RelayRule:
    """Datagrams that arrive at `listen` go to `target`. Port 0 of `listen` lets the system choose."""

    listen: Address
    target: Address

    def __str__(self) -> str:
        return f"udp://{self.listen}?to={self.target}"


def parse_relay_rule(text: str) -> RelayRule:
    """Read one rule. Raises ValueError with one sentence: what was given, and what is accepted."""
    scheme, rest = _scheme(text)
    if scheme.lower() != "udp":
        raise ValueError(f"the rule {text!r} has the protocol {scheme!r}; accepted: {_ACCEPTED}")
    listen, _, query = rest.partition("?")
    return RelayRule(_listen(text, listen.removesuffix("/")), _target(text, query))


def _scheme(text: str) -> tuple[str, str]:
    scheme, separator, rest = text.partition("://")
    return (scheme, rest) if separator else ("udp", text)


def _listen(text: str, listen: str) -> Address:
    try:
        return parse_address(listen, names=False)
    except ValueError as error:
        raise ValueError(f"the rule {text!r} has a bad listen address: {error}") from None


def _target(text: str, query: str) -> Address:
    fields = [(key.lower(), value) for key, value in parse_qsl(query, keep_blank_values=True)]
    if [key for key, _ in fields] != ["to"]:
        raise ValueError(
            f"the rule {text!r} has other than exactly one 'to' after '?'; accepted: {_ACCEPTED}"
        )
    try:
        target = parse_address(fields[0][1])
    except ValueError as error:
        raise ValueError(f"the rule {text!r} has a bad target: {error}") from None
    if target.port == 0:
        raise ValueError(f"the rule {text!r} has the target port 0; accepted: a number from 1 to 65535")
    return target
