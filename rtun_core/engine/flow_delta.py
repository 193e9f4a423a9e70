"""A picture of flows as the difference to the one before: only rows that changed, column by column.

A row is predicted from its row in the picture before: everything stays, but the time without traffic grows
as much as that of every silent flow of its rule (all of them are measured by one clock, and the sums are
exact). What differs from the prediction is stored as a difference of bits, so that reading gives back the
very same numbers. Rows are matched by id; order, new rows and rows that are gone follow from `origin`.

A key frame is the difference to no flows at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from rtun_core.engine.packing import pack, unpack
from rtun_core.flow_rows import ADDRESS_SIZE, FLOW_STATES, FlowRows
from rtun_core.model import RuleId, TunnelId

MAX_ROWS: Final = 1 << 18
MAX_RAW: Final = 1 << 26  # bytes of one picture's difference, unpacked

Columns = dict[str, NDArray[Any]]
Origin = NDArray[np.int64]


class _Column(NamedTuple):
    """A column of FlowRows: its numbers, and unsigned words of the same size to subtract."""

    name: str
    values: str
    words: str
    names: str = ""  # the tuple of FlowRows that the numbers are positions in


_COLUMNS: Final = (
    _Column("ids", "<u8", "<u8"),
    _Column("sources", "u1", "u1"),
    _Column("rule", "<i4", "<u4", "rules"),
    _Column("target", "<i4", "<u4", "targets"),
    _Column("tunnel", "<i4", "<u4", "tunnels"),
    _Column("state", "u1", "u1"),
    _Column("opened_at", "<f8", "<u8"),
    _Column("idle_s", "<f8", "<u8"),
    _Column("up_packets", "<i8", "<u8"),
    _Column("up_bytes", "<i8", "<u8"),
    _Column("down_packets", "<i8", "<u8"),
    _Column("down_bytes", "<i8", "<u8"),
    _Column("up_rate", "<f8", "<u8"),
    _Column("down_rate", "<f8", "<u8"),
    _Column("moves", "<i8", "<u8"),
)
_DRIFTING: Final = ("opened_at", "idle_s")  # grow alike in all flows of a rule


class _Frame(msgspec.Struct, frozen=True, array_like=True):
    """What is packed. Arrays of numbers are bytes in planes: all lowest bytes first, then the next ones."""

    rows: Annotated[int, msgspec.Meta(ge=0, le=MAX_ROWS)]
    rules: tuple[RuleId | None, ...]
    targets: tuple[str, ...]
    tunnels: tuple[TunnelId | None, ...]
    origin: bytes  # int32 steps from one row's place in the picture before to the next one's; empty: the same
    drifts: Annotated[
        tuple[bytes, ...], msgspec.Meta(min_length=2, max_length=2)
    ]  # float64 by rule; empty: 0
    changed: bytes  # a bit for each row; empty: none
    columns: Annotated[tuple[bytes, ...], msgspec.Meta(min_length=15, max_length=15)]  # empty: no difference


def encode_flows(before: FlowRows, flows: FlowRows) -> bytes:
    """`flows` as the difference to `before`."""
    origin = origin_of(before.ids, flows.ids)
    base = _base(before, origin, (flows.rules, flows.targets, flows.tunnels))
    known = None if origin is None else origin >= 0
    drifts = [_drift(getattr(flows, name), base[name], base["rule"], known, flows) for name in _DRIFTING]
    _add_drifts(base, drifts)
    differences = [_difference(column, flows, base) for column in _COLUMNS]
    changed = np.zeros(len(flows), bool)
    for each in differences:
        changed |= each.any(axis=1) if each.ndim == 2 else each != 0
    some = bool(changed.any())
    frame = _Frame(
        rows=len(flows),
        rules=flows.rules,
        targets=flows.targets,
        tunnels=flows.tunnels,
        origin=b"" if origin is None else _planes(np.diff(origin, prepend=0).astype("<i4")),
        drifts=tuple(drift.astype("<f8").tobytes() if drift.any() else b"" for drift in drifts),
        changed=np.packbits(changed).tobytes() if some else b"",
        columns=tuple(_planes(each[changed]) if each.any() else b"" for each in differences),
    )
    return pack(msgspec.msgpack.encode(frame))


def decode_flows(before: FlowRows, data: bytes) -> FlowRows:
    """The flows that `data` describes as the difference to `before`. Raises ValueError for anything else."""
    frame = _read(data)
    origin = _read_origin(frame, len(before))
    base = _base(before, origin, (frame.rules, frame.targets, frame.tunnels))
    if frame.rows and not frame.rules:
        raise ValueError("flows without a rule")
    _add_drifts(base, [_read_drift(each, len(frame.rules)) for each in frame.drifts])
    changed = _read_changed(frame)
    for column, planes in zip(_COLUMNS, frame.columns, strict=True):
        if planes:
            difference = _unplaned(column, planes, len(changed))
            base[column.name] = _apply(column, base[column.name], changed, difference)
    _check(base, frame)
    return FlowRows(**base, rules=frame.rules, targets=frame.targets, tunnels=frame.tunnels)


def origin_of(before: NDArray[np.uint64], ids: NDArray[np.uint64]) -> Origin | None:
    """For each id its place in the picture before, -1 for none; None when all places are the same."""
    if np.array_equal(before, ids):
        return None
    if not len(before):
        return np.full(len(ids), -1, np.int64)
    order = np.argsort(before, kind="stable")
    places = np.minimum(np.searchsorted(before[order], ids), len(before) - 1)
    found = order[places]
    return np.where(before[found] == ids, found, -1).astype(np.int64)


def _base(before: FlowRows, origin: Origin | None, names: Sequence[tuple[str | None, ...]]) -> Columns:
    """The rows of the picture before in the order of the new one, zeros for new ones.

    Positions in names are turned into those in the new tuples `names`: rules, targets, tunnels.
    """
    base: Columns = {}
    new_names = dict(zip(("rules", "targets", "tunnels"), names, strict=True))
    for column in _COLUMNS:
        values = np.asarray(getattr(before, column.name)).astype(column.values, copy=False)
        if column.names:
            values = _renumbered(values, getattr(before, column.names), new_names[column.names])
        if origin is not None:
            none = np.zeros((1, *values.shape[1:]), values.dtype)
            values = np.concatenate([values, none])[origin]
        base[column.name] = values
    return base


def _renumbered(
    places: NDArray[Any], old: tuple[str | None, ...], new: tuple[str | None, ...]
) -> NDArray[Any]:
    if old == new or not len(places):
        return places
    index = {name: place for place, name in reversed(list(enumerate(new)))}
    renumbered: NDArray[Any] = np.array([index.get(name, 0) for name in old], "<i4").take(places)
    return renumbered


def _drift(
    now: NDArray[Any],
    base: NDArray[Any],
    rule: NDArray[Any],
    known: NDArray[np.bool_] | None,
    flows: FlowRows,
) -> NDArray[np.float64]:
    """By how much the column grew in each rule: the most of its rows, which is that of the untouched ones."""
    most = np.full(len(flows.rules), -np.inf)
    with np.errstate(all="ignore"):
        growth = now - base
        if known is None:
            np.maximum.at(most, rule, growth)
        else:
            np.maximum.at(most, rule[known], growth[known])
    most[~np.isfinite(most)] = 0.0
    return most


def _add_drifts(base: Columns, drifts: Sequence[NDArray[np.float64]]) -> None:
    for name, drift in zip(_DRIFTING, drifts, strict=True):
        if drift.any():
            with np.errstate(all="ignore"):
                base[name] = base[name] + drift[base["rule"]]


def _difference(column: _Column, flows: FlowRows, base: Columns) -> NDArray[Any]:
    values = np.ascontiguousarray(getattr(flows, column.name), column.values)
    # Unsigned words wrap around, so that adding the difference gives back the same bits.
    difference: NDArray[Any] = values.view(column.words) - np.ascontiguousarray(base[column.name]).view(
        column.words
    )
    return difference


def _apply(
    column: _Column, base: NDArray[Any], changed: NDArray[np.intp], difference: NDArray[Any]
) -> NDArray[Any]:
    words = np.array(base).view(column.words)  # a copy: the picture before keeps its own
    words[changed] += difference
    return words.view(column.values)


def _planes(values: NDArray[Any]) -> bytes:
    """Bytes of the numbers, bytes of one weight together: they are alike and pack well."""
    count = max(1, len(values))
    return np.ascontiguousarray(values).view(np.uint8).reshape(count, -1).T.tobytes()


def _unplaned(column: _Column, planes: bytes, count: int) -> NDArray[Any]:
    width = ADDRESS_SIZE if column.name == "sources" else np.dtype(column.words).itemsize
    if len(planes) != width * count:
        raise ValueError(f"{column.name} of {count} flows in {len(planes)} bytes")
    rows = np.ascontiguousarray(np.frombuffer(planes, np.uint8).reshape(width, count).T)
    return rows if column.name == "sources" else rows.view(column.words).reshape(count)


def _read(data: bytes) -> _Frame:
    try:
        return msgspec.msgpack.decode(unpack(data, MAX_RAW), type=_Frame)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a picture of flows: {error}") from None


def _read_origin(frame: _Frame, before: int) -> Origin | None:
    if not frame.rows:
        return np.zeros(0, np.int64)
    if not frame.origin:
        if frame.rows != before:
            raise ValueError(f"{frame.rows} flows out of {before}")
        return None
    if len(frame.origin) != 4 * frame.rows:
        raise ValueError("places in the picture before are missing")
    steps = np.ascontiguousarray(np.frombuffer(frame.origin, np.uint8).reshape(4, frame.rows).T).view("<i4")
    origin = np.cumsum(steps.reshape(frame.rows).astype(np.int64))
    if origin.min() < -1 or origin.max() >= before:
        raise ValueError("a place in the picture before does not exist")
    return origin


def _read_drift(data: bytes, rules: int) -> NDArray[np.float64]:
    if len(data) not in (0, 8 * rules):
        raise ValueError("a drift for each rule is wanted")
    return np.frombuffer(data, "<f8") if data else np.zeros(rules)


def _read_changed(frame: _Frame) -> NDArray[np.intp]:
    """The rows that changed. Places, not a mask: adding to chosen rows is then twice as fast."""
    if len(frame.changed) not in (0, (frame.rows + 7) // 8):
        raise ValueError("a bit for each flow is wanted")
    bits = np.frombuffer(frame.changed, np.uint8)
    return np.flatnonzero(np.unpackbits(bits, count=frame.rows if len(bits) else 0))


def _check(base: Columns, frame: _Frame) -> None:
    """Every number that leads somewhere leads somewhere."""
    limits = {
        "rule": len(frame.rules),
        "target": len(frame.targets),
        "tunnel": len(frame.tunnels),
        "state": len(FLOW_STATES),
    }
    for name, limit in limits.items():
        if frame.rows and (base[name].min() < 0 or base[name].max() >= limit):
            raise ValueError(f"{name} of a flow is out of bounds")
