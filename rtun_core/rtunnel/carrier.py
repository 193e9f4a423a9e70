"""The asyncio half of a session: moves bytes between its local TCP, its engine and its WebSocket.

Nothing here polls. What comes from the local TCP goes into the engine and wakes the sender, the only task
that writes to the WebSocket. What comes from the WebSocket goes into the engine, and one turn for all that
arrived together takes it to the local TCP. One timer stands for everything that the engine waits for.

    local TCP -> tcp_data -> Session.write      -> Session.packets -> _send    -> WebSocket
    WebSocket -> _receive -> Session.receive    -> Session.read    -> _deliver -> local TCP
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol

import aiohttp

from rtun_core.errors import RemoteProtocolError
from rtun_core.net.tasks import TaskOwner
from rtun_core.rtunnel.alarm import Alarm
from rtun_core.rtunnel.link import SEND_ERRORS, Link
from rtun_core.rtunnel.local_tcp import LocalTcp
from rtun_core.rtunnel.names import Names
from rtun_core.rtunnel.round_trip import RoundTrip
from rtun_core.wire.rtunnel_session import Session

LINGER: Final = 5.0
"""Seconds that an application has to end its stream after ours has ended for good."""
DELIVERY_LIMIT: Final = 300.0
"""Seconds that an application may take for the rest of a session that is over."""
FAREWELL: Final = 5.0
"""Seconds that a peer has to take the end of a session."""
DRAIN_LIMIT: Final = 30.0
"""Seconds that a flow has to come to its end when its tunnel is drained."""

_SOONEST = 0.001
_BLOCKED = 1.0  # seconds between two looks at the clock while the WebSocket takes nothing
_BINARY, _TEXT = aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT
_PING, _PONG = aiohttp.WSMsgType.PING, aiohttp.WSMsgType.PONG


class Watcher(Protocol):
    """Who is told what becomes of a carrier."""

    def attached(self, carrier: Carrier) -> None:
        """A WebSocket carries the session from now on."""

    def detached(self, carrier: Carrier, reason: str) -> None:
        """The session is without a WebSocket."""

    def fault(self, reason: str) -> None:
        """The peer did something wrong."""

    def finished(self, carrier: Carrier) -> None:
        """The session is over and its local TCP is gone; told once."""


class Carrier:
    """One session with everything it uses. `idle_timeout` ends it when it carries nothing for so long."""

    def __init__(
        self,
        session: Session,
        names: Names,
        watcher: Watcher,
        tasks: TaskOwner,
        *,
        idle_timeout: float | None = None,
    ) -> None:
        self.session = session
        self.names = names
        self.link: Link | None = None
        self.tcp: LocalTcp | None = None
        self.draining = False
        self.active_at = monotonic()
        self.on_end: Callable[[], None] | None = None  # told when the session has ended
        self._watcher = watcher
        self._tasks = tasks
        self._idle_timeout = idle_timeout
        self._alarm = Alarm(self._on_time)
        self._limit: float | None = None  # when patience with the session is over
        self._turn_due = False
        self._held = False
        self._tcp_gone = False
        self._over = False
        self._finished = False
        self._round_trip = RoundTrip()

    # ---- the local TCP ------------------------------------------------------------------------------

    def use(self, tcp: LocalTcp) -> None:
        """The local TCP is there."""
        self.tcp = tcp
        if self._held:
            tcp.pause()
        self._schedule()

    def no_tcp(self, reason: str) -> None:
        """There will be no local TCP."""
        self._tcp_gone = True
        self.reset(reason)

    @property
    def room(self) -> int:
        """Bytes that `tcp_data` would take."""
        return self.session.room

    def tcp_data(self, data: memoryview) -> None:
        """Bytes of the application."""
        if self.session.write(data) != len(data) and self.session.end is None:
            self.reset("overrun")
        self.active_at = monotonic()
        if self.link is not None:
            self.link.wake()

    def tcp_eof(self) -> None:
        """The application has ended its stream."""
        self.session.write_eof(monotonic())
        self._schedule()

    def tcp_writable(self) -> None:
        """The application has taken what it was given."""
        self.session.delivered(monotonic())
        self._schedule()

    def tcp_lost(self, error: Exception | None) -> None:
        """The local TCP is gone, by our own will or not."""
        self.tcp, self._tcp_gone = None, True
        if error is None and self._over:
            self.session.delivered(monotonic())
        self.session.reset("local")
        self._schedule()

    def _deliver(self, now: float) -> None:
        tcp, session = self.tcp, self.session
        while tcp is not None and tcp.writable and session.readable:
            tcp.write(session.read())
            self.active_at = now
            if tcp.writable:
                session.delivered(now)

    # ---- what others may ask ------------------------------------------------------------------------

    def reset(self, reason: str) -> None:
        """Give the session up: the peer is told, both local connections are reset."""
        self.session.reset(reason)
        self._schedule()

    def drain(self) -> None:
        """Let the flow come to its end, but not for ever.

        Its end is not made up: an application would take half of a stream for the whole.
        """
        if not self.draining:
            self.draining = True
            self._limit = monotonic() + DRAIN_LIMIT
            self._schedule()

    def hold(self) -> None:
        """Take nothing more from the application; what was taken goes on."""
        self._held = True
        if self.tcp is not None:
            self.tcp.pause()

    def cut(self) -> None:
        """Drop the WebSocket; the session goes on with another one."""
        if self.link is not None:
            self.link.abort()

    def drop(self) -> None:
        """Let go of both connections at once: the service ends."""
        self._alarm.cancel()
        self.cut()
        if self.tcp is not None:
            self.tcp.abort()

    async def probe(self, timeout: float) -> float:
        """Measure one round trip on the WebSocket, in seconds. Raises TimeoutError."""
        answer = self._round_trip.ask()
        if self.link is not None:
            self.link.wake()
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(answer)
        except TimeoutError:
            self._round_trip.forget()
            raise

    # ---- the WebSocket ------------------------------------------------------------------------------

    async def run(self, link: Link, *, half_close: bool) -> str:
        """Carry the session over `link` until that is gone; returns why.

        It takes the place of a WebSocket that is still there. When this is cancelled, `link` is dropped.
        """
        old, self.link = self.link, link
        if old is not None:
            old.wake()
            old.abort()
        self.session.connected(monotonic(), half_close=half_close)
        self._watcher.attached(self)
        if self._over:
            self._part(link)
        sender = self._tasks.spawn(self._send(link), "send")
        self._schedule()
        reason = "closed"
        try:
            reason = await self._receive(link)
        finally:
            self._detach(link, reason)
            await self._finish_link(link, sender)
        return reason

    async def _finish_link(self, link: Link, sender: asyncio.Task[None]) -> None:
        """Let the sender say goodbye if it is at that; an abort could overtake what it sent before."""
        if link.closing:
            await asyncio.wait({sender})
        else:
            sender.cancel()
            link.abort()

    def _part(self, link: Link) -> None:
        """All that is left to do for a WebSocket is to tell the peer, which must not take for ever."""
        asyncio.get_running_loop().call_later(FAREWELL, link.abort)

    def _detach(self, link: Link, reason: str) -> None:
        link.wake()
        if self.link is not link:
            return
        self.link = None
        self.session.disconnected(monotonic())
        self._watcher.detached(self, reason)
        self._schedule()

    async def _receive(self, link: Link) -> str:
        receive = link.socket.receive
        while True:
            message = await receive()
            if self.link is not link:
                return "replaced"
            kind = message.type
            link.heard_at = monotonic()
            if kind is _BINARY:
                self._take(link, message.data)
            elif kind is _TEXT:
                self._take(link, message.data.encode())
            elif kind is _PING:
                self.session.heard(link.heard_at)
                link.answer(bytes(message.data))
            elif kind is _PONG:
                self._on_pong(bytes(message.data))
            else:
                return self._loss(message)

    def _take(self, link: Link, message: bytes) -> None:
        link.spoke = True
        try:
            self.session.receive(message, link.heard_at)
        except RemoteProtocolError as error:
            self._watcher.fault(error.reason)
        if not self._turn_due:
            self._schedule()

    def _on_pong(self, payload: bytes) -> None:
        now = monotonic()
        self._round_trip.pong(payload, now)
        self.session.pong(payload, now)
        self._schedule()

    def _loss(self, message: aiohttp.WSMessage) -> str:
        """Why the WebSocket is gone. A peer that breaks its framing has ended the session with that."""
        if message.type is aiohttp.WSMsgType.ERROR and isinstance(message.data, aiohttp.WebSocketError):
            reason = "oversize" if message.data.code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG else "framing"
            self._watcher.fault(reason)
            self.session.reset(reason)
            return f"the peer broke the WebSocket: {reason}"
        if message.type is aiohttp.WSMsgType.CLOSE:
            return f"the peer closed the WebSocket with code {message.data}"
        return "the connection was lost"

    async def _send(self, link: Link) -> None:
        """The only writer of a WebSocket."""
        try:
            while self.link is link:
                await link.wait()
                if not await self._send_due(link):
                    await link.close()
                    return
                self._rest(link)
        except SEND_ERRORS:
            link.abort()

    async def _send_due(self, link: Link) -> bool:
        """Send until there is nothing more to send. False if the WebSocket is to be closed."""
        session = self.session
        while self.link is link:
            await link.send_pongs()
            await self._send_pings(link)
            packets = session.packets(monotonic()) if self.link is link else []
            if not packets:
                return not session.drop_socket
            await link.send(packets)
            self._make_room()
        return True

    async def _send_pings(self, link: Link) -> None:
        if (payload := self.session.ping(monotonic())) is not None:
            await link.socket.ping(payload)
        if (payload := self._round_trip.take()) is not None:
            await link.socket.ping(payload)

    def _rest(self, link: Link) -> None:
        """Everything is sent: look whether that completed the session, and when to look again."""
        self._make_room()
        if self.session.end is not None and not self._over:
            self._schedule()
        if self.link is link:
            self._arm(_SOONEST)

    def _make_room(self) -> None:
        if self.tcp is not None and not self._held:
            self.tcp.resume()

    # ---- turns and time -----------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Hand on what arrived, see whether the session is over, let the sender look."""
        self._turn_due = False
        self._deliver(monotonic())
        self._settle()
        if self.link is not None:
            self.link.wake()
            if self.link.busy or self._is_to_part:
                self._arm(_BLOCKED)
        else:
            self._arm(_SOONEST)

    def _settle(self) -> None:
        session, tcp = self.session, self.tcp
        if session.end is None:
            if tcp is not None and session.read_eof:
                tcp.write_eof()
            return
        if not self._over:
            self._end()
        if tcp is not None and session.end.abort:
            tcp.abort()
        elif tcp is not None and session.read_eof:
            tcp.finish(LINGER)
        if self._tcp_gone and not self._finished:
            self._finish()

    def _end(self) -> None:
        self._over = True
        self._limit = monotonic() + DELIVERY_LIMIT
        if self.link is not None:
            self._part(self.link)
        if self.on_end is not None:
            self.on_end()

    def _finish(self) -> None:
        self._finished = True
        self._limit = None
        self._alarm.cancel()
        self._watcher.finished(self)

    def _due(self) -> float | None:
        times = [self.session.timer(), self._limit]
        if self._idle_timeout is not None and self.session.end is None:
            times.append(self.active_at + self._idle_timeout)
        if self._is_to_part:
            times.append(monotonic())
        return min((time for time in times if time is not None), default=None)

    @property
    def _is_to_part(self) -> bool:
        """Whether the session wants another WebSocket, and the sender has not begun to say goodbye.

        That may never be: where the transport is full, even a pong waits.
        """
        session, link = self.session, self.link
        return session.drop_socket and session.end is None and link is not None and not link.closing

    def _arm(self, soonest: float) -> None:
        """Wake at the next due time."""
        due = self._due()
        if due is None or self._finished:
            self._alarm.cancel()
        else:
            self._alarm.set(max(due, monotonic() + soonest))

    def _on_time(self) -> None:
        now = monotonic()
        self.session.handle_timer(now)
        if self._limit is not None and now >= self._limit:
            self._limit = None
            self.session.reset("drained" if self.session.end is None else "local")
        elif self._idle_timeout is not None and now >= self.active_at + self._idle_timeout:
            self.session.reset("idle")
        if self.link is not None and self.link.busy and self.session.drop_socket:
            self.link.abort()
        self._turn()
