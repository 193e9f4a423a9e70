"""What a flow costs: memory in relay and agent, and the time of the relay's one-second tick.

Real processes on loopback. Memory is the growth of the resident set from one flow to `flows` flows.
"""

from __future__ import annotations

import resource
import socket
import time
from pathlib import Path

import numpy as np
import psutil

from rtun_core.relay.flow_table import FlowTable
from tests.bench.row import Row
from tests.e2e.processes import Fleet, Process, local_address
from tests.e2e.udp import EchoTarget

WAVE = 200  # datagrams sent before their answers are awaited
TRIES = 20


def measure_flow_cost(folder: Path, flows: int) -> list[Row]:
    """The rows on memory and ticks."""
    flows = min(flows, _raise_file_limit() - 200)
    fleet, echo = Fleet(folder), EchoTarget()
    try:
        fleet.server("http")
        agent = fleet.agent("bench")
        relay = fleet.relay(f"127.0.0.1:0?to={echo.address}", args=("--max-flows", str(flows + 10)))
        grown = _grow(relay, agent, flows)
    finally:
        fleet.close()
        echo.close()
    return [
        Row(f"relay memory per flow, {flows} flows", grown[relay] / flows / 1e3, "kB", "at most 4"),
        Row(f"agent memory per flow, {flows} flows", grown[agent] / flows / 1e3, "kB", "at most 4"),
        *(Row(f"flow table's share of a tick, {n} flows", _tick_ms(n), "ms") for n in (10_000, 50_000)),
    ]


def _grow(relay: Process, agent: Process, flows: int) -> dict[Process, int]:
    """Open `flows` flows; the growth of each process in bytes."""
    to = local_address(relay)
    sockets = [_client(to) for _ in range(flows)]
    try:
        _round_trips(sockets[:1])
        before = {process: _resident(process) for process in (relay, agent)}
        for first in range(0, flows, WAVE):
            _round_trips(sockets[first : first + WAVE])
        return {process: _resident(process) - size for process, size in before.items()}
    finally:
        for each in sockets:
            each.close()


def _client(to: tuple[str, int]) -> socket.socket:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect(to)
    client.setblocking(False)
    return client


def _round_trips(sockets: list[socket.socket]) -> None:
    """One answered datagram on each socket; what got lost in a full buffer is sent again."""
    missing = sockets
    for _ in range(TRIES):
        for each in missing:
            each.send(b"bench")
        deadline = time.monotonic() + 1
        while missing and time.monotonic() < deadline:
            missing = [each for each in missing if not _answered(each)]
        if not missing:
            return
    raise RuntimeError(f"{len(missing)} of {len(sockets)} flows were never answered")


def _answered(client: socket.socket) -> bool:
    try:
        return bool(client.recv(64))
    except BlockingIOError:
        return False


def _resident(process: Process) -> int:
    return int(psutil.Process(process.pid).memory_info().rss)


def _raise_file_limit() -> int:
    """Allow as many sockets as the system lets us have; returns the number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = min(hard, 200_000) if hard != resource.RLIM_INFINITY else 200_000
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def _tick_ms(flows: int) -> float:
    """Milliseconds of the passes that a tick makes over the table."""
    table = FlowTable(first_id=1, capacity=flows)
    name = np.zeros(28, np.uint8)
    for number in range(flows):
        table.open(number, name, channel=number % 4, now=0.0, wall=0.0)
    samples = []
    for _ in range(9):
        begin = time.perf_counter()
        table.loads(4)
        table.idle(-1.0)
        table.totals()
        table.movable(1, before=1.0)
        samples.append(time.perf_counter() - begin)
    return sorted(samples)[len(samples) // 2] * 1e3
