"""Flows named by a filter instead of their ids: `flow close 'src=10.0.0.0/8 idle>1m'`."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from rtun_core.commands import ALL, CloseFlow, Command, MoveFlow, is_flow_id
from rtun_core.errors import CommandRefused
from rtun_core.model import FlowId, Snapshot
from rtun_core.view.project import select_keys


def with_flows(command: Command, snapshot: Callable[[], Snapshot]) -> Command:
    """The same command with the ids of the flows that its filters select now.

    Raises CommandRefused when a filter selects none, FilterError when one cannot be read.
    """
    if not isinstance(command, MoveFlow | CloseFlow) or all(map(_is_plain, command.flows)):
        return command
    picture = snapshot()
    chosen: dict[FlowId, None] = {}
    for selector in command.flows:
        chosen |= dict.fromkeys((selector,) if _is_plain(selector) else _passing(picture, selector))
    return msgspec.structs.replace(command, flows=tuple(chosen))


def _passing(picture: Snapshot, text: str) -> list[FlowId]:
    ids = [FlowId(key) for key in select_keys(picture, "flows", text)]
    if not ids:
        raise CommandRefused(f"no flow passes the filter {text!r}")
    return ids


def _is_plain(selector: str) -> bool:
    return selector == ALL or not selector or is_flow_id(selector)
