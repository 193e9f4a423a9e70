"""The QUIC side of the signalling server (wire spec 5)."""

from __future__ import annotations

import asyncio

from rtun_core.errors import CommandRefused, RemoteProtocolError, RtunError, Unauthorized
from rtun_core.net.quic_server import AcceptLimits, QuicAcceptor
from rtun_core.net.quic_transport import QuicStream
from rtun_core.net.tasks import TaskOwner
from rtun_core.net.tls import CertificatePair
from rtun_core.net.udp import UdpSocket
from rtun_core.signaling.config import ServerLimits
from rtun_core.signaling.switchboard import Switchboard, Target
from rtun_core.wire.address import Address
from rtun_core.wire.signal_json import (
    PubRequest,
    PubResponse,
    Request,
    SessionsRequest,
    SessionsResponse,
    SubRequest,
    SubResponse,
    decode_request,
    encode_response,
    unauthorized,
)

_GOODBYE_S = 3.0  # a client that has read its last answer closes the connection


class QuicListener:
    """Serves the three requests of the switchboard on one UDP port."""

    def __init__(self, board: Switchboard, limits: ServerLimits) -> None:
        self._board = board
        self._limits = limits
        self._tasks = TaskOwner("quic listener")
        self._acceptor: QuicAcceptor | None = None

    def start(self, address: Address, pair: CertificatePair) -> Address:
        """Listen; returns the address with the port that was bound. Raises BindError."""
        limits = AcceptLimits(
            connections=self._limits.max_connections,
            first_bytes=self._limits.first_frame + 4,
            max_frame=self._limits.max_frame,
        )
        self._acceptor = QuicAcceptor(
            UdpSocket.open(local=address), pair, limits, on_stream=self._on_stream, on_fault=self._fault
        )
        self._acceptor.start()
        return self._acceptor.address

    def install(self, pair: CertificatePair) -> None:
        """Use another certificate for new connections."""
        if self._acceptor is not None:
            self._acceptor.install(pair)

    async def close(self) -> None:
        """Drop every connection and stop listening."""
        await self._tasks.close()
        if self._acceptor is not None:
            self._acceptor.close()

    def _fault(self, reason: str) -> None:
        self._board.faults[reason] += 1

    def _on_stream(self, stream: QuicStream) -> None:
        self._tasks.spawn(self._serve(stream), f"client {stream.peer}")

    async def _serve(self, stream: QuicStream) -> None:
        try:
            request = await self._first_frame(stream)
            if request is not None:
                await self._dispatch(stream, request)
        except RtunError:
            # The connection ended while we answered; its end was counted where it was seen.
            self._fault("session")
        finally:
            if stream.fault:
                self._fault(stream.fault)
            await stream.close()

    async def _first_frame(self, stream: QuicStream) -> Request | None:
        """The request of a new connection, or None when it made none in time."""
        try:
            async with asyncio.timeout(self._limits.unauthenticated_time):
                await stream.link.connected()
                return decode_request(await stream.recv())
        except TimeoutError:
            self._fault("idle")
        except RemoteProtocolError as error:
            # A request of no known shape gets no answer (wire spec 5.4).
            self._fault(error.reason)
        except RtunError:
            self._fault("handshake" if not stream.link.established else "no request")
        return None

    async def _dispatch(self, stream: QuicStream, request: Request) -> None:
        if isinstance(request, SessionsRequest):
            answer = SessionsResponse(code=0, reason="", sessions=self._board.entries())
            await self._last(stream, encode_response(answer))
        elif isinstance(request, PubRequest):
            await self._pub(stream, request)
        else:
            await self._sub(stream, request)

    async def _pub(self, stream: QuicStream, request: PubRequest) -> None:
        name = request.agent or self._board.new_id()
        try:
            self._board.authorize(request.token)
            self._board.check_name(name)
        except RtunError as error:
            refusal = PubResponse(code=-1, reason=_reason(error), agent_name=None)
            await self._last(stream, encode_response(refusal))
            return
        stream.trust()
        await stream.send(encode_response(PubResponse(code=0, reason="", agent_name=name)))
        await self._board.serve_agent(stream, name=name, expire_in=request.expire_in, ver=request.ver)

    async def _sub(self, stream: QuicStream, request: SubRequest) -> None:
        try:
            target = self._authorized_target(request)
        except RtunError as error:
            await self._last(stream, encode_response(SubResponse(code=-1, reason=_reason(error))))
            return
        stream.trust()
        await stream.send(encode_response(SubResponse(code=0, reason="")))
        await self._board.serve_client(stream, target)

    def _authorized_target(self, request: SubRequest) -> Target:
        self._board.authorize(request.token)
        return self._board.find(request.agent, request.instance_id)

    async def _last(self, stream: QuicStream, answer: bytes) -> None:
        """Send the only answer, and give the client time to take it and go."""
        await stream.finish(answer)
        try:
            async with asyncio.timeout(_GOODBYE_S):
                while True:
                    await stream.recv()
        except (TimeoutError, RtunError):
            return


def _reason(error: RtunError) -> str:
    if isinstance(error, Unauthorized):
        return unauthorized(str(error))
    assert isinstance(error, CommandRefused)
    return str(error)
