"""`GET /view` on the control socket: a console elsewhere looks at this engine over a WebSocket.

What is said is in `view_messages`, what a viewer is owed in `viewer`. A viewer costs the engine's loop a
bounded share, whatever it asks and however slow it is; what it says wrongly ends its session and is
counted, and the engine goes on.
"""

from __future__ import annotations

import asyncio
import time
import traceback

from aiohttp import WSCloseCode, WSMsgType, web

from rtun_core.bus import HISTORY, Subscription
from rtun_core.engine.engine import Engine
from rtun_core.engine.hello import hello_of
from rtun_core.engine.log_lines import LibraryFailure
from rtun_core.engine.source import Parting
from rtun_core.engine.view_budget import REST, ViewBudget
from rtun_core.engine.view_messages import (
    MAX_REQUEST,
    ViewRequest,
    hello_message,
    parting_of,
    read_request,
)
from rtun_core.engine.viewer import Viewer
from rtun_core.errors import RemoteProtocolError
from rtun_core.events import ConsoleAttached, ConsoleDetached, ConsoleLost
from rtun_core.model import Snapshot
from rtun_core.net.tasks import TaskOwner

MAX_VIEWERS = 16
FIRST_LIMIT = 10.0  # seconds in which a viewer must say what it wants
PONG_LIMIT = 60.0  # seconds without a sign that a picture came, until a viewer is given up
CLOSE_LIMIT = 0.5  # seconds that a viewer may take to part
_MAX_CLOSE_TEXT = 120  # bytes; a close frame holds 123


