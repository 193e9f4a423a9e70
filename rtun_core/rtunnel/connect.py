"""The client: TCP connections in, a WebSocket out for each (rtunnel spec 10 and 15)."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic, time
from typing import Final

import yarl

from rtun_core.bus import EventBus
from rtun_core.events import Notice, ServiceListening
from rtun_core.model import AgentId, SignalView
from rtun_core.net.sockaddr import from_socket_address
from rtun_core.rtunnel.carrier import Carrier
from rtun_core.rtunnel.config import ConnectConfig
from rtun_core.rtunnel.dialer import Dialer, DialError
from rtun_core.rtunnel.listen import Listener, listen_on
from rtun_core.rtunnel.local_tcp import LocalTcp
from rtun_core.rtunnel.settle import settle
from rtun_core.rtunnel.tunnel_end import TunnelEnd
from rtun_core.wire.address import Address
from rtun_core.wire.rtunnel_redial import Redial
from rtun_core.wire.rtunnel_terms import Role, SessionConfig

TEST_TIME: Final = 5.0
"""Seconds that the server has to answer when the client starts."""
_LAST_TRY = 1.0  # seconds that the last dial of a new session has at least


class ConnectService(TunnelEnd):
    """`rtun ws connect`: implements the engine's Service protocol. `settings` are those of each session."""

    name: str = "ws-connect"

    def __init__(
        self, config: ConnectConfig, bus: EventBus, *, settings: SessionConfig | None = None
    ) -> None:
        self.config = config
        self._url = str(config.url.with_query(None).with_user(None))
        super().__init__(
            Role.CLIENT,
            bus,
            target=self._url,
            idle_timeout=config.idle_timeout,
            settings=settings,
            on_finished=lambda carrier: None,
        )
        self.peer = self.book.peer(AgentId(self._url), self._url, _host_port(config.url))
        self._dialer = Dialer(config)
        self._listener: Listener | None = None
        self._told = ""

    async def start(self) -> None:
        """Listen, and look for the server in the background. Raises BindError or UsageError."""
        loop = asyncio.get_running_loop()
        self._dialer.open()
        try:
            sock = listen_on(self.config.listen)
        except BaseException:
            await self._dialer.close()
            raise
        self._address = from_socket_address(sock.getsockname())
        self._ended = loop.create_future()
        self._listener = Listener(sock, lambda: _Arrival(self), self._tasks)
        self._signal = SignalView(url=self._url, state="connecting", since=time())
        self._view.listen = str(self.address)
        self._bus.emit(
            ServiceListening(service=self.name, address=str(self.address), detail=f"-> {self._url}")
        )
        self._tasks.spawn(self._look(), "look for the server")

    async def _look(self) -> None:
        try:
            self.peer.rtt = await self._dialer.test(TEST_TIME)
            self.peer.probed_at = time()
        except DialError as error:
            self._unreachable(error)
        else:
            self._reached()

    def _reached(self) -> None:
        self._told = ""
        self._set_signal("connected", "")
        self.book.see(self.peer)

    def _unreachable(self, error: DialError) -> None:
        """Tell once in an outage what is wrong."""
        self._set_signal("lost", str(error))
        self.book.lose(self.peer, str(error))
        if self._told != error.reason:
            self._told = error.reason
            self._bus.emit(Notice(topic=error.reason, message=str(error)))

    def _set_signal(self, state: str, reason: str) -> None:
        if self._signal is None or (self._signal.state, self._signal.reason) != (state, reason):
            self._signal = SignalView(url=self._url, state=state, since=time(), reason=reason)

    async def stop(self, *, drain: bool) -> None:
        """Take no more connections, tell the server, close everything."""
        if self._listener is not None:
            self._listener.close()
        await settle(self.book, drain=drain)
        await self._tasks.close()
        await self._dialer.close()
        self.book.close()
        if self._ended is not None:
            self._ended.cancel()

    # ---- sessions -----------------------------------------------------------------------------------

    def admit(self, source: Address) -> Carrier | None:
        """A session for a connection that has come in, or None if there cannot be one more."""
        reason = "paused" if self.paused else "max-sessions"
        if self.paused or len(self.book.live) >= self.config.max_sessions:
            self.book.drops[reason] += 1
            return None
        carrier = self.book.open(
            str(uuid.uuid4()), self.peer, source=str(source), target=str(self.config.url.path)
        )
        self._tasks.spawn(self._keep(carrier), "session")
        return carrier

    async def _keep(self, carrier: Carrier) -> None:
        """Give a session a WebSocket whenever it needs one."""
        redial, opened = Redial(), False
        patience = monotonic() + self.config.connect_timeout
        while carrier.session.wants_socket:
            try:
                async with _while_alive(carrier):
                    link, half_close = await self._dialer.dial(
                        carrier.session.session_id,
                        resume=opened,
                        timeout=None if opened else max(patience - monotonic(), _LAST_TRY),
                    )
            except DialError as error:
                self._unreachable(error)
                if reason := _last_word(error, opened=opened, late=monotonic() >= patience):
                    carrier.reset(reason)
                due = redial.failed(monotonic(), random.random())
                if not opened:
                    due = min(due, patience)
            except TimeoutError:
                return
            else:
                opened = True
                self._reached()
                redial.opened(monotonic())
                await carrier.run(link, half_close=half_close)
                if link.spoke:
                    redial.useful()
                due = redial.lost(monotonic(), random.random())
            with suppress(TimeoutError):
                async with _while_alive(carrier):
                    await asyncio.sleep(due - monotonic())

    async def probe(self, carrier: Carrier | None, timeout: float) -> float:
        """Seconds of a round trip to the server, on a WebSocket of its own. Raises DialError."""
        try:
            rtt = await self._dialer.test(timeout)
        except DialError as error:
            self._unreachable(error)
            raise
        self._reached()
        return rtt


def _host_port(url: yarl.URL) -> str:
    return str(Address(url.host or "", url.port or 0))


class _Arrival(LocalTcp):
    """A connection that has come in; its session is made as soon as its address is known."""

    def __init__(self, service: ConnectService) -> None:
        super().__init__(None)
        self._service = service

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin a session, or turn the connection away."""
        super().connection_made(transport)
        name = self.peer_name()
        carrier = None if name is None else self._service.admit(from_socket_address(name))
        if carrier is None:
            self.abort()
        else:
            self.work_for(carrier)
            carrier.use(self)


def _last_word(error: DialError, *, opened: bool, late: bool) -> str:
    """Why a session is given up after this error; empty if another try makes sense (spec 15, rule 11)."""
    if opened:
        return "lost" if error.lost else error.reason if error.hopeless else ""
    return error.reason if error.hopeless or late else ""


@asynccontextmanager
async def _while_alive(carrier: Carrier) -> AsyncIterator[None]:
    """Raise TimeoutError out of the body as soon as the session is over."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as life:

        def over() -> None:
            if not life.expired():
                life.reschedule(loop.time())

        carrier.on_end = over
        if carrier.session.end is not None:
            over()
        try:
            yield
        finally:
            carrier.on_end = None
