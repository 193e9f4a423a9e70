import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.errors import CommandRefused, LocalProtocolError, RemoteProtocolError
from rtun_core.wire.control import (
    MAX_PENDING,
    MAX_QUEUED,
    Answer,
    ControlClient,
    ControlMessage,
    ControlService,
    error_answer,
    error_channel,
    error_p2p,
    error_script,
    error_status,
    kick_request,
    ok_status,
    refusal,
    response_type,
)
from rtun_core.wire.pb import rtun_pb2 as pb

OPEN = pb.C2ARequest(open_socks=pb.OpenSocksArgs(ch_id=1, peer_addr="127.0.0.1:50000"))
P2P = pb.C2ARequest(open_p2p=pb.P2PArgs(udp_relay=pb.UdpRelayArgs(target_addr="8.8.8.8:53")))
CLOSE = pb.C2ARequest(close_channel=pb.CloseChannelArgs(ch_id=1))
SCRIPT = pb.C2ARequest(exec_agent_script=pb.ExecAgentScriptArgs(name="noop"))
SHELL = pb.C2ARequest(open_sell=pb.OpenShellArgs(ch_id=1))
OPENED = pb.OpenChannelResponse(ch_id=1)
KINDS = [
    (SHELL, pb.OpenChannelResponse),
    (OPEN, pb.OpenChannelResponse),
    (CLOSE, pb.ResponseStatus),
    (kick_request(), pb.ResponseStatus),
    (P2P, pb.OpenP2PResponse),
    (SCRIPT, pb.ExecAgentScriptResult),
]


def ping(timestamp: int) -> pb.C2ARequest:
    return pb.C2ARequest(ping=pb.Ping(timestamp=timestamp))


def wire(message: ControlMessage | pb.C2ARequest) -> bytes:
    return message.SerializeToString()


# messages


def test_vectors() -> None:
    assert wire(ok_status()).hex() == "12026f6b"
    assert wire(kick_request()).hex() == (
        "2a2508ffffffffffffffffff0112187265706c616365206279206f746865722073657373696f6e"
    )
    assert wire(error_p2p("boom")).hex() == "121108ffffffffffffffffff011204626f6f6d"


@pytest.mark.parametrize(("request_", "kind"), KINDS)
def test_each_request_implies_its_answer(request_: pb.C2ARequest, kind: type[ControlMessage]) -> None:
    assert response_type(request_) is kind
    answer = error_answer(request_, "boom")
    assert type(answer) is kind
    assert refusal(answer) == "boom"


def test_pings_and_nothing_cannot_be_refused() -> None:
    assert response_type(ping(1)) is pb.Pong
    with pytest.raises(LocalProtocolError, match="ping"):
        error_answer(ping(1), "boom")
    with pytest.raises(LocalProtocolError, match="no variant"):
        response_type(pb.C2ARequest())


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (ok_status(), None),
        (error_status(""), "code -1 without a reason"),
        (OPENED, None),
        (error_channel("no"), "no"),
        (pb.OpenChannelResponse(), "the answer is empty"),
        (pb.OpenP2PResponse(args=pb.P2PArgs()), None),
        (pb.OpenP2PResponse(), "the answer is empty"),
        (pb.ExecAgentScriptResult(exit_code=1), None),
        (error_script("no"), "no"),
        (pb.Pong(timestamp=1), None),
    ],
)
def test_refusal(message: ControlMessage, reason: str | None) -> None:
    assert refusal(message) == reason


# client


def test_one_request_in_flight_and_answers_by_order() -> None:
    client = ControlClient()
    first = client.submit(OPEN, 0.0, 5.0)
    second = client.submit(CLOSE, 0.0, 5.0)
    assert client.packets_to_send(0.0) == [wire(OPEN)]
    assert client.packets_to_send(0.0) == []
    assert client.receive(wire(OPENED), 1.0) == [Answer(first, OPENED, None)]
    assert client.packets_to_send(1.0) == [wire(CLOSE)]
    assert client.receive(wire(ok_status()), 2.0) == [Answer(second, ok_status(), None)]


def test_several_in_flight_where_the_peer_can() -> None:
    client = ControlClient(max_in_flight=2)
    tickets = [client.submit(request, 0.0, 5.0) for request in (OPEN, CLOSE, P2P)]
    assert client.packets_to_send(0.0) == [wire(OPEN), wire(CLOSE)]
    assert client.receive(wire(OPENED), 1.0) == [Answer(tickets[0], OPENED, None)]
    assert client.packets_to_send(1.0) == [wire(P2P)]
    assert client.receive(wire(ok_status()), 1.0) == [Answer(tickets[1], ok_status(), None)]
    assert client.receive(wire(error_p2p("no")), 1.0) == [Answer(tickets[2], error_p2p("no"), None)]


