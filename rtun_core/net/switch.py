"""The two ends of a control channel over a switch session: who asks, and who answers (wire spec 6.3).

On a session between server and agent the server asks; between client and server the client asks.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Protocol

from rtun_core.errors import (
    CommandRefused,
    RemoteProtocolError,
    RtunError,
    SignalingError,
)
from rtun_core.net.packet_transport import PacketTransport
from rtun_core.net.switch_session import Channel, SwitchSession
from rtun_core.wire.control import (
    Answer,
    ControlClient,
    ControlMessage,
    ControlService,
    error_answer,
    ok_status,
)
from rtun_core.wire.pb import rtun_pb2 as pb

__all__ = ["Channel", "ClientSession", "ControlHandler", "ServiceSession", "SwitchSession"]

_LAST_ANSWER_S = 2.0


class ControlHandler(Protocol):
    """Answers the requests of a control channel, other than `ping` and `kick_down`."""

    async def handle(self, request: pb.C2ARequest) -> ControlMessage:
        """Return the answer in the type that the request implies; an exception becomes an error answer.

        Called concurrently. A channel must be opened before its number is answered.
        """


class ClientSession(SwitchSession):
    """The asking end: requests with time-outs, a ping when nothing was asked for 10 s.

    `max_in_flight` above 1 is only for peers known to answer in order without losing any.
    """

    def __init__(self, transport: PacketTransport, *, max_in_flight: int = 1, name: str = "client") -> None:
        super().__init__(transport, name=name)
        self._control = ControlClient(max_in_flight=max_in_flight)
        self._waiting: dict[int, asyncio.Future[ControlMessage]] = {}
        self._wake = asyncio.Event()

    @property
    def pending(self) -> int:
        """Requests that wait for their answer, for `SignalView`."""
        return len(self._waiting)

    async def request(self, request: pb.C2ARequest, *, timeout: float) -> ControlMessage:
        """Ask and return the peer's answer, which may be a refusal; time in the queue counts too.

        Raises SignalingError when no answer came within `timeout` seconds or the session ended.
        """
        loop = asyncio.get_running_loop()
        try:
            ticket = self._control.submit(request, loop.time(), timeout)
        except CommandRefused as error:
            raise SignalingError(self.close_reason or str(error)) from None
        future: asyncio.Future[ControlMessage] = loop.create_future()
        self._waiting[ticket] = future
        self._wake.set()
        try:
            return await future
        finally:
            self._waiting.pop(ticket, None)

    async def ping(self, timeout: float) -> float:
        """Ask the peer for a sign of life; seconds until it came. Raises SignalingError."""
        started = time.perf_counter()
        stamp = max(1, time.time_ns() // 1_000_000)
        await self.request(pb.C2ARequest(ping=pb.Ping(timestamp=stamp)), timeout=timeout)
        return time.perf_counter() - started

    def _on_start(self) -> None:
        self._tasks.spawn(self._pump(), "control")

    def _on_end(self, reason: str) -> None:
        self._resolve(self._control.close(reason))
        self._wake.set()

    def _on_control(self, payload: bytes) -> None:
        self._resolve(self._control.receive(payload, asyncio.get_running_loop().time()))
        if self._control.closed:
            self.end("the peer closed the control channel")
        self._wake.set()

    async def _pump(self) -> None:
        """Send what is due, fail what is late, and sleep until the next of both."""
        loop = asyncio.get_running_loop()
        while not self.closed.is_set():
            self._wake.clear()
            try:
                self._resolve(self._control.poll(loop.time()))
            except RemoteProtocolError as error:
                self.faults[error.reason] += 1
                self.end(str(error))
                return
            self._send_control(self._control.packets_to_send(loop.time()))
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._control.next_deadline(loop.time())):
                    await self._wake.wait()

    def _resolve(self, answers: list[Answer]) -> None:
        for answer in answers:
            future = self._waiting.get(answer.ticket)
            if future is None or future.done():
                continue
            if answer.message is not None:
                future.set_result(answer.message)
            else:
                future.set_exception(SignalingError(answer.error or "no answer"))


class ServiceSession(SwitchSession):
    """The answering end: requests are worked on concurrently, answers leave in the order of the requests.

    `kicked` tells that the peer ended the session with `kick_down`.
    """

    def __init__(self, transport: PacketTransport, *, name: str = "service") -> None:
        super().__init__(transport, name=name)
        self.kicked = False
        self._service = ControlService()
        self._handler: ControlHandler | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def run(self, handler: ControlHandler) -> str:
        """Answer requests until the session ends; returns the reason. Cancellation closes the session."""
        self._handler = handler
        self.start()
        try:
            await self.closed.wait()
        finally:
            await self.close("the session was closed on this side")
        return self.close_reason

    async def settle(self) -> None:
        """Wait until the requests that came until now are answered."""
        if self._serving:
            await asyncio.wait(list(self._serving))
        await self._flush_control()

    def _on_start(self) -> None:
        self._tasks.spawn(self._watch(), "watchdog")

    def _on_control(self, payload: bytes) -> None:
        work = self._service.receive(payload, asyncio.get_running_loop().time())
        if self._service.closed:
            self.end("the peer closed the control channel")
            return
        self._send_control(self._service.packets_to_send())
        if work is None or self.closed.is_set():
            return
        ticket, request = work
        if request.WhichOneof("c2a_req_args") == "kick_down":
            self._kick(ticket, request.kick_down)
        else:
            task = self._tasks.spawn(self._serve(ticket, request), "request")
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    def _kick(self, ticket: int, kick: pb.KickDownArgs) -> None:
        self.kicked = True
        self._answer(ticket, ok_status())
        self._tasks.spawn(self._end_after_answers(f"kicked down by the peer: {kick.reason}"), "kick")

    async def _end_after_answers(self, reason: str) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_ANSWER_S):
                await self._flush_control()
        self.end(reason)

    async def _serve(self, ticket: int, request: pb.C2ARequest) -> None:
        assert self._handler is not None, "a request arrived before run"
        try:
            answer = await self._handler.handle(request)
            self._answer(ticket, answer)
        except (RtunError, OSError) as error:
            self._answer(ticket, error_answer(request, str(error) or type(error).__name__))
        except Exception as error:
            # A bug of ours must not leave the peer waiting: it gets an answer, and the loop the report.
            self._answer(ticket, error_answer(request, f"internal error: {type(error).__name__}"))
            self._report(f"the request {request.WhichOneof('c2a_req_args')}", error)

    def _answer(self, ticket: int, message: ControlMessage) -> None:
        self._service.answer(ticket, message)
        self._send_control(self._service.packets_to_send())

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._service.expired(loop.time()):
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._service.deadline(loop.time())):
                    await self.closed.wait()
                    return
        self.faults["silent"] += 1
        self.end("the peer was silent on the control channel for too long")
