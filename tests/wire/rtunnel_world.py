"""A small world for session tests: two ends, a WebSocket between them that is cut now and then, and a clock.

Each WebSocket delivers in order. A cut delivers a random part of what is under way in each direction and
loses the rest. All randomness comes from one seeded generator, so a failing seed fails again.
"""

import contextlib
import random
from collections import deque
from typing import Protocol

from rtun_core.errors import RemoteProtocolError
from rtun_core.wire.rtunnel_session import Session
from rtun_core.wire.rtunnel_terms import End, Role, SessionConfig, State
from tests.wire.rtunnel_go_peer import GoPeer


class Side(Protocol):
    """One end with its application."""

    got: bytearray

    def attach(self, now: float) -> None: ...
    def lose(self, now: float) -> None: ...
    def receive(self, message: bytes, now: float) -> None: ...
    def pump(self, now: float) -> list[bytes]: ...
    def application(self, now: float, rng: random.Random) -> None: ...
    @property
    def wants_cut(self) -> bool: ...


class OurSide:
    """Our engine, an application that sends `outgoing` and ends, and a local TCP that takes what comes."""

    def __init__(
        self,
        role: Role,
        outgoing: bytes,
        *,
        half_close: bool,
        end: bool = True,
        config: SessionConfig | None = None,
    ) -> None:
        self.session = Session(session_id="s", role=role, now=0.0, config=config or SessionConfig())
        self.outgoing = memoryview(outgoing)
        self.got = bytearray()
        self.ended = False
        self.saw_eof = False
        self._half_close = half_close
        self._end = end
        self._unconfirmed = False

    @property
    def wants_cut(self) -> bool:
        return self.session.drop_socket

    @property
    def closed(self) -> End | None:
        return self.session.end if self.session.state is State.CLOSED else None

    def attach(self, now: float) -> None:
        self.session.connected(now, half_close=self._half_close)

    def lose(self, now: float) -> None:
        self.session.disconnected(now)

    def receive(self, message: bytes, now: float) -> None:
        with contextlib.suppress(RemoteProtocolError):
            self.session.receive(message, now)

    def pump(self, now: float) -> list[bytes]:
        due = self.session.timer()
        if due is not None and now >= due:
            self.session.handle_timer(now)
        self.session.ping(now)
        self.session.heard(now)
        messages = self.session.packets(now)
        due = self.session.timer()
        assert due is None or due > now, "an owner that obeys the timer would spin"
        return messages

    def application(self, now: float, rng: random.Random) -> None:
        taken = (
            self.session.write(self.outgoing[: rng.choice([1, 100, 20_000, 300_000])]) if self.outgoing else 0
        )
        self.outgoing = self.outgoing[taken:]
        if not self.outgoing and self._end and not self.ended:
            self.ended = True
            self.session.write_eof(now)
        if self._unconfirmed and rng.random() < 0.7:
            self.session.delivered(now)
            self._unconfirmed = False
        if data := self.session.read(rng.choice([1, 20_000, 300_000])):
            self.got += b"".join(data)
            self._unconfirmed = True
        self.saw_eof = self.saw_eof or self.session.read_eof


class GoSide:
    """The model of the original with the same kind of application; it never ends by itself."""

    def __init__(self, outgoing: bytes, rng: random.Random) -> None:
        self.peer = GoPeer(rng)
        self.peer.source += outgoing
        self.got = self.peer.delivered

    wants_cut = False

    def attach(self, now: float) -> None:
        self.peer.attach()

    def lose(self, now: float) -> None:
        self.peer.lose()

    def receive(self, message: bytes, now: float) -> None:
        self.peer.receive(message, now)

    def pump(self, now: float) -> list[bytes]:
        self.peer.tick(now)
        return self.peer.write_socket()

    def application(self, now: float, rng: random.Random) -> None:
        self.peer.stalled = rng.random() < 0.2
        self.peer.read_socket(now)
        self.peer.read_tcp()


class World:
    """Two sides and their WebSocket. `wire_bytes` counts what each side sent, by side."""

    def __init__(self, left: Side, right: Side, seed: int) -> None:
        self.sides = (left, right)
        self.rng = random.Random(seed)
        self.now = 0.0
        self.up = False
        self.cuts = 0
        self.wire_bytes = [0, 0]
        self._under_way: tuple[deque[bytes], deque[bytes]] = (deque(), deque())

    def connect(self) -> None:
        self.up = True
        for side in self.sides:
            side.attach(self.now)

    def cut(self) -> None:
        """Lose the WebSocket: both sides notice, after a part of what was under way arrived."""
        self.cuts += 1
        for index in (0, 1):
            self.deliver(index, self.rng.randint(0, len(self._under_way[index])))
            self._under_way[index].clear()
        self.up = False
        for side in self.sides:
            side.lose(self.now)

    def pump(self, index: int) -> None:
        messages = self.sides[index].pump(self.now)
        self.wire_bytes[index] += sum(map(len, messages))
        if self.up:
            self._under_way[index].extend(messages)

    def deliver(self, index: int, count: int) -> None:
        """Let `count` messages that side `index` sent arrive."""
        queue = self._under_way[index]
        for _ in range(min(count, len(queue))):
            self.sides[1 - index].receive(queue.popleft(), self.now)

    def disturbed(self, steps: int) -> None:
        """Run for a while, with cuts."""
        for _ in range(steps):
            self._random_step()

    def _random_step(self) -> None:
        index = self.rng.randint(0, 1)
        match self.rng.choice(["application", "pump", "deliver", "deliver", "time", "link"]):
            case "application":
                self.sides[index].application(self.now, self.rng)
            case "pump":
                self.pump(index)
            case "deliver":
                self.deliver(index, self.rng.choice([1, 2, 50]))
            case "time":
                self.now += self.rng.choice([0.001, 0.03, 0.5])
            case "link":
                self._disturb()

    def _disturb(self) -> None:
        if not self.up:
            self.connect()
        elif self.rng.random() < 0.2 or any(side.wants_cut for side in self.sides):
            self.cut()

    def quiet(self, rounds: int = 400) -> None:
        """Run without any more cuts than the sides ask for."""
        for _ in range(rounds):
            if not self.up:
                self.connect()
            for index in (0, 1):
                self.sides[index].application(self.now, self.rng)
                self.pump(index)
            for index in (0, 1):
                self.deliver(index, 1_000_000)
            if any(side.wants_cut for side in self.sides):
                self.cut()
            self.now += 0.05
