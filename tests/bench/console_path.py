"""What the datagrams of a relay notice of somebody who looks: a console of its own, or a viewer.

Two relays with 10,000 flows each, one of them headless, are measured in turn; for round trips the other one
is stopped meanwhile, as a machine may have no more than two cores. Each has an agent of its own, a rule whose
flows carry a load, and a rule to an echo whose round trips are measured.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from rtun_core.engine.attached_source import RECALL
from rtun_core.engine.control_place import UnixPlace
from rtun_core.engine.view_link import ViewLink
from rtun_core.engine.view_messages import ViewRequest
from rtun_core.view.columns import TABLES
from rtun_core.view.page import Sort, ViewSpec
from tests.bench.console_terminal import BenchTerminal
from tests.bench.lanes import OPENING_RATE, REMAIN, Side, start_load
from tests.bench.load_tool import LoadProcess, Result, measured
from tests.bench.row import Row, row_of
from tests.bench.search import coarse_capacity
from tests.e2e.processes import LOOPBACK_ICE, SECRET, Fleet, ask

ROUNDS: Final = 5
_VIEWER_ROUNDS: Final = 12  # a viewer costs less than rounds differ
FLOWS: Final = 10_000
_SIZE: Final = 1200
_RUN_S: Final = 1.0
_OVERLOAD: Final = 1.3
_PING_S: Final = 4
_SETTLE_S: Final = 1  # after the other relay was stopped
_LOAD_RATE: Final = 2_000  # datagrams per second over all flows while round trips are measured
_BLOCKED_S: Final = 20
_UP_S: Final = 30.0
_INTERVAL: Final = 0.25
_WINDOW: Final = 60  # rows of a table that a viewer asks for


class _Relay(NamedTuple):
    """The way of the load, the generator of it, where the echo is, and the control socket."""

    side: Side
    load: LoadProcess
    echo: str
    pid: int
    control: Path
    console: BenchTerminal | None

    def state(self) -> dict[str, Any]:
        return ask(self.control, "GET", "/snapshot")

    def ping(self, seconds: int) -> Result:
        """Round trips, 1,000 a second, while the flows carry a light load."""
        load = threading.Thread(target=self.load.ask, args=(f"{_LOAD_RATE} {seconds} 200",))
        load.start()
        try:
            return measured("ping", self.echo, "--rate", "1000", "--seconds", str(seconds), "--size", "200")
        finally:
            load.join()


def measure_console() -> list[Row]:
    """Round trips and throughput with the console, against the same without."""
    with _stage() as stage:
        plain, shown = stage.relay("plain"), stage.relay("shown", console=True)
        trips = [(_trips(plain, shown), _trips(shown, plain)) for _ in range(ROUNDS)]
        rates = _throughput(plain.side, shown.side)
    without, beside = ([pair[at]["p99_us"] / 1e3 for pair in trips] for at in (0, 1))
    note = f"{median(beside):.2f} ms, without {median(without):.2f} ms"
    return [
        row_of(f"Round trip p99 with the console, {FLOWS:,} flows", beside, "ms", target="at most 5"),
        row_of(
            f"Round trip p99 with the console, {FLOWS:,} flows",
            [mine / other for mine, other in zip(beside, without, strict=True)],
            "x",
            target="at most 3",
            note=note,
        ),
        _throughput_row("with the console", rates, target="at least 0.93"),
    ]


def _trips(relay: _Relay, other: _Relay) -> Result:
    """Round trips through one relay while the other one stands still."""
    os.kill(other.pid, signal.SIGSTOP)
    try:
        relay.ping(_SETTLE_S)
        return relay.ping(_PING_S)
    finally:
        os.kill(other.pid, signal.SIGCONT)


def measure_blocked() -> list[Row]:
    """The worst round trip while the terminal is not read; that of a headless relay after it is beside it."""
    with _stage() as stage:
        plain, shown = stage.relay("plain"), stage.relay("shown", console=True)
        assert shown.console is not None
        shown.console.stop_reading()
        ours = shown.ping(_BLOCKED_S)
        shown.console.resume_reading()
        other = plain.ping(_BLOCKED_S)
    note = f"p99 {ours['p99_us'] / 1e3:.2f} ms, {ours['sent'] - ours['received']} lost; "
    note += f"a headless relay: worst {max(other['worst_us']) / 1e3:.2f} ms"
    name = f"Worst round trip, terminal not read for {_BLOCKED_S} s"
    return [Row(name, max(ours["worst_us"]) / 1e3, "ms", "at most 20", note=note)]


def measure_viewer() -> list[Row]:
    """Throughput while a viewer is attached, against the same relay without."""
    with _stage() as stage:
        relay = stage.relay("plain")
        rate = _OVERLOAD * coarse_capacity(relay.side, _SIZE)
        alone, watched, pictures = [], [], 0
        for _ in range(_VIEWER_ROUNDS):
            alone.append(relay.side.run(rate, _RUN_S, _SIZE).delivered)
            with _Viewer(relay.control) as viewer:
                watched.append(relay.side.run(rate, _RUN_S, _SIZE).delivered)
            pictures += viewer.pictures
    row = _throughput_row("with a viewer at 4 Hz", (alone, watched), target="at least 0.95")
    return [row._replace(note=f"{row.note}, {pictures} pictures")]


def _throughput(plain: Side, shown: Side) -> tuple[list[float], list[float]]:
    """What arrives of too much: by the headless relay, and by the other."""
    rate = _OVERLOAD * coarse_capacity(plain, _SIZE)
    alone, beside = [], []
    for _ in range(ROUNDS):
        alone.append(plain.run(rate, _RUN_S, _SIZE).delivered)
        beside.append(shown.run(rate, _RUN_S, _SIZE).delivered)
    return alone, beside


def _throughput_row(name: str, rates: tuple[Sequence[float], Sequence[float]], *, target: str) -> Row:
    alone, beside = rates
    return row_of(
        f"Throughput {name}, up, {FLOWS:,} flows",
        [mine / other for mine, other in zip(beside, alone, strict=True)],
        "x",
        target=target,
        note=f"{median(beside):,.0f}/s, without {median(alone):,.0f}/s",
    )


class _Stage:
    """A server, and relays that are made as they are needed."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._fleet = Fleet(folder)
        stack.callback(self._fleet.close)
        self._fleet.server("http")

    def relay(self, name: str, *, console: bool = False) -> _Relay:
        """A relay with its flows."""
        sink, echo = start_load(self._stack, "sink", "0"), start_load(self._stack, "echo", "0")
        self._fleet.agent(name)
        targets = [f"127.0.0.1:{load.ready()['port']}" for load in (sink, echo)]
        rules = [f"127.0.0.1:0?to={target}" for target in targets]
        terminal = self._shown(name, rules) if console else None
        if terminal is None:
            process = self._fleet.relay(*rules, args=(*REMAIN, "--agent", name))
            control, pid = process.control, process.pid
            assert control is not None
        else:
            control, pid = self._folder / name, terminal.pid
        entry, echo_entry = _entries(control)
        load = start_load(self._stack, "gen", entry, "--flows", str(FLOWS), "--stdin")
        load.ready()
        relay = _Relay(Side(load, sink, {"relay": pid}), load, echo_entry, pid, control, terminal)
        _open_flows(relay)
        return relay

    def _shown(self, name: str, rules: Sequence[str]) -> BenchTerminal:
        local = [word for rule in rules for word in ("-L", rule)]
        terminal = BenchTerminal(
            self._folder, "relay", *local, self._fleet.url, "--secret", SECRET, *LOOPBACK_ICE, *REMAIN,
            "--agent", name, "--tui", "--control", str(self._folder / name),
        )  # fmt: skip
        self._stack.enter_context(terminal)
        terminal.first(rb"1 Agents")
        terminal.keep(on=False)
        return terminal