def test_unsolicited_payloads_end_the_session() -> None:
    client = ControlClient()
    client.submit(OPEN, 0.0, 5.0)
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive(wire(OPENED), 0.0)
    assert caught.value.reason == "unsolicited"


def test_an_answer_of_another_shape() -> None:
    client = ControlClient()
    ticket = client.submit(OPEN, 0.0, 5.0)
    client.packets_to_send(0.0)
    with pytest.raises(RemoteProtocolError, match="OpenChannelResponse") as caught:
        client.receive(b"\xff", 0.0)
    assert caught.value.reason == "answer"
    assert client.close("lost") == [Answer(ticket, None, "lost")]


def test_an_empty_payload_closes() -> None:
    client = ControlClient()
    tickets = [client.submit(request, 0.0, 5.0) for request in (OPEN, CLOSE)]
    client.packets_to_send(0.0)
    error = "the peer closed the control session"
    assert client.receive(b"", 1.0) == [Answer(ticket, None, error) for ticket in tickets]
    assert client.closed
    assert client.next_deadline(1.0) is None
    assert client.packets_to_send(100.0) == []
    assert client.close("again") == []
    with pytest.raises(CommandRefused, match="closed"):
        client.submit(OPEN, 1.0, 5.0)


def test_the_queue_is_bounded() -> None:
    client = ControlClient()
    for _ in range(MAX_QUEUED):
        client.submit(OPEN, 0.0, 5.0)
    with pytest.raises(CommandRefused, match="64 control requests"):
        client.submit(OPEN, 0.0, 5.0)
    client.packets_to_send(0.0)
    client.submit(OPEN, 0.0, 5.0)


def test_requests_that_must_not_be_sent() -> None:
    client = ControlClient()
    huge = pb.C2ARequest(exec_agent_script=pb.ExecAgentScriptArgs(content=bytes(2**24)))
    for request, text in ((pb.C2ARequest(), "no variant"), (ping(0), "timestamp 0"), (huge, "too big")):
        with pytest.raises(LocalProtocolError, match=text):
            client.submit(request, 0.0, 5.0)
    assert client.packets_to_send(0.0) == []


def test_a_queued_request_expires_without_being_sent() -> None:
    client = ControlClient()
    first = client.submit(OPEN, 0.0, 30.0)
    second = client.submit(CLOSE, 0.0, 3.0)
    client.packets_to_send(0.0)
    assert client.next_deadline(0.0) == 3.0
    assert client.poll(2.9) == []
    [answer] = client.poll(3.0)
    assert (answer.ticket, answer.message) == (second, None)
    assert "not sent within 3 s" in str(answer.error)
    assert client.receive(wire(OPENED), 4.0) == [Answer(first, OPENED, None)]
    assert client.packets_to_send(4.0) == []


def test_a_late_answer_is_absorbed_by_its_own_request() -> None:
    client = ControlClient()
    first = client.submit(OPEN, 0.0, 3.0)
    client.packets_to_send(0.0)
    assert client.poll(3.0) == [Answer(first, None, "no answer within 3 s")]
    second = client.submit(CLOSE, 4.0, 30.0)
    assert client.packets_to_send(4.0) == []
    assert client.next_deadline(4.0) == 34.0
    assert client.receive(wire(OPENED), 20.0) == []
    assert client.packets_to_send(20.0) == [wire(CLOSE)]
    assert client.receive(wire(ok_status()), 21.0) == [Answer(second, ok_status(), None)]


def test_an_answer_that_never_comes_ends_the_session() -> None:
    client = ControlClient()
    client.submit(OPEN, 0.0, 3.0)
    client.packets_to_send(0.0)
    client.poll(3.5)
    waiting = client.submit(CLOSE, 4.0, 1000.0)
    assert client.next_deadline(4.0) == 63.5
    assert client.poll(63.4) == []
    with pytest.raises(RemoteProtocolError, match="63 s") as caught:
        client.poll(63.5)
    assert caught.value.reason == "unanswered"
    assert client.close("lost") == [Answer(waiting, None, "lost")]


def test_a_late_poll_still_delivers_an_answer_that_came() -> None:
    client = ControlClient()
    ticket = client.submit(OPEN, 0.0, 3.0)
    client.packets_to_send(0.0)
    assert client.receive(wire(OPENED), 5.0) == [Answer(ticket, OPENED, None)]


