"""The flows of one rule, in columns.

A flow is a row: numpy arrays hold its numbers, two dictionaries find its row by source address and by
flow id. So a batch of datagrams is looked up with one dictionary access each and counted with a few
vector operations, a tick over 50,000 flows is a handful of array passes, and a flow costs about 0.4 kB.

Rows are reused; the id on the wire is not reused while the flow lives. No decisions are made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtun_core.flow_rows import FlowRows, flow_states, sources_of_sockaddrs, tally
from rtun_core.model import FlowId, RuleId, TunnelId
from rtun_core.net.sockaddr import unpack_sockaddr
from rtun_core.wire.address import Address

NAME_SIZE = 28  # bytes of a raw socket address
NO_CHANNEL = -1
MIN_SAMPLE = 0.5  # seconds between two samples of the rates at least: a shorter time would make them jump
_FIRST_CAPACITY = 64

Key = int | bytes
Rows = NDArray[np.intp]


class FlowTable:
    """Columns of flows. `channel` holds the owner's small channel numbers, NO_CHANNEL when without."""

    def __init__(self, *, first_id: int, capacity: int) -> None:
        """`first_id`: where the 32-bit counter starts; `capacity`: most flows at a time."""
        self.capacity = capacity
        self._next_id = first_id & 0xFFFFFFFF
        self._row_by_key: dict[Key, int] = {}
        self._row_by_id: dict[int, int] = {}
        self._key: list[Key | None] = []
        self._free: list[int] = []
        self.ids = np.zeros(0, np.uint64)
        self.channel = np.zeros(0, np.int64)
        self.used = np.zeros(0, np.bool_)
        self.last_active = np.zeros(0, np.float64)
        self.opened_at = np.zeros(0, np.float64)
        self.moved_at = np.zeros(0, np.float64)
        self.moves = np.zeros(0, np.int64)
        self.up_packets = np.zeros(0, np.int64)
        self.up_bytes = np.zeros(0, np.int64)
        self.down_packets = np.zeros(0, np.int64)
        self.down_bytes = np.zeros(0, np.int64)
        self.up_rate = np.zeros(0, np.float32)  # bytes per second, between the last two samples
        self.down_rate = np.zeros(0, np.float32)
        self._up_sample = np.zeros(0, np.int64)  # bytes at the last sample
        self._down_sample = np.zeros(0, np.int64)
        self._sampled_at: float | None = None
        self.names = np.zeros((0, NAME_SIZE), np.uint8)

    def __len__(self) -> int:
        return len(self._row_by_id)

    @property
    def full(self) -> bool:
        """Whether another flow would be one too many."""
        return len(self) >= self.capacity

    def rows_by_keys(self, keys: Sequence[Key]) -> list[int | None]:
        """Row of each source address, None where unknown."""
        return list(map(self._row_by_key.get, keys))

    def rows_by_ids(self, ids: Sequence[int]) -> list[int | None]:
        """Row of each flow id, None where unknown."""
        return list(map(self._row_by_id.get, ids))

    def row_by_key(self, key: Key) -> int | None:
        """Row of a source address."""
        return self._row_by_key.get(key)

    def row_by_id(self, flow: int) -> int | None:
        """Row of a flow id."""
        return self._row_by_id.get(flow)

    def source(self, row: int) -> Address:
        """The source address of a flow."""
        return unpack_sockaddr(self.names[row].tobytes())

    def row_of(self, flow: FlowId) -> int | None:
        """Row of a flow by its printed id."""
        try:
            return self._row_by_id.get(int(flow, 16))
        except ValueError:
            return None

    def open(self, key: Key, name: NDArray[np.uint8], *, channel: int, now: float, wall: float) -> int:
        """Add a flow for a source address (`name` raw, `key` its hashable form); returns its row."""
        row = self._free.pop() if self._free else self._grow()
        flow_id = self._new_id()
        self._key[row] = key
        self._row_by_key[key] = row
        self._row_by_id[flow_id] = row
        self.ids[row] = flow_id
        self.channel[row] = channel
        self.used[row] = True
        self.last_active[row] = now
        self.opened_at[row] = wall
        self.moved_at[row] = now
        self.names[row] = name
        for column in self._counters():
            column[row] = 0
        return row

    def close(self, row: int) -> None:
        """Forget a flow."""
        key = self._key[row]
        assert key is not None
        del self._row_by_key[key], self._row_by_id[int(self.ids[row])]
        self._key[row] = None
        self.used[row] = False
        self.channel[row] = NO_CHANNEL
        self._free.append(row)

    def count_up(self, rows: Rows, lengths: NDArray[np.int64], now: float, *, distinct: bool = False) -> None:
        """Account datagrams that came from the sources; `distinct`: no row comes twice."""
        tally(self.up_packets, self.up_bytes, rows, lengths, distinct=distinct)
        self.last_active[rows] = now

    def count_down(
        self, rows: Rows, lengths: NDArray[np.int64], now: float, *, distinct: bool = False
    ) -> None:
        """Account answers; `distinct`: no row comes twice."""
        tally(self.down_packets, self.down_bytes, rows, lengths, distinct=distinct)
        self.last_active[rows] = now

    def count_one_up(self, row: int, length: int, now: float) -> None:
        """Account one datagram that came from a source."""
        self.up_packets[row] += 1
        self.up_bytes[row] += length
        self.last_active[row] = now

    def count_one_down(self, row: int, length: int, now: float) -> None:
        """Account one answer."""
        self.down_packets[row] += 1
        self.down_bytes[row] += length
        self.last_active[row] = now

    def sample_rates(self, now: float) -> None:
        """Once a second: bytes per second since the last call; one that comes too early is ignored."""
        elapsed = None if self._sampled_at is None else now - self._sampled_at
        if elapsed is not None and elapsed < MIN_SAMPLE:
            return
        if elapsed is not None:
            np.divide(self.up_bytes - self._up_sample, elapsed, out=self.up_rate, casting="same_kind")
            np.divide(self.down_bytes - self._down_sample, elapsed, out=self.down_rate, casting="same_kind")
        self._up_sample[:] = self.up_bytes
        self._down_sample[:] = self.down_bytes
        self._sampled_at = now

    def on_channel(self, channel: int) -> Rows:
        """Rows of the flows that use a channel."""
        return np.nonzero(self.used & (self.channel == channel))[0]

    def loads(self, channels: int) -> NDArray[np.int64]:
        """Flows per channel number, for numbers below `channels`."""
        mine = self.channel[self.used]
        return np.bincount(mine[mine >= 0], minlength=channels)[:channels]

    def movable(self, channel: int, *, before: float) -> Rows:
        """Rows on a channel that were not moved since `before`, longest idle first."""
        rows = self.on_channel(channel)
        rows = rows[self.moved_at[rows] <= before]
        return rows[np.argsort(self.last_active[rows], kind="stable")]

    def move(self, rows: Rows, channel: int, now: float) -> None:
        """Give flows to another channel; the ids stay, so the target keeps seeing the same source."""
        self.channel[rows] = channel
        self.moved_at[rows] = now
        self.moves[rows] += 1

    def idle(self, before: float) -> Rows:
        """Rows without traffic since `before`."""
        return np.nonzero(self.used & (self.last_active < before))[0]

    def rows(self) -> Rows:
        """All rows in use."""
        return np.nonzero(self.used)[0]

    def totals(self) -> tuple[int, int, int, int]:
        """Packets and bytes up, packets and bytes down, of the flows that live now."""
        used = self.used
        columns = (self.up_packets, self.up_bytes, self.down_packets, self.down_bytes)
        packets_up, bytes_up, packets_down, bytes_down = (int(column[used].sum()) for column in columns)
        return packets_up, bytes_up, packets_down, bytes_down

    def _counters(self) -> tuple[NDArray[Any], ...]:
        """The columns that start at zero with each flow."""
        return (
            self.moves,
            self.up_packets,
            self.up_bytes,
            self.down_packets,
            self.down_bytes,
            self.up_rate,
            self.down_rate,
            self._up_sample,
            self._down_sample,
        )

    def _new_id(self) -> int:
        while self._next_id == 0 or self._next_id in self._row_by_id:
            self._next_id = (self._next_id + 1) & 0xFFFFFFFF
        flow_id = self._next_id
        self._next_id = (flow_id + 1) & 0xFFFFFFFF
        return flow_id

    def _grow(self) -> int:
        """Double the columns; returns one of the new rows."""
        old = len(self.ids)
        more = max(old, _FIRST_CAPACITY)
        for name, column in vars(self).items():
            if isinstance(column, np.ndarray):
                grown = np.zeros((old + more, *column.shape[1:]), column.dtype)
                grown[:old] = column
                setattr(self, name, grown)
        self.channel[old:] = NO_CHANNEL
        self._key += [None] * more
        self._free = list(range(old + more - 1, old, -1))
        return old


