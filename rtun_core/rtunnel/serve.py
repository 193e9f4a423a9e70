"""The server: WebSockets in, TCP connections to a target out (rtunnel spec 9 and 15)."""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from time import monotonic, time
from typing import Final

import aiohttp
from aiohttp import web

from rtun_core.bus import EventBus
from rtun_core.errors import UsageError
from rtun_core.events import ServiceListening
from rtun_core.model import SignalView, agent_id
from rtun_core.net.sockaddr import from_socket_address
from rtun_core.net.tls import pair_context, read_pair
from rtun_core.rtunnel import handshake
from rtun_core.rtunnel.book import Book
from rtun_core.rtunnel.carrier import Carrier
from rtun_core.rtunnel.config import ServeConfig
from rtun_core.rtunnel.entrance import Entrance
from rtun_core.rtunnel.link import CLOSE_TIMEOUT, Link
from rtun_core.rtunnel.listen import Listener, listen_on
from rtun_core.rtunnel.local_tcp import LocalTcp
from rtun_core.rtunnel.settle import settle
from rtun_core.rtunnel.tunnel_end import TunnelEnd
from rtun_core.wire.address import Address
from rtun_core.wire.rtunnel_packet import MAX_MESSAGE
from rtun_core.wire.rtunnel_session import Session
from rtun_core.wire.rtunnel_terms import Role, SessionConfig

TOMBSTONE_TIME: Final = 300.0
"""Seconds that a client may come back to learn that its session is over."""
MAX_TOMBSTONES: Final = 1024
TEST_TIME: Final = 10.0
"""Seconds that a client may keep the WebSocket that it only tests."""

_MAX_STRANGERS = 1024
_HANDSHAKE_TIME = 15.0
_OVERLOADED = 503


class _Refused(Exception):
    """A handshake that is not accepted: status, text, and the word that it is counted under."""

    def __init__(self, status: int, text: str, reason: str) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason

    def count(self, book: Book) -> None:
        """What we are too small for is a drop, anything else is a fault of the client."""
        if self.status == _OVERLOADED:
            book.drops[self.reason] += 1
        else:
            book.fault(self.reason)