@contextmanager
def _stage() -> Iterator[_Stage]:
    with ExitStack() as stack:
        yield _Stage(stack, Path(stack.enter_context(tempfile.TemporaryDirectory())))


def _entries(control: Path) -> list[str]:
    """Where the rules listen, once each of them has a tunnel."""
    deadline = time.monotonic() + _UP_S
    while time.monotonic() < deadline:
        rules = ask(control, "GET", "/snapshot")["rules"] if control.exists() else []
        if rules and all(rule["tunnels_up"] for rule in rules):
            return [str(rule["listen"]) for rule in rules]
        time.sleep(0.05)
    raise RuntimeError("the relay has no tunnel")


def _open_flows(relay: _Relay) -> None:
    deadline = time.monotonic() + _UP_S
    while len(relay.state()["flows"]) < FLOWS:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the relay did not get {FLOWS} flows")
        relay.side.run(OPENING_RATE, 1.2 * FLOWS / OPENING_RATE, 64)


class _Viewer:
    """Looks, four times a second, as an attached console does, and draws nothing."""

    def __init__(self, control: Path) -> None:
        self.pictures = 0
        self._control = control
        self._begun, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._look()))

    def __enter__(self) -> _Viewer:
        self._thread.start()
        if not self._begun.wait(_UP_S):
            raise RuntimeError("no picture came")
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    async def _look(self) -> None:
        link = await ViewLink.open(UnixPlace(self._control))
        try:
            specs = [ViewSpec(table=table, limit=_WINDOW) for table in TABLES if table != "flows"]
            flows = ViewSpec(table="flows", sort=(Sort("dn", descending=True),), limit=3 * _WINDOW)
            since = max(0, link.hello.seq - RECALL)
            await link.send(ViewRequest(since=since, look=(*specs, flows), interval=_INTERVAL, form="packed"))
            while not self._done.is_set():
                if (await link.receive()).picture is not None:
                    self.pictures += 1
                    self._begun.set()
        finally:
            await link.close()
