"""The modes of udpbench.c in Python, for systems without a C compiler: same arguments, same lines.

It is slower than what it measures, so rates are lower and ratios mean less; the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

Address = tuple[str, int]
Print = Callable[[], None]

HEAD = struct.Struct("<IIQQ")  # kind, flow, number, nanoseconds
DATA, REGISTER = 0x64617461, 0x72656769
BUFFER = 4 << 20
TICK_S = 0.001
MOST_LATE_S = 0.005
WAVE = 100


class Clock:
    """Wall and CPU time since the start or the last `restart`."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin anew."""
        self._wall, self._cpu = time.monotonic(), time.process_time()

    @property
    def seconds(self) -> float:
        """Wall time."""
        return time.monotonic() - self._wall

    def line(self, **counts: Any) -> None:
        """Print a result."""
        cpu_us = round((time.process_time() - self._cpu) * 1e6)
        print(json.dumps(counts | {"cpu_us": cpu_us, "seconds": round(self.seconds, 6)}), flush=True)


class Counter:
    """Counts datagrams; duplicates are known by the number of each flow that came before."""

    def __init__(self) -> None:
        self.clock = Clock()
        self._numbers: dict[int, set[int]] = {}
        self._zero()

    def _zero(self) -> None:
        self.received = self.bytes = self.duplicates = self.strange = 0
        self._numbers.clear()

    def add(self, data: bytes) -> None:
        """One datagram arrived."""
        self.received += 1
        self.bytes += len(data)
        kind, flow, number, _ = HEAD.unpack_from(data) if len(data) >= HEAD.size else (0, 0, 0, 0)
        if kind != DATA:
            self.strange += 1
            return
        numbers = self._numbers.setdefault(flow, set())
        self.duplicates += number in numbers
        numbers.add(number)

    def print(self) -> None:
        """The counts as a line."""
        self.clock.line(
            received=self.received,
            bytes=self.bytes,
            unique=self.received - self.duplicates - self.strange,
            duplicates=self.duplicates,
            reordered=0,
            strange=self.strange,
        )

    def obey(self, line: str) -> None:
        """`?`: print; `0`: print and start from zero."""
        self.print()
        if "0" in line:
            self._zero()
            self.clock.restart()


