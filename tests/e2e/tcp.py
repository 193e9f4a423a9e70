"""Plain TCP ends for end-to-end tests: targets that behave in a given way, and clients of tunnels."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable

from tests.e2e.processes import DEADLINE, Process

Behaviour = Callable[[socket.socket], None]
BLOCK = 65536


class TcpTarget:
    """Gives each connection to `behave`, in a thread of its own, and closes it when that returns.

    `ended` has, for each connection that is over, None or the error that ended it.
    """

    def __init__(self, behave: Behaviour, *, port: int = 0) -> None:
        self.accepted = 0
        self.ended: list[OSError | None] = []
        self._behave = behave
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    @property
    def address(self) -> str:
        """`HOST:PORT`."""
        return f"127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """Connections that are not over."""
        return len(self._open)

    def wait_until(self, probe: Callable[[], object], *, timeout: float = DEADLINE) -> None:
        """Wait until `probe()` is true; looked at whenever a connection begins or ends."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not probe():
                left = deadline - time.monotonic()
                assert left > 0, f"accepted {self.accepted}, open {self.open}, ended {self.ended}"
                self._changed.wait(min(left, 0.1))

    def close(self) -> None:
        """Listen no more and reset what is open."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        for connection in list(self._open):
            reset(connection)

    def _accept(self) -> None:
        while True:
            try:
                connection, _peer = self._listener.accept()
            except OSError:
                return
            connection.settimeout(60)
            with self._changed:
                self.accepted += 1
                self._open.add(connection)
                self._changed.notify_all()
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection: socket.socket) -> None:
        error: OSError | None = None
        try:
            self._behave(connection)
        except OSError as caught:
            error = caught
        with contextlib.suppress(OSError):
            connection.close()
        with self._changed:
            self._open.discard(connection)
            self.ended.append(error)
            self._changed.notify_all()


def echo(connection: socket.socket) -> None:
    """Send back what comes, until its end."""
    while data := connection.recv(BLOCK):
        connection.sendall(data)


def digest(connection: socket.socket) -> None:
    """Read to the end, then answer with the number of bytes and their SHA-256."""
    data = read_all(connection)
    connection.sendall(summary(data))


def source(data: bytes) -> Behaviour:
    """Send `data` and close at once."""
    return lambda connection: connection.sendall(data)


def summary(data: bytes) -> bytes:
    """What `digest` answers."""
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}".encode()


def noise(length: int, seed: int = 1) -> bytes:
    """Random bytes."""
    return random.Random(seed).randbytes(length)


def read_all(connection: socket.socket) -> bytes:
    """Everything up to the end of the stream."""
    return b"".join(iter(lambda: connection.recv(BLOCK), b""))


def read_exactly(connection: socket.socket, length: int) -> bytes:
    """Exactly so many bytes; fewer if the stream ends before."""
    blocks: list[bytes] = []
    while length and (block := connection.recv(min(length, BLOCK))):
        blocks.append(block)
        length -= len(block)
    return b"".join(blocks)


def swap(connection: socket.socket, data: bytes) -> bytes:
    """Send `data` while reading as many bytes; returns what was read."""
    sender = threading.Thread(target=_send, args=(connection, data), daemon=True)
    sender.start()
    answer = read_exactly(connection, len(data))
    sender.join(10)
    return answer


def _send(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # the reader is told the same
        connection.sendall(data)


def is_over(connection: socket.socket, *, timeout: float = DEADLINE) -> bool:
    """Whether the stream ends, or is reset, in time."""
    connection.settimeout(timeout)
    try:
        while connection.recv(BLOCK):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def is_reset(connection: socket.socket, *, timeout: float = DEADLINE) -> bool:
    """Whether the connection is reset in time, as opposed to ended."""
    connection.settimeout(timeout)
    try:
        while connection.recv(BLOCK):
            pass
    except ConnectionResetError:
        return True
    return False


def reset(connection: socket.socket) -> None:
    """Close with a RST."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


def port_of(process: Process) -> int:
    """Where a `rtun ws` process listens."""
    event = process.wait_for("service.listening")
    return int(str(event["address"]).rstrip("/").rpartition(":")[2])


def dial(process: Process, *, timeout: float = 60) -> socket.socket:
    """A connection to the client end of a tunnel."""
    return socket.create_connection(("127.0.0.1", port_of(process)), timeout=timeout)
