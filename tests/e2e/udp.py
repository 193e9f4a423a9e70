"""Plain UDP ends for end-to-end tests: an echo target that remembers its peers, and clients."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence

Address = tuple[str, int]


class EchoTarget:
    """Answers every datagram with itself and remembers who sent it. Runs in a thread of its own."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.bind((host, port))
        self._socket.settimeout(0.1)
        self.peers: list[Address] = []  # in the order in which they were first seen
        self.received = 0
        self.silent = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """`HOST:PORT`, IPv6 in brackets."""
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def close(self) -> None:
        """Stop answering."""
        self._stop.set()
        self._thread.join(5)
        self._socket.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                data, peer = self._socket.recvfrom(65536)
            except TimeoutError:
                continue
            except OSError:  # an ICMP error of a former peer
                continue
            self.received += 1
            if peer[:2] not in self.peers:
                self.peers.append(peer[:2])
            if not self.silent:
                self._socket.sendto(data, peer)


class Client:
    """One UDP socket that sends to a relay and checks answers."""

    def __init__(self, to: Address) -> None:
        family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.connect(to)
        self._number = 0

    def round_trip(self, payload: bytes | None = None, *, timeout: float = 2.0) -> bool:
        """Send one datagram; whether it came back unchanged in time. Late answers of others are skipped."""
        self._number += 1
        payload = payload if payload is not None else f"ping {self._number} ".encode() * 4
        try:
            self.socket.send(payload)
        except ConnectionRefusedError:
            return False
        return self.expect(payload, timeout=timeout)

    def expect(self, payload: bytes, *, timeout: float = 2.0) -> bool:
        """Whether `payload` arrives in time."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                if self.socket.recv(65536) == payload:
                    return True
            except TimeoutError:
                return False
            except ConnectionRefusedError:
                continue
        return False

    def until_answered(self, *, timeout: float = 25.0, each: float = 0.8) -> float:
        """Try until a round trip succeeds; returns the seconds it took."""
        begin = time.monotonic()
        while time.monotonic() - begin < timeout:
            if self.round_trip(timeout=each):
                return time.monotonic() - begin
        raise AssertionError(f"no answer within {timeout:.0f} s")

    def keep_on(
        self, until: Callable[[], object], *, timeout: float = 25.0, each: float = 0.3
    ) -> tuple[int, int]:
        """Make round trips until `until()` is true; returns how many were made, and how many succeeded."""
        made = answered = 0
        deadline = time.monotonic() + timeout
        while not until():
            if time.monotonic() > deadline:
                raise AssertionError(f"not so within {timeout:.0f} s; {answered} of {made} were answered")
            made += 1
            answered += self.round_trip(timeout=each)
        return made, answered

    def burst(self, payloads: Sequence[bytes], *, timeout: float = 5.0) -> list[bytes]:
        """Send all at once; returns every answer that came before `timeout`, or before all were there."""
        for payload in payloads:
            self.socket.send(payload)
        answers: list[bytes] = []
        deadline = time.monotonic() + timeout
        while len(answers) < len(payloads) and (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                answers.append(self.socket.recv(65536))
            except TimeoutError:
                break
        return answers

    @property
    def address(self) -> str:
        """`HOST:PORT` that a relay sees."""
        host, port = self.socket.getsockname()[:2]
        return f"{host}:{port}"

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()
