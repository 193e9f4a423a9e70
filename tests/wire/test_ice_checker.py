"""The connectivity checker: dialogues with a clock that jumps, and pairs over a bad link."""

import heapq
from itertools import count
from random import Random

import pytest
from aioice.stun import message_integrity
from hypothesis import given, settings
from hypothesis import strategies as st

from rtun_core.errors import LocalProtocolError
from rtun_core.wire.address import Address
from rtun_core.wire.candidate import host_candidate
from rtun_core.wire.ice_checker import MAX_LEARNED, MAX_REMOTE, IceChecker, IceParams
from rtun_core.wire.stun import (
    binding_request,
    binding_success,
    parse_stun,
    plain_binding_request,
    verify_integrity,
)

A = Address("192.0.2.1", 1000)
B = Address("192.0.2.2", 2000)
C = Address("192.0.2.3", 3000)
US = IceParams("uuuuuuuu", "11111111", (host_candidate(Address("198.51.100.1", 9)),))
PEER = IceParams("pppppppp", "22222222", (host_candidate(A), host_candidate(B)))


class Dialogue:
    """One checker, the test as its peer, and a clock that moves when told."""

    def __init__(self, *, controlling: bool, remote: IceParams = PEER, start: bool = True) -> None:
        ids = count(1)
        self.now = 100.0
        self.controlling = controlling
        self.checker = IceChecker(
            controlling=controlling,
            local=US,
            remote=remote,
            tie_breaker=5,
            new_transaction_id=lambda: next(ids).to_bytes(12, "big"),
        )
        self._ids = count(1000)
        if start:
            self.checker.start(self.now)

    def sends(self) -> list[tuple[str, Address]]:
        """What the checker sends now, in short: ("check" | "nomination" | "answer", to)."""
        self.sent = self.checker.datagrams_to_send(self.now)
        return [(describe(data), to) for data, to in self.sent]

    def wait(self, seconds: float) -> list[tuple[str, Address]]:
        self.now += seconds
        self.checker.handle_timer(self.now)
        return self.sends()

    def answers(self, to: Address, source: Address | None = None, *, key: str = PEER.pwd) -> None:
        """The peer answers the last request that was sent to `to`."""
        request = next(data for data, target in self.sent if target == to and data[0] == 0)
        answer = binding_success(parse_stun(request).transaction_id, address=A, key=key)
        self.checker.receive(answer, source or to, self.now)

    def checks(self, source: Address, *, nominate: bool = False, **changes: object) -> bytes:
        data = self.request(nominate=nominate, **changes)
        self.checker.receive(data, source, self.now)
        return data

    def request(self, *, nominate: bool = False, **changes: object) -> bytes:
        parts = {
            "username": f"{US.ufrag}:{PEER.ufrag}",
            "key": US.pwd,
            "tie_breaker": 9,
            "controlling": not self.controlling,
            "priority": 77,
            "nominate": nominate,
        }
        return binding_request(next(self._ids).to_bytes(12, "big"), **(parts | changes))


def describe(data: bytes) -> str:
    message = parse_stun(data)
    if message.kind == "success":
        return "answer"
    return "nomination" if message.use_candidate else "check"


def test_all_candidates_are_checked_at_once_and_repeated():
    d = Dialogue(controlling=True)
    both = [("check", A), ("check", B)]
    assert d.sends() == both
    assert d.sends() == []
    assert d.checker.next_timer() == pytest.approx(d.now + 0.02)
    assert d.wait(0.02) == both
    assert d.checker.next_timer() == pytest.approx(d.now + 0.2)
    assert d.wait(0.15) == []
    assert d.wait(0.06) == both


def test_a_check_carries_the_credentials_of_the_peer():
    d = Dialogue(controlling=False)
    d.sends()
    message = parse_stun(d.sent[0][0])
    assert message.username == "pppppppp:uuuuuuuu"
    assert (message.controlling, message.tie_breaker) == (False, 5)
    assert message.priority == PEER.candidates[0].priority
    assert verify_integrity(d.sent[0][0], PEER.pwd)


