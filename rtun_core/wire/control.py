"""The control channel of a switch session: requests and answers on channel 0 (wire spec 6.3).

Each payload of channel 0 is one bare protobuf message. Nothing on the wire ties an answer to its
request except the order, and nothing names the type of an answer except the request before it. So:

* the client sends a request only while fewer than `max_in_flight` are unanswered (one, towards the
  programs in the field), and the oldest unanswered request takes the next payload;
* a request that its caller has given up still owns the next payload, and its place in flight;
* the service answers in the order of the requests, in whatever order its own work ends;
* no answer may be empty on the wire, since an empty payload closes the channel.

Times are seconds of any one clock that does not go backwards.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from google.protobuf.message import DecodeError

from rtun_core.errors import CommandRefused, LocalProtocolError, RemoteProtocolError
from rtun_core.wire.pb import rtun_pb2 as pb
from rtun_core.wire.switch_packet import MAX_PACKET

ControlMessage = (
    pb.ResponseStatus | pb.Pong | pb.OpenChannelResponse | pb.OpenP2PResponse | pb.ExecAgentScriptResult
)
ControlType = (
    type[pb.ResponseStatus]
    | type[pb.Pong]
    | type[pb.OpenChannelResponse]
    | type[pb.OpenP2PResponse]
    | type[pb.ExecAgentScriptResult]
)

MAX_QUEUED = 64
MAX_PENDING = 32
PING_AFTER = 10.0
PING_TIMEOUT = 90.0
ORPHAN_GRACE = 60.0
WATCHDOG = 60.0
REPLACED = "replace by other session"

_MAX_REQUEST = MAX_PACKET - 16  # room for the packet's own fields
_RESPONSE_TYPES: dict[str, ControlType] = {
    "open_sell": pb.OpenChannelResponse,
    "open_socks": pb.OpenChannelResponse,
    "close_channel": pb.ResponseStatus,
    "ping": pb.Pong,
    "kick_down": pb.ResponseStatus,
    "open_p2p": pb.OpenP2PResponse,
    "exec_agent_script": pb.ExecAgentScriptResult,
}


def response_type(request: pb.C2ARequest) -> ControlType:
    """The message class that answers `request`. Raises LocalProtocolError for a request without variant."""
    variant = request.WhichOneof("c2a_req_args")
    if variant is None:
        raise LocalProtocolError("a control request has no variant")
    return _RESPONSE_TYPES[variant]


def kick_request(reason: str = REPLACED) -> pb.C2ARequest:
    """Build the request that ends the session of an agent."""
    return pb.C2ARequest(kick_down=pb.KickDownArgs(code=-1, reason=reason))


def ok_status() -> pb.ResponseStatus:
    """Build the status of success, which is not empty on the wire."""
    return pb.ResponseStatus(code=0, reason="ok")


def error_status(reason: str) -> pb.ResponseStatus:
    """Build the status of failure."""
    return pb.ResponseStatus(code=-1, reason=reason)


def error_p2p(reason: str) -> pb.OpenP2PResponse:
    """Build the refusal of `open_p2p`."""
    return pb.OpenP2PResponse(status=error_status(reason))


def error_channel(reason: str) -> pb.OpenChannelResponse:
    """Build the refusal of `open_sell` or `open_socks`."""
    return pb.OpenChannelResponse(status=error_status(reason))


def error_script(reason: str) -> pb.ExecAgentScriptResult:
    """Build the refusal of `exec_agent_script`."""
    return pb.ExecAgentScriptResult(status_code=-1, reason=reason)


def error_answer(request: pb.C2ARequest, reason: str) -> ControlMessage:
    """Build the refusal of any request but a ping, in the type that the request implies."""
    kind = response_type(request)
    if kind is pb.OpenP2PResponse:
        return error_p2p(reason)
    if kind is pb.OpenChannelResponse:
        return error_channel(reason)
    if kind is pb.ExecAgentScriptResult:
        return error_script(reason)
    if kind is pb.ResponseStatus:
        return error_status(reason)
    raise LocalProtocolError("a ping cannot be refused")


def refusal(message: ControlMessage) -> str | None:
    """The reason why the peer refused, or None if `message` reports success.

    An `OpenP2PResponse` or `OpenChannelResponse` that carries neither result nor status is a refusal too.
    """
    if isinstance(message, pb.ResponseStatus):
        return None if message.code == 0 else _reason(message.code, message.reason)
    if isinstance(message, pb.ExecAgentScriptResult):
        return None if message.status_code == 0 else _reason(message.status_code, message.reason)
    if isinstance(message, pb.Pong):
        return None
    arm = (
        message.WhichOneof("open_p2p_rsp")
        if isinstance(message, pb.OpenP2PResponse)
        else message.WhichOneof("open_ch_rsp")
    )
    if arm is None:
        return "the answer is empty"
    return _reason(message.status.code, message.status.reason) if arm == "status" else None


def _reason(code: int, reason: str) -> str:
    return reason or f"code {code} without a reason"


class Answer(NamedTuple):
    """What became of a submitted request: the peer's message (maybe a `refusal`), or else an error text."""

    ticket: int
    message: ControlMessage | None
    error: str | None