def flow_rows(
    table: FlowTable, *, now: float, rule: RuleId, target: str, tunnels: Mapping[int, TunnelId]
) -> FlowRows:
    """A picture of a table's flows. `tunnels`: what the channel numbers stand for; others are none."""
    rows = table.rows()
    names = (None, *tunnels.values())
    tunnel = _places(table.channel[rows], list(tunnels))
    idle = now - table.last_active[rows]
    return FlowRows(
        ids=table.ids[rows],
        sources=sources_of_sockaddrs(table.names.take(rows, axis=0)),
        rule=np.zeros(len(rows), np.int32),
        target=np.zeros(len(rows), np.int32),
        tunnel=tunnel,
        state=flow_states(idle, has_tunnel=tunnel > 0),
        opened_at=table.opened_at[rows],
        idle_s=idle,
        up_packets=table.up_packets[rows],
        up_bytes=table.up_bytes[rows],
        down_packets=table.down_packets[rows],
        down_bytes=table.down_bytes[rows],
        up_rate=table.up_rate[rows].astype(np.float64),
        down_rate=table.down_rate[rows].astype(np.float64),
        moves=table.moves[rows],
        rules=(rule,),
        targets=(target,),
        tunnels=names,
    )


def _places(channels: NDArray[np.int64], known: list[int]) -> NDArray[np.int32]:
    """1 for the first of the known numbers and so on, 0 for any other."""
    # Numbers are small (the owner counts them up from 0), so that a table of all of them is one too.
    place = np.zeros(max(known, default=0) + 2, np.int32)
    place[known] = np.arange(1, len(known) + 1)
    beyond = len(place) - 1
    return place[np.where((channels >= 0) & (channels < beyond), channels, beyond)]