def test_a_ping_after_ten_idle_seconds() -> None:
    client = ControlClient()
    assert client.packets_to_send(100.0) == []
    assert client.next_deadline(105.0) == 110.0
    assert client.packets_to_send(109.9) == []
    assert client.packets_to_send(110.0) == [wire(ping(110_000))]
    assert client.next_deadline(110.0) == 200.0
    assert client.receive(wire(pb.Pong(timestamp=110_000)), 111.0) == []
    assert client.next_deadline(111.0) == 121.0


def test_requests_postpone_the_ping() -> None:
    client = ControlClient()
    client.packets_to_send(0.0)
    client.submit(OPEN, 9.0, 5.0)
    assert client.packets_to_send(9.0) == [wire(OPEN)]
    client.receive(wire(OPENED), 11.0)
    assert client.packets_to_send(20.9) == []
    assert client.packets_to_send(21.0) == [wire(ping(21_000))]


def test_no_pong_ends_the_session() -> None:
    client = ControlClient()
    client.next_deadline(0.0)
    assert len(client.packets_to_send(10.0)) == 1
    assert client.poll(99.9) == []
    with pytest.raises(RemoteProtocolError, match="90 s") as caught:
        client.poll(100.0)
    assert caught.value.reason == "ping"


def test_a_pong_must_echo() -> None:
    client = ControlClient()
    client.submit(ping(5), 0.0, 5.0)
    client.packets_to_send(0.0)
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive(wire(pb.Pong(timestamp=6)), 0.0)
    assert caught.value.reason == "ping"


@given(st.binary(max_size=40), st.sampled_from([request for request, _ in KINDS] + [ping(7)]))
def test_any_answer_is_delivered_or_refused(payload: bytes, request_: pb.C2ARequest) -> None:
    client = ControlClient()
    client.submit(request_, 0.0, 5.0)
    client.packets_to_send(0.0)
    try:
        answers = client.receive(payload, 0.0)
    except RemoteProtocolError as error:
        reason = error.reason
    else:
        assert len(answers) == 1
        assert client.closed == (payload == b"")
        return
    assert reason in ("answer", "ping")


# service


def test_answers_leave_in_the_order_of_the_requests() -> None:
    service = ControlService()
    tickets = []
    for request in (OPEN, CLOSE, P2P):
        received = service.receive(wire(request), 0.0)
        assert received is not None
        assert received[1] == request
        tickets.append(received[0])
    service.answer(tickets[2], error_p2p("no"))
    service.answer(tickets[1], ok_status())
    assert service.packets_to_send() == []
    service.answer(tickets[0], OPENED)
    assert service.packets_to_send() == [wire(OPENED), wire(ok_status()), wire(error_p2p("no"))]
    assert service.packets_to_send() == []


def test_a_ping_is_answered_inside_but_in_turn() -> None:
    service = ControlService()
    assert service.receive(wire(ping(5)), 0.0) is None
    assert service.packets_to_send() == [wire(pb.Pong(timestamp=5))]
    received = service.receive(wire(P2P), 0.0)
    assert received is not None
    assert service.receive(wire(ping(6)), 0.0) is None
    assert service.packets_to_send() == []
    service.answer(received[0], error_p2p("no"))
    assert service.packets_to_send() == [wire(error_p2p("no")), wire(pb.Pong(timestamp=6))]


@pytest.mark.parametrize(
    ("request_", "message", "sent"),
    [
        (CLOSE, pb.ResponseStatus(), ok_status()),
        (SCRIPT, pb.ExecAgentScriptResult(), pb.ExecAgentScriptResult(reason="ok")),
        (P2P, pb.OpenP2PResponse(), error_p2p("the answer is empty")),
        (OPEN, pb.OpenChannelResponse(), error_channel("the answer is empty")),
        (OPEN, pb.OpenChannelResponse(ch_id=0), pb.OpenChannelResponse(ch_id=0)),
    ],
)
def test_no_answer_is_empty(request_: pb.C2ARequest, message: ControlMessage, sent: ControlMessage) -> None:
    service = ControlService()
    received = service.receive(wire(request_), 0.0)
    assert received is not None
    service.answer(received[0], message)
    assert service.packets_to_send() == [wire(sent)]


def test_a_ping_without_timestamp_gets_a_pong_with_one() -> None:
    service = ControlService()
    service.receive(wire(ping(0)), 0.0)
    assert service.packets_to_send() == [wire(pb.Pong(timestamp=1))]


def test_wrong_answers_are_our_bug() -> None:
    service = ControlService()
    received = service.receive(wire(CLOSE), 0.0)
    assert received is not None
    with pytest.raises(LocalProtocolError, match="ResponseStatus, not OpenP2PResponse"):
        service.answer(received[0], error_p2p("no"))
    with pytest.raises(LocalProtocolError, match="ticket 99"):
        service.answer(99, ok_status())
    service.answer(received[0], ok_status())
    with pytest.raises(LocalProtocolError, match="no request waits"):
        service.answer(received[0], ok_status())


