"""The HTTP(S) and WebSocket side of the signalling server (wire spec 4)."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping

import aiohttp
from aiohttp import web

from rtun_core.errors import BindError, CommandRefused, RtunError, Unauthorized
from rtun_core.net.sockaddr import from_socket_address
from rtun_core.net.tcp_door import Door
from rtun_core.net.ws_transport import WebSocketTransport, accept_websocket
from rtun_core.signaling.config import ServerLimits
from rtun_core.signaling.switchboard import Switchboard
from rtun_core.wire.address import Address
from rtun_core.wire.signal_json import encode_agents

_MAX_ECHO = 65536
_SHUTDOWN_TIME = 0.1  # seconds; the library takes no time at all for all the time in the world
_UNSIGNED = re.compile(r"\+?[0-9]{1,20}", re.ASCII)
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")

# Malformed requests are counted at the door; the library need not write about each of them.
_SILENT = logging.getLogger("rtun.http")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class BadRequest(Exception):
    """A query that is missing something or has it in another form; answered with status 400."""


class HttpListener:
    """Serves the endpoints of the switchboard on one TCP port.

    With `context` it speaks TLS. Certificates are swapped inside that context.
    """

    def __init__(self, board: Switchboard, limits: ServerLimits, context: ssl.SSLContext | None) -> None:
        self._board = board
        self._limits = limits
        self._listener: socket.socket | None = None
        self._web = web.Server(self._handle, access_log=None, logger=_SILENT)
        self._door = Door(
            self._web,
            context=context,
            limit=limits.max_connections,
            patience=limits.unauthenticated_time,
            on_fault=self._fault,
        )
        self._routes: dict[str, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]] = {
            "/pub/ws": self._pub,
            "/sub/ws": self._sub,
            "/pub/sessions": self._sessions,
            "/echo/ws": self._echo,
        }

    @property
    def scheme(self) -> str:
        """`https` or `http`."""
        return "http" if self._door.context is None else "https"

    async def start(self, address: Address) -> Address:
        """Listen; returns the address with the port that was bound. Raises BindError."""
        family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
        try:
            self._listener = socket.create_server((address.host, address.port), family=family, backlog=128)
        except OSError as error:
            raise BindError(f"cannot listen on TCP {address}: {error.strerror or error}") from None
        self._listener.setblocking(False)
        self._door.open(self._listener)
        return from_socket_address(self._listener.getsockname())

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        await self._web.shutdown(timeout=_SHUTDOWN_TIME)
        await self._door.close()
        if self._listener is not None:
            self._listener.close()

    def _fault(self, reason: str) -> None:
        self._board.faults[reason] += 1

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        route = self._routes.get(request.path)
        if route is None or request.method != "GET":
            self._fault("unknown path")
            return web.Response(status=404 if route is None else 405)
        try:
            return await route(request)
        except (BadRequest, web.HTTPBadRequest) as error:
            self._fault("bad request")
            return web.Response(status=400, text=str(error))
        except Unauthorized:
            return web.Response(status=401)
        except ConnectionError:
            # The client left in the middle of the handshake: nobody is there to answer.
            self._fault("session")
            return web.Response(status=400)
        except Exception as error:
            loop = asyncio.get_running_loop()
            loop.call_exception_handler({"message": f"{request.path} failed", "exception": error})
            return web.Response(status=500)
        finally:
            # A connection that is kept for the next request has to make it in time again.
            self._door.touch(request.transport)

    async def _pub(self, request: web.BaseRequest) -> web.StreamResponse:
        query = request.query
        token = _required(query, "token")
        expire_in = _unsigned(query, "expire_in")
        name = query.get("agent") or self._board.new_id()
        if not _HEADER_VALUE.fullmatch(name):
            raise BadRequest("the agent name does not fit a header; accepted: printable ASCII")
        self._board.authorize(token)
        try:
            self._board.check_name(name)
        except CommandRefused as error:
            return web.Response(status=503, text=str(error))
        response, transport = await self._upgrade(request, {"agent_name": name})
        await self._hold(
            self._board.serve_agent(transport, name=name, expire_in=expire_in, ver=query.get("ver"))
        )
        return response

    async def _sub(self, request: web.BaseRequest) -> web.StreamResponse:
        query = request.query
        token = _required(query, "token")
        _unsigned(query, "expire_in")
        self._board.authorize(token)
        try:
            target = self._board.find(query.get("agent"), query.get("instance_id"))
        except CommandRefused as error:
            return web.Response(status=404, text=str(error))
        response, transport = await self._upgrade(request, {})
        await self._hold(self._board.serve_client(transport, target))
        return response

    async def _sessions(self, _request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=encode_agents(self._board.entries()), content_type="application/json")

    async def _echo(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(max_msg_size=_MAX_ECHO, compress=False)
        await socket.prepare(request)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                self._door.touch(request.transport)
                await socket.send_str(message.data)
        return socket

    async def _upgrade(
        self, request: web.BaseRequest, headers: dict[str, str]
    ) -> tuple[web.WebSocketResponse, WebSocketTransport]:
        response, transport = await accept_websocket(request, headers, self._limits.max_frame)
        self._door.trust(request.transport)
        return response, transport

    async def _hold(self, session: Awaitable[None]) -> None:
        try:
            await session
        except (RtunError, ConnectionError):
            # The session could not begin; its transport is closed and the peer sees that.
            self._fault("session")


def _required(query: Mapping[str, str], key: str) -> str:
    value = query.get(key)
    if value is None:
        raise BadRequest(f"the query has no {key}")
    return value


def _unsigned(query: Mapping[str, str], key: str) -> int | None:
    value = query.get(key)
    if value is None:
        return None
    if not _UNSIGNED.fullmatch(value) or int(value) >= 1 << 64:
        raise BadRequest(f"the query has a bad {key}; accepted: an unsigned number of 64 bits")
    return int(value)
