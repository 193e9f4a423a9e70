"""Values of a filter as people write them: numbers with units, durations, shares, addresses and networks.

Every reader raises UsageError with one sentence that says what is accepted.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from rtun_core.errors import UsageError
from rtun_core.view.column import Kind

V4_MAPPED: Final = 0xFFFF << 32  # ::ffff:0:0, where an IPv4 address lives among the 128-bit ones
_ALL_ONES: Final = (1 << 128) - 1

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,18})"
_NUMBER = rf"(?:{_DIGITS}(?:\.[0-9]{{1,12}})?|\.[0-9]{{1,12}})"
_NUMBER_AND_UNIT = re.compile(rf"([-+]?)({_NUMBER})\s?([A-Za-z%]*)(?:/s)?")
_TIME_PART = re.compile(rf"({_NUMBER})(us|ms|s|m|h|d)")
_TIME = re.compile(rf"([-+]?)((?:{_TIME_PART.pattern}){{1,6}})")

_DECIMAL: Final = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY: Final = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_SECONDS: Final = {
    "us": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}


def _sized(suffix: str, unit: Fraction) -> dict[str, Fraction]:
    return {prefix + suffix: scale * unit for prefix, scale in (_DECIMAL | _BINARY).items()}


_BIT, _BYTE = Fraction(1, 8), Fraction(1)
_UNITS: Mapping[Kind, Mapping[str, Fraction]] = MappingProxyType(
    {
        Kind.COUNT: {prefix: Fraction(scale) for prefix, scale in _DECIMAL.items()},
        Kind.BYTES: _sized("", _BYTE) | _sized("B", _BYTE),
        Kind.RATE: _sized("", _BIT) | _sized("b", _BIT) | _sized("B", _BYTE),
        Kind.SHARE: {"": Fraction(1), "%": Fraction(1, 100)},
        Kind.SECONDS: {"": Fraction(1)},
        Kind.MILLIS: {"": Fraction(1)},
    }
)
_ACCEPTED: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.COUNT: "a count such as 20, 4k or 1.5M",
        Kind.BYTES: "an amount of bytes such as 512, 64kB, 1.5GB or 4MiB",
        Kind.RATE: "a rate in bits per second such as 800, 64k, 1.5M or 2G, or in bytes: 8kB, 1.2MB",
        Kind.SHARE: "a share such as 4% or 0.04",
        Kind.SECONDS: "a time such as 30s, 250ms, 2m, 1h30m or 1d (a bare number is seconds)",
        Kind.MILLIS: "a time such as 20ms, 0.5s or 250us (a bare number is milliseconds)",
    }
)

_FLAGS: Final = {"yes": True, "true": True, "on": True, "1": True} | {
    "no": False,
    "false": False,
    "off": False,
    "0": False,
}


def read_number(text: str, kind: Kind) -> float:
    """A number in the unit of this kind of column: bytes, bytes/s, seconds, milliseconds, share of 1."""
    number = _read_time(text, kind) if kind in (Kind.SECONDS, Kind.MILLIS) else None
    if number is None:
        number = _read_unit(text, kind)
    if number is None or (kind is Kind.SHARE and number > 1):
        raise UsageError(f'"{text}" is not {_ACCEPTED[kind]}')
    return float(number)


def _read_unit(text: str, kind: Kind) -> Fraction | None:
    found = _NUMBER_AND_UNIT.fullmatch(text)
    if found is None or found[3] not in _UNITS[kind] or (text.endswith("/s") and kind is not Kind.RATE):
        return None
    return _signed(found[1], _fraction(found[2]) * _UNITS[kind][found[3]])


def _read_time(text: str, kind: Kind) -> Fraction | None:
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    parts = [_fraction(part[1]) * _SECONDS[part[2]] for part in _TIME_PART.finditer(found[2])]
    return _signed(found[1], sum(parts, Fraction(0)) * (1000 if kind is Kind.MILLIS else 1))


def _fraction(digits: str) -> Fraction:
    return Fraction(digits.replace(",", ""))


def _signed(sign: str, number: Fraction) -> Fraction:
    return -number if sign == "-" else number


def read_flag(text: str) -> bool:
    """Yes or no."""
    flag = _FLAGS.get(text.lower())
    if flag is None:
        raise UsageError(f'"{text}" is neither yes nor no')
    return flag


@dataclass(frozen=True, slots=True)
class Network:
    """Addresses that share the bits of `mask`, as 128-bit numbers (IPv4 as ::ffff:a.b.c.d).

    `four` tells that it holds IPv4 addresses; otherwise it holds none, even if it is ::/0.
    """

    bits: int
    mask: int
    four: bool
    port: int | None

    def holds(self, host: int, port: int | None) -> bool:
        """Whether an address is inside, and has the port if one is asked for."""
        if host & self.mask != self.bits or (host >> 32 == V4_MAPPED >> 32) != self.four:
            return False
        return self.port is None or port == self.port


_LIKE_FOUR = re.compile(r"[0-9.]+(?:[/:].*)?", re.DOTALL)
_LIKE_SIX = re.compile(r"\[.*|[0-9A-Fa-f]*:[0-9A-Fa-f]*:.*", re.DOTALL)
_PORTED = re.compile(r"([0-9.]+|\[.*\]):([0-9]{1,5}|-)")


def read_network(text: str) -> Network | None:
    """A network, an address, or an address with a port; None for text that is a name, not an address."""
    if not _LIKE_FOUR.fullmatch(text) and not _LIKE_SIX.fullmatch(text):
        return None
    host, port = _split_port(text)
    try:
        network = ipaddress.ip_network(host, strict=False)
    except ValueError:
        network = None
    if network is None or (port or 0) > 65535 or (port is not None and "/" in host):
        raise UsageError(
            f'"{text}" is no address or network such as 10.0.0.0/8, 10.0.4.17, 10.0.4.17:53, fd00::/8'
            ' or [::1]:53; ":" in place of "=" looks for a part'
        )
    bits, mask = int(network.network_address), int(network.netmask)
    if network.version == 4:
        bits, mask = bits | V4_MAPPED, mask | (_ALL_ONES ^ 0xFFFFFFFF)
    return Network(bits, mask, bits & mask & V4_MAPPED == V4_MAPPED and bits >> 48 == 0, port)


@lru_cache(maxsize=1 << 16)  # 10,000 targets are asked about four times a second
def read_endpoint(text: str) -> tuple[int, int | None] | None:
    """Address (128 bits) and port of a column's text such as "10.0.0.1:53" or "[::1]:53"; None for a name."""
    host, port = _split_port(text)
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return int(address) | (V4_MAPPED if address.version == 4 else 0), port


def host_of(text: str) -> str:
    """The part of "host:port" before the port, without brackets."""
    return text.rpartition(":")[0].strip("[]")


def _split_port(text: str) -> tuple[str, int | None]:
    found = _PORTED.fullmatch(text)
    host, port = (found[1], found[2]) if found else (text, "-")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return host, None if port == "-" else int(port)
