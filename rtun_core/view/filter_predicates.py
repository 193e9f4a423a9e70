"""What a comparison asks of one value, of many texts, or of a whole column of numbers or addresses.

A test never sees a missing value: that is decided where the value is looked up. Of the values in a
list one is enough. "!=" is no test of its own but the opposite of "=", so a missing value differs
from everything and `tunnel!=t4|t5` is neither of them.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rtun_core.view.filter_values import V4_MAPPED, Network, host_of, read_endpoint
from rtun_core.view.pattern import MAX_TEXT, search_all

ORDERS: Mapping[str, Callable[[Any, Any], Any]] = MappingProxyType(
    {
        ":": operator.eq,
        "=": operator.eq,
        "!=": operator.eq,
        ">": operator.gt,
        ">=": operator.ge,
        "<": operator.lt,
        "<=": operator.le,
    }
)


class NumberTest:
    """A number compared with limits in the column's own unit. NaN passes no comparison."""

    def __init__(self, op: str, limits: Sequence[float]) -> None:
        self._order = ORDERS[op]
        self._limits = tuple(limits)

    def __call__(self, value: Any, /) -> bool:
        number = float(value)
        return any(self._order(number, limit) for limit in self._limits)

    def mask(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """The same for a whole column at once."""
        numbers = values.astype(np.float64, copy=False)
        found: NDArray[np.bool_] = self._order(numbers, self._limits[0])
        for limit in self._limits[1:]:
            found |= self._order(numbers, limit)
        return found


class FlagTest:
    """A yes or no."""

    def __init__(self, wanted: Sequence[bool]) -> None:
        self._wanted = frozenset(wanted)

    def __call__(self, value: Any, /) -> bool:
        return bool(value) in self._wanted


class Contains:
    """Text holds one of the needles, case ignored."""

    def __init__(self, needles: Sequence[str]) -> None:
        self.needles = tuple(needle.casefold() for needle in needles)

    def __call__(self, value: Any, /) -> bool:
        text = str(value).casefold()
        return any(needle in text for needle in self.needles)

    def over(self, texts: Sequence[str]) -> list[bool]:
        if len(self.needles) == 1:
            needle = self.needles[0]
            return [needle in text for text in texts]
        return [any(needle in text for needle in self.needles) for text in texts]


class Equals:
    """Text is one of the texts, case ignored."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = frozenset(text.casefold() for text in texts)

    def __call__(self, value: Any, /) -> bool:
        return str(value).casefold() in self.texts

    def over(self, texts: Sequence[str]) -> list[bool]:
        wanted = self.texts
        return [text in wanted for text in texts]


class Matches:
    """One of the regular expressions is found somewhere in the text."""

    def __init__(self, patterns: Sequence[re.Pattern[str]]) -> None:
        self._patterns = tuple(patterns)

    def __call__(self, value: Any, /) -> bool:
        text = str(value)[:MAX_TEXT]
        return any(pattern.search(text) for pattern in self._patterns)

    def over(self, texts: Sequence[str]) -> list[bool]:
        """Raises SlowPattern."""
        return search_all(self._patterns, texts)


class InNetwork:
    """An address is in one of the networks, or its text or host is one of the names."""

    def __init__(self, networks: Sequence[Network], names: Sequence[str]) -> None:
        self.networks = tuple(networks)
        self.names = Equals(names)

    def __call__(self, value: Any, /) -> bool:
        text = str(value)
        endpoint = read_endpoint(text)
        if endpoint is None:
            return self.names(text) or (":" in text and self.names(host_of(text)))
        return any(network.holds(*endpoint) for network in self.networks)

    def mask(self, sources: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """The same for addresses of 18 bytes (flow_rows.ADDRESS_SIZE), which have no names.

        All zero stands for no address.
        """
        hosts = np.ascontiguousarray(sources[:, :16]).view(np.uint64)
        found = np.zeros(len(sources), np.bool_)
        for network in self.networks:
            inside = _share_bits(hosts, network.bits, network.mask)
            if not network.four:
                inside &= ~_share_bits(hosts, V4_MAPPED, _V4_MASK) & sources.any(axis=1)
            if network.port is not None:
                inside &= (sources[:, 16] == network.port >> 8) & (sources[:, 17] == network.port & 0xFF)
            found |= inside
        return found


TextTest: TypeAlias = Contains | Equals | Matches
"""Can also be asked about many texts at once; these are in lower case already."""

ValueTest: TypeAlias = TextTest | InNetwork | NumberTest | FlagTest
"""Asked about one value that is there."""

_V4_MASK: Final = (1 << 128) - (1 << 32)


def _share_bits(hosts: NDArray[np.uint64], bits: int, mask: int) -> NDArray[np.bool_]:
    """Rows of two words in memory order whose bytes under the mask are those of `bits`."""
    high_bits, low_bits = np.frombuffer(bits.to_bytes(16, "big"), np.uint64)
    high_mask, low_mask = np.frombuffer(mask.to_bytes(16, "big"), np.uint64)
    same: NDArray[np.bool_] = (hosts[:, 0] & high_mask) == high_bits
    same &= (hosts[:, 1] & low_mask) == low_bits
    return same
