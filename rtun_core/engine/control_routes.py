"""What an engine answers over HTTP, on whatever socket: snapshot, events and commands.

    GET  /hello                        versions, pid, newest sequence, services
    GET  /snapshot?flows=N             the whole snapshot, or with only the N busiest flows
    GET  /events?since=SEQ&follow=0|1  one JSON event per line, from what history holds after SEQ on
    GET  /view                         a WebSocket for a console: see `view_messages`
    POST /command?who=ctl|attached     a command as JSON, or {"line": "agent use beta"}

A command is answered with 200 when done, 409 when refused, 400 when it cannot be read; the body is
`{"ok", "text", "data"}` or `{"ok", "error"}`. A slow reader of events misses some and is told so; it
never slows the engine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from rtun_core.bus import HISTORY
from rtun_core.commands import Command, decode_command, parse_command
from rtun_core.engine.engine import Engine
from rtun_core.engine.hello import hello_of
from rtun_core.engine.json_lines import json_line
from rtun_core.engine.snapshot_json import snapshot_json, with_biggest
from rtun_core.engine.view_session import Viewers
from rtun_core.errors import RtunError, UsageError

MAX_REQUEST: Final = 256 * 1024  # bytes; 10,000 marked flows to be moved are 110 kB
MAX_CONNECTIONS: Final = 32  # of one socket
SHUTDOWN_LIMIT: Final = 1.0  # seconds that connections may take to end
IDLE_LIMIT: Final = 30.0  # seconds that a connection may wait for its next request

Guard = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]

_WHO: Final = ("ctl", "attached")  # on whose behalf a command can be sent here


class ControlRoutes:
    """Answers for one engine. All sockets share it: its viewers together have one budget."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.viewers = Viewers(engine)

    def runner(self, guard: Guard, peer: Callable[[web.Request], str], **options: Any) -> web.AppRunner:
        """What serves connections. `guard` sees each request first, `peer` names who sent it.

        `options` are those of `aiohttp.web.Server`.
        """

        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await guard(request, handler)

        async def view(request: web.Request) -> web.StreamResponse:
            return await self.viewers.serve(request, f"attached {peer(request)}".rstrip())

        app = web.Application(client_max_size=MAX_REQUEST, middlewares=[guarded])
        app.router.add_get("/hello", self._hello)
        app.router.add_get("/snapshot", self._snapshot)
        app.router.add_get("/events", self._events)
        app.router.add_get("/view", view)
        app.router.add_post("/command", self._command)
        return web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=SHUTDOWN_LIMIT,
            keepalive_timeout=IDLE_LIMIT,
            **options,
        )

    async def _hello(self, _request: web.Request) -> web.Response:
        return json_answer(hello_of(self.engine))

    async def _snapshot(self, request: web.Request) -> web.Response:
        snapshot = self.engine.snapshot()
        if "flows" in request.query:
            snapshot = with_biggest(snapshot, _number(request, "flows", 0))
        return web.Response(body=await snapshot_json(snapshot), content_type="application/json")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        since = _number(request, "since", self.engine.bus.seq)
        follow = _number(request, "follow", 1)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        subscription = self.engine.bus.subscribe(HISTORY, since=since)
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
            result = await self.engine.execute(command, who)
        except UsageError as error:
            return refusal(400, str(error))
        except RtunError as error:
            return refusal(409, str(error))
        return json_answer({"ok": True, "text": result.text, "data": result.data})


def json_answer(value: object, status: int = 200) -> web.Response:
    """A value as the body of an answer."""
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def refusal(status: int, sentence: str) -> web.Response:
    """Why something is not done."""
    return json_answer({"ok": False, "error": sentence}, status)


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
