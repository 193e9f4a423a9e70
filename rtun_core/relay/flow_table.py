"""The flows of one rule, in columns.

A flow is a row: numpy arrays hold its numbers, two dictionaries find its row by source address and by
flow id. So a batch of datagrams is looked up with one dictionary access each and counted with a few
vector operations, a tick over 50,000 flows is a handful of array passes, and a flow costs about 0.4 kB.

Rows are reused; the id on the wire is not reused while the flow lives. No decisions are made here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from rtun_core.model import FlowId, FlowState, FlowView, RuleId, TunnelId
from rtun_core.net.sockaddr import unpack_sockaddr
from rtun_core.wire.address import Address

NAME_SIZE = 28  # bytes of a raw socket address
NO_CHANNEL = -1
IDLE_AFTER = 5.0  # seconds without traffic after which a flow is shown as idle
_FIRST_CAPACITY = 64

Key = int | bytes
Rows = NDArray[np.intp]


def format_flow_id(number: int) -> FlowId:
    """The one spelling of a flow id."""
    return FlowId(f"{number:08x}")


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
        self.names = np.zeros((0, NAME_SIZE), np.uint8)

    def __len__(self) -> int:
        return len(self._row_by_id)

    @property
    def full(self) -> bool:
        """Whether another flow would be one too many."""
        return len(self) >= self.capacity

    def rows_by_keys(self, keys: Sequence[Key]) -> Rows:
        """Row of each source address, -1 where unknown."""
        get = self._row_by_key.get
        return np.array([get(key, -1) for key in keys], np.intp)

    def rows_by_ids(self, ids: Sequence[int]) -> Rows:
        """Row of each flow id, -1 where unknown."""
        get = self._row_by_id.get
        return np.array([get(each, -1) for each in ids], np.intp)

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
        for column in (self.moves, self.up_packets, self.up_bytes, self.down_packets, self.down_bytes):
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

    def count_up(self, rows: Rows, lengths: NDArray[np.int64], now: float) -> None:
        """Account datagrams that came from the sources; rows may repeat."""
        np.add.at(self.up_packets, rows, 1)
        np.add.at(self.up_bytes, rows, lengths)
        self.last_active[rows] = now

    def count_down(self, rows: Rows, lengths: NDArray[np.int64], now: float) -> None:
        """Account answers; rows may repeat."""
        np.add.at(self.down_packets, rows, 1)
        np.add.at(self.down_bytes, rows, lengths)
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


class FlowRows(Sequence[FlowView]):
    """An immutable picture of a table's flows; rows become `FlowView`s only when they are looked at."""

    def __init__(
        self,
        table: FlowTable,
        *,
        now: float,
        rule: RuleId,
        target: str,
        tunnel_of: Callable[[int], TunnelId | None],
    ) -> None:
        rows = table.rows()
        self._rule, self._target, self._now = rule, target, now
        self._ids = table.ids[rows]
        self._names = table.names[rows]
        self._channel = table.channel[rows]
        self._last_active = table.last_active[rows]
        self._opened_at = table.opened_at[rows]
        self._moves = table.moves[rows]
        self._counts = [
            column[rows]
            for column in (table.up_packets, table.up_bytes, table.down_packets, table.down_bytes)
        ]
        self._tunnels = {int(number): tunnel_of(int(number)) for number in np.unique(self._channel)}

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[FlowView]:
        return (self._view(index) for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> FlowView: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[FlowView]: ...

    def __getitem__(self, index: int | slice) -> FlowView | Sequence[FlowView]:
        if isinstance(index, slice):
            return [self._view(each) for each in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._view(index % len(self))

    def _view(self, index: int) -> FlowView:
        idle = self._now - float(self._last_active[index])
        tunnel = self._tunnels[int(self._channel[index])]
        up_packets, up_bytes, down_packets, down_bytes = (int(column[index]) for column in self._counts)
        return FlowView(
            id=format_flow_id(int(self._ids[index])),
            rule=self._rule,
            source=str(unpack_sockaddr(self._names[index].tobytes())),
            target=self._target,
            tunnel=tunnel,
            state=_state(idle, tunnel),
            opened_at=float(self._opened_at[index]),
            idle_s=idle,
            up_packets=up_packets,
            up_bytes=up_bytes,
            down_packets=down_packets,
            down_bytes=down_bytes,
            moves=int(self._moves[index]),
        )


def _state(idle: float, tunnel: TunnelId | None) -> FlowState:
    if tunnel is None:
        return FlowState.WAITING
    return FlowState.IDLE if idle > IDLE_AFTER else FlowState.ACTIVE
