"""Flows of a page on their way to a viewer: records of bytes, or which bytes differ from the page before.

Of 60 / 180 flows the engine makes records in 8 / 12 us, and a change in 60 / 100. The difference of columns
that recordings have (`flow_delta`) is half as large, and takes 250 / 330 us.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from rtun_core.engine.flow_delta import origin_of
from rtun_core.flow_rows import ADDRESS_SIZE, FLOW_STATES, FlowRows
from rtun_core.model import RuleId, TunnelId
from rtun_core.view.page import MAX_LIMIT

_RECORD: Final = np.dtype(
    [
        ("ids", "<u8"),
        ("sources", "u1", (ADDRESS_SIZE,)),
        ("rule", "<i4"),
        ("target", "<i4"),
        ("tunnel", "<i4"),
        ("state", "u1"),
        ("opened_at", "<f8"),
        ("idle_s", "<f8"),
        ("up_packets", "<i8"),
        ("up_bytes", "<i8"),
        ("down_packets", "<i8"),
        ("down_bytes", "<i8"),
        ("up_rate", "<f8"),
        ("down_rate", "<f8"),
        ("moves", "<i8"),
    ]
)
_SIZE: Final = _RECORD.itemsize  # bytes
_NAMED: Final = ("rule", "target", "tunnel")  # are positions in names
_Name = TypeVar("_Name")


class FlowNames(msgspec.Struct, frozen=True, array_like=True):
    """What positions in records stand for."""

    rules: tuple[RuleId | None, ...]
    targets: tuple[str, ...]
    tunnels: tuple[TunnelId | None, ...]


class PackedFlows(msgspec.Struct, frozen=True, omit_defaults=True):
    """`count` records; or, with `changed`, only what differs from the flows before.

    `changed` has a bit for each byte of the records, and `data` the differing bits of those bytes. `origin`
    has the place of each record among those before as int16, -1 for none; empty: all are the same.
    """

    count: Annotated[int, msgspec.Meta(ge=0, le=MAX_LIMIT)]
    names: FlowNames
    data: bytes
    changed: bytes | None = None
    origin: bytes = b""


class FlowRecords(NamedTuple):
    """Flows as they are packed, an array of `_RECORD`; the base of a change."""

    names: FlowNames
    records: NDArray[Any]

    @classmethod
    def of(cls, flows: FlowRows) -> FlowRecords:
        """Of a page; only names that it could need are kept."""
        records = np.empty(len(flows), _RECORD)
        for name in _RECORD.fields or ():
            records[name] = getattr(flows, name)
        rules, records["rule"] = _needed(flows.rules, flows.rule)
        targets, records["target"] = _needed(flows.targets, flows.target)
        tunnels, records["tunnel"] = _needed(flows.tunnels, flows.tunnel)
        return cls(FlowNames(rules, targets, tunnels), records)

    def rows(self) -> FlowRows:
        """Back to flows. Raises ValueError when a position leads nowhere."""
        columns = {name: np.ascontiguousarray(self.records[name]) for name in _RECORD.fields or ()}
        limits = dict(zip(_NAMED, map(len, self.names_by_kind), strict=True)) | {"state": len(FLOW_STATES)}
        for name, limit in limits.items():
            if len(self.records) and not 0 <= columns[name].min() <= columns[name].max() < limit:
                raise ValueError(f"{name} of a flow is out of bounds")
        rules, targets, tunnels = self.names_by_kind
        return FlowRows(**columns, rules=rules, targets=targets, tunnels=tunnels)

    @property
    def names_by_kind(self) -> tuple[Any, Any, Any]:
        """Rules, targets, tunnels."""
        return self.names.rules, self.names.targets, self.names.tunnels

    def packed(self) -> PackedFlows:
        """All of it."""
        return PackedFlows(len(self.records), self.names, self.records.tobytes())

    def change_from(self, before: FlowRecords) -> PackedFlows:
        """What it takes to make them out of `before`."""
        origin = origin_of(before.records["ids"], self.records["ids"])
        difference = _octets(self.records) ^ _octets(_placed(before.records, origin))
        differs = difference != 0
        return PackedFlows(
            len(self.records),
            self.names,
            difference[differs].tobytes(),
            np.packbits(differs).tobytes(),
            b"" if origin is None else origin.astype("<i2").tobytes(),
        )


def unpack_flows(packed: PackedFlows, before: FlowRecords | None) -> FlowRecords:
    """What was packed; `before` is needed for a change. Raises ValueError for what cannot be."""
    if packed.changed is None:
        if len(packed.data) != packed.count * _SIZE:
            raise ValueError(f"{packed.count} flows in {len(packed.data)} bytes")
        return FlowRecords(packed.names, np.frombuffer(packed.data, _RECORD))
    if before is None:
        raise ValueError("a change of flows that were not there")
    octets = _octets(_placed(before.records, _read_origin(packed, len(before.records)))).copy()
    octets[_read_changed(packed)] ^= np.frombuffer(packed.data, np.uint8)
    return FlowRecords(packed.names, octets.view(_RECORD))


def _needed(names: tuple[_Name, ...], positions: NDArray[Any]) -> tuple[tuple[_Name, ...], NDArray[Any]]:
    """Names without those that a few rows among many flows do not use, and the positions in them."""
    if len(names) <= max(len(positions), 1):
        return names, positions
    used, places = np.unique(positions, return_inverse=True)
    return tuple(names[place] for place in used.tolist()), places


def _placed(records: NDArray[Any], origin: NDArray[Any] | None) -> NDArray[Any]:
    """The records in the order of the new ones, zeros where there was none."""
    return records if origin is None else np.append(records, np.zeros(1, _RECORD))[origin]


def _octets(records: NDArray[Any]) -> NDArray[np.uint8]:
    return records.view(np.uint8)


def _read_origin(packed: PackedFlows, before: int) -> NDArray[Any] | None:
    if not packed.count:
        return np.zeros(0, np.intp)
    if not packed.origin:
        if packed.count != before:
            raise ValueError(f"{packed.count} flows out of {before}")
        return None
    if len(packed.origin) != 2 * packed.count:
        raise ValueError("places among the flows before are missing")
    origin = np.frombuffer(packed.origin, "<i2")
    if origin.min() < -1 or origin.max() >= before:
        raise ValueError("a place among the flows before does not exist")
    return origin


def _read_changed(packed: PackedFlows) -> NDArray[np.bool_]:
    bits, count = np.frombuffer(packed.changed or b"", np.uint8), packed.count * _SIZE
    if len(bits) != (count + 7) // 8:
        raise ValueError("a bit for each byte is wanted")
    changed = np.unpackbits(bits, count=count).astype(bool)
    if np.count_nonzero(changed) != len(packed.data):
        raise ValueError("a byte for each bit is wanted")
    return changed
