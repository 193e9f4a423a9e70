"""`--control`: snapshot, events and commands over HTTP on a Unix socket.

    GET  /hello                        versions, pid, newest sequence, services
    GET  /snapshot?flows=N             the whole snapshot, or with only the N busiest flows
    GET  /events?since=SEQ&follow=0|1  one JSON event per line, from what history holds after SEQ on
    GET  /view                         a WebSocket for a console: see `view_messages`
    POST /command?who=ctl|attached     a command as JSON, or {"line": "agent use beta"}

A command is answered with 200 when done, 409 when refused, 400 when it cannot be read; the body is
`{"ok", "text", "data"}` or `{"ok", "error"}`. The socket belongs to its user: mode 0600, and the peer's
uid is checked as well. A slow reader of events misses some and is told so; it never slows the engine.
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

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from rtun_core.bus import HISTORY
from rtun_core.commands import Command, decode_command, parse_command
from rtun_core.engine.engine import Engine
from rtun_core.engine.hello import hello_of
from rtun_core.engine.json_lines import json_line
from rtun_core.engine.paths import runtime_dir
from rtun_core.engine.snapshot_json import snapshot_json, with_biggest
from rtun_core.engine.view_session import Viewers
from rtun_core.errors import BindError, RtunError, UsageError

MAX_REQUEST = 256 * 1024  # bytes; 10,000 marked flows to be moved are 110 kB
MAX_CONNECTIONS = 32
IDLE_LIMIT = 30.0  # seconds that a connection may wait for its next request
PROBE_LIMIT = 1.0  # seconds to find out whether a socket is alive

_WHO = ("ctl", "attached")  # on whose behalf a command can be sent here
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class ControlServer:
    """Answers for one engine on the socket `path`."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path = path
        self._engine = engine
        self._viewers = Viewers(engine)
        self._runner: web.AppRunner | None = None
        self._server: asyncio.AbstractServer | None = None
        self._inode = 0

    async def start(self) -> None:
        """Listen. Raises BindError, also when another living process has the socket."""
        listener = listen(self.path)
        self._inode = self.path.stat().st_ino
        app = web.Application(client_max_size=MAX_REQUEST, middlewares=[_same_user])
        app.router.add_get("/hello", self._hello)
        app.router.add_get("/snapshot", self._snapshot)
        app.router.add_get("/events", self._events)
        app.router.add_get("/view", self._view)
        app.router.add_post("/command", self._command)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=1.0,
            keepalive_timeout=IDLE_LIMIT,
        )
        await self._runner.setup()
        self._server = await asyncio.get_running_loop().create_unix_server(self._accept, sock=listener)

    async def stop(self) -> None:
        """Close every connection and remove the socket, unless another process has replaced it."""
        if self._server is not None and self._runner is not None:
            self._server.close()
            await self._runner.cleanup()
            await self._server.wait_closed()
        with contextlib.suppress(FileNotFoundError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()

    def _accept(self) -> asyncio.BaseProtocol:
        server = self._runner.server if self._runner is not None else None
        if server is None or len(server.connections) >= MAX_CONNECTIONS:
            return _Refused()
        return server()

    async def _hello(self, _request: web.Request) -> web.Response:
        return _json(hello_of(self._engine))

    async def _snapshot(self, request: web.Request) -> web.Response:
        snapshot = self._engine.snapshot()
        if "flows" in request.query:
            snapshot = with_biggest(snapshot, _number(request, "flows", 0))
        return web.Response(body=await snapshot_json(snapshot), content_type="application/json")

    async def _view(self, request: web.Request) -> web.StreamResponse:
        peer = _peer(request)
        return await self._viewers.serve(request, f"attached {peer.pid}" if peer else "attached")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        since = _number(request, "since", self._engine.bus.seq)
        follow = _number(request, "follow", 1)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        subscription = self._engine.bus.subscribe(HISTORY, since=since)
        try:
            if not follow:
                await response.write(b"".join(map(json_line, subscription.drain())))
                return response
            while events := await subscription.get():
                await response.write(b"".join(map(json_line, events)))
        finally:
            subscription.close()
        return response

    async def _command(self, request: web.Request) -> web.Response:
        try:
            who = _who(request)
            command = _read_command(await request.read())
            result = await self._engine.execute(command, who)
        except UsageError as error:
            return _json({"ok": False, "error": str(error)}, status=400)
        except RtunError as error:
            return _json({"ok": False, "error": str(error)}, status=409)
        return _json({"ok": True, "text": result.text, "data": result.data})


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


@web.middleware
async def _same_user(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not _is_allowed(request):
        return _json({"ok": False, "error": "this socket belongs to another user"}, status=403)
    return await handler(request)


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


def _who(request: web.Request) -> str:
    who = request.query.get("who", _WHO[0])
    if who not in _WHO:
        raise UsageError(f"who: {who[:40]!r} is not accepted; accepted: {', '.join(_WHO)}")
    return who


def _read_command(body: bytes) -> Command:
    try:
        line = msgspec.json.decode(body, type=_Line).line
    except msgspec.MsgspecError as error:
        raise UsageError(f"the request is not a command: {error}") from None
    return decode_command(body) if line is None else parse_command(line)


class _Line(msgspec.Struct):
    line: str | None = None


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise web.HTTPBadRequest(text=f"{name}: {text!r} is not a number\n")
    return int(text)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")
