"""The highest rate without loss, as a share of the plain forwarder's, and the same under snapshots."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.bench.lanes import LANES
from tests.bench.row import Row, row_of
from tests.bench.search import coarse_capacity, highest_rate
from tests.e2e.processes import Process

ROUNDS: Final = 5
_SIZE: Final = 1200
_FLOWS: Final = 64
_SNAPSHOT_FLOWS: Final = 10_000
_SNAPSHOTS_PER_S: Final = 4
_SNAPSHOT_RUN_S: Final = 1.0
_OVERLOAD: Final = 1.3


def measure_capacity(direction: str) -> list[Row]:
    """One row: up (to the target) or down, 64 flows, 1200 bytes."""
    with LANES[direction](_FLOWS) as lane:
        plain, ours = [coarse_capacity(lane.plain, _SIZE)], [coarse_capacity(lane.tunnel, _SIZE)]
        for _ in range(ROUNDS):
            plain.append(highest_rate(lane.plain, _SIZE, first=plain[-1]))
            ours.append(highest_rate(lane.tunnel, _SIZE, first=ours[-1]))
    ratios = [mine / other for mine, other in zip(ours[1:], plain[1:], strict=True)]
    note = f"{sorted(ours[1:])[ROUNDS // 2]:,.0f}/s, C {sorted(plain[1:])[ROUNDS // 2]:,.0f}/s"
    name = f"Highest rate, {direction}, {_SIZE} bytes, {_FLOWS} flows"
    return [row_of(name, ratios, "x C", target="at least 0.8", note=note)]


def measure_snapshots(direction: str) -> list[Row]:
    """One row: what arrives of too much while the relay is asked for its state, against without."""
    with LANES[direction](_SNAPSHOT_FLOWS) as lane:
        rate = _OVERLOAD * coarse_capacity(lane.tunnel, _SIZE)
        alone, watched = [], []
        for _ in range(ROUNDS):
            alone.append(lane.tunnel.run(rate, _SNAPSHOT_RUN_S, _SIZE).delivered)
            with _watched(lane.relay) as sizes:
                watched.append(lane.tunnel.run(rate, _SNAPSHOT_RUN_S, _SIZE).delivered)
    ratios = [one / other for one, other in zip(watched, alone, strict=True)]
    name = f"Throughput with {_SNAPSHOTS_PER_S} snapshots/s, {direction}, {_SNAPSHOT_FLOWS:,} flows"
    note = (
        f"{sorted(watched)[ROUNDS // 2]:,.0f}/s, without {sorted(alone)[ROUNDS // 2]:,.0f}/s; a snapshot has"
    )
    note += f" {max(sizes, default=0) / 1e6:.1f} MB, {len(sizes)} came in {_SNAPSHOT_RUN_S} s"
    return [row_of(name, ratios, "x", target="at least 0.95", note=note)]


@contextmanager
def _watched(relay: Process) -> Iterator[list[int]]:
    """Have snapshots taken; gives the list of their sizes in bytes."""
    done, sizes = threading.Event(), list[int]()

    def watch() -> None:
        due = time.monotonic()
        while not done.wait(max(0.0, due - time.monotonic())):
            sizes.append(_take_snapshot(relay))
            due = max(due + 1 / _SNAPSHOTS_PER_S, time.monotonic())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield sizes
    finally:
        done.set()
        thread.join()


def _take_snapshot(relay: Process) -> int:
    """Ask for it and read it, without the cost of parsing."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(relay.control))
        connection.sendall(b"GET /snapshot HTTP/1.0\r\nHost: rtun\r\n\r\n")
        return sum(map(len, iter(lambda: connection.recv(1 << 18), b"")))
