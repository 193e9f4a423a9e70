"""How numbers and addresses are written: three digits at most, the unit beside them.

`-` stands for what is not known. Each text is at most 8 characters wide, addresses apart.
"""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass
from typing import Final

UNKNOWN: Final = "-"

_SI: Final = ("", "k", "M", "G", "T", "P", "E")
_IEC: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_V4: Final = re.compile(r"(?<![\w.])(\d{1,3}\.\d{1,3})\.\d{1,3}\.\d{1,3}(?![\w.])")
_V6: Final = re.compile(r"(?<![\w:.])[0-9a-fA-F:.]{2,45}(?:%\w+)?(?![\w:.])")
_HOST: Final = re.compile(r"(?P<scheme>[a-z0-9+]+://)?(?P<first>[\w-]+)(?P<rest>\.[\w.-]+)?(?P<end>[:/].*)?")
_V6_KEPT: Final = 4  # groups of 16 bits: the network part


@dataclass(frozen=True, slots=True)
class Look:
    """How values are written: rates in bits or bytes, powers of 1024 or 1000, addresses masked or not."""

    bits: bool = True
    iec: bool = False
    private: bool = False


DEFAULT_LOOK: Final = Look()


def rate_text(bytes_per_s: float | None, look: Look = DEFAULT_LOOK) -> str:
    """`9.8Mb` or `1.2MB`, per second; the column's title says so."""
    if bytes_per_s is None or math.isnan(bytes_per_s):
        return UNKNOWN
    value = bytes_per_s * 8 if look.bits else bytes_per_s
    return _scaled(value, "b" if look.bits else "B", look, decimals=(1, 1))


def bytes_text(count: float | None, look: Look = DEFAULT_LOOK) -> str:
    """`1.44GB`, `88.1MB`, `912B`."""
    if count is None or math.isnan(count):
        return UNKNOWN
    return _scaled(count, "B", look, decimals=(2, 1))


def seconds_text(seconds: float | None) -> str:
    """`0.4s`, `41m02s`, `3h12m`, `12d03h`; below zero is `0.0s`."""
    if seconds is None or math.isnan(seconds):
        return UNKNOWN
    seconds = max(0.0, seconds)
    if seconds < 99.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes:02}m"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours:02}h"


def millis_text(millis: float | None) -> str:
    """`0.42ms`, `18.4ms`, `121ms`, `1.2s`."""
    if millis is None or math.isnan(millis):
        return UNKNOWN
    if millis >= 999.5:
        return f"{millis / 1e3:.1f}s"
    decimals = 2 if millis < 0.995 else 1 if millis < 99.95 else 0
    return f"{millis:.{decimals}f}ms"


def share_text(share: float | None) -> str:
    """A share of 1 in percent: `4.2%`, `0.02%`, `100%`."""
    if share is None or math.isnan(share):
        return UNKNOWN
    percent = share * 100
    decimals = 2 if 0.005 <= percent < 0.095 else 1 if percent < 99.95 else 0
    return f"{percent:.{decimals}f}%"


def count_text(count: float | None) -> str:
    """`1,284`."""
    if count is None or math.isnan(count):
        return UNKNOWN
    return f"{round(count):,}"


def narrow_count_text(count: int, cells: int = 4) -> str:
    """A count in as many cells, from 4 on: exact as far as that goes, then in thousands, millions, ...

    >>> [narrow_count_text(count) for count in (284, 1284, 17_708, 2_499_999)]
    ['284', '1284', '18k', '2.5M']
    """
    for text in (f"{count:,}", str(count)):
        if len(text) <= cells:
            return text
    scaled, prefix = float(count), ""
    for prefix in _SI[1:]:
        scaled /= 1000
        for text in (f"{scaled:.1f}{prefix}", f"{scaled:.0f}{prefix}"):
            if len(text) <= cells:
                return text
    return f"{scaled:.0f}{prefix}"


def address_text(text: str, look: Look = DEFAULT_LOOK) -> str:
    """An address, host or URL; in private only the first half of an IP address, and no host's own name."""
    if not look.private:
        return text
    masked = masked_text(text)
    if masked != text or text in ("", UNKNOWN):
        return masked
    found = _HOST.fullmatch(text)
    return masked if found is None else f"{found['scheme'] or ''}*{found['rest'] or ''}{found['end'] or ''}"


def masked_text(text: str) -> str:
    """Any text with the second half of each IP address in it replaced: `10.0.*.*`, `2001:db8:0:1:*`."""
    return _V6.sub(_mask_v6, _V4.sub(r"\1.*.*", text))


def _mask_v6(found: re.Match[str]) -> str:
    try:
        address = ipaddress.IPv6Address(found[0].partition("%")[0])
    except ValueError:
        return found[0]
    groups = address.exploded.split(":")[:_V6_KEPT]
    return ":".join(f"{int(group, 16):x}" for group in groups) + ":*"


def _scaled(value: float, unit: str, look: Look, *, decimals: tuple[int, int]) -> str:
    """`decimals`: digits behind the point below 10 and below 100, where there is a prefix."""
    base, prefixes = (1024.0, _IEC) if look.iec else (1000.0, _SI)
    value, power = max(0.0, value), 0
    while value >= base - 0.5 and power < len(prefixes) - 1:
        value, power = value / base, power + 1
    if not power:
        return f"{value:.0f}{unit}" if value >= 0.5 else "0"
    digits = decimals[0] if value < 9.95 else decimals[1] if value < 99.95 else 0
    return f"{value:.{digits}f}{prefixes[power]}{unit}"
