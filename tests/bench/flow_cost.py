"""What flows cost that carry nothing: memory on both sides, and the relay's work of each second.

Real processes on loopback. Memory is the growth of the resident set from one flow to `flows` flows. The
stall is what a datagram waits in the worst moment of a second, against the same relay with one flow.
"""

from __future__ import annotations

import resource
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import psutil

from tests.bench.cpu import cpu_seconds
from tests.bench.lanes import REMAIN
from tests.bench.load_tool import LoadProcess, measured
from tests.bench.row import Row, row_of
from tests.e2e.processes import Fleet, Process, local_address

_NO_LIMIT: Final = 1 << 20
_SPARE_DESCRIPTORS: Final = 400
_PING_PORTS: Final = range(11_000, 12_000)
_OPENING_RATE: Final = 8_000  # flows per second
_WATCH_S: Final = 4
_OPENING_DEADLINE_S: Final = 60.0


class _Stage(NamedTuple):
    relay: Process
    agent: Process
    entry: str
    ping_port: int

    def resident(self) -> tuple[int, int]:
        """Bytes of relay and agent."""
        relay, agent = (int(psutil.Process(each.pid).memory_info().rss) for each in (self.relay, self.agent))
        return relay, agent


class _Rest(NamedTuple):
    """One side at rest: CPU milliseconds in each second, the longest wait of each second in ms."""

    cpu_ms: float
    waits: list[float]


def measure_flow_cost(flows: int) -> list[Row]:
    """Memory per flow of relay and agent, and the relay's work in a second with that many flows."""
    limit, loads = _file_limit(), list[LoadProcess]()
    with _stage() as stage:
        try:
            loads += _open_flows(stage, 1, limit)
            before, single = stage.resident(), _rest(stage)
            loads += _open_flows(stage, flows, limit)
            after, many = stage.resident(), _rest(stage)
            reached = min(flows, stage.agent.count("flow.opened"))
        finally:
            for load in loads:
                load.close()
    return [
        _memory("relay", flows, after[0] - before[0], ""),
        _memory("agent", reached, after[1] - before[1], _why(reached, flows, limit)),
        Row(
            f"CPU of the relay's idle second, {flows:,} flows",
            many.cpu_ms - single.cpu_ms,
            "ms",
            "at most 10",
        ),
        row_of(
            f"Longest wait in a second, {flows:,} idle flows",
            [wait - median(single.waits) for wait in many.waits],
            "ms",
            target="at most 10",
            note=f"{median(many.waits):.2f} ms, with one flow {median(single.waits):.2f} ms",
        ),
    ]


@contextmanager
def _stage() -> Iterator[_Stage]:
    echo = LoadProcess("echo", "0")
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(Path(folder))
        try:
            fleet.server("http")
            agent = fleet.agent("bench")
            relay = fleet.relay(f"127.0.0.1:0?to=127.0.0.1:{echo.ready()['port']}", args=REMAIN)
            host, port = local_address(relay)
            yield _Stage(relay, agent, f"{host}:{port}", _free_port())
        finally:
            fleet.close()
            echo.close()


def _free_port() -> int:
    """A source port for one flow that is known before the agent is full; none that the system gives out."""
    for port in _PING_PORTS:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no port of {_PING_PORTS} is free")


def _open_flows(stage: _Stage, flows: int, limit: int) -> list[LoadProcess]:
    """Generators whose flows the relay knows; as many as it takes with that many open files each."""
    share = min(flows, limit - _SPARE_DESCRIPTORS)
    counts = [min(share, flows - first) for first in range(0, flows, share)]
    loads = [LoadProcess("gen", stage.entry, "--flows", str(count), "--stdin") for count in counts]
    known = len(stage.relay.snapshot()["flows"])
    deadline = time.monotonic() + _OPENING_DEADLINE_S
    for load, count in zip(loads, counts, strict=True):
        load.ready()
        known += count
        while len(stage.relay.snapshot()["flows"]) < known:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the relay did not get {flows} flows")
            load.ask(f"{_OPENING_RATE} {1.1 * count / _OPENING_RATE + 0.1} 64")
    return loads


def _rest(stage: _Stage) -> _Rest:
    """What happens while nothing but one slow flow is carried."""
    time.sleep(1)
    began, cpu = time.monotonic(), cpu_seconds(stage.relay.pid)
    time.sleep(_WATCH_S)
    cpu_ms = (cpu_seconds(stage.relay.pid) - cpu) / (time.monotonic() - began) * 1e3
    options = {"rate": 1000, "seconds": _WATCH_S, "size": 64, "from": stage.ping_port}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    result = measured("ping", stage.entry, *words)
    return _Rest(cpu_ms, [worst / 1e3 for worst in result["worst_us"]])


def _memory(process: str, flows: int, grown: int, note: str) -> Row:
    return Row(
        f"Memory of the {process} per flow, {flows:,} flows",
        grown / flows / 1e3,
        "kB",
        "at most 4",
        note=note,
    )


def _why(reached: int, flows: int, limit: int) -> str:
    """Why the agent has fewer flows than the relay; it needs a descriptor and a port for each."""
    if reached >= flows:
        return ""
    ports = _ports()
    if limit < ports:
        return f"no more: the limit of open files is {limit:,}"
    return f"no more: the system gives out {ports:,} ports"


def _ports() -> int:
    """How many ports the system chooses from."""
    try:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
    except OSError:
        return 16_384  # IANA's dynamic ports
    return int(last) - int(first) + 1


def _file_limit() -> int:
    """How many files each of our processes may open; all of them raise their limit to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _NO_LIMIT if hard == resource.RLIM_INFINITY else hard
