"""The connectivity checker of the ICE dialect, sans-IO (wire spec 8.5).

                       success for a plain check       success for the nomination,
    controlling        -> nominate that address        or data from the nominated address
    "checking" --------------------------------------------------------------> "connected"
    controlled         request with USE-CANDIDATE from an address that answered a check of ours

    "checking" -- the time limit passes -> "failed"

Every remote candidate is checked at once; the first address that answers is nominated, whatever its
priority. Authenticated requests from unknown addresses are answered and make those addresses
peer-reflexive candidates.

The caller moves datagrams and time: after each `start`, `receive` and `handle_timer` it sends what
`datagrams_to_send` returns, and calls again no later than `next_timer`.

Old builds of the original read relay frames from the moment they have selected and end the tunnel on a
STUN message (wire spec 9.8). So no request leaves once a pair is selected, the nomination is repeated
only after its answer is overdue, and after the selection only nominations are answered: an answer to
one may have been lost, while the answers to plain checks are no longer of use to anyone. Repetitions
that the peer has sent before our answer could reach it get none; nor do repeated plain checks while our
nomination is on its way, since their answers would arrive behind it.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from rtun_core.errors import LocalProtocolError, RemoteProtocolError
from rtun_core.wire.address import Address
from rtun_core.wire.candidate import Candidate, candidate_priority
from rtun_core.wire.stun import StunMessage, binding_request, binding_success, parse_stun, verify_integrity

TIME_LIMIT: Final = 10.0
"""Seconds from `start` until a checker without a selected pair fails."""

MAX_REMOTE: Final = 64
"""Remote candidates that are checked; further ones are counted and left out."""

MAX_LEARNED: Final = 32
"""Peer-reflexive candidates that are learned; checks from further addresses are answered only."""

_FIRST_RETRANSMISSION = 0.02
_RETRANSMISSION = 0.2
_OVERDUE = 1.5  # times the measured round trip: when to repeat the nomination for the first time,
_OVERDUE_LIMIT = 1.0  # but no later than this, as lost checks make the measurement too long

CheckerState = Literal["checking", "connected", "failed"]


class IceParams(NamedTuple):
    """What one side tells the other: short-term credentials and candidates."""

    ufrag: str
    pwd: str
    candidates: tuple[Candidate, ...]

    def __repr__(self) -> str:
        """Without the password, so that it cannot get into a log."""
        return f"IceParams(ufrag={self.ufrag!r}, candidates={self.candidates!r})"


@dataclass(slots=True)
class _Check:
    """A request in flight; `due` is when it is sent next, `first_sent` None until it was sent once.

    `repeated` tells that it was sent again, for want of an answer.
    """

    data: bytes
    target: Address
    nomination: bool
    due: float
    interval: float
    first_sent: float | None = None
    repeated: bool = False


class IceChecker:
    """Finds one working pair with one peer over one socket.

    `counters` (the caller's, if given) has an entry per reason for which a message was ignored: stun
    (malformed), credentials, priority (absent), role (the peer claims ours), unproven (nomination of an
    address that has not answered us), unmatched (answer to nothing), ignored (errors and other kinds),
    late (a plain check after the selection), duplicate, candidate (a remote one that cannot be checked),
    limit.
    """

    def __init__(
        self,
        *,
        controlling: bool,
        local: IceParams,
        remote: IceParams,
        tie_breaker: int,
        new_transaction_id: Callable[[], bytes],
        families: Sequence[Literal[4, 6]] = (4,),
        counters: Counter[str] | None = None,
    ) -> None:
        self.state: CheckerState = "checking"
        self.selected: Address | None = None
        self.failure: str | None = None
        self.first_request_seen = False
        self.counters: Counter[str] = Counter() if counters is None else counters
        self._controlling = controlling
        self._local = local
        self._remote = remote
        self._tie_breaker = tie_breaker
        self._new_transaction_id = new_transaction_id
        self._families = tuple(families)
        self._time_limit = TIME_LIMIT
        self._deadline: float | None = None
        self._priorities: dict[Address, int] = {}
        self._learned = 0
        self._proven: dict[Address, float] = {}
        self._nominated: Address | None = None
        self._answered_check: dict[Address, bytes] = {}  # the last one of each candidate
        self._answered_nomination: bytes | None = None
        self._repetitions_due = 0
        self._checks: dict[bytes, _Check] = {}
        self._responses: list[tuple[bytes, Address]] = []
        for candidate in remote.candidates:
            self._add_remote(candidate)

    @property
    def rtt(self) -> float | None:
        """Seconds from the first transmission of the quickest check that the selected address answered.

        An upper bound of the round trip: a lost or repeated first transmission makes it longer.
        """
        return self._proven.get(self.selected) if self.selected is not None else None

    def untracked_checks(self) -> list[tuple[bytes, Address]]:
        """One check to every remote candidate whose answer nobody awaits, to open the local NAT."""
        return [(self._request(address, nominate=False)[1], address) for address in self._priorities]

    def start(self, now: float, *, time_limit: float = TIME_LIMIT) -> None:
        """Begin to check every remote candidate; the time limit (seconds) runs from here."""
        if self._deadline is not None:
            raise LocalProtocolError("an ICE checker can be started only once")
        self._time_limit = time_limit
        self._deadline = now + time_limit
        busy = {check.target for check in self._checks.values()}
        for address in self._priorities:
            if address not in busy and address not in self._proven:
                self._check(address, now)

    def receive(self, data: bytes, source: Address, now: float) -> None:
        """Handle one STUN datagram. Never raises: what is of no use is counted."""
        if self.state == "failed":
            return
        if self.state == "connected":
            answer = self.answer_after_selection(data, source)
            if answer is not None:
                self._responses.append((answer, source))
            return
        message = self._parse(data)
        if message is None:
            return
        if message.kind == "request" and self._is_valid_request(message, data):
            self._on_request(message, source, now)
        elif message.kind == "success":
            self._on_success(message, data, source, now)

    def knows(self, address: Address) -> bool:
        """Whether `address` is a candidate of the peer, offered or learned from an authentic message."""
        return address in self._priorities

    def data_received(self, source: Address) -> None:
        """Tell the checker that a datagram which is not STUN came from `source`.

        A controlled peer sends data only when it has accepted the nomination, so data from the
        nominated address replaces an answer that was lost (wire spec 8.6).
        """
        if self.state == "checking" and source == self._nominated:
            self._select(source)

    def answer_after_selection(self, data: bytes, source: Address) -> bytes | None:
        """The answer to a STUN datagram that comes after the selection: None for all but nominations.

        Repetitions of the nomination that the peer may have sent before it had our first answer get
        none either: it may no longer want STUN.
        """
        message = self._parse(data)
        if message is None or message.kind != "request" or not self._is_valid_request(message, data):
            return None
        if self._controlling or not message.use_candidate:
            self.counters["late"] += 1
            return None
        if message.transaction_id == self._answered_nomination and self._repetitions_due:
            self._repetitions_due -= 1
            self.counters["duplicate"] += 1
            return None
        return self._response(message, source)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """Answers, and the checks that are due, each with its destination."""
        datagrams, self._responses = self._responses, []
        for check in self._checks.values():
            if check.due <= now:
                datagrams.append((check.data, check.target))
                self._sent(check, now)
        return datagrams

    def next_timer(self) -> float | None:
        """When `handle_timer` and `datagrams_to_send` are to be called next; None: not before input."""
        if self.state != "checking":
            return None
        times = [check.due for check in self._checks.values()]
        if self._deadline is not None:
            times.append(self._deadline)
        return min(times, default=None)

    def handle_timer(self, now: float) -> None:
        """Fail if the time limit has passed without a selected pair."""
        if self.state == "checking" and self._deadline is not None and now >= self._deadline:
            self.failure = self._why()
            self.state = "failed"
            self._checks.clear()
            self._responses.clear()

    def _add_remote(self, candidate: Candidate) -> None:
        if candidate.component != 1 or not _is_checkable(candidate.address, self._families):
            self.counters["candidate"] += 1
        elif len(self._priorities) >= MAX_REMOTE:
            self.counters["limit"] += 1
        else:
            self._priorities.setdefault(candidate.address, candidate.priority)

    def _parse(self, data: bytes) -> StunMessage | None:
        try:
            message = parse_stun(data)
        except RemoteProtocolError as error:
            self.counters[error.reason] += 1
            return None
        if message.kind not in ("request", "success"):
            self.counters["ignored"] += 1
        return message

    def _is_valid_request(self, message: StunMessage, data: bytes) -> bool:
        expected = f"{self._local.ufrag}:{self._remote.ufrag}"
        if message.username != expected or not verify_integrity(data, self._local.pwd):
            self.counters["credentials"] += 1
        elif message.priority is None:
            self.counters["priority"] += 1
        elif message.controlling is self._controlling:
            self.counters["role"] += 1
        else:
            return True
        return False

    def _on_request(self, message: StunMessage, source: Address, now: float) -> None:
        self.first_request_seen = True
        if message.use_candidate and not self._controlling:
            self._on_nomination(message, source)
            return
        if self._is_overtaken(message, source):
            self.counters["duplicate"] += 1
            return
        self._responses.append((self._response(message, source), source))
        assert message.priority is not None
        self._learn(source, message.priority, now)
        if source in self._priorities:
            self._answered_check[source] = message.transaction_id

    def _is_overtaken(self, message: StunMessage, source: Address) -> bool:
        """Whether a check that we answered comes again while our first nomination has yet to be answered."""
        if source != self._nominated or self._answered_check.get(source) != message.transaction_id:
            return False
        return any(check.nomination and not check.repeated for check in self._checks.values())

    def _on_nomination(self, message: StunMessage, source: Address) -> None:
        if source not in self._proven:
            self.counters["unproven"] += 1
            return
        self._responses.append((self._response(message, source), source))
        self._answered_nomination = message.transaction_id
        # One repetition follows almost at once, then one every 200 ms until our answer is there.
        self._repetitions_due = 1 + int(min(self._proven[source], _OVERDUE_LIMIT) / _RETRANSMISSION)
        self._select(source)

    def _on_success(self, message: StunMessage, data: bytes, source: Address, now: float) -> None:
        check = self._checks.get(message.transaction_id)
        if check is None or check.first_sent is None:
            self.counters["unmatched"] += 1
        elif not verify_integrity(data, self._remote.pwd):
            self.counters["credentials"] += 1
        elif source not in self._priorities:
            # the check stays in flight: once the new address is proven, a later answer may complete it
            self._learn(source, candidate_priority("prflx", source.host), now)
        else:
            del self._checks[message.transaction_id]
            rtt = now - check.first_sent
            self._proven[source] = min(rtt, self._proven.get(source, rtt))
            self._on_proven(source, check, now)

    def _on_proven(self, source: Address, check: _Check, now: float) -> None:
        if not self._controlling:
            return
        if check.nomination:
            self._select(source)
        elif self._nominated is None:
            self._nominated = source
            self._check(source, now, nominate=True)

    def _learn(self, source: Address, priority: int, now: float) -> None:
        if source in self._priorities:
            return
        if self._learned >= MAX_LEARNED:
            self.counters["limit"] += 1
            return
        self._learned += 1
        self._priorities[source] = priority
        self._check(source, now)

    def _select(self, address: Address) -> None:
        self.selected = address
        self.state = "connected"
        self._checks.clear()

    def _check(self, target: Address, now: float, *, nominate: bool = False) -> None:
        transaction_id, data = self._request(target, nominate=nominate)
        interval = _FIRST_RETRANSMISSION
        if nominate:
            interval = min(max(_RETRANSMISSION, _OVERDUE * self._proven[target]), _OVERDUE_LIMIT)
        self._checks[transaction_id] = _Check(data, target, nominate, due=now, interval=interval)

    def _sent(self, check: _Check, now: float) -> None:
        if check.first_sent is None:
            check.first_sent = now
        else:
            check.repeated = True
        check.due = now + check.interval
        check.interval = _RETRANSMISSION

    def _request(self, target: Address, *, nominate: bool) -> tuple[bytes, bytes]:
        transaction_id = self._new_transaction_id()
        data = binding_request(
            transaction_id,
            username=f"{self._remote.ufrag}:{self._local.ufrag}",
            key=self._remote.pwd,
            tie_breaker=self._tie_breaker,
            controlling=self._controlling,
            priority=self._priorities[target],
            nominate=nominate,
        )
        return transaction_id, data

    def _response(self, message: StunMessage, source: Address) -> bytes:
        return binding_success(message.transaction_id, address=source, key=self._local.pwd)

    def _why(self) -> str:
        """What was tried, as the end of a sentence."""
        answered = ", ".join(str(address) for address in self._proven) or "none"
        return (
            f"no pair was agreed on within {self._time_limit:g} s: {len(self._local.candidates)} local "
            f"candidates, {len(self._priorities) - self._learned} of {len(self._remote.candidates)} remote "
            f"candidates checked and {self._learned} learned; answered by: {answered}; "
            f"checks from the peer: {'seen' if self.first_request_seen else 'none'}"
        )


def _is_checkable(address: Address, families: Sequence[int]) -> bool:
    ip = ipaddress.ip_address(address.host)
    broadcast = address.host == "255.255.255.255"
    return (
        ip.version in families
        and address.port > 0
        and not (ip.is_multicast or ip.is_unspecified or broadcast)
    )