def test_controlling_nominates_the_first_that_answers_and_stops():
    d = Dialogue(controlling=True)
    d.sends()
    d.now += 0.03
    d.answers(B)
    assert d.sends() == [("check", A), ("nomination", B)]
    nomination = d.sent[1:]
    d.answers(A)
    assert d.wait(0.011) == []
    d.sent = nomination
    d.answers(B)
    assert (d.checker.state, d.checker.selected) == ("connected", B)
    assert d.checker.rtt == pytest.approx(0.011)
    assert d.checker.next_timer() is None
    assert d.wait(20) == []
    assert d.checker.state == "connected"


def test_nomination_is_repeated_when_its_answer_is_overdue():
    d = Dialogue(controlling=True)
    d.sends()
    d.wait(0.4)
    d.answers(A)
    assert ("nomination", A) in d.sends()
    assert ("nomination", A) not in d.wait(0.5)
    assert ("nomination", A) in d.wait(0.11)
    assert ("nomination", A) in d.wait(0.21)


def test_a_slow_first_answer_does_not_delay_the_repetition_for_long():
    d = Dialogue(controlling=True)
    d.sends()
    d.wait(5)
    d.answers(A)
    assert ("nomination", A) in d.sends()
    assert ("nomination", A) in d.wait(1.01)


def test_data_from_the_nominated_address_replaces_a_lost_answer():
    d = Dialogue(controlling=True)
    d.checker.data_received(A)
    d.sends()
    d.answers(A)
    d.checker.data_received(B)
    assert d.checker.state == "checking"
    d.checker.data_received(A)
    assert d.checker.selected == A


def test_data_means_nothing_to_the_controlled_side():
    d = Dialogue(controlling=False)
    d.sends()
    d.answers(A)
    d.checker.data_received(A)
    assert d.checker.state == "checking"


def test_controlled_accepts_the_nomination_of_a_proven_address():
    d = Dialogue(controlling=False)
    d.sends()
    d.checks(A)
    assert d.checker.first_request_seen
    assert d.wait(0.01) == [("answer", A)]
    d.sent = [(c.data, c.target) for c in d.checker._checks.values()]
    d.answers(A)
    d.checks(A, nominate=True)
    assert (d.checker.state, d.checker.selected) == ("connected", A)
    assert d.sends() == [("answer", A)]
    assert d.wait(1) == []


def test_controlled_ignores_the_nomination_of_an_unproven_address():
    d = Dialogue(controlling=False)
    d.sends()
    d.checks(A, nominate=True)
    d.checks(C, nominate=True)
    assert d.sends() == []
    assert d.checker.counters["unproven"] == 2
    assert {to for _, to in d.wait(0.2)} == {A, B}


def test_controlling_takes_a_nomination_for_a_plain_check():
    d = Dialogue(controlling=True)
    d.sends()
    d.checks(A, nominate=True)
    assert d.sends() == [("answer", A)]
    assert d.checker.state == "checking"


def test_a_request_from_an_unknown_address_makes_it_a_candidate():
    d = Dialogue(controlling=True)
    d.sends()
    d.checks(C)
    assert d.sends() == [("answer", C), ("check", C)]
    assert parse_stun(d.sent[1][0]).priority == 77
    d.checks(C)
    assert d.sends() == [("answer", C)]
    d.checker.receive(answer_to(d, C), C, d.now)
    assert d.sends() == [("nomination", C)]


def answer_to(d: Dialogue, target: Address) -> bytes:
    """The answer to the check in flight to `target`."""
    transaction_id = next(key for key, check in d.checker._checks.items() if check.target == target)
    return binding_success(transaction_id, address=A, key=PEER.pwd)


def test_an_answer_from_another_address_makes_that_a_candidate():
    d = Dialogue(controlling=True)
    d.sends()
    d.answers(A, source=C)
    assert d.sends() == [("check", C)]
    d.answers(C)
    assert d.sends() == [("nomination", C)]
    d.answers(C)
    assert d.checker.selected == C


def test_the_response_tells_the_peer_its_address():
    d = Dialogue(controlling=True)
    request = d.checks(C)
    d.sends()
    message = parse_stun(d.sent[0][0])
    assert (message.kind, message.mapped) == ("success", C)
    assert message.transaction_id == parse_stun(request).transaction_id
    assert verify_integrity(d.sent[0][0], US.pwd)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"key": "wrong"}, "credentials"),
        ({"username": "uuuuuuuu:xxxxxxxx"}, "credentials"),
        ({"username": "xxxxxxxx:pppppppp"}, "credentials"),
        ({"controlling": True}, "role"),
    ],
)
def test_requests_that_are_not_the_peers_are_dropped(changes, reason):
    d = Dialogue(controlling=True)
    d.sends()
    d.checks(A, **changes)
    assert d.sends() == []
    assert d.checker.counters == {reason: 1}
    assert not d.checker.first_request_seen


