"""The peer-to-peer side of the original programs: the ICE dialect and a tunnel on top (wire spec 8.5, 9)."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from rtun_core.net.tasks import TaskOwner
from tests.interop import original_wire as wire
from tests.interop.original_wire import Address, Stun

TIME_LIMIT = 10.0
RETRANSMISSION = 0.2
HEARTBEAT = 3.0
WATCHDOG = 30.0


@dataclass(frozen=True)
class Generation:
    """What sets the builds of the original apart on the wire (9.8)."""

    name: str
    form: str  # of frames with a seed other than 0
    limit: int  # bytes of a datagram
    fatal: bool  # an undecodable datagram closes the tunnel
    shared_flows: bool  # flows belong to the signalling session, not to the tunnel

    def form_for(self, seed: int) -> str:
        """The form of frames under this seed."""
        return self.form if seed else wire.LEGACY

    def payload_limit(self, seed: int) -> int:
        """The largest payload under this seed."""
        return self.limit - wire.HEADER_SIZE[self.form_for(seed)]


BASE = Generation("base", wire.OBFS_V1, 1400, fatal=True, shared_flows=False)
TAGGED9 = Generation("tagged9", wire.TAGGED_9, 1452, fatal=False, shared_flows=True)
HEAD = Generation("head", wire.OBFS_V2, 1452, fatal=False, shared_flows=True)
GENERATIONS = (BASE, TAGGED9, HEAD)


class RawUdp:
    """A UDP socket on loopback whose datagrams go to a callback; `latency` (s) delays both ways."""

    def __init__(
        self,
        on_datagram: Callable[[bytes, Address], None],
        on_error: Callable[[OSError], None] = lambda _error: None,
        *,
        host: str = "127.0.0.1",
        latency: float = 0.0,
    ) -> None:
        self.on_datagram, self.on_error = on_datagram, on_error
        self._loop = asyncio.get_running_loop()
        self._latency = latency
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((host, 0))
        self.address: Address = self._socket.getsockname()
        self.closed = False

    def start(self) -> RawUdp:
        """Begin to read; what came before has waited in the kernel."""
        self._loop.add_reader(self._socket.fileno(), self._readable)
        return self

    def connect(self, to: Address) -> None:
        """Exchange datagrams with one peer only, and learn of its ICMP errors."""
        self._socket.connect(to)

    def ttl(self, hops: int) -> None:
        """Set the time to live."""
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)

    def send(self, data: bytes, to: Address | None = None) -> None:
        """Send a datagram, to the connected peer if no other is named."""
        if self._latency:
            self._loop.call_later(self._latency, self._send_now, data, to)
        else:
            self._send_now(data, to)

    def close(self) -> None:
        """Close the socket."""
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _send_now(self, data: bytes, to: Address | None) -> None:
        if self.closed:
            return
        try:
            self._socket.send(data) if to is None else self._socket.sendto(data, to)
        except OSError as error:
            self.on_error(error)

    def _readable(self) -> None:
        while not self.closed:
            try:
                data, source = self._socket.recvfrom(65536)
            except BlockingIOError:
                return
            except OSError as error:
                self.on_error(error)
            else:
                self._arrived(data, source)

    def _arrived(self, data: bytes, source: Address) -> None:
        if self._latency:
            self._loop.call_later(self._latency, lambda: self.closed or self.on_datagram(data, source))
        else:
            self.on_datagram(data, source)


class Seen(NamedTuple):
    """A datagram that a model has received; `after` tells that it came after hand-over."""

    at: float
    data: bytes
    source: Address
    after: bool


@dataclass
class _Check:
    data: bytes
    target: Address
    nomination: bool


class OriginalIce:
    """The checker of wire spec 8.5 on one socket, and every datagram that it ever received.

    `lose_answers` is how many success responses to its nomination get lost on the way to it; `latency`
    is in seconds, one way.
    """

    def __init__(
        self,
        *,
        controlling: bool,
        host: str = "127.0.0.1",
        latency: float = 0.0,
        lose_answers: int = 0,
    ) -> None:
        self.ufrag, self.pwd = wire.random_id(), wire.random_id()
        self.udp = RawUdp(self._on_datagram, host=host, latency=latency)
        self.candidates = [wire.host_candidate(self.udp.address)]
        self.seen: list[Seen] = []
        self.ignored_nominations = 0
        self.selected: Address | None = None
        self._controlling = controlling
        self._lose_answers = lose_answers
        self._loop = asyncio.get_running_loop()
        self._tie_breaker = 1 + secrets.randbelow(2**64 - 1)
        self._remote_ufrag = self._remote_pwd = ""
        self._remote: dict[Address, int] = {}
        self._ok: set[Address] = set()
        self._checks: dict[bytes, _Check] = {}
        self._nominated = False
        self._done: asyncio.Future[Address] = self._loop.create_future()
        self._on_data: Callable[[bytes], None] | None = None

    @property
    def requests(self) -> list[tuple[Stun, Seen]]:
        """The checks of the peer in the order they came."""
        return [(message, seen) for message, seen in self.stun if message.kind == wire.REQUEST]

    @property
    def stun(self) -> list[tuple[Stun, Seen]]:
        """All STUN that came."""
        return [(message, seen) for seen in self.seen if (message := wire.read_stun(seen.data)) is not None]

    def set_remote(self, ufrag: str, pwd: str, candidates: list[str]) -> None:
        """Take the peer's parameters. Raises ValueError if any candidate cannot be parsed."""
        self._remote_ufrag, self._remote_pwd = ufrag, pwd
        self._remote = dict(wire.read_candidate(text) for text in candidates)

    def burst(self) -> None:
        """What an agent sends while it prepares its answer: checks that die on the way."""
        for hops in (1, 2, 3):
            self.udp.ttl(hops)
            for address in self._remote:
                self.udp.send(self.request(address, nominate=False)[1], address)

    def start(self) -> None:
        """Begin to check."""
        self.udp.start()
        for address in list(self._remote):
            self._check(address)

    async def connect(self, on_data: Callable[[bytes], None]) -> Address:
        """Check until a pair is selected; from then on all datagrams go to `on_data`.

        Raises TimeoutError after 10 s.
        """
        self._on_data = on_data
        self.start()
        async with asyncio.timeout(TIME_LIMIT):
            return await self._done

    def close(self) -> None:
        """Close the socket."""
        self._checks.clear()
        self.udp.close()

    def request(self, to: Address, *, nominate: bool) -> tuple[bytes, bytes]:
        """A new check: its transaction id and its bytes."""
        transaction = secrets.token_bytes(12)
        data = wire.check_request(
            transaction,
            username=f"{self._remote_ufrag}:{self.ufrag}",
            key=self._remote_pwd,
            tie_breaker=self._tie_breaker,
            role=wire.CONTROLLING if self._controlling else wire.CONTROLLED,
            priority=self._remote.get(to, wire.HOST_PRIORITY),
            nominate=nominate,
        )
        return transaction, data

    def answer(self, message: Stun, source: Address) -> None:
        """Answer a check."""
        self.udp.send(wire.check_success(message.transaction, source, self.pwd), source)

    def _check(self, to: Address, *, nominate: bool = False) -> None:
        transaction, data = self.request(to, nominate=nominate)
        self._checks[transaction] = _Check(data, to, nominate)
        self.udp.send(data, to)
        self._loop.call_later(0.002, self._again, transaction)  # the first repetition comes almost at once

    def _again(self, transaction: bytes) -> None:
        check = self._checks.get(transaction)
        if check is not None:
            self.udp.send(check.data, check.target)
            self._loop.call_later(RETRANSMISSION, self._again, transaction)

    def _on_datagram(self, data: bytes, source: Address) -> None:
        self.seen.append(Seen(self._loop.time(), data, source, self.selected is not None))
        if self.selected is not None:
            assert self._on_data is not None
            self._on_data(data)
            return
        message = wire.read_stun(data)
        if message is None:
            return
        if message.kind == wire.REQUEST and self._is_valid(message):
            self._on_request(message, source)
        elif message.kind == wire.SUCCESS and message.signed_with(self._remote_pwd):
            self._on_success(message, source)

    def _is_valid(self, message: Stun) -> bool:
        username = f"{self.ufrag}:{self._remote_ufrag}".encode()
        known = message.get(wire.USERNAME) == username and message.signed_with(self.pwd)
        return known and message.get(wire.PRIORITY) is not None

    def _on_request(self, message: Stun, source: Address) -> None:
        self.udp.ttl(64)
        if message.nominates and not self._controlling:
            if source not in self._ok:
                self.ignored_nominations += 1
                return
            self.answer(message, source)
            self._select(source)
            return
        self.answer(message, source)
        self._learn(source)

    def _on_success(self, message: Stun, source: Address) -> None:
        check = self._checks.get(message.transaction)
        if check is None:
            return
        if check.nomination and self._lose_answers:
            self._lose_answers -= 1
            return
        if source not in self._remote:
            self._learn(source)
            return
        del self._checks[message.transaction]
        self._ok.add(source)
        if check.nomination:
            self._select(source)
        elif self._controlling and not self._nominated:
            self._nominated = True
            self._check(source, nominate=True)

    def _learn(self, source: Address) -> None:
        if source not in self._remote:
            self._remote[source] = wire.HOST_PRIORITY - (16 << 24)
            self._check(source)

    def _select(self, address: Address) -> None:
        self.selected = address
        self._checks.clear()
        if self._on_data is not None:
            self.udp.connect(address)
        if not self._done.done():
            self._done.set_result(address)