@pytest.mark.parametrize("payload", [b"\xff", bytes.fromhex("fa3e0161")])
def test_unknown_requests_end_the_session(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        ControlService().receive(payload, 0.0)
    assert caught.value.reason == "request"


def test_a_flood_ends_the_session() -> None:
    service = ControlService()
    service.receive(wire(OPEN), 0.0)
    for number in range(1, MAX_PENDING):
        service.receive(wire(ping(number)), 0.0)
    with pytest.raises(RemoteProtocolError) as caught:
        service.receive(wire(ping(99)), 0.0)
    assert caught.value.reason == "flood"


def test_the_watchdog() -> None:
    service = ControlService()
    assert not service.expired(100.0)
    assert service.deadline(120.0) == 160.0
    service.receive(wire(ping(1)), 150.0)
    assert not service.expired(209.9)
    assert service.expired(210.0)


def test_an_empty_payload_closes_the_service() -> None:
    service = ControlService()
    assert service.receive(b"", 0.0) is None
    assert service.closed


@given(st.binary(max_size=60))
def test_any_request_is_taken_or_refused(payload: bytes) -> None:
    service = ControlService()
    try:
        received = service.receive(payload, 0.0)
    except RemoteProtocolError as error:
        reason = error.reason
    else:
        if received is not None:
            service.answer(received[0], error_answer(received[1], "no"))
        assert all(service.packets_to_send())
        return
    assert reason == "request"


# both


class Joined:
    """A client and a service back to back; each request carries a number that its answer repeats."""

    def __init__(self, max_in_flight: int) -> None:
        self.now = 0.0
        self.limit = max_in_flight
        self.client = ControlClient(max_in_flight=max_in_flight)
        self.service = ControlService()
        self.pending: list[tuple[int, pb.C2ARequest]] = []
        self.numbers: dict[int, int] = {}
        self.done: dict[int, Answer] = {}
        self.unanswered = 0
        self.drained_at = 0.0

    def submit(self, timeout: float) -> None:
        number = len(self.numbers) + 1
        request = pb.C2ARequest(open_socks=pb.OpenSocksArgs(ch_id=number))
        self.numbers[self.client.submit(request, self.now, timeout)] = number

    def pump(self) -> None:
        """Let everything travel that can."""
        while payloads := self.client.packets_to_send(self.now):
            self.unanswered += len(payloads)
            assert self.unanswered <= self.limit
            for payload in payloads:
                received = self.service.receive(payload, self.now)
                if received is not None:
                    self.pending.append(received)
            for payload in self.service.packets_to_send():
                self.unanswered -= 1
                self.note(self.client.receive(payload, self.now))

    def answer(self, index: int) -> None:
        if not self.pending:
            return
        ticket, request = self.pending.pop(index % len(self.pending))
        self.service.answer(ticket, pb.OpenChannelResponse(ch_id=request.open_socks.ch_id))
        for payload in self.service.packets_to_send():
            self.unanswered -= 1
            self.note(self.client.receive(payload, self.now))

    def drain(self) -> None:
        while self.pending:
            self.answer(-1)
            self.pump()
        self.drained_at = self.now

    def wait(self, seconds: int) -> None:
        # A request must not stay unanswered for longer than the grace of a given-up one.
        if self.now + seconds - self.drained_at > 50:
            self.drain()
        self.now += seconds
        self.note(self.client.poll(self.now))

    def note(self, answers: list[Answer]) -> None:
        for answer in answers:
            assert answer.ticket not in self.done
            self.done[answer.ticket] = answer


STEPS = st.lists(
    st.tuples(st.just("submit"), st.sampled_from([2, 20]))
    | st.tuples(st.just("answer"), st.integers(0, 9))
    | st.tuples(st.just("wait"), st.integers(1, 12)),
    max_size=40,
)


@given(STEPS, st.integers(1, 4))
def test_joined_machines_answer_each_request_once_and_rightly(
    steps: list[tuple[str, int]], max_in_flight: int
) -> None:
    joined = Joined(max_in_flight)
    for step, number in steps:
        if step == "submit":
            joined.submit(number)
        elif step == "answer":
            joined.answer(number)
        else:
            joined.wait(number)
        joined.pump()
    joined.drain()
    assert joined.done.keys() == joined.numbers.keys()
    for ticket, answer in joined.done.items():
        assert (answer.message is None) != (answer.error is None)
        if isinstance(answer.message, pb.OpenChannelResponse):
            assert answer.message.ch_id == joined.numbers[ticket]