def test_other_messages_are_counted_and_dropped():
    d = Dialogue(controlling=True)
    d.sends()
    d.checker.receive(b"nonsense", A, d.now)
    d.checker.receive(plain_binding_request(bytes(12)), A, d.now)
    d.checker.receive(b"\x01\x11" + plain_binding_request(bytes(12))[2:], A, d.now)
    d.checker.receive(binding_success(bytes(12), address=A, key=PEER.pwd), A, d.now)
    d.answers(A, key="wrong")
    assert d.sends() == []
    assert d.checker.counters == {
        "stun": 1,
        "credentials": 2,
        "ignored": 1,
        "unmatched": 1,
    }


def test_a_request_without_priority_is_dropped():
    d = Dialogue(controlling=True)
    data = d.request()
    at = data.index(b"\x00\x24\x00\x04")
    d.checker.receive(signed_again(data[:at] + data[at + 8 :]), A, d.now)
    assert d.checker.counters == {"priority": 1}


def signed_again(data: bytes) -> bytes:
    """`data` with the right length and MESSAGE-INTEGRITY, the last attribute."""
    body = data[:-24]
    body = body[:2] + (len(data) - 20).to_bytes(2, "big") + body[4:]
    return body + data[-24:-20] + message_integrity(body, US.pwd.encode())


def test_it_fails_at_the_time_limit_and_says_what_was_tried():
    d = Dialogue(controlling=False)
    d.wait(9.99)
    assert d.checker.state == "checking"
    d.answers(A)
    d.wait(0.01)
    assert d.checker.state == "failed"
    assert d.checker.failure == (
        "no pair was agreed on within 10 s: 1 local candidates, 2 of 2 remote candidates checked and "
        "0 learned; answered by: 192.0.2.1:1000; checks from the peer: none"
    )
    assert (d.checker.selected, d.checker.rtt, d.checker.next_timer()) == (None, None, None)
    d.checks(A)
    assert d.wait(1) == []


def test_without_candidates_it_waits_for_the_peer():
    d = Dialogue(controlling=True, remote=PEER._replace(candidates=()))
    assert d.checker.next_timer() == d.now + 10
    d.checks(C)
    assert d.sends() == [("answer", C), ("check", C)]


def test_after_the_selection_nominations_are_still_answered():
    d = connected_controlled()
    answer = d.checker.answer_after_selection(d.request(nominate=True), A)
    assert answer is not None
    assert parse_stun(answer).mapped == A
    assert d.checker.answer_after_selection(d.request(nominate=True, key="wrong"), A) is None
    assert d.checker.answer_after_selection(b"\0" * 30, A) is None
    assert d.checker.answer_after_selection(answer, A) is None
    d.checks(A, nominate=True)
    assert d.sends() == [("answer", A)]


def test_after_the_selection_plain_checks_get_no_answer():
    d = connected_controlled()
    d.checks(A)
    assert d.sends() == []
    assert d.checker.counters["late"] == 1


def test_the_controlling_side_answers_nothing_after_the_selection():
    d = Dialogue(controlling=True)
    d.sends()
    d.answers(A)
    d.sends()
    d.answers(A)
    assert d.checker.state == "connected"
    d.checks(A)
    assert d.sends() == []
    assert d.checker.answer_after_selection(d.request(), A) is None


def test_a_repeated_check_is_not_answered_behind_our_nomination():
    d = Dialogue(controlling=True)
    d.sends()
    again = d.checks(A)
    d.answers(A)
    assert d.sends() == [("answer", A), ("nomination", A)]
    d.checker.receive(again, A, d.now)
    assert d.sends() == []
    d.checks(A)
    assert d.sends() == [("answer", A)]