class ServeService(TunnelEnd):
    """`rtun ws serve`: implements the engine's Service protocol. `settings` are those of each session."""

    name: str = "ws-serve"

    def __init__(self, config: ServeConfig, bus: EventBus, *, settings: SessionConfig | None = None) -> None:
        self.config = config
        super().__init__(
            Role.SERVER,
            bus,
            target=self._targets(),
            idle_timeout=config.idle_timeout,
            settings=settings,
            on_finished=self._bury,
        )
        self._known: dict[str, Carrier] = {}
        self._graves: OrderedDict[str, float] = OrderedDict()
        self._sweep: asyncio.TimerHandle | None = None
        self._entrance: Entrance | None = None
        self._listener: Listener | None = None

    async def start(self) -> None:
        """Listen. Raises BindError, or UsageError for a certificate that cannot be used."""
        loop = asyncio.get_running_loop()
        context = self._context()
        sock = listen_on(self.config.listen)
        self._address = from_socket_address(sock.getsockname())
        self._ended = loop.create_future()
        self._entrance = Entrance(
            self._handle, limit=_MAX_STRANGERS, patience=_HANDSHAKE_TIME, on_fault=self.book.fault
        )
        self._listener = Listener(
            sock, self._entrance.admit, self._tasks, context=context, patience=_HANDSHAKE_TIME
        )
        self._announce("wss" if context is not None else "ws")

    def _context(self) -> ssl.SSLContext | None:
        cert, key = self.config.cert, self.config.key
        if cert is None and key is None:
            return None
        if cert is None or key is None:
            raise UsageError("a certificate and its key are needed together, only one of them was given")
        return pair_context(read_pair(cert, key))

    def _announce(self, scheme: str) -> None:
        url = f"{scheme}://{self.address}"
        self._signal = SignalView(url=url, state="listening", since=time())
        self._view.listen = str(self.address)
        self._bus.emit(
            ServiceListening(service=self.name, address=str(self.address), detail=f"-> {self._targets()}")
        )

    def _targets(self) -> str:
        targets = self.config.targets
        return ", ".join(f"{path} {target}" if path else str(target) for path, target in targets.items())

    async def stop(self, *, drain: bool) -> None:
        """Take no more sessions, tell the clients, close everything."""
        if self._listener is not None:
            self._listener.close()
        await settle(self.book, drain=drain)
        await self._tasks.close()
        if self._entrance is not None:
            await self._entrance.close()
        if self._sweep is not None:
            self._sweep.cancel()
        self.book.close()
        self._known.clear()
        self._graves.clear()
        if self._ended is not None:
            self._ended.cancel()

    # ---- requests -----------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await self._answer(request)
        response.force_close()  # nobody has two questions for us
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.Response(status=404, text="404 page not found\n")
        try:
            return await self._tunnel(request)
        except _Refused as refused:
            refused.count(self.book)
            return web.Response(status=refused.status, text=f"{refused}\n")
        except web.HTTPException as error:
            self.book.fault("handshake")
            return web.Response(status=error.status, text=f"{error.reason}\n")
        except (ConnectionError, aiohttp.ClientError):
            # The client left in the middle of the handshake: nobody is there to answer.
            self.book.fault("handshake")
            return web.Response(status=400)

    async def _tunnel(self, request: web.BaseRequest) -> web.StreamResponse:
        session_id = request.headers.get(handshake.SESSION, "")
        if not session_id:
            raise _Refused(400, "Session ID required", "no-session-id")
        if len(session_id) > handshake.MAX_ID:
            raise _Refused(400, "Session ID too long", "session-id")
        if not handshake.is_authorized(self.config.token, session_id, request.headers):
            raise _Refused(401, "Unauthorized", "token")
        if session_id == handshake.TEST_ID:
            return await self._test(request)
        target = self._target(request)
        known = self._known.get(session_id)
        if known is None:
            self._admit(request)
        agreed = handshake.half_close(request.headers)
        response = _response(autoping=False)
        response.headers.update(handshake.agreement(half_close=agreed))
        await response.prepare(request)
        link = self._link(request, response)
        # A session that was known before the 101 is used even if it was forgotten meanwhile: the client
        # of another one would get the middle of a stream for its beginning.
        carrier = known or self._carrier(session_id, target, link)
        await carrier.run(link, half_close=agreed)
        return response

    def _target(self, request: web.BaseRequest) -> Address:
        targets = self.config.targets
        target = targets.get(request.path) or targets.get("")
        if target is None:
            raise _Refused(404, "404 page not found", "path")
        return target

    def _admit(self, request: web.BaseRequest) -> None:
        """Raises _Refused if a new session cannot be."""
        if handshake.resumes(request.headers):
            raise _Refused(410, "Session is over", "gone")
        if self.paused:
            raise _Refused(_OVERLOADED, "Paused", "paused")
        if len(self.book.live) >= self.config.max_sessions:
            raise _Refused(_OVERLOADED, "Too many sessions", "max-sessions")

    async def _test(self, request: web.BaseRequest) -> web.StreamResponse:
        """A client looks whether the server is there: answer its pings for a while."""
        response = _response(autoping=True)
        await response.prepare(request)
        try:
            async with asyncio.timeout(TEST_TIME):
                async for _ in response:
                    pass
        except TimeoutError:
            self._abort(request)
        return response

    def _abort(self, request: web.BaseRequest) -> None:
        if request.transport is not None:
            request.transport.abort()

    def _link(self, request: web.BaseRequest, response: web.WebSocketResponse) -> Link:
        transport = request.transport
        if transport is None or self._entrance is None:
            raise ConnectionResetError("the client is gone")
        self._entrance.let_in(request.protocol)
        peer = transport.get_extra_info("peername")
        if peer is None:
            raise ConnectionResetError("the client is gone")
        local = from_socket_address(transport.get_extra_info("sockname"))
        return Link(
            response,
            transport,
            local=str(local),
            remote=str(from_socket_address(peer)),
            drain=request.protocol._drain_helper,  # the library has nothing public that waits
        )

    # ---- sessions -----------------------------------------------------------------------------------

    def _carrier(self, session_id: str, target: Address, link: Link) -> Carrier:
        """The session with this id; a new one begins to connect to its target."""
        carrier = self._known.get(session_id)
        if carrier is None:
            host = link.remote.rpartition(":")[0]
            peer = self.book.peer(agent_id(host, None), host, host)
            carrier = self.book.open(session_id, peer, source=link.remote, target=str(target))
            self._known[session_id] = carrier
            self._tasks.spawn(self._connect(carrier, target), "connect")
        return carrier

    async def _connect(self, carrier: Carrier, target: Address) -> None:
        """Open the local TCP of a session. The WebSocket is there already and may have data by now."""
        try:
            async with asyncio.timeout(self.config.connect_timeout) as patience:
                carrier.on_end = lambda: _give_up(carrier.session, patience)
                _, tcp = await asyncio.get_running_loop().create_connection(
                    lambda: LocalTcp(carrier), target.host, target.port
                )
        except (OSError, UnicodeError):
            # TimeoutError is one of them; so are refusal, reset, and a name that is not resolved.
            carrier.no_tcp("target")
            return
        carrier.on_end = None
        carrier.use(tcp)

    def _bury(self, carrier: Carrier) -> None:
        """Keep an ended session for a while: its client may come back and has to be told."""
        session_id = carrier.session.session_id
        self._graves[session_id] = monotonic() + TOMBSTONE_TIME
        while len(self._graves) > MAX_TOMBSTONES:
            self._forget(next(iter(self._graves)))
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(TOMBSTONE_TIME, self._sweep_graves)

    def _sweep_graves(self) -> None:
        self._sweep = None
        now = monotonic()
        while self._graves:
            session_id, until = next(iter(self._graves.items()))
            if until > now:
                loop = asyncio.get_running_loop()
                self._sweep = loop.call_later(until - now, self._sweep_graves)
                return
            self._forget(session_id)

    def _forget(self, session_id: str) -> None:
        del self._graves[session_id]
        del self._known[session_id]

    async def probe(self, carrier: Carrier | None, timeout: float) -> float:
        """Seconds of a round trip to a client, on one of its WebSockets. Raises OSError."""
        if carrier is None:
            raise OSError("it has no WebSocket open")
        return await carrier.probe(timeout)


def _response(*, autoping: bool) -> web.WebSocketResponse:
    return web.WebSocketResponse(
        timeout=CLOSE_TIMEOUT, autoping=autoping, compress=False, max_msg_size=MAX_MESSAGE + 1
    )


def _give_up(session: Session, patience: asyncio.Timeout) -> None:
    """The session was reset while its target was being dialled."""
    if session.end is not None and session.end.abort and not patience.expired():
        patience.reschedule(asyncio.get_running_loop().time())
