"""Real rtun processes for end-to-end tests: start, wait for events, kill, clean up by process id.

Every process runs with `--json`, so that tests wait for events instead of sleeping. Only loopback is
used: ICE offers 127.0.0.1 alone and no STUN server is asked.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from rtun_core.commands import encode_command, parse_command
from tests.e2e.udp import Client
from tests.e2e.warm_start import COLD, WarmParent

SECRET = "end-to-end-secret"
LOOPBACK_ICE = ("--stun", "none", "--candidate", "127.0.0.1/32")
DEADLINE = 25.0  # seconds for anything that should happen; wire spec 14.2

Event = dict[str, Any]


class Process:
    """One rtun process. `events` grows as it writes; `wait_for` waits for the next that fits.

    It is forked from `parent`, or without one Python begins from nothing.
    """

    def __init__(
        self,
        *args: str,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        module: str = "rtun_core",
        parent: WarmParent | None = None,
    ) -> None:
        self.args = args
        self.control = Path(args[args.index("--control") + 1]) if "--control" in args else None
        self.events: list[Event] = []
        self.log: list[str] = []
        self._changed = threading.Condition()
        self._seen = 0
        start = _start_cold if parent is None else parent.start
        self._out, out = _pipe()
        self._err, err = _pipe()
        with open(os.devnull, "rb") as nothing, out, err:
            files = (nothing.fileno(), out.fileno(), err.fileno())
            self._popen = start(module, *args, files=files, env=_environment(env), cwd=cwd)
        self._readers = [
            threading.Thread(target=self._read_events, daemon=True),
            threading.Thread(target=self._read_log, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def status(self) -> int | None:
        """The exit status, None while it runs."""
        return self._popen.poll()

    def wait_for(
        self,
        kind: str,
        fits: Callable[[Event], bool] = lambda _event: True,
        *,
        timeout: float = DEADLINE,
        since: int = 0,
    ) -> Event:
        """The first event of that type, from index `since` on, that fits; waits for it."""
        return self.wait_until(
            lambda: next((e for e in self.events[since:] if e["type"] == kind and fits(e)), None),
            what=f"event {kind}",
            timeout=timeout,
        )

    def wait_until(self, probe: Callable[[], Any], *, what: str, timeout: float = DEADLINE) -> Any:
        """Wait until `probe()` gives something true; looked at whenever an event comes."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not (found := probe()):
                left = deadline - time.monotonic()
                if left <= 0 or (self.status is not None and not self._drained()):
                    raise AssertionError(f"{self.describe()}: no {what}\n{self.transcript()}")
                self._changed.wait(min(left, 0.2))
            return found

    def count(self, kind: str) -> int:
        """How many events of that type there were."""
        return sum(event["type"] == kind for event in self.events)

    def snapshot(self) -> dict[str, Any]:
        """Its state, at most a quarter of a second old, from its control socket."""
        return self._ask("GET", "/snapshot")

    def command(self, text: str) -> dict[str, Any]:
        """Have a command carried out; the answer has `ok`, and `text` or `error`."""
        return self._ask("POST", "/command", encode_command(parse_command(text)))

    def stop(self, *, timeout: float = 15.0) -> int:
        """SIGTERM and the exit status; a process that does not end is killed and fails the test."""
        if self.status is None:
            self._popen.send_signal(signal.SIGTERM)
        return self.join(timeout=timeout)

    def join(self, *, timeout: float = DEADLINE) -> int:
        """Wait for the end; returns the exit status."""
        try:
            status = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.describe()} did not end\n{self.transcript()}") from None
        for reader in self._readers:
            reader.join(5)
        return status

    def kill(self) -> None:
        """kill -9."""
        self._popen.kill()
        self._popen.wait(10)
        for reader in self._readers:
            reader.join(5)
        for stream in (self._out, self._err):
            stream.close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._popen.send_signal(number)

    def describe(self) -> str:
        """Its command line."""
        return "rtun " + " ".join(self.args)

    def transcript(self) -> str:
        """What it wrote, for a failing test."""
        lines = [json.dumps(event) for event in self.events[-40:]]
        return "\n".join([f"status {self.status}", *lines, "--- stderr", *self.log[-40:]])

    def _ask(self, method: str, path: str, body: bytes = b"") -> dict[str, Any]:
        assert self.control is not None, "started without --control"
        return ask(self.control, method, path, body)

    def _drained(self) -> bool:
        return any(reader.is_alive() for reader in self._readers)

    def _read_events(self) -> None:
        for line in self._out:
            with self._changed:
                self.events.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def _read_log(self) -> None:
        for line in self._err:
            self.log.append(line.decode("utf-8", "replace").rstrip("\n"))