@dataclass
class _Request:
    ticket: int | None  # None: a ping of our own, or a caller that has given up
    payload: bytes
    kind: ControlType
    timestamp: int  # of a ping
    timeout: float
    deadline: float


class ControlClient:
    """The asking side of channel 0: a queue of requests, answers matched by order, keepalive pings.

    Call `packets_to_send` after every other call, and `poll` no later than `next_deadline`. When a call
    raises RemoteProtocolError the session is lost: `close` then fails what is still outstanding.
    """

    def __init__(self, *, max_in_flight: int = 1, max_queued: int = MAX_QUEUED) -> None:
        self._max_in_flight = max_in_flight
        self._max_queued = max_queued
        self._queue: deque[_Request] = deque()
        self._in_flight: deque[_Request] = deque()
        self._next_ticket = 1
        self._idle_since: float | None = None
        self.closed = False

    def submit(self, request: pb.C2ARequest, now: float, timeout: float) -> int:
        """Queue `request`, to be answered within `timeout` seconds from `now`; returns its ticket.

        Raises CommandRefused if the queue is full or the session is closed, LocalProtocolError for a
        request that must not be sent: none at all, an oversize one, a ping with timestamp 0.
        """
        if self.closed:
            raise CommandRefused("the control session is closed")
        if len(self._queue) >= self._max_queued:
            raise CommandRefused(f"{len(self._queue)} control requests are waiting already")
        entry = _request(request, self._next_ticket, now, timeout)
        self._next_ticket += 1
        self._queue.append(entry)
        return self._next_ticket - 1

    def packets_to_send(self, now: float) -> list[bytes]:
        """Payloads that may go out on channel 0 now, in order; a ping if nothing went on for 10 s."""
        if self._is_idle and now >= self._ping_due(now):
            ping = pb.C2ARequest(ping=pb.Ping(timestamp=max(1, int(now * 1000))))
            self._queue.append(_request(ping, None, now, PING_TIMEOUT))
        payloads = []
        while self._queue and len(self._in_flight) < self._max_in_flight:
            entry = self._queue.popleft()
            self._in_flight.append(entry)
            payloads.append(entry.payload)
        return payloads

    def receive(self, payload: bytes, now: float) -> list[Answer]:
        """Take one payload of channel 0; an empty one closes the session and fails all requests.

        Raises RemoteProtocolError with the reason "unsolicited", "answer" (not of the type that the
        request implies) or "ping" (a Pong with another timestamp).
        """
        if not payload:
            return self.close("the peer closed the control session")
        if not self._in_flight:
            raise RemoteProtocolError("an answer came without a request", reason="unsolicited")
        entry = self._in_flight[0]
        message = _parse_answer(entry, payload)
        self._in_flight.popleft()
        self._idle_since = now
        return [] if entry.ticket is None else [Answer(entry.ticket, message, None)]

    def poll(self, now: float) -> list[Answer]:
        """Fail the requests whose time is up.

        Raises RemoteProtocolError(reason="ping") when our ping stays unanswered for 90 s, and
        (reason="unanswered") when a given-up request still is unanswered 60 s later.
        """
        for entry in self._in_flight:
            if entry.ticket is None and now >= entry.deadline:
                reason = "ping" if entry.kind is pb.Pong else "unanswered"
                raise RemoteProtocolError(f"a request got no answer in {entry.timeout:g} s", reason=reason)
        return self._orphan_late(now) + self._drop_unsent(now)

    def close(self, error: str) -> list[Answer]:
        """End the session: all outstanding requests fail with `error`. Idempotent."""
        self.closed = True
        entries = [*self._in_flight, *self._queue]
        self._in_flight.clear()
        self._queue.clear()
        return [Answer(entry.ticket, None, error) for entry in entries if entry.ticket is not None]

    def next_deadline(self, now: float) -> float | None:
        """When `poll` and `packets_to_send` next have something to do; None once closed."""
        if self.closed:
            return None
        if self._is_idle:
            return self._ping_due(now)
        return min(entry.deadline for entry in (*self._in_flight, *self._queue))

    @property
    def _is_idle(self) -> bool:
        return not (self.closed or self._queue or self._in_flight)

    def _ping_due(self, now: float) -> float:
        if self._idle_since is None:
            self._idle_since = now
        return self._idle_since + PING_AFTER

    def _orphan_late(self, now: float) -> list[Answer]:
        answers = []
        for entry in self._in_flight:
            if entry.ticket is not None and now >= entry.deadline:
                answers.append(Answer(entry.ticket, None, f"no answer within {entry.timeout:g} s"))
                # The place in flight stays taken: the late answer must not be given to the next request.
                entry.ticket, entry.deadline = None, now + ORPHAN_GRACE
                entry.timeout += ORPHAN_GRACE
        return answers

    def _drop_unsent(self, now: float) -> list[Answer]:
        late = [entry for entry in self._queue if now >= entry.deadline]
        self._queue = deque(entry for entry in self._queue if now < entry.deadline)
        text = "not sent within {:g} s: earlier requests are unanswered"
        return [Answer(e.ticket, None, text.format(e.timeout)) for e in late if e.ticket is not None]


