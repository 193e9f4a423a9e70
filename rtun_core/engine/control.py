"""`--control`: an engine on a Unix socket. What it answers there is in `control_routes`.

The socket belongs to its user: mode 0600, and the peer's uid is checked as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
from pathlib import Path
from typing import NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler

from rtun_core.engine.control_routes import MAX_CONNECTIONS, ControlRoutes, refusal
from rtun_core.engine.paths import runtime_dir
from rtun_core.errors import BindError

PROBE_LIMIT = 1.0  # seconds to find out whether a socket is alive

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class ControlServer:
    """Answers on the socket `path`."""

    def __init__(self, path: Path, routes: ControlRoutes) -> None:
        self.path = path
        self._runner = routes.runner(_same_user, _pid)
        self._server: asyncio.AbstractServer | None = None
        self._inode = 0

    async def start(self) -> None:
        """Listen. Raises BindError, also when another living process has the socket."""
        listener = listen(self.path)
        self._inode = self.path.stat().st_ino
        await self._runner.setup()
        self._server = await asyncio.get_running_loop().create_unix_server(self._accept, sock=listener)

    async def stop(self) -> None:
        """Close every connection and remove the socket, unless another process has replaced it."""
        if self._server is not None:
            self._server.close()
            await self._runner.cleanup()
            await self._server.wait_closed()
        with contextlib.suppress(FileNotFoundError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()

    def _accept(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        if server is None or len(server.connections) >= MAX_CONNECTIONS:
            return _Refused()
        return server()


class _Refused(asyncio.Protocol):
    """One connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def listen(path: Path) -> socket.socket:
    """A listening Unix socket of mode 0600. Raises BindError.

    A socket file that no process listens on is replaced; a living one, or another kind of file, is not.
    """
    _prepare_directory(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        listener.bind(str(path))
        # Nobody can connect before listen, so there is no moment with a wider mode.
        path.chmod(0o600)
        listener.listen(MAX_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise BindError(f"--control: cannot listen on {path}: {error.strerror or error}") from None
    except BindError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def is_alive(path: Path) -> bool:
    """Whether a process listens on the socket `path`. Raises OSError when that cannot be found out."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_LIMIT)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except TimeoutError:
            return True  # someone listens and is busy
    return True


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise BindError(f"--control: {path} exists and is not a socket")
    if is_alive(path):
        raise BindError(f"--control: another process listens on {path}")
    path.unlink(missing_ok=True)


def _prepare_directory(path: Path) -> None:
    """Make the default directory; it must be ours alone, as a shared place such as /tmp may lie above it."""
    directory = runtime_dir()
    if path.parent != directory:
        return
    try:
        for missing in (directory.parent, directory):
            missing.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise BindError(f"--control: the directory {directory} is not ours")
        directory.chmod(0o700)
    except OSError as error:
        raise BindError(f"--control: cannot make the directory {directory}: {error.strerror}") from None


async def _same_user(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not _is_allowed(request):
        return refusal(403, "this socket belongs to another user")
    return await handler(request)


def _pid(request: web.Request) -> str:
    peer = _peer(request)
    return "" if peer is None else str(peer.pid)


class _Peer(NamedTuple):
    """Who is at the other end of a connection."""

    pid: int
    uid: int
    gid: int


def _is_allowed(request: web.Request) -> bool:
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the mode of the socket is what protects it there
    peer = _peer(request)
    return peer is not None and peer.uid in (0, os.geteuid())


def _peer(request: web.Request) -> _Peer | None:
    """None where that cannot be found out."""
    option = getattr(socket, "SO_PEERCRED", None)
    peer = request.get_extra_info("socket")
    if option is None or peer is None:
        return None
    return _Peer(*_CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size)))
