"""Several services, one picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import msgspec

from rtun_core.flow_rows import FlowRows
from rtun_core.model import FlowView, ServiceSnapshot, Traffic, add_counts, add_traffic


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a Snapshot that come from services."""

    services: tuple[ServiceSnapshot, ...]
    flows: Sequence[FlowView]
    traffic: Traffic
    drops: dict[str, int]
    faults: dict[str, int]


def merge(services: Iterable[ServiceSnapshot]) -> Merged:
    """Concatenate tables and add counters, in the order of the services."""
    parts = tuple(services)
    traffic = Traffic()
    for part in parts:
        traffic = add_traffic(traffic, part.traffic)
    return Merged(
        services=parts,
        flows=_flows(parts),
        traffic=traffic,
        drops=total(part.drops for part in parts),
        faults=total(part.faults for part in parts),
    )


def total(counters: Iterable[dict[str, int]]) -> dict[str, int]:
    """The sum of counters by reason."""
    result: dict[str, int] = {}
    for counter in counters:
        add_counts(result, counter)
    return result


def grown(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    """By how much each counter is above what it was; counters that stood still are left out."""
    return {
        reason: count - before.get(reason, 0)
        for reason, count in now.items()
        if count > before.get(reason, 0)
    }


def _flows(parts: tuple[ServiceSnapshot, ...]) -> Sequence[FlowView]:
    # A service may make its flow rows only when they are looked at: a lone table is passed on untouched,
    # and several in columns stay columns.
    tables = [part.flows for part in parts if len(part.flows)]
    if not tables:
        return ()
    if len(tables) == 1:
        return tables[0]
    columns = [table for table in tables if isinstance(table, FlowRows)]
    return FlowRows.join(columns) if len(columns) == len(tables) else tuple(chain.from_iterable(tables))
