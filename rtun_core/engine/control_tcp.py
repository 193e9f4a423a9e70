"""`--control-tcp`: an engine at a TCP address. What it answers there is in `control_routes`.

Every request shows the token as `Authorization: Bearer TOKEN`. Who does not is a stranger: one of at most
MAX_CONNECTIONS, for at most STRANGER_LIMIT seconds and ALLOWANCE bytes, and gone after a wrong token, but not
at once: so MAX_CONNECTIONS wrong ones in REFUSAL_PAUSE seconds are the most that the engine's loop has to
answer. What strangers do is counted as faults that begin with "control", and neither logged nor written
anywhere.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import socket
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from rtun_core.engine.control_place import LOST_AFTER
from rtun_core.engine.control_routes import (
    MAX_CONNECTIONS,
    MAX_REQUEST,
    ControlRoutes,
    refusal,
)
from rtun_core.errors import BindError
from rtun_core.events import Notice, ServiceListening
from rtun_core.net.keepalive import end_when_lost
from rtun_core.net.sockaddr import from_socket_address
from rtun_core.net.tcp_door import Door
from rtun_core.wire.address import Address

STRANGER_LIMIT: Final = 5.0  # seconds until the token must have come
REFUSAL_PAUSE = 1.0  # seconds that a wrong token waits for its answer
ALLOWANCE: Final = MAX_REQUEST + 32 * 1024  # bytes from a stranger: a request with its headers

# What strangers send goes into no log: a mistyped header may hold the token.
_SILENT = logging.getLogger("rtun.control")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class ControlTcpServer:
    """Answers at `address`, once started the one that was bound, to those who know the token."""

    def __init__(self, address: Address, token: bytes, routes: ControlRoutes) -> None:
        self.address = address
        self._proof = b"Bearer " + token
        self._engine = routes.engine
        self._runner = routes.runner(self._admit, _remote, logger=_SILENT)
        self._listener: socket.socket | None = None
        self._door: Door | None = None

    async def start(self) -> None:
        """Listen, and tell where. Raises BindError."""
        self._listener = _listen(self.address)
        self.address = from_socket_address(self._listener.getsockname())
        await self._runner.setup()
        assert self._runner.server is not None, "it is set up"
        self._door = Door(
            self._runner.server,
            context=None,
            limit=MAX_CONNECTIONS,
            patience=STRANGER_LIMIT,
            allowance=ALLOWANCE,
            on_fault=self._fault,
        )
        self._door.open(self._listener)
        self._announce()

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._door is not None and self._listener is not None:
            await self._runner.cleanup()
            await self._door.close()
            self._listener.close()

    def _announce(self) -> None:
        emit = self._engine.bus.emit
        emit(ServiceListening(service="control", address=f"http://{self.address}"))
        if not ipaddress.ip_address(self.address.host.partition("%")[0]).is_loopback:
            emit(
                Notice(
                    topic="control",
                    message=f"--control-tcp {self.address} is plain HTTP: who can read on the way learns the "
                    "token; safer is 127.0.0.1 with ssh -L, or an address of a VPN",
                )
            )

    def _fault(self, word: str) -> None:
        self._engine.count_fault(f"control {word}")

    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let a request with the token through; errors of ours are told to the loop."""
        if not self._knows(request):
            self._fault("token")
            await asyncio.sleep(REFUSAL_PAUSE)
            answer = refusal(401, "the token is missing or wrong")
            answer.headers["WWW-Authenticate"] = "Bearer"
            answer.force_close()
            return answer
        if self._door is not None:
            self._door.trust(request.transport)
        try:
            return await handler(request)
        except (web.HTTPException, ConnectionError):
            raise
        except Exception as error:
            loop = asyncio.get_running_loop()
            loop.call_exception_handler({"message": f"{request.path} failed", "exception": error})
            return refusal(500, "an error of rtun's own")

    def _knows(self, request: web.Request) -> bool:
        shown = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        return hmac.compare_digest(shown, self._proof)


def _remote(request: web.Request) -> str:
    peer = request.get_extra_info("peername")
    return "" if peer is None else str(from_socket_address(peer))


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
    try:
        listener = socket.create_server((address.host, address.port), family=family, backlog=MAX_CONNECTIONS)
    except OSError as error:
        raise BindError(f"--control-tcp: cannot listen on {address}: {error.strerror or error}") from None
    listener.setblocking(False)
    end_when_lost(listener, LOST_AFTER)
    return listener