class Fleet:
    """Processes of one test; all are ended when the test is. They start as `Process` does."""

    def __init__(self, folder: Path, *, parent: WarmParent | None = None) -> None:
        self.folder = folder
        self._parent = parent
        self.processes: list[Process] = []
        self.clients: list[Client] = []
        self.url = ""
        self.trust: tuple[str, ...] = ()  # how clients judge the server's certificate

    def run(self, *args: str, env: dict[str, str] | None = None, module: str = "rtun_core") -> Process:
        """Start a long-running `rtun ARGS` with a control socket of its own."""
        control = self.folder / f"{len(self.processes)}.sock"
        process = Process(*args, "--control", str(control), env=env, module=module, parent=self._parent)
        self.processes.append(process)
        return process

    def server(self, scheme: str = "http", *args: str, port: int = 0) -> Process:
        """Start a signalling server and point the fleet at it; `scheme` is http, https or quic."""
        certificate: tuple[str, ...] = ()
        if scheme != "http":
            cert, key = self.certificate()
            certificate = ("--https-cert", cert, "--https-key", key)
        process = self.run(
            "agent", "listen", "--addr", f"127.0.0.1:{port}", "--secret", SECRET, "--bridge", "--json",
            *certificate, *args,
        )  # fmt: skip
        listening = process.wait_for("service.listening", lambda e: e["address"].startswith(f"{scheme}://"))
        address = listening["address"].split("://")[1]
        host = "localhost" if scheme != "http" else "127.0.0.1"
        self.url = f"{scheme}://{host}:{address.rpartition(':')[2]}"
        self.trust = ("--ca", str(self.folder / "cert.pem")) if certificate else ()
        return process

    def agent(self, name: str, *args: str, wait: bool = True, url: str = "") -> Process:
        """Start an agent, and wait until it is registered."""
        process = self.run(
            "agent", "pub", url or self.url, "--agent", name, "--secret", SECRET, "--json",
            *LOOPBACK_ICE, *self.trust, *args,
        )  # fmt: skip
        if wait:
            process.wait_for("signal.connected")
        return process

    def relay(self, *rules: str, args: tuple[str, ...] = (), url: str = "", up: bool = True) -> Process:
        """Start a relay, and wait until every rule listens and has a tunnel."""
        local = [word for rule in rules for word in ("-L", rule)]
        process = self.run(
            "relay", *local, url or self.url, "--secret", SECRET, "--json",
            *LOOPBACK_ICE, *self.trust, *args,
        )  # fmt: skip
        process.wait_until(lambda: process.count("service.listening") >= len(rules), what="listening rules")
        if up:
            process.wait_until(lambda: process.count("tunnel.up") >= len(rules), what="tunnels")
        return process

    def follow(self, process: Process) -> Process:
        """`rtun events -f` on a process; what it prints are the events of that one."""
        follower = Process("events", str(process.control), "-f", parent=self._parent)
        self.processes.append(follower)
        return follower

    def client(self, relay: Process, rule: int = 1) -> Client:
        """A new UDP client of a rule of a relay."""
        client = Client(local_address(relay, rule))
        self.clients.append(client)
        return client

    def close(self) -> None:
        """Kill what still runs."""
        for client in self.clients:
            client.close()
        for process in self.processes:
            process.kill()

    def certificate(self) -> tuple[str, str]:
        """Files with a certificate for localhost and its key, made when first asked for."""
        from rtun_core.net.tls import self_signed

        cert, key = self.folder / "cert.pem", self.folder / "key.pem"
        if not cert.exists():
            cert_pem, key_pem = self_signed(["localhost", "127.0.0.1"])
            cert.write_bytes(cert_pem)
            key.write_bytes(key_pem)
        return str(cert), str(key)


def rtun(*args: str, timeout: float = DEADLINE) -> subprocess.CompletedProcess[str]:
    """Run a short `rtun ARGS` to its end; output and status are in the result."""
    command = [sys.executable, "-m", "rtun_core", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=_environment(None))


def ask(control: Path, method: str, path: str, body: bytes = b"") -> dict[str, Any]:
    """One HTTP/1.0 exchange over a control socket, whatever its status."""
    head = f"{method} {path} HTTP/1.0\r\nHost: rtun\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(control))
        connection.sendall(head.encode() + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    parsed: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return parsed


def local_address(relay: Process, rule: int = 1) -> tuple[str, int]:
    """Where a rule of a relay listens."""
    event = relay.wait_for("service.listening", lambda e: e["service"] == f"relay r{rule}")
    host, _, port = event["address"].rpartition(":")
    return host.strip("[]"), int(port)


def _pipe() -> tuple[BinaryIO, BinaryIO]:
    reader, writer = os.pipe()
    return open(reader, "rb"), open(writer, "wb")


def _start_cold(
    module: str, *args: str, files: tuple[int, int, int], env: dict[str, str], cwd: Path | None
) -> subprocess.Popen[bytes]:
    stdin, stdout, stderr = files
    command = [sys.executable, "-m", module, *args]
    return subprocess.Popen(
        command, stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=cwd, start_new_session=True
    )


def _environment(extra: dict[str, str] | None) -> dict[str, str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("RTUN_")}
    return env | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"} | (extra or {})


@cache
def _warm_parent() -> WarmParent:
    return WarmParent("rtun_core", env=_environment(None))


def fleets(folder: Path) -> Iterator[Fleet]:
    """A fleet that is cleaned up; for fixtures."""
    fleet = Fleet(folder, parent=None if COLD else _warm_parent())
    try:
        yield fleet
    finally:
        fleet.close()
