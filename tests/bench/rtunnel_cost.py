"""The TCP tunnel of `rtun ws serve` and `rtun ws connect` against two plain TCP forwarders in its place.

Real processes on loopback; this process is the application. Both ways lead to the same target, and stay up
while measurements alternate between them.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import mean, median
from typing import Final, NamedTuple

import psutil

from tests.bench.row import Row, row_of
from tests.bench.tcp_load import BLOCK, REQUEST, bounded
from tests.e2e.processes import Fleet, Process
from tests.e2e.tcp import port_of
from tests.e2e.tunnel import connect, serve

ROUNDS: Final = 5
STREAMS: Final = 200
SESSIONS: Final = 1000
CONNECTS: Final = 5000
QUICK_SESSIONS: Final = 200
QUICK_CONNECTS: Final = 500
_MIB: Final = 1024 * 1024
_BULK: Final = 128 * _MIB
_QUICK_BULK: Final = 32 * _MIB
_WARM_S: Final = 1.0
_SPAN_S: Final = 8.0
_RESET: Final = struct.pack("ii", 1, 0)  # what is under way is not waited for
_ENDLESS: Final = 1 << 62
_TRIPS: Final = 1000
_REQUEST: Final = bytes(64)
_CROWD: Final = 16
_SETTLE_S: Final = 15.0
_LIMITS: Final = ("--max-sessions", "4096")

_block = memoryview(bytearray(BLOCK))
_zeros = bytes(BLOCK)


class _Helper:
    """A running `tcp_load`."""

    def __init__(self, *args: str) -> None:
        words = [sys.executable, "-m", "tests.bench.tcp_load", *args]
        self._popen = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self._line())

    def taken(self) -> dict[str, int]:
        """Bytes that each connection has brought to a target, by the number that it asked with."""
        assert self._popen.stdin is not None
        print(file=self._popen.stdin, flush=True)
        counts: dict[str, int] = json.loads(self._line())
        return counts

    def close(self) -> None:
        """End it."""
        self._popen.kill()
        self._popen.communicate()

    def _line(self) -> str:
        assert self._popen.stdout is not None
        return self._popen.stdout.readline()


class _Ways(NamedTuple):
    """The two ports that lead to the target, and what stands between."""

    target: _Helper
    plain: int
    tunnel: int
    server: Process
    client: Process

    @property
    def processes(self) -> tuple[Process, Process]:
        return self.server, self.client


def measure_bulk(*, quick: bool = False) -> list[Row]:
    """One stream, up (to the target) and down."""
    size = _QUICK_BULK if quick else _BULK
    rows = []
    with _ways() as ways:
        for direction, mode in (("up", b"u"), ("down", b"d")):
            _bulk(ways.tunnel, mode, _QUICK_BULK)
            pairs = [(_bulk(ways.plain, mode, size), _bulk(ways.tunnel, mode, size)) for _ in range(ROUNDS)]
            plain, ours = (median(each) / 1e6 for each in zip(*pairs, strict=True))
            rows.append(
                row_of(
                    f"RTunnel, one stream, {direction}",
                    [mine / other for other, mine in pairs],
                    "x plain",
                    target="at least 0.3",
                    note=f"{ours:,.0f} MB/s, two plain forwarders {plain:,.0f} MB/s",
                )
            )
    return rows


def measure_streams() -> list[Row]:
    """The slowest of many streams that all carry as much as they can."""
    rows = []
    with _ways() as ways:
        for direction, measure in (("up", _speeds_up), ("down", _speeds_down)):
            rounds = [measure(ways) for _ in range(3)]
            rows.append(
                row_of(
                    f"RTunnel, {STREAMS} streams, {direction}: slowest",
                    [min(speeds) / mean(speeds) for speeds in rounds],
                    "x mean",
                    target="at least 0.5",
                    note=f"{median(map(sum, rounds)) / 1e6:,.0f} MB/s in all",
                )
            )
        rows.append(
            row_of(
                f"RTunnel, {STREAMS} streams at once: all have begun",
                [_opening_time(ways, ways.tunnel) for _ in range(3)],
                "s",
                note=f"two plain forwarders {_opening_time(ways, ways.plain):.1f} s, given {_SETTLE_S:.0f}",
            )
        )
    return rows


def measure_trips(*, quick: bool = False) -> list[Row]:
    """What both ends add to a small request and its answer."""
    rounds = 3 if quick else ROUNDS
    with _ways() as ways:
        triples = [(_trip(ways.target.port), _trip(ways.plain), _trip(ways.tunnel)) for _ in range(rounds)]
    plain = median(mine - bare for bare, mine, _ in triples)
    return [
        row_of(
            f"RTunnel, added to a request of {len(_REQUEST)} bytes, p50",
            [mine - bare for bare, _, mine in triples],
            "ms",
            target="at most 1",
            note=f"two plain forwarders add {plain:.3f} ms",
        )
    ]


def measure_idle(sessions: int = SESSIONS) -> list[Row]:
    """Memory of sessions that have carried a little and carry nothing now."""
    with _ways() as ways, ExitStack() as stack:
        _crowd(ways, CONNECTS // 50)
        before = _resident(ways)
        for _ in range(sessions):
            connection = stack.enter_context(_request(ways.tunnel, b"e"))
            connection.sendall(_REQUEST)
            _take(connection, len(_REQUEST))
        after = _resident(ways)
    grown = [(now - old) / sessions / 1e3 for old, now in zip(before, after, strict=True)]
    return [
        Row(f"RTunnel server, an idle session of {sessions:,}", grown[0], "kB", "at most 60"),
        Row(f"RTunnel client, an idle session of {sessions:,}", grown[1], "kB"),
    ]


def measure_connects(connects: int = CONNECTS) -> list[Row]:
    """Connections that ask for a little and end: how fast, and what is left of them."""
    with _ways() as ways:
        _crowd(ways, 2 * _CROWD)
        _settle(ways)
        before, resident = _descriptors(ways), _resident(ways)
        began = time.monotonic()
        done = _crowd(ways, connects)
        seconds = time.monotonic() - began
        entries = _settle(ways)
        after = _descriptors(ways)
        grown = [(now - old) / 1e6 for old, now in zip(resident, _resident(ways), strict=True)]
    left = sum(max(0, now - old) for old, now in zip(before, after, strict=True))
    note = f"memory of server and client +{grown[0]:.1f} and +{grown[1]:.1f} MB"
    return [
        Row(f"RTunnel, {connects:,} connects", seconds, "s", "at most 60", note=f"{done:,} got an answer"),
        Row(f"RTunnel, descriptors left of {connects:,} connects", left, "", "0", note=note),
        Row(f"RTunnel, sessions left of {connects:,} connects", entries, "", "0"),
    ]


# ---- what is measured ------------------------------------------------------------------------------------


def _request(port: int, mode: bytes, number: int = 0) -> socket.socket:
    connection = bounded(socket.socket())
    connection.settimeout(60)
    connection.connect(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(REQUEST.pack(mode, number))
    return connection


def _take(connection: socket.socket, size: int) -> None:
    while size:
        taken = connection.recv_into(_block[: min(size, BLOCK)])
        if not taken:
            raise RuntimeError(f"the stream ended {size} bytes too early")
        size -= taken


def _bulk(port: int, mode: bytes, size: int) -> float:
    """Bytes per second, until the last one was taken at the far end."""
    with _request(port, mode, size) as connection:
        began = time.monotonic()
        if mode == b"u":
            for _ in range(size // BLOCK):
                connection.sendall(_zeros)
            _take(connection, 1)
        else:
            _take(connection, size)
        return size / (time.monotonic() - began)


def _trip(port: int) -> float:
    """The usual milliseconds from a request to its answer."""
    times = []
    with _request(port, b"e") as connection:
        for _ in range(_TRIPS):
            began = time.perf_counter()
            connection.sendall(_REQUEST)
            _take(connection, len(_REQUEST))
            times.append(time.perf_counter() - began)
    return median(times[_TRIPS // 10 :]) * 1e3


def _speeds_down(ways: _Ways) -> list[float]:
    """Bytes per second of each of many streams from the target."""
    _await_streams(ways, 0)  # those to the target are still ending
    with _streams(ways.tunnel, b"d") as (selector, counts):
        while not all(counts.values()):
            _pump(selector, counts, 0.1)
        _pump(selector, counts, _WARM_S)
        before = dict(counts)
        seconds = _pump(selector, counts, _SPAN_S)
        return [(taken - before[each]) / seconds for each, taken in counts.items()]


def _speeds_up(ways: _Ways) -> list[float]:
    """Bytes per second of each of many streams to the target, as that counts them."""
    _await_streams(ways, 0)  # those of the run before are still ending
    with _streams(ways.tunnel, b"u") as (selector, counts):
        _await_streams(ways, STREAMS)
        _pump(selector, counts, _WARM_S)
        began, before = time.monotonic(), ways.target.taken()
        _pump(selector, counts, _SPAN_S)
        seconds, after = time.monotonic() - began, ways.target.taken()
    return [(after[number] - old) / seconds for number, old in before.items() if number in after]


def _opening_time(ways: _Ways, port: int) -> float:
    """Seconds until each of many streams that begin together has brought its first bytes."""
    _settle(ways)
    began = time.monotonic()
    with _streams(port, b"d") as (selector, counts):
        while not all(counts.values()) and time.monotonic() < began + _SETTLE_S:
            _pump(selector, counts, 0.02)
        return time.monotonic() - began


def _await_streams(ways: _Ways, count: int) -> None:
    deadline = time.monotonic() + _SETTLE_S
    while (streams := len(ways.target.taken())) != count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{streams} of {count} streams reached the target")
        time.sleep(0.1)


@contextmanager
def _streams(port: int, mode: bytes) -> Iterator[tuple[selectors.BaseSelector, dict[socket.socket, int]]]:
    """Open streams, and the bytes that each has carried at this end."""
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        numbers = range(_ENDLESS, _ENDLESS + STREAMS)
        counts = {stack.enter_context(_request(port, mode, number)): 0 for number in numbers}
        for connection in counts:
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            event = selectors.EVENT_WRITE if mode == b"u" else selectors.EVENT_READ
            selector.register(connection, event)
        yield selector, counts


def _pump(selector: selectors.BaseSelector, counts: dict[socket.socket, int], seconds: float) -> float:
    """Read or write what can be; returns the seconds that it took."""
    began = time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        for key, events in selector.select(0.1):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            if events & selectors.EVENT_WRITE:
                counts[connection] += connection.send(_zeros)
            else:
                counts[connection] += connection.recv_into(_block)
    return now - began


def _crowd(ways: _Ways, connects: int) -> int:
    """Open so many connections, some at a time, each for one request; returns how many were answered."""
    done: list[int] = []
    turns = iter(range(connects))
    lock = threading.Lock()

    def visit() -> None:
        scratch = bytearray(len(_REQUEST))
        while True:
            with lock:
                if next(turns, None) is None:
                    return
            with _request(ways.tunnel, b"e") as connection:
                connection.sendall(_REQUEST)
                done.append(connection.recv_into(scratch, 0, socket.MSG_WAITALL))

    threads = [threading.Thread(target=visit) for _ in range(_CROWD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done.count(len(_REQUEST))


def _settle(ways: _Ways) -> int:
    """Wait until no session is left; returns how many are."""
    deadline = time.monotonic() + _SETTLE_S
    while left := sum(len(process.snapshot()["tunnels"]) for process in ways.processes):
        if time.monotonic() > deadline:
            break
        time.sleep(0.3)
    return left


def _descriptors(ways: _Ways) -> list[int]:
    """Open files of both ends, once the connection that asked for their state is gone."""
    time.sleep(0.5)
    return [psutil.Process(process.pid).num_fds() for process in ways.processes]


def _resident(ways: _Ways) -> list[int]:
    return [int(psutil.Process(process.pid).memory_info().rss) for process in ways.processes]


@contextmanager
def _ways() -> Iterator[_Ways]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        target = _started(stack, "target")
        far = _started(stack, "forward", f"127.0.0.1:{target.port}")
        near = _started(stack, "forward", f"127.0.0.1:{far.port}")
        fleet = Fleet(Path(folder))
        stack.callback(fleet.close)
        server = serve(fleet, f"127.0.0.1:{target.port}", *_LIMITS)
        client = connect(fleet, server, *_LIMITS)
        yield _Ways(target, near.port, port_of(client), server, client)


def _started(stack: ExitStack, *args: str) -> _Helper:
    helper = _Helper(*args)
    stack.callback(helper.close)
    return helper