def new_socket(*, local: Address | None = None, remote: Address | None = None) -> socket.socket:
    """A UDP socket that does not block; a bound one announces its port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    if local is not None:
        sock.bind(local)
        print(json.dumps({"ready": True, "port": sock.getsockname()[1]}), flush=True)
    if remote is not None:
        sock.connect(remote)
    sock.setblocking(False)
    return sock


def read_all(sock: socket.socket, take: Callable[[bytes, Address], object], most: int = 512) -> None:
    """Hand over what waits."""
    for _ in range(most):
        try:
            take(*sock.recvfrom(65536))
        except (BlockingIOError, ConnectionRefusedError):
            return


def try_send(sock: socket.socket, data: bytes, to: Address | None = None) -> bool:
    """Whether the system took it."""
    try:
        sock.send(data) if to is None else sock.sendto(data, to)
    except OSError:
        return False
    return True


def obey_input(obey: Callable[[str], None]) -> None:
    """Steer by input lines in a thread; the process ends with the input."""

    def follow() -> None:
        for line in sys.stdin:
            obey(line)
        finish()

    threading.Thread(target=follow, daemon=True).start()


def finish() -> NoReturn:
    """End at once, from any thread."""
    sys.stdout.flush()
    os._exit(0)


def serve(sockets: dict[socket.socket, Callable[[bytes, Address], object]]) -> None:
    """Read for ever."""
    with selectors.DefaultSelector() as selector:
        for sock, take in sockets.items():
            selector.register(sock, selectors.EVENT_READ, take)
        while True:
            for key, _ in selector.select():
                read_all(key.fileobj, key.data)  # type: ignore[arg-type]


def sink(port: int) -> None:
    """Count what arrives."""
    counter, sock = Counter(), new_socket(local=("127.0.0.1", port))
    obey_input(counter.obey)
    serve({sock: lambda data, _from: counter.add(data)})


def clients(to: Address, flows: int, wait: float) -> None:
    """Register, then count."""
    sockets, counter = [new_socket(remote=to) for _ in range(flows)], Counter()
    missing, deadline = dict(enumerate(sockets)), time.monotonic() + wait
    while missing and time.monotonic() < deadline:
        for flow, sock in list(missing.items())[:WAVE]:
            try_send(sock, HEAD.pack(REGISTER, flow, 0, 0))
        time.sleep(0.1)
        for flow, sock in list(missing.items())[:WAVE]:
            answers: list[bytes] = []
            read_all(sock, lambda data, _from, to=answers: to.append(data))  # type: ignore[misc]
            if answers:
                del missing[flow]
    print(json.dumps({"ready": not missing, "flows": flows, "missing": len(missing)}), flush=True)
    obey_input(counter.obey)
    serve({sock: lambda data, _from: counter.add(data) for sock in sockets})


class Sender:
    """Sends on flows in turn, paced in ticks."""

    def __init__(self, send: Callable[[int, bytes], bool], flows: Callable[[], int]) -> None:
        self._send, self._flows = send, flows
        self._number = time.monotonic_ns()
        self._next = 0

    def run(self, rate: float, seconds: float, size: int, burst: int) -> None:
        """One run; prints its result."""
        clock, flows, filler = Clock(), max(self._flows(), 1), bytes(max(size - HEAD.size, 0))
        burst = burst or (1 if flows > 1 else 64)
        sent = wanted = left_out = 0
        while clock.seconds < seconds:
            due = int(clock.seconds * rate) + 1 - wanted - left_out if rate else 256
            most = int(rate * MOST_LATE_S) + 1 if rate else 256
            left_out += max(due - most, 0)
            for _ in range(due := min(due, most)):
                self._number += 1
                head = HEAD.pack(DATA, self._next // burst % flows, self._number, time.monotonic_ns())
                sent += self._send(self._next // burst % flows, head + filler)
                self._next += 1
            wanted += due
            if rate:
                time.sleep(TICK_S)
        clock.line(
            sent=sent, failed=wanted - sent, left_out=left_out, answers=0, flows=self._flows(), size=size
        )

    def run_lines(self) -> None:
        """A run for each input line."""
        for line in sys.stdin:
            rate, seconds, size, *burst = line.split()
            self.run(float(rate), float(seconds), int(size), int(burst[0]) if burst else 0)


def gen(to: Address, options: argparse.Namespace) -> None:
    """The way up."""
    sockets = [new_socket(remote=to) for _ in range(options.flows)]
    sender = Sender(lambda flow, data: try_send(sockets[flow], data), lambda: len(sockets))
    if options.stdin:
        print(json.dumps({"ready": True, "flows": options.flows}), flush=True)
        sender.run_lines()
    else:
        sender.run(options.rate, options.seconds, options.size, options.burst)


def blast(port: int, options: argparse.Namespace) -> None:
    """The way down, to those that registered."""
    sock, peers = new_socket(local=("127.0.0.1", port)), dict[Address, None]()
    order: list[Address] = []

    def learn(data: bytes, peer: Address) -> None:
        if peer not in peers:
            peers[peer] = None
            order.append(peer)
        try_send(sock, data, peer)

    threading.Thread(target=serve, args=({sock: learn},), daemon=True).start()
    sender = Sender(lambda flow, data: try_send(sock, data, order[flow]), lambda: len(order))
    if options.stdin:
        sender.run_lines()
        return
    deadline = time.monotonic() + options.wait
    while len(order) < options.flows and time.monotonic() < deadline:
        time.sleep(0.05)
    if order:
        sender.run(options.rate, options.seconds, options.size, options.burst)


def fwd(port: int, target: Address) -> None:
    """The forwarder to compare with."""
    up, clock = new_socket(remote=target), Clock()
    local = new_socket(local=("127.0.0.1", port))
    client: list[Address] = []

    def to_target(data: bytes, peer: Address) -> None:
        client[:] = [peer]
        try_send(up, data)

    def to_client(data: bytes, _from: Address) -> None:
        if client:
            try_send(local, data, client[0])

    obey_input(lambda _line: clock.line())
    serve({local: to_target, up: to_client})


def echo(port: int) -> None:
    """Answer everything."""
    sock = new_socket(local=("127.0.0.1", port))
    obey_input(lambda _line: None)
    serve({sock: lambda data, peer: try_send(sock, data, peer)})


def ping(to: Address, options: argparse.Namespace) -> None:
    """Round-trip times of one flow."""
    sock, clock, times = new_socket(), Clock(), list[float]()
    sock.bind(("127.0.0.1", getattr(options, "from")))
    sock.connect(to)
    rate, worst = options.rate or 1000.0, [0.0] * (int(options.seconds) + 1)
    begin = time.monotonic_ns()

    def take(data: bytes, _from: Address) -> None:
        _, _, _, at = HEAD.unpack_from(data)
        times.append((time.monotonic_ns() - at) / 1e3)
        second = min((at - begin) // 10**9, len(worst) - 1)
        worst[second] = max(worst[second], times[-1])

    sent = 0
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        while clock.seconds < options.seconds:
            if clock.seconds >= sent / rate:
                head = HEAD.pack(DATA, 0, sent, time.monotonic_ns())
                try_send(sock, head.ljust(options.size, b"\0"))
                sent += 1
            if selector.select(max(sent / rate - clock.seconds, 0)):
                read_all(sock, take)
        time.sleep(0.2)
        read_all(sock, take)
    times.sort()
    points = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
    shown = {f"{name}_us": times[int((len(times) - 1) * at)] if times else 0.0 for name, at in points.items()}
    clock.line(sent=sent, received=len(times), **shown, worst_us=worst[: int(options.seconds)])


def main() -> None:
    """Run the mode that the arguments name."""
    parser = argparse.ArgumentParser(prog="load_fallback")
    parser.add_argument("mode", choices=["fwd", "sink", "gen", "clients", "blast", "echo", "ping"])
    parser.add_argument("where", nargs="+", help="PORT, or IP:PORT; fwd: both")
    for name, kind, default in (("flows", int, 1), ("size", int, 1200), ("burst", int, 0), ("from", int, 0)):
        parser.add_argument(f"--{name}", type=kind, default=default)
    for name, seconds in (("rate", 0.0), ("seconds", 2.0), ("wait", 20.0)):
        parser.add_argument(f"--{name}", type=float, default=seconds)
    parser.add_argument("--stdin", action="store_true")
    options = parser.parse_args()
    host, _, port = options.where[-1].rpartition(":")
    modes: dict[str, Print] = {
        "fwd": lambda: fwd(int(options.where[0]), (host, int(port))),
        "sink": lambda: sink(int(port)),
        "gen": lambda: gen((host, int(port)), options),
        "clients": lambda: clients((host, int(port)), options.flows, options.wait),
        "blast": lambda: blast(int(port), options),
        "echo": lambda: echo(int(port)),
        "ping": lambda: ping((host, int(port)), options),
    }
    modes[options.mode]()


if __name__ == "__main__":
    main()