def test_a_repeated_check_is_answered_when_our_nomination_is_overdue():
    d = Dialogue(controlling=True)
    d.sends()
    again = d.checks(A)
    d.answers(A)
    d.sends()
    assert ("nomination", A) in d.wait(0.3)
    d.checker.receive(again, A, d.now)
    assert ("answer", A) in d.sends()


def test_repetitions_that_crossed_our_answer_on_a_long_path_get_none():
    d = Dialogue(controlling=False)
    d.sends()
    d.now += 0.5
    d.answers(A)
    nomination = d.checks(A, nominate=True)
    d.sends()
    answers = [d.checker.answer_after_selection(nomination, A) is not None for _ in range(4)]
    assert answers == [False, False, False, True]


def test_a_lost_nomination_answer_is_given_again_from_the_second_repetition():
    d = connected_controlled()
    assert d.checker.answer_after_selection(d.nomination, A) is None
    assert d.checker.counters["duplicate"] == 1
    assert d.checker.answer_after_selection(d.nomination, A) is not None


def connected_controlled() -> Dialogue:
    d = Dialogue(controlling=False)
    d.sends()
    d.answers(A)
    d.nomination = d.checks(A, nominate=True)
    assert d.sends() == [("answer", A)]
    return d


def test_remote_candidates_that_cannot_be_checked_are_left_out():
    odd = [Address("0.0.0.0", 1), Address("224.0.0.1", 1), Address("255.255.255.255", 1), Address("::1", 1)]
    remote = PEER._replace(candidates=tuple(map(host_candidate, [*odd, Address("192.0.2.1", 0), A, A])))
    d = Dialogue(controlling=True, remote=remote)
    assert d.sends() == [("check", A)]
    assert d.checker.counters == {"candidate": 5}


def test_ipv6_candidates_are_checked_where_the_socket_allows_it():
    remote = PEER._replace(candidates=(host_candidate(Address("::1", 1)), host_candidate(A)))
    checker = IceChecker(
        controlling=True,
        local=US,
        remote=remote,
        tie_breaker=1,
        new_transaction_id=lambda: bytes(12),
        families=(6,),
    )
    assert [to for _, to in checker.untracked_checks()] == [Address("::1", 1)]


def test_the_number_of_candidates_is_bounded():
    many = tuple(host_candidate(Address("192.0.2.9", 1 + n)) for n in range(MAX_REMOTE + 5))
    d = Dialogue(controlling=True, remote=PEER._replace(candidates=many))
    assert len(d.sends()) == MAX_REMOTE
    for n in range(MAX_LEARNED + 3):
        d.checks(Address("192.0.2.8", 1 + n))
    assert [kind for kind, _ in d.sends()].count("check") == MAX_LEARNED
    assert d.checker.counters == {"limit": 8}


def test_untracked_checks_leave_no_trace():
    d = Dialogue(controlling=False, start=False)
    burst = d.checker.untracked_checks()
    assert [to for _, to in burst] == [A, B]
    assert d.checker.next_timer() is None
    d.checker.receive(binding_success(parse_stun(burst[0][0]).transaction_id, address=A, key=PEER.pwd), A, 0)
    assert d.checker.counters == {"unmatched": 1}


def test_a_request_before_the_start_is_answered():
    d = Dialogue(controlling=False, start=False)
    d.checks(C)
    assert d.sends() == [("answer", C), ("check", C)]
    d.checker.start(d.now)
    assert d.sends() == [("check", A), ("check", B)]


def test_it_starts_once():
    d = Dialogue(controlling=True)
    with pytest.raises(LocalProtocolError):
        d.checker.start(d.now)


def test_the_password_is_not_in_the_repr():
    assert "22222222" not in repr(PEER)
    assert "pppppppp" in repr(PEER)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_leave_it_as_it_was(data, controlling):
    d = Dialogue(controlling=controlling)
    d.sends()
    d.checker.receive(data, A, d.now)
    d.checker.receive(plain_binding_request(bytes(12))[:20] + data, A, d.now)
    assert d.sends() == []
    assert d.checker.state == "checking"


