"""The way in for HTTP: bounds what strangers can hold before they have shown that they want a tunnel.

The HTTP library bounds neither the number of connections nor the time until a request is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

# Malformed requests are refused; the library need not write about each of them.
_SILENT = logging.getLogger("rtun.http")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False

_SHUTDOWN_TIME = 0.1


class Entrance(web.Server):
    """An HTTP server that admits at most `limit` connections that have not been let in.

    Each has `patience` seconds to get there. `on_fault` gets "flood" or "idle".
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        limit: int,
        patience: float,
        on_fault: Callable[[str], None],
    ) -> None:
        super().__init__(handler, access_log=None, logger=_SILENT)
        self._limit = limit
        self._patience = patience
        self._on_fault = on_fault
        self._waiting: dict[RequestHandler, asyncio.TimerHandle] = {}

    def admit(self) -> asyncio.Protocol:
        """The protocol of a new connection, for `create_server`."""
        if len(self._waiting) >= self._limit:
            self._on_fault("flood")
            return _Refusal()
        protocol = self()
        timer = asyncio.get_running_loop().call_later(self._patience, self._too_late, protocol)
        self._waiting[protocol] = timer
        return protocol

    def let_in(self, protocol: RequestHandler) -> None:
        """This connection may stay for as long as it likes."""
        timer = self._waiting.pop(protocol, None)
        if timer is not None:
            timer.cancel()

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Told by the library: a connection is gone."""
        self.let_in(handler)
        super().connection_lost(handler, exc)

    def _too_late(self, protocol: RequestHandler) -> None:
        self._waiting.pop(protocol, None)
        self._on_fault("idle")
        _drop(protocol)

    async def close(self) -> None:
        """Drop every connection."""
        for protocol, timer in list(self._waiting.items()):
            timer.cancel()
            _drop(protocol)
        self._waiting.clear()
        # The library takes no time at all for all the time in the world.
        await self.shutdown(timeout=_SHUTDOWN_TIME)


def _drop(protocol: RequestHandler) -> None:
    if protocol.transport is not None:
        protocol.transport.abort()


class _Refusal(asyncio.Protocol):
    """Hangs up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The end, at once."""
        transport.close()
