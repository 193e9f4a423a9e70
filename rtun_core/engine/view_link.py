"""A console's link to an engine elsewhere: its `GET /view`, from the viewer's side."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
from aiohttp import WSMsgType

from rtun_core.engine.control_place import ControlPlace
from rtun_core.engine.hello import Hello, check_hello
from rtun_core.engine.source import Parting
from rtun_core.engine.view_messages import (
    CLOSE_CODES,
    MAX_MESSAGE,
    ViewMessage,
    ViewRequest,
    read_message,
    write_request,
)
from rtun_core.errors import RemoteProtocolError, RtunError

OPEN_LIMIT = 5.0  # seconds until the engine has said hello
CLOSE_LIMIT = 0.5  # seconds that the engine may take to part
HEARTBEAT = 10.0  # seconds between two pings; half as long without an answer is the end of the link

_REFUSALS = {
    401: "refuses the token",
    403: "belongs to another user",
    404: "belongs to an rtun that is too old to be looked at",
    503: "serves as many consoles as it can, or is about to end",
}


class ViewLink:
    """An open link. Every method raises RtunError when the link is gone, and then only `close` is left."""

    def __init__(
        self, http: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse, hello: Hello
    ) -> None:
        self.hello = hello
        self._http = http
        self._socket = socket
        self._parting = asyncio.Lock()

    @classmethod
    async def open(cls, place: ControlPlace) -> ViewLink:
        """Connect to the engine at `place`. Raises RtunError with what is there instead."""
        http = place.session(timeout=aiohttp.ClientTimeout(total=None))
        socket = None
        try:
            async with asyncio.timeout(OPEN_LIMIT):
                socket = await http.ws_connect(
                    f"{place.url}/view", max_msg_size=MAX_MESSAGE, heartbeat=HEARTBEAT
                )
                hello = (await _next(socket)).hello
            if hello is None:
                raise RemoteProtocolError("it does not say hello", reason="view")
            check_hello(hello)
        except BaseException as error:
            await _close(http, socket)
            raise _sentence(place, error) from None
        return cls(http, socket, hello)

    async def send(self, request: ViewRequest) -> None:
        """Say what is wanted."""
        try:
            await self._socket.send_str(write_request(request))
        except (ConnectionError, aiohttp.ClientError) as error:
            raise RtunError(f"the link to the engine broke: {error or type(error).__name__}") from None

    async def receive(self) -> ViewMessage:
        """The next message. Raises RemoteProtocolError for one that cannot be read."""
        return await _next(self._socket)

    async def close(self, parting: Parting = Parting.CLOSED) -> None:
        """Part, and say why. Whoever wants to part while that is done waits for it."""
        async with self._parting:
            await _close(self._http, self._socket, CLOSE_CODES[parting])


async def _next(socket: aiohttp.ClientWebSocketResponse) -> ViewMessage:
    message = await socket.receive()
    match message.type:
        case WSMsgType.TEXT | WSMsgType.BINARY:
            return read_message(message.data)
        case WSMsgType.CLOSE:
            raise RtunError(message.extra or "the engine closed the link")
        case WSMsgType.ERROR if isinstance(message.data, aiohttp.WebSocketError):
            raise RemoteProtocolError(f"a frame cannot be read: {message.data}", reason="view")
        case _:
            raise RtunError("the link to the engine broke")


async def _close(
    http: aiohttp.ClientSession,
    socket: aiohttp.ClientWebSocketResponse | None,
    code: int = CLOSE_CODES[Parting.CLOSED],
) -> None:
    if socket is not None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_LIMIT):
                await socket.close(code=code)
    await http.close()


def _sentence(place: ControlPlace, error: BaseException) -> BaseException:
    match error:
        case aiohttp.WSServerHandshakeError(status=status):
            if status in _REFUSALS:
                return RtunError(f"{place} {_REFUSALS[status]}")
            return RtunError(f"what answers on {place} is not an rtun (status {status})")
        case TimeoutError():
            return place.lost(TimeoutError(f"not within {OPEN_LIMIT:g} s"))
        case aiohttp.ClientError() | OSError():
            return place.lost(error)
        case RemoteProtocolError():
            return RtunError(f"what answers on {place} is no rtun of this version: {error}")
        case _:
            return error