def _request(request: pb.C2ARequest, ticket: int | None, now: float, timeout: float) -> _Request:
    kind = response_type(request)
    if kind is pb.Pong and request.ping.timestamp == 0:
        raise LocalProtocolError("a ping with timestamp 0 has an empty answer")
    payload = request.SerializeToString()
    if len(payload) > _MAX_REQUEST:
        raise LocalProtocolError(f"a control request of {len(payload)} bytes is too big")
    return _Request(ticket, payload, kind, request.ping.timestamp, timeout, now + timeout)


def _parse_answer(entry: _Request, payload: bytes) -> ControlMessage:
    try:
        message = entry.kind.FromString(payload)
    except DecodeError:
        text = f"an answer is not the expected {entry.kind.__name__}"
        raise RemoteProtocolError(text, reason="answer") from None
    if isinstance(message, pb.Pong) and message.timestamp != entry.timestamp:
        raise RemoteProtocolError("a pong answers another ping", reason="ping")
    return message


@dataclass
class _Slot:
    ticket: int
    kind: ControlType
    payload: bytes | None = None


class ControlService:
    """The answering side of channel 0: requests come out as tickets, answers leave in request order.

    Pings are answered here, in their turn. Call `packets_to_send` after `receive` and `answer`.
    """

    def __init__(self, *, max_pending: int = MAX_PENDING) -> None:
        self._max_pending = max_pending
        self._slots: deque[_Slot] = deque()
        self._next_ticket = 1
        self._heard_at: float | None = None
        self.closed = False

    def receive(self, payload: bytes, now: float) -> tuple[int, pb.C2ARequest] | None:
        """Take one payload of channel 0: (ticket, request) to be answered, or None if nothing is to do.

        An empty payload sets `closed`. Raises RemoteProtocolError with the reason "request" (not a
        request we know) or "flood" (too many unanswered); either ends the session.
        """
        if not payload:
            self.closed = True
            return None
        self._heard_at = now
        request = _parse_request(payload)
        if len(self._slots) >= self._max_pending:
            raise RemoteProtocolError(
                f"more than {self._max_pending} requests are unanswered", reason="flood"
            )
        slot = _Slot(self._next_ticket, response_type(request))
        self._next_ticket += 1
        self._slots.append(slot)
        if slot.kind is pb.Pong:
            slot.payload = _never_empty(pb.Pong(timestamp=request.ping.timestamp))
            return None
        return slot.ticket, request

    def answer(self, ticket: int, message: ControlMessage) -> None:
        """Give the answer to `ticket`, in any order.

        Raises LocalProtocolError if the ticket is unknown or answered, or the type is not the one
        that the request implies.
        """
        slot = next((slot for slot in self._slots if slot.ticket == ticket), None)
        if slot is None or slot.payload is not None:
            raise LocalProtocolError(f"no request waits for an answer under ticket {ticket}")
        if not isinstance(message, slot.kind):
            expected, given = slot.kind.__name__, type(message).__name__
            raise LocalProtocolError(f"the request is answered by {expected}, not {given}")
        slot.payload = _never_empty(message)

    def packets_to_send(self) -> list[bytes]:
        """Payloads that may go out on channel 0 now: all answers before the first one missing."""
        payloads = []
        while self._slots and self._slots[0].payload is not None:
            payloads.append(self._slots[0].payload)
            self._slots.popleft()
        return payloads

    def deadline(self, now: float) -> float:
        """When `expired` becomes true unless another packet arrives. The first call starts the watch."""
        if self._heard_at is None:
            self._heard_at = now
        return self._heard_at + WATCHDOG

    def expired(self, now: float) -> bool:
        """Whether no control packet has come for 60 s. The first call starts the watch."""
        return now >= self.deadline(now)


def _parse_request(payload: bytes) -> pb.C2ARequest:
    try:
        request = pb.C2ARequest.FromString(payload)
    except DecodeError:
        raise RemoteProtocolError("a control request is malformed", reason="request") from None
    if request.WhichOneof("c2a_req_args") is None:
        raise RemoteProtocolError("a control request is of an unknown kind", reason="request")
    return request


def _never_empty(message: ControlMessage) -> bytes:
    payload = message.SerializeToString()
    if payload:
        return payload
    # Only a message of nothing but default values comes here: a plain success, or an answer without arm.
    if isinstance(message, pb.Pong):
        return pb.Pong(timestamp=1).SerializeToString()
    if isinstance(message, pb.ExecAgentScriptResult):
        return pb.ExecAgentScriptResult(reason="ok").SerializeToString()
    if isinstance(message, pb.ResponseStatus):
        return ok_status().SerializeToString()
    empty = error_p2p if isinstance(message, pb.OpenP2PResponse) else error_channel
    return empty("the answer is empty").SerializeToString()