class Frame(NamedTuple):
    """A frame that a model has received."""

    at: float
    flow: int
    payload: bytes


class OriginalTunnel:
    """The data plane on a path: heartbeats, watchdog, and the errors that end it (9.4 to 9.6).

    `on_frame(tunnel, flow, payload)` gets everything but heartbeats. `closed` says why it ended.
    """

    def __init__(
        self,
        ice: OriginalIce,
        generation: Generation,
        seed: int,
        *,
        first_heartbeat: float,
        on_frame: Callable[[OriginalTunnel, int, bytes], None],
    ) -> None:
        self.ice, self.generation, self.seed = ice, generation, seed
        self.form = generation.form_for(seed)
        self.max_payload = generation.payload_limit(seed)
        self.frames: list[Frame] = []
        self.sent_at: list[float] = []
        self.undecodable: list[bytes] = []
        self.closed: str | None = None
        self._first_heartbeat = first_heartbeat
        self._on_frame = on_frame
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._tasks = TaskOwner("original-tunnel")
        ice.udp.on_error = lambda error: self.close(f"socket error: {error}")

    @property
    def heartbeats(self) -> list[float]:
        """When heartbeats came."""
        return [frame.at for frame in self.frames if frame.flow == 0 and not frame.payload]

    @property
    def flow_0_payloads(self) -> list[bytes]:
        """What no original program sends: payload on flow 0."""
        return [frame.payload for frame in self.frames if frame.flow == 0 and frame.payload]

    @property
    def stray_stun(self) -> list[Stun]:
        """STUN that came when this side no longer wanted any."""
        return [message for message, seen in self.ice.stun if seen.after]

    def start(self) -> None:
        """Begin to beat."""
        self._tasks.spawn(self._beat(), "heartbeat")
        self._tasks.spawn(self._watch(), "watchdog")

    def send(self, flow: int, payload: bytes, *, seq: int | None = None, padding: bytes = b"") -> None:
        """Send one frame."""
        nonce = secrets.randbelow(256)
        frame = wire.encode_frame(self.form, self.seed, flow, payload, nonce, seq)
        self.sent_at.append(self._loop.time())
        self.ice.udp.send(frame + padding)

    def receive(self, data: bytes) -> None:
        """Take a datagram of the peer."""
        try:
            flow, payload = wire.decode_frame(self.form, self.seed, data)
        except wire.Undecodable as error:
            self.undecodable.append(data)
            if self.generation.fatal:
                self.close(f"undecodable datagram: {error}")
            return
        self._heard_at = self._loop.time()
        self.frames.append(Frame(self._heard_at, flow, payload))
        if (flow or payload) and len(payload) <= self.max_payload:
            self._on_frame(self, flow, payload)

    def close(self, reason: str) -> None:
        """End silently, as all of them do."""
        if self.closed is None:
            self.closed = reason
            self.ice.close()

    async def finish(self) -> None:
        """Close and wait for what runs."""
        self.close("the test is over")
        await self._tasks.close()

    async def _beat(self) -> None:
        await asyncio.sleep(self._first_heartbeat)
        while self.closed is None:
            self.send(0, b"")
            await asyncio.sleep(HEARTBEAT)

    async def _watch(self) -> None:
        while self.closed is None:
            await asyncio.sleep(1)
            if not self.generation.fatal and self._loop.time() - self._heard_at > WATCHDOG:
                self.close("no valid frame for 30 s")
