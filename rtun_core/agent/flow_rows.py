"""The flows of an exit as a picture in columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtun_core.agent.exit_flows import ExitFlows
from rtun_core.agent.flow_columns import NO_PATH
from rtun_core.flow_rows import FlowRows, flow_states, sources_of_sockaddrs
from rtun_core.model import TunnelId
from rtun_core.net.sockaddr import NAME_SIZE, pack_sockaddr


def flow_rows(flows: ExitFlows, *, now: float, wall: float) -> FlowRows:
    """A picture of the table, in which a flow's source is the relay that its tunnel leads to.

    `now` is the time of the table's clock, `wall` the same moment in Unix seconds.
    """
    columns = flows.columns.copy()
    scopes, target = np.unique(columns.scope, return_inverse=True)
    tunnels, sources = _paths(flows)
    path = np.where(columns.path == NO_PATH, len(tunnels) - 1, columns.path).astype(np.int32)
    idle = np.maximum(0.0, now - columns.last)
    return FlowRows(
        ids=columns.flow,
        sources=sources[path],
        rule=np.zeros(len(columns), np.int32),
        target=target.astype(np.int32),
        tunnel=path,
        state=flow_states(idle, has_tunnel=columns.path != NO_PATH),
        opened_at=wall - now + columns.opened_at,
        idle_s=idle,
        up_packets=columns.up_packets,
        up_bytes=columns.up_bytes,
        down_packets=columns.down_packets,
        down_bytes=columns.down_bytes,
        up_rate=columns.up_rate.astype(np.float64),
        down_rate=columns.down_rate.astype(np.float64),
        moves=columns.moves.astype(np.int64),
        rules=(None,),
        targets=tuple(str(flows.scope_at(index).target) for index in scopes.tolist()),
        tunnels=tunnels,
    )


def _paths(flows: ExitFlows) -> tuple[tuple[TunnelId | None, ...], NDArray[np.uint8]]:
    """Tunnel and source of each path; behind the last one those of a flow without a path."""
    names = np.zeros((len(flows.paths) + 1, NAME_SIZE), np.uint8)
    for index, tunnel in enumerate(flows.paths):
        if tunnel is not None:
            names[index] = np.frombuffer(pack_sockaddr(tunnel.remote), np.uint8)
    tunnels = tuple(None if tunnel is None else tunnel.id for tunnel in flows.paths)
    return (*tunnels, None), sources_of_sockaddrs(names)
