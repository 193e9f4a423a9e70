"""Seeded traffic for `rtun demo`: many UDP clients that check every answer byte for byte.

Each datagram carries its client, its number and when it was sent, then bytes that follow from the seed,
so that an answer can be checked without remembering what was sent. The target is an echo service.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import time
from typing import NamedTuple

from rtun_core.commands import Command, CommandResult
from rtun_core.errors import CommandRefused
from rtun_core.model import ServiceSnapshot
from rtun_core.net.udp import DatagramBatch, UdpSocketSet
from rtun_core.wire.address import Address

_HEAD = struct.Struct(">IIQ")  # client, number, sent at (nanoseconds, monotonic)
_MAX_FILL = 1200
_STEP = 0.01  # seconds between bursts of the generator


class TrafficReport(NamedTuple):
    """What became of the traffic. `rtts` in seconds, sorted."""

    sent: int
    answered: int
    wrong: int
    twice: int
    rtts: list[float]

    @property
    def lost(self) -> int:
        """Datagrams that were never answered."""
        return self.sent - self.answered

    @property
    def perfect(self) -> bool:
        """Whether everything sent came back once and unchanged."""
        return self.sent > 0 and not self.lost and not self.wrong

    def percentile(self, share: float) -> float:
        """RTT in seconds that `share` of all answers stayed below."""
        return self.rtts[min(int(len(self.rtts) * share), len(self.rtts) - 1)] if self.rtts else 0.0


class DemoTraffic:
    """Clients that send at a steady total rate. Implements the engine's Service protocol."""

    name = "traffic"

    def __init__(self, to: Address, *, seed: int, clients: int, rate: float) -> None:
        """`rate`: datagrams a second over all clients."""
        self._to, self._clients, self._rate = to, clients, rate
        self._random = random.Random(seed)
        self._fill = self._random.randbytes(2 * _MAX_FILL)
        self._handles: list[int] = []
        self._sockets: UdpSocketSet | None = None
        self._settled = asyncio.Event()
        self._missing: set[tuple[int, int]] = set()
        self._numbers = [0] * clients
        self._rtts: list[float] = []
        self._sent = self._wrong = self._twice = 0

    async def start(self) -> None:
        """Open the clients' sockets; nothing is sent yet."""
        self._sockets = UdpSocketSet(self._on_batch, lambda _handle, _error: None)
        self._handles = [self._sockets.open(self._to) for _ in range(self._clients)]

    async def wait(self) -> str:
        """Never ends by itself."""
        await asyncio.Event().wait()
        return ""

    async def stop(self, *, drain: bool) -> None:
        """Close the sockets."""
        if self._sockets is not None:
            self._sockets.close_all()

    def snapshot(self, *, flows: bool = True) -> ServiceSnapshot:
        """Nothing of its own to show."""
        return ServiceSnapshot(service=self.name)

    def counters(self) -> tuple[dict[str, int], dict[str, int]]:
        """Wrong answers are faults."""
        return {}, {"wrong answer": self._wrong} if self._wrong else {}

    def handles(self, command: Command) -> bool:
        """No commands."""
        return False

    async def handle(self, command: Command) -> CommandResult:
        """No commands."""
        raise CommandRefused("the demo's traffic takes no commands")

    async def run(self, seconds: float) -> None:
        """Send for that long, at the steady rate: `seconds * rate` datagrams in all."""
        begin = time.monotonic()
        total = int(seconds * self._rate)
        while self._sent < total:
            due = min(int((time.monotonic() - begin) * self._rate), total)
            for _ in range(due - self._sent):
                self._send(self._random.randrange(self._clients))
            await asyncio.sleep(_STEP)

    async def settle(self, seconds: float) -> TrafficReport:
        """Wait up to `seconds` for what is still on its way."""
        self._settled.clear()
        if self._missing:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._settled.wait()
        answered = self._sent - len(self._missing)
        return TrafficReport(self._sent, answered, self._wrong, self._twice, sorted(self._rtts))

    def _send(self, client: int) -> None:
        assert self._sockets is not None, "started before run"
        number = self._numbers[client]
        self._numbers[client] += 1
        self._missing.add((client, number))
        self._sent += 1
        head = _HEAD.pack(client, number, time.monotonic_ns())
        self._sockets.send(self._handles[client], head + self._body(client, number))

    def _body(self, client: int, number: int) -> bytes:
        """Bytes that follow from client, number and seed: 0 to 1183 of them."""
        mixed = (client * 2654435761 + number * 40503) & 0xFFFFFFFF
        return self._fill[mixed % _MAX_FILL :][: mixed % (_MAX_FILL - _HEAD.size)]

    def _on_batch(self, batch: DatagramBatch, handles: list[int]) -> None:
        now = time.monotonic_ns()
        for row, handle in enumerate(handles):
            self._on_answer(batch.payload(row), handle, now)

    def _on_answer(self, answer: bytes, handle: int, now: int) -> None:
        if len(answer) < _HEAD.size:
            self._wrong += 1
            return
        client, number, sent = _HEAD.unpack_from(answer)
        if (
            client >= self._clients
            or self._handles[client] != handle
            or number >= self._numbers[client]
            or answer[_HEAD.size :] != self._body(client, number)
        ):
            self._wrong += 1
        elif (client, number) not in self._missing:
            self._twice += 1
        else:
            self._missing.discard((client, number))
            if not self._missing:
                self._settled.set()
            self._rtts.append((now - sent) / 1e9)
