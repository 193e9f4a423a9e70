"""Two ways for the same datagrams: through relay and agent, and through the plain forwarder.

A lane is one direction with a number of flows. Its two sides have the same `run`, so that measurements
can alternate between them. All processes stay up between runs, so the flows are opened once.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench.cpu import CpuMeter
from tests.bench.load_tool import LoadProcess, Result
from tests.e2e.processes import Fleet, Process, local_address

REMAIN = ("--p2p-channel-lifetime", "3600", "--udp-idle-timeout", "3600")
"""No tunnel is replaced and no flow ends during a run."""

_QUIET_S = 0.04
OPENING_RATE = 10_000  # flows per second


class Sample(NamedTuple):
    """One run: datagrams, seconds of traffic, and CPU seconds by process."""

    sent: int
    received: int
    seconds: float
    cpu: dict[str, float]

    @property
    def loss(self) -> float:
        """The share that did not arrive."""
        return 1 - self.received / self.sent if self.sent else 1.0

    @property
    def delivered(self) -> float:
        """Datagrams per second that arrived."""
        return self.received / self.seconds

    def cost(self, process: str) -> float:
        """CPU microseconds per datagram that arrived."""
        return self.cpu[process] / max(self.received, 1) * 1e6


class Side:
    """One way: who sends, who receives, and the processes in between."""

    def __init__(self, sender: LoadProcess, receiver: LoadProcess, pids: dict[str, int]) -> None:
        self._sender, self._receiver, self._pids = sender, receiver, pids

    def run(self, rate: float, seconds: float, size: int) -> Sample:
        """Send at a rate (datagrams per second, 0: as fast as possible), and count what arrives."""
        self._receiver.ask("0")
        meter = CpuMeter(self._pids)
        result = self._sender.ask(f"{rate:.0f} {seconds} {size}")
        received = self._settled(int(result["sent"]))
        return Sample(int(result["sent"]), received, float(result["seconds"]), meter.used())

    def _settled(self, sent: int) -> int:
        """What arrived, once no more comes."""
        before = -1
        for _ in range(100):
            received = self._receiver.ask("?")["unique"]
            if received >= sent or received == before:
                break
            before = received
            time.sleep(_QUIET_S)
        return int(received)


class Lane(NamedTuple):
    """The plain forwarder's side and ours, and our processes."""

    plain: Side
    tunnel: Side
    relay: Process
    agent: Process


@contextmanager
def up_lane(flows: int) -> Iterator[Lane]:
    """From clients to the target."""
    with _stage() as (stack, fleet):
        sinks = [start_load(stack, "sink", "0") for _ in range(2)]
        ports = [_port(each.ready()) for each in sinks]
        relay, agent = _pair(fleet, ports[1])
        forwarder = start_load(stack, "fwd", "0", f"127.0.0.1:{ports[0]}")
        entries = (f"127.0.0.1:{_port(forwarder.ready())}", _entry(relay))
        senders = [start_load(stack, "gen", entry, "--flows", str(flows), "--stdin") for entry in entries]
        for sender in senders:
            sender.ready()
        lane = _lane(senders, sinks, forwarder, relay, agent)
        for side in (lane.plain, lane.tunnel):
            side.run(OPENING_RATE, max(0.3, 1.2 * flows / OPENING_RATE), 64)
        yield lane


@contextmanager
def down_lane(flows: int) -> Iterator[Lane]:
    """From the target to clients. The plain forwarder knows one client only, which gets everything."""
    with _stage() as (stack, fleet):
        senders = [start_load(stack, "blast", "0", "--stdin") for _ in range(2)]
        ports = [_port(each.ready()) for each in senders]
        relay, agent = _pair(fleet, ports[1])
        forwarder = start_load(stack, "fwd", "0", f"127.0.0.1:{ports[0]}")
        entries = (f"127.0.0.1:{_port(forwarder.ready())}", _entry(relay))
        counts = (1, flows)
        receivers = [
            start_load(stack, "clients", entry, "--flows", str(count), "--wait", "30")
            for entry, count in zip(entries, counts, strict=True)
        ]
        for receiver in receivers:
            if not (state := receiver.ready())["ready"]:
                raise RuntimeError(f"{state['missing']} of {state['flows']} flows were never answered")
        yield _lane(senders, receivers, forwarder, relay, agent)


LANES = {"up": up_lane, "down": down_lane}


@contextmanager
def _stage() -> Iterator[tuple[ExitStack, Fleet]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fleet = Fleet(folder)
        stack.callback(fleet.close)
        yield stack, fleet


def _pair(fleet: Fleet, target: int) -> tuple[Process, Process]:
    fleet.server("http")
    agent = fleet.agent("bench")
    return fleet.relay(f"127.0.0.1:0?to=127.0.0.1:{target}", args=REMAIN), agent


def _lane(
    senders: list[LoadProcess],
    receivers: list[LoadProcess],
    forwarder: LoadProcess,
    relay: Process,
    agent: Process,
) -> Lane:
    plain = Side(senders[0], receivers[0], {"fwd": forwarder.pid})
    return Lane(plain, Side(senders[1], receivers[1], {"relay": relay.pid, "agent": agent.pid}), relay, agent)


def start_load(stack: ExitStack, *args: str) -> LoadProcess:
    """A generator, sink or forwarder that ends with the stack."""
    process = LoadProcess(*args)
    stack.callback(process.close)
    return process


def _port(ready: Result) -> int:
    return int(ready["port"])


def _entry(relay: Process) -> str:
    host, port = local_address(relay)
    return f"{host}:{port}"
