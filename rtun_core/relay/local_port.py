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
from typing import cast

import numpy as np

from rtun_core.bus import EventBus
from rtun_core.events import FlowOpened
from rtun_core.flow_rows import format_flow_id
from rtun_core.model import RuleId, Traffic
from rtun_core.net.frame_socket import SCALAR_ROWS, Frames
from rtun_core.net.udp import DatagramBatch, Spans, UdpSocket
from rtun_core.relay.channel import Channel
from rtun_core.relay.flow_table import NO_CHANNEL, FlowTable, Key
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
        found = self.table.rows_by_ids(frames.flows.tolist())
        count = len(found)
        if None in found or np.count_nonzero(frames.lengths) < count:
            found, frames = self._deliverable(found, frames)
            count = len(found)
        if not count or self._socket is None:
            return
        places = cast("list[int]", found)
        rows, flows = np.array(places, np.intp), len(set(places))
        self.table.count_down(rows, frames.lengths, time.monotonic(), distinct=flows == count)
        self._down_packets += count
        self._down_bytes += int(np.add.reduce(frames.lengths))
        if flows > 1 and flows * RUN <= count:
            order = np.argsort(rows, kind="stable")
            rows, frames = rows[order], frames.take(order)
            places = rows.tolist()
        self._socket.send_spans(frames.spans, self.table.names[rows], places)

    def _deliverable(self, found: list[int | None], frames: Frames) -> tuple[list[int | None], Frames]:
        """Without frames of unknown flows, and without empty ones."""
        known = np.array([row is not None for row in found])
        good = known & (frames.lengths > 0)
        self.drop("no flow", int(np.count_nonzero(~known)))
        self.drop("empty", int(np.count_nonzero(known & ~good)))
        return [found[place] for place in np.flatnonzero(good).tolist()], frames.take(good)

    def _on_batch(self, batch: DatagramBatch) -> None:
        if self.paused:
            self.drop("paused", batch.count)
            return
        keys: Sequence[Key] = batch.name_keys()
        if batch.count <= SCALAR_ROWS:
            for row, key in enumerate(keys):
                self._take_one(batch, row, key)
            return
        found = self.table.rows_by_keys(keys)
        spans, sizes = batch.spans(), batch.sizes
        if None in found or batch.truncated is not None or min(sizes) == 0 or max(sizes) > self.max_payload:
            spans, found = self._admit(batch, keys)
        if found:
            self._uplink(spans, cast("list[int]", found))

    def _take_one(self, batch: DatagramBatch, index: int, key: Key) -> None:
        """One local datagram -> a frame; cheaper than a batch of a few."""
        length = batch.sizes[index]
        row = self._admit_one(batch, index, key)
        if row is None:
            return
        self.table.count_one_up(row, length, time.monotonic())
        self._up_packets += 1
        self._up_bytes += length
        channel = self.channels.get(int(self.table.channel[row]))
        if channel is None:
            self.drop("no tunnel", 1)
        else:
            channel.send_one(int(self.table.ids[row]), batch.payload(index))

    def _admit(self, batch: DatagramBatch, keys: Sequence[Key]) -> tuple[Spans, list[int | None]]:
        """The datagrams that may be relayed, and the row of each, of a flow that is opened if need be."""
        rows = [self._admit_one(batch, index, key) for index, key in enumerate(keys)]
        places = np.array([index for index, row in enumerate(rows) if row is not None], np.intp)
        return batch.spans().take(places), [row for row in rows if row is not None]

    def _admit_one(self, batch: DatagramBatch, index: int, key: Key) -> int | None:
        """The row of a datagram's flow; None when it is dropped, and counted."""
        length = batch.sizes[index]
        if (
            length == 0
            or length > self.max_payload
            or (batch.truncated is not None and batch.truncated[index])
        ):
            self.drop("oversize" if length else "empty", 1)
            return None
        row = self.table.row_by_key(key)
        if row is not None:
            return row
        if self.table.full:
            self.drop("flow limit", 1)
            return None
        return self._open_flow(batch, key, index)

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

    def _uplink(self, spans: Spans, found: list[int]) -> None:
        count, rows = len(found), np.array(found, np.intp)
        self.table.count_up(rows, spans.lengths, time.monotonic(), distinct=len(set(found)) == count)
        self._up_packets += count
        self._up_bytes += int(np.add.reduce(spans.lengths))
        frames = Frames(*spans, self.table.ids[rows])
        numbers = self.table.channel[rows]
        used = set(numbers.tolist())
        if len(used) == 1:
            self._send(used.pop(), frames)
            return
        for number in sorted(used):
            self._send(number, frames.take(numbers == number))

    def _send(self, number: int, frames: Frames) -> None:
        channel = self.channels.get(number)
        if channel is None:
            self.drop("no tunnel", len(frames.starts))
        else:
            channel.send(frames)

    def _on_error(self, _error: OSError) -> None:
        self.drop("local socket", 1)