class Link:
    """Two checkers behind addresses; every datagram may be lost, delayed, doubled or have no way at all.

    `ways` are the (client address, agent address) pairs that work. A datagram sent to an agent address
    comes from the client address of that way, as behind a NAT.
    """

    def __init__(self, client, agent, ways, *, loss: float, delay: float, blackout: float, rng: Random):
        self._sides = (client, agent)
        self._ways = ways
        self._loss, self._delay, self._blackout, self._rng = loss, delay, blackout, rng
        self._queue: list[tuple[float, int, int, bytes, Address]] = []
        self._order = count()
        self.requests_after_selection = 0

    def run(self, starts: tuple[float, float], until: float) -> None:
        started = [False, False]
        now = 0.0
        while now <= until:
            for side, checker in enumerate(self._sides):
                if not started[side] and now >= starts[side]:
                    checker.start(now)
                    started[side] = True
                checker.handle_timer(now)
            while self._queue and self._queue[0][0] <= now:
                _, _, side, data, source = heapq.heappop(self._queue)
                if started[side]:
                    self._sides[side].receive(data, source, now)
            for side, checker in enumerate(self._sides):
                for data, to in checker.datagrams_to_send(now):
                    self._send(side, data, to, now)
            now += 0.005

    def _send(self, side: int, data: bytes, to: Address, now: float) -> None:
        if self._sides[side].state == "connected" and data[:2] == b"\0\1":
            self.requests_after_selection += 1
        for way in self._ways:
            if way[1 - side] == to and now >= self._blackout:
                for _ in range(self._rng.choice([1, 1, 1, 2])):
                    if self._rng.random() >= self._loss:
                        at = now + self._delay * self._rng.uniform(0.5, 1.5)
                        heapq.heappush(self._queue, (at, next(self._order), 1 - side, data, way[side]))


def pair(ways, rng):
    """A client and an agent that each know the addresses of the other, and one that leads nowhere."""
    nowhere = host_candidate(Address("203.0.113.99", 9))
    client = IceParams("clientxx", "cccccccc", (nowhere, *(host_candidate(way[0]) for way in ways)))
    agent = IceParams("agentxxx", "aaaaaaaa", (nowhere, *(host_candidate(way[1]) for way in ways)))

    def checker(controlling, local, remote):
        return IceChecker(
            controlling=controlling,
            local=local,
            remote=remote,
            tie_breaker=1,
            new_transaction_id=lambda: rng.randbytes(12),
        )

    return checker(True, client, agent), checker(False, agent, client)


WAYS = [(Address("10.0.0.1", 100 + n), Address("10.0.0.2", 200 + n)) for n in range(4)]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    ways=st.integers(1, 4),
    loss=st.sampled_from([0.0, 0.1, 0.3]),
    delay=st.floats(0.0, 0.4),
    blackout=st.sampled_from([0.0, 0.5, 2.0]),
    gap=st.floats(0.0, 0.5),
)
def test_two_checkers_agree_over_a_bad_link(seed, ways, loss, delay, blackout, gap):
    rng = Random(seed)
    client, agent = pair(WAYS[:ways], rng)
    link = Link(client, agent, WAYS[:ways], loss=loss, delay=delay, blackout=blackout, rng=rng)
    link.run((gap, 0.0), until=11)
    assert (client.state, agent.state) == ("connected", "connected")
    assert (client.selected, agent.selected) in [(way[1], way[0]) for way in WAYS[:ways]]
    assert link.requests_after_selection == 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), loss=st.floats(0.5, 1.0), blackout=st.floats(0, 12))
def test_over_a_dead_link_neither_is_left_checking_nor_mistaken(seed, loss, blackout):
    rng = Random(seed)
    client, agent = pair(WAYS[:2], rng)
    link = Link(client, agent, WAYS[:2], loss=loss, delay=0.05, blackout=blackout, rng=rng)
    link.run((0.0, 0.2), until=11)
    assert "checking" not in (client.state, agent.state)
    if client.state == "connected":
        assert agent.state == "connected"
        assert (client.selected, agent.selected) in [(way[1], way[0]) for way in WAYS[:2]]


def test_peer_reflexive_addresses_alone_are_enough():
    rng = Random(1)
    client, agent = pair(WAYS[:1], rng)
    behind_nat = (Address("198.51.100.7", 4444), WAYS[0][1])
    Link(client, agent, [behind_nat], loss=0, delay=0.02, blackout=0, rng=rng).run((0.0, 0.0), until=1)
    assert (client.selected, agent.selected) == (behind_nat[1], behind_nat[0])
