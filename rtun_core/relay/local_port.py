"""The local side of a rule: its listening socket, its flows, and the packet path between them and channels.

A batch of local datagrams is looked up by source address, grouped by channel and framed in place; a
batch of answers is looked up by flow id and sent back to the sources. Nothing is decided here: the
owner says which channel a new flow gets.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from rtun_core.bus import EventBus
from rtun_core.events import FlowOpened
from rtun_core.flow_rows import format_flow_id
from rtun_core.model import RuleId, Traffic
from rtun_core.net.frame_socket import SCALAR_ROWS, Frames
from rtun_core.net.udp import DatagramBatch, UdpSocket
from rtun_core.relay.channel import Channel
from rtun_core.relay.flow_table import NO_CHANNEL, FlowTable, Key, Rows
from rtun_core.wire.address import Address
from rtun_core.wire.relay_rule import RelayRule

RUN = 4  # datagrams of one flow in a batch, on average, from which on sorting them by flow pays


class LocalPort:
    """One listening socket and its flows.

    `choose()` gives the channel for a new flow or None; `channels` maps the small numbers in the flow
    table to channels and is kept up to date by the owner, as is `max_payload` (bytes).
    """

    def __init__(
        self,
        rule_id: RuleId,
        rule: RelayRule,
        bus: EventBus,
        *,
        max_flows: int,
        choose: Callable[[], Channel | None],
    ) -> None:
        self.table = FlowTable(first_id=random.getrandbits(32), capacity=max_flows)
        self.channels: dict[int, Channel] = {}
        self.max_payload = 0
        self.paused = False
        self.drops: dict[str, int] = {}
        self._rule_id, self._rule, self._bus = rule_id, rule, bus
        self._choose = choose
        self._socket: UdpSocket | None = None
        self._stopped = False
        self._up_packets = self._up_bytes = self._down_packets = self._down_bytes = 0

    @property
    def is_open(self) -> bool:
        """Whether the socket is bound."""
        return self._socket is not None

    @property
    def local(self) -> Address:
        """Where it listens; what the rule says before it is bound."""
        return self._rule.listen if self._socket is None else self._socket.local

    @property
    def traffic(self) -> Traffic:
        """Payload of all flows so far."""
        return Traffic(self._up_packets, self._up_bytes, self._down_packets, self._down_bytes)

    def bind(self) -> None:
        """Open the socket; nothing is read before `read`. Raises BindError."""
        self._socket = UdpSocket.open(local=self._rule.listen)
        self._socket.start(self._on_batch, self._on_error)
        self._socket.pause_reading()

    def read(self) -> None:
        """Take datagrams from now on."""
        if self._socket is not None and not self._stopped:
            self._socket.resume_reading()

    def hold(self, on_waiting: Callable[[], None]) -> None:
        """Leave datagrams in the kernel's buffer; `on_waiting` is called once when there is one."""
        if self._socket is not None and not self._stopped:
            self._socket.pause_reading()
            self._socket.when_readable(on_waiting)

    def stop_reading(self) -> None:
        """Take no more datagrams, whatever becomes of the channels; answers still go out."""
        self._stopped = True
        if self._socket is not None:
            self._socket.pause_reading()

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def all_drops(self) -> dict[str, int]:
        """Drops by reason, those of the socket included."""
        if self._socket is None:
            return dict(self.drops)
        drops = Counter(self.drops)
        stats = self._socket.stats
        for reason, count in stats.tx_dropped.items():
            drops[f"local {reason}"] += count
        drops["kernel"] += stats.kernel_drops
        return dict(+drops)

    def drop(self, reason: str, count: int) -> None:
        """Count dropped datagrams."""
        if count:
            self.drops[reason] = self.drops.get(reason, 0) + count

    def deliver_one(self, flow: int, payload: bytes) -> None:
        """One frame of a channel -> a datagram to its source."""
        row = self.table.row_by_id(flow)
        if row is None or not payload:
            self.drop("no flow" if row is None else "empty", 1)
        elif self._socket is not None:
            self.table.count_one_down(row, len(payload), time.monotonic())
            self._down_packets += 1
            self._down_bytes += len(payload)
            self._socket.send(payload, self.table.source(row))

    def deliver(self, frames: Frames) -> None:
        """Frames of a channel -> datagrams to the sources. Any channel may bring them."""
        rows = self.table.rows_by_ids(frames.flows.tolist())
        known, empty = rows >= 0, frames.lengths == 0
        good = known & ~empty
        if not good.all():
            self.drop("no flow", int(np.count_nonzero(~known)))
            self.drop("empty", int(np.count_nonzero(known & empty)))
            rows, frames = rows[good], frames.take(good)
        if not len(rows) or self._socket is None:
            return
        self.table.count_down(rows, frames.lengths, time.monotonic())
        self._down_packets += len(rows)
        self._down_bytes += int(frames.lengths.sum())
        order = _by_flow(rows)
        if order is not None:
            rows, frames = rows[order], frames.take(order)
        names = self.table.names[rows]
        self._socket.send_rows(frames.data, frames.rows, frames.starts, frames.lengths, names)

    def _on_batch(self, batch: DatagramBatch) -> None:
        if self.paused:
            self.drop("paused", batch.count)
            return
        keys: Sequence[Key] = batch.name_keys()
        if batch.count <= SCALAR_ROWS:
            for row, key in enumerate(keys):
                self._take_one(batch, row, key)
            return
        rows = self.table.rows_by_keys(keys)
        index = self._admissible(batch)
        if len(index) and (rows[index] < 0).any():
            index = self._open_flows(batch, keys, rows, index)
        if len(index):
            self._uplink(batch, index, rows[index])

    def _take_one(self, batch: DatagramBatch, index: int, key: Key) -> None:
        """One local datagram -> a frame; cheaper than a batch of a few."""
        length = int(batch.lengths[index])
        if length == 0 or length > self.max_payload or batch.truncated[index]:
            self.drop("oversize" if length else "empty", 1)
            return
        row = self.table.row_by_key(key)
        if row is None:
            if self.table.full:
                self.drop("flow limit", 1)
                return
            row = self._open_flow(batch, key, index)
        self.table.count_one_up(row, length, time.monotonic())
        self._up_packets += 1
        self._up_bytes += length
        channel = self.channels.get(int(self.table.channel[row]))
        if channel is None:
            self.drop("no tunnel", 1)
        else:
            channel.send_one(int(self.table.ids[row]), batch.payload(index))

    def _admissible(self, batch: DatagramBatch) -> Rows:
        """Indexes of the datagrams that may be relayed at all: not empty, not too large."""
        lengths = batch.lengths
        if lengths.min() > 0 and lengths.max() <= self.max_payload and not batch.truncated.any():
            return np.arange(batch.count)
        empty = lengths == 0
        oversize = (lengths > self.max_payload) | batch.truncated
        self.drop("oversize", int(np.count_nonzero(oversize)))
        self.drop("empty", int(np.count_nonzero(empty)))
        return np.nonzero(~oversize & ~empty)[0]

    def _open_flows(self, batch: DatagramBatch, keys: Sequence[Key], rows: Rows, index: Rows) -> Rows:
        """Open flows for unknown sources (`rows` is filled in); returns the indexes that have one now."""
        fresh: dict[Key, int] = {}
        for each in index[rows[index] < 0].tolist():
            key = keys[each]
            if key not in fresh:
                if self.table.full:
                    self.drop("flow limit", 1)
                    continue
                fresh[key] = self._open_flow(batch, key, each)
            rows[each] = fresh[key]
        return index[rows[index] >= 0]

    def _open_flow(self, batch: DatagramBatch, key: Key, index: int) -> int:
        channel = self._choose()
        number = NO_CHANNEL if channel is None else channel.number
        row = self.table.open(key, batch.names[index], channel=number, now=time.monotonic(), wall=time.time())
        if channel is not None:
            channel.flows += 1
        self._bus.emit(
            FlowOpened(
                flow=format_flow_id(int(self.table.ids[row])),
                rule=self._rule_id,
                source=str(batch.address(index)),
                target=str(self._rule.target),
                tunnel=None if channel is None else channel.id,
            )
        )
        return row

    def _uplink(self, batch: DatagramBatch, index: Rows, flow_rows: Rows) -> None:
        lengths = batch.lengths[index]
        self.table.count_up(flow_rows, lengths, time.monotonic())
        self._up_packets += len(index)
        self._up_bytes += int(lengths.sum())
        numbers = self.table.channel[flow_rows]
        first = int(numbers[0])
        if (numbers == first).all():
            self._send(first, batch, index, flow_rows)
            return
        for number in np.unique(numbers).tolist():
            mine = numbers == number
            self._send(number, batch, index[mine], flow_rows[mine])

    def _send(self, number: int, batch: DatagramBatch, index: Rows, flow_rows: Rows) -> None:
        channel = self.channels.get(number)
        if channel is None:
            self.drop("no tunnel", len(index))
        else:
            channel.send(batch.data, index, self.table.ids[flow_rows], batch.lengths[index])

    def _on_error(self, _error: OSError) -> None:
        self.drop("local socket", 1)


def _by_flow(rows: Rows) -> Rows | None:
    """An order in which the datagrams of each flow follow each other, where that makes long runs."""
    if bool((rows == rows[0]).all()):
        return None
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    changes = int(np.count_nonzero(ordered[1:] != ordered[:-1]))
    return order if (changes + 1) * RUN <= len(rows) else None