class Viewers:
    """All viewers of one engine. They share a budget, and pictures that are recent enough for both."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._budget = ViewBudget()
        self._count = 0
        self._newest: tuple[float, Snapshot] | None = None
        self._over = False

    async def serve(self, request: web.Request, who: str) -> web.StreamResponse:
        """Answer for as long as the viewer looks; 503 when there are too many of them or the end is near."""
        if self._over or self._count >= MAX_VIEWERS:
            return web.Response(status=503, text="too many consoles look already\n")
        link = web.WebSocketResponse(
            timeout=CLOSE_LIMIT, autoping=False, compress=False, max_msg_size=MAX_REQUEST
        )
        self._count += 1
        try:
            await link.prepare(request)
            await self._attend(link, who)
        finally:
            self._count -= 1
            if not self._count:
                self._newest = None
        return link

    async def _attend(self, link: web.WebSocketResponse, who: str) -> None:
        bus = self._engine.bus
        viewer = Viewer(self._snapshot, lambda: self._engine.history)
        session = ViewSession(link, self._engine, viewer, self._budget)
        bus.emit(ConsoleAttached(who=who))
        try:
            await session.run()
        finally:
            self._over = self._over or session.over
            if session.failure:
                bus.emit(LibraryFailure(topic="attach", message=session.failure))
            if session.parted:
                bus.emit(ConsoleDetached(who=who, reason=session.reason))
            else:
                bus.emit(ConsoleLost(who=who, reason=session.reason, failed=bool(session.failure)))

    def _snapshot(self, age: float) -> Snapshot:
        now = asyncio.get_running_loop().time()
        if self._newest is None or now - self._newest[0] > age:
            self._newest = (now, self._engine.snapshot(fresh=True))
        return self._newest[1]


class ViewSession:
    """One viewer's link, from the first message to the last. `reason` says how it ended.

    `parted`: one of both sides closed it in good order. `over`: the engine's bus was closed. `failure` is the
    traceback of an error of ours.
    """

    def __init__(
        self, link: web.WebSocketResponse, engine: Engine, viewer: Viewer, budget: ViewBudget
    ) -> None:
        self.reason = "the link is gone"
        self.failure = ""
        self.parted = False
        self.over = False
        self._code = WSCloseCode.OK
        self._link = link
        self._engine = engine
        self._viewer = viewer
        self._budget = budget
        self._since = engine.bus.seq
        self._begun = asyncio.Event()
        self._wake = asyncio.Event()
        self._pong = asyncio.Event()
        self._pings = 0

    async def run(self) -> None:
        """Serve until either side has enough."""
        tasks = TaskOwner("view", self._failed)
        subscription = self._engine.bus.subscribe(HISTORY)
        try:
            await self._link.send_str(hello_message(hello_of(self._engine)))
            parts = {"read": self._read(), "collect": self._collect(subscription), "send": self._send()}
            running = [tasks.spawn(part, name) for name, part in parts.items()]
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if running[0] not in done and self._code is WSCloseCode.OK and not self.parted:
                # Nothing can be sent any more. Why may have been said, and not been read yet.
                await asyncio.wait(running[:1], timeout=CLOSE_LIMIT)
        except ConnectionError:
            return
        finally:
            subscription.close()
            await tasks.close()
        await self._link.close(
            code=self._code, message=self.reason.encode("ascii", "replace")[:_MAX_CLOSE_TEXT]
        )

    def _failed(self, _name: str, error: BaseException) -> None:
        match error:
            case ConnectionError():
                pass
            case TimeoutError():
                self.reason, self._code = "it never said what it wants", WSCloseCode.POLICY_VIOLATION
            case RemoteProtocolError():
                self._engine.count_fault(error.reason)
                self.reason, self._code = str(error), WSCloseCode.POLICY_VIOLATION
            case _:
                self.failure = "".join(traceback.format_exception(error))
                self.reason, self._code = f"an error of ours: {error!r}", WSCloseCode.INTERNAL_ERROR

    async def _read(self) -> None:
        """What the viewer says, until it closes the link."""
        async with asyncio.timeout(FIRST_LIMIT) as limit:
            while (data := await self._message()) is not None:
                limit.reschedule(None)
                begin = time.perf_counter()
                self._take(read_request(data))
                # Whoever talks much is listened to less; all of them together within the budget's share.
                await asyncio.sleep(REST * MAX_VIEWERS * (time.perf_counter() - begin))

    def _take(self, request: ViewRequest) -> None:
        self._viewer.take(request)
        if request.since is not None and not self._begun.is_set():
            self._since = request.since
        self._begun.set()
        self._wake.set()

    async def _message(self) -> bytes | str | None:
        """The next message; None when the viewer closed the link."""
        while True:
            message = await self._link.receive()
            match message.type:
                case WSMsgType.TEXT | WSMsgType.BINARY:
                    data: bytes | str = message.data
                    return data
                case WSMsgType.PONG:
                    self._answered(bytes(message.data))
                case WSMsgType.PING:
                    await self._link.pong(message.data)
                case WSMsgType.ERROR:
                    raise RemoteProtocolError(f"a frame cannot be read: {message.data}", reason="view")
                case WSMsgType.CLOSE:
                    parting = parting_of(message.data)
                    self.reason, self.parted = parting.value, parting is Parting.CLOSED
                    return None
                case _:
                    return None

    def _answered(self, data: bytes) -> None:
        if data == b"%d" % self._pings:
            self._pong.set()

    async def _collect(self, subscription: Subscription) -> None:
        """Events, from the bus to the viewer's account."""
        await self._begun.wait()
        # What came since this session began is in the history, too.
        subscription.drain()
        self._viewer.tell(self._engine.bus.after(self._since))
        while events := await subscription.get():
            self._viewer.tell(events)
        self.over = True
        self._pong.set()
        self._wake.set()
        await asyncio.Event().wait()  # what is left is told before the link is closed

    async def _send(self) -> None:
        """What the viewer is owed: at its beat, or when it asks; and only after it got the last."""
        await self._begun.wait()
        while True:
            await self._due()
            async with self._budget:
                messages = self._viewer.messages(asyncio.get_running_loop().time())
            if messages:
                await self._deliver(messages)
            if self.over and not self._viewer.backlog:
                self.reason, self._code = "the engine has ended", WSCloseCode.GOING_AWAY
                self.parted = True
                return

    async def _due(self) -> None:
        if self.over or self._viewer.backlog:
            return
        try:
            async with asyncio.timeout_at(self._viewer.due_at):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _deliver(self, messages: list[str]) -> None:
        for message in messages:
            await self._link.send_str(message)
        self._pong.clear()
        self._pings += 1
        await self._link.ping(b"%d" % self._pings)
        if not self.over:  # at the end nobody is waited for
            await self._wait_for_pong()

    async def _wait_for_pong(self) -> None:
        """However slow a viewer is, a link on which nothing comes back is one of those that it has left."""
        try:
            async with asyncio.timeout(PONG_LIMIT):
                await self._pong.wait()
        except TimeoutError:
            raise ConnectionError("no pong came") from None
