"""The flows of an exit as rows of a snapshot, made only when somebody looks at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from rtun_core.agent.exit_flows import ExitFlows, flow_id
from rtun_core.agent.flow_columns import NO_PATH
from rtun_core.model import FlowState, FlowView, TunnelId

IDLE_AFTER = 5.0
"""Seconds without traffic after which a flow is shown as idle."""


class FlowRows(Sequence[FlowView]):
    """A picture of the table at one moment: later changes do not touch it."""

    def __init__(self, flows: ExitFlows, *, now: float, wall: float) -> None:
        """`now` is the time of the table's clock, `wall` the same moment in Unix seconds."""
        self._columns = flows.columns.copy()
        self._now = now
        self._wall = wall
        used = set(self._columns.scope.tolist())
        self._targets = {index: str(flows.scope_at(index).target) for index in used}
        self._tunnels: dict[int, tuple[TunnelId | None, str]] = {NO_PATH: (None, "-")}
        for index, tunnel in enumerate(flows.paths):
            if tunnel is not None:
                self._tunnels[index] = (tunnel.id, str(tunnel.remote))

    def __len__(self) -> int:
        return len(self._columns)

    @overload
    def __getitem__(self, index: int) -> FlowView: ...
    @overload
    def __getitem__(self, index: slice) -> list[FlowView]: ...
    def __getitem__(self, index: int | slice) -> FlowView | list[FlowView]:
        if isinstance(index, slice):
            return [self._view(row) for row in range(*index.indices(len(self)))]
        return self._view(range(len(self))[index])

    def _view(self, row: int) -> FlowView:
        columns = self._columns
        tunnel, source = self._tunnels[int(columns.path[row])]
        idle = max(0.0, self._now - float(columns.last[row]))
        return FlowView(
            id=flow_id(int(columns.flow[row])),
            rule=None,
            source=source,
            target=self._targets[int(columns.scope[row])],
            tunnel=tunnel,
            state=_state(idle, tunnel),
            opened_at=self._wall - (self._now - float(columns.opened_at[row])),
            idle_s=idle,
            up_packets=int(columns.up_packets[row]),
            up_bytes=int(columns.up_bytes[row]),
            down_packets=int(columns.down_packets[row]),
            down_bytes=int(columns.down_bytes[row]),
            moves=int(columns.moves[row]),
        )


def _state(idle: float, tunnel: TunnelId | None) -> FlowState:
    if tunnel is None:
        return FlowState.WAITING
    return FlowState.IDLE if idle > IDLE_AFTER else FlowState.ACTIVE
