"""ICE over one UDP socket: gather candidates, check the peer's, hand the connected socket over (wire spec 8).

The rules are in `rtun_core.wire.ice_checker` and in `Gathering` below; this module moves their
datagrams and their time. One `IceSession` is one socket and one peer.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket as os_socket
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from rtun_core.errors import LocalProtocolError, RemoteProtocolError, RtunError
from rtun_core.net.interfaces import IpNetwork, offered_addresses
from rtun_core.net.tasks import TaskOwner
from rtun_core.net.udp import DatagramBatch, UdpSocket
from rtun_core.wire.address import Address
from rtun_core.wire.candidate import Candidate, host_candidate, srflx_candidate
from rtun_core.wire.ice_checker import TIME_LIMIT, IceChecker, IceParams
from rtun_core.wire.ids import encode_id
from rtun_core.wire.stun import TRANSACTION_ID_LENGTH, is_stun, parse_stun, plain_binding_request

DEFAULT_STUN_SERVERS: Final = (
    Address("stun.miwifi.com", 3478),
    Address("stun.chat.bilibili.com", 3478),
    Address("stun.cloudflare.com", 3478),
    Address("stun1.l.google.com", 19302),
    Address("stun2.l.google.com", 19302),
    Address("stun.qq.com", 3478),
)

MAX_EARLY: Final = 64
"""Datagrams kept for later, of each kind: STUN before the checks start, the peer's data until hand-over."""

_BURST_TTLS = (1, 2, 3)
_NORMAL_TTL = 64
_MAX_PER_NAME = 8
_FIRST_RETRANSMISSION = 0.02
_RETRANSMISSION = 0.2
_NO_ANSWER = 1.5  # times the limit: how long to wait for the first answer of all


@dataclass(frozen=True, slots=True)
class IceConfig:
    """Which servers tell us our public address, and which local addresses we offer.

    `stun_servers` may be empty: then there are only host candidates. `candidate_cidrs` None offers every
    usable IPv4 address. `gather_limit` is in seconds, name lookups included; without any answer
    gathering lasts half as long again.
    """

    stun_servers: tuple[Address, ...] = DEFAULT_STUN_SERVERS
    candidate_cidrs: tuple[IpNetwork, ...] | None = None
    gather_limit: float = 2.0


@dataclass(frozen=True, slots=True)
class SelectedPath:
    """A working path to the peer.

    `socket` is connected to `remote`; call its `start` to become its reader. `early` are the peer's
    datagrams that came before that, oldest first; until `start` is called more may be added to it.
    `responder(datagram, source)` gives the answer, if any, to a STUN datagram that comes later.
    `rtt` is in seconds.
    """

    socket: UdpSocket
    remote: Address
    rtt: float | None
    responder: Callable[[bytes, Address], bytes | None]
    early: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class _Query:
    data: bytes
    server: Address
    due: float
    interval: float = _FIRST_RETRANSMISSION


class Gathering:
    """Asks STUN servers for our mapped address, and knows when to stop (wire spec 8.3); sans-IO.

    `mapped` are the distinct answers in the order they came. `lookups` is the number of server names
    that are still being looked up; the caller counts them.
    """

    def __init__(self, now: float, limit: float) -> None:
        self.mapped: list[Address] = []
        self.lookups = 0
        self._started = now
        self._limit = limit
        self._queries: dict[bytes, _Query] = {}

    def ask(self, server: Address, now: float) -> None:
        """Query one server, an IP address, until it answers."""
        transaction_id = _new_transaction_id()
        self._queries[transaction_id] = _Query(plain_binding_request(transaction_id), server, now)

    def receive(self, data: bytes) -> bool:
        """Take a STUN datagram; False if it answers none of the queries."""
        try:
            message = parse_stun(data)
        except RemoteProtocolError:
            return False
        if message.kind not in ("success", "error") or message.transaction_id not in self._queries:
            return False
        del self._queries[message.transaction_id]
        if message.mapped and _is_mapped(message.mapped) and message.mapped not in self.mapped:
            self.mapped.append(message.mapped)
        return True

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """The queries that are due, each with its server."""
        due = [query for query in self._queries.values() if query.due <= now]
        for query in due:
            query.due = now + query.interval
            query.interval = _RETRANSMISSION
        return [(query.data, query.server) for query in due]

    def next_timer(self) -> float:
        """When to look again, at the latest."""
        return min([query.due for query in self._queries.values()] + [self._end()])

    def is_finished(self, now: float) -> bool:
        """Whether nothing more is to be awaited: symmetric NAT, all answered, or out of time."""
        complete = not self.lookups and not self._queries
        return complete or len(self.mapped) > 1 or now >= self._end()

    def _end(self) -> float:
        return self._started + self._limit * (1 if self.mapped else _NO_ANSWER)


class IceSession:
    """One UDP socket and one peer, from gathering to the selected path.

    `local` is what to tell the peer. `counters` has the reasons of IceChecker for ignored messages, and
    overflow (more than MAX_EARLY), stray (data from nobody we know), lookup (a server name does not
    resolve), send (refused by the system), socket (errors it reported later).
    """

    def __init__(self, socket: UdpSocket, *, controlling: bool) -> None:
        self.local = IceParams(_random_id(), _random_id(), ())
        self.counters: Counter[str] = Counter()
        self._socket = socket
        self._controlling = controlling
        self._loop = asyncio.get_running_loop()
        self._wakeup = asyncio.Event()
        self._gathering: Gathering | None = None
        self._checker: IceChecker | None = None
        self._peer: IceParams | None = None
        self._started = False
        self._ttl_raised = False
        self._path: SelectedPath | None = None
        self._closed = False
        self._pending: deque[tuple[bytes, Address]] = deque(maxlen=MAX_EARLY)
        self._early: list[tuple[bytes, Address]] = []
        socket.start(self._on_batch, self._on_error)

    @classmethod
    async def gather(cls, config: IceConfig, *, controlling: bool) -> IceSession:
        """Open a socket and find out where it can be reached; takes up to 1.5 x `gather_limit`.

        Raises RtunError if there is no candidate to offer, BindError if no socket can be opened.
        Cancellation closes the socket.
        """
        hosts = offered_addresses(config.candidate_cidrs)
        wildcard = len(hosts) != 1 or not _is_loopback(hosts[0])
        session = cls(
            UdpSocket.open(local=Address("0.0.0.0" if wildcard else hosts[0], 0)), controlling=controlling
        )
        try:
            servers = [server for server in config.stun_servers if _can_ask(server, wildcard=wildcard)]
            mapped = await session._ask(servers, config.gather_limit)
            session._offer(mapped, hosts)
        except BaseException:
            session.close()
            raise
        return session

    def prime(self, remote: IceParams) -> None:
        """Open our NAT towards the peer with checks that die on the way (wire spec 8.5).

        The controlled side does this before it tells the peer its candidates. The low TTL stays until
        the first valid request of the peer.
        """
        checker = self._checker_for(remote)
        for ttl in _BURST_TTLS:
            self._socket.set_ttl(ttl)
            for data, to in checker.untracked_checks():
                self._send(data, to)

    async def connect(self, remote: IceParams, *, timeout: float = TIME_LIMIT) -> SelectedPath:
        """Check the peer's candidates and return the path that both sides have agreed on.

        The socket then belongs to the caller. Raises RtunError after `timeout` seconds without a path;
        that, and cancellation, closes the session.
        """
        if not self._controlling and self._checker is None:
            self.prime(remote)
        checker = self._checker_for(remote)
        try:
            checker.start(time.monotonic(), time_limit=timeout)
            self._started = True
            self._replay(checker)
            await self._run(checker)
            return self._hand_over(checker)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the socket, unless a selected path has taken it over. May be called again."""
        if self._path is None and not self._closed:
            self._closed = True
            self._socket.close()

    async def _ask(self, servers: list[Address], limit: float) -> list[Address]:
        """The distinct addresses that STUN servers see us at."""
        gathering = self._gathering = Gathering(time.monotonic(), limit)
        lookups = TaskOwner("ice-gather")
        try:
            for server in servers:
                if server.is_ip:
                    gathering.ask(server, time.monotonic())
                    continue
                gathering.lookups += 1
                lookups.spawn(self._look_up(server, gathering), str(server))
            while not gathering.is_finished(time.monotonic()):
                self._send_all(gathering.datagrams_to_send(time.monotonic()))
                await self._sleep_until(gathering.next_timer())
        finally:
            self._gathering = None
            await lookups.close()
        return gathering.mapped

    async def _look_up(self, server: Address, gathering: Gathering) -> None:
        """Ask every IPv4 address of one server; a name that does not resolve is counted and left out."""
        try:
            infos = await self._loop.getaddrinfo(
                server.host, server.port, family=os_socket.AF_INET, type=os_socket.SOCK_DGRAM
            )
        except (OSError, UnicodeError):
            infos = []
            self.counters["lookup"] += 1
        for host in list(dict.fromkeys(str(info[4][0]) for info in infos))[:_MAX_PER_NAME]:
            gathering.ask(Address(host, server.port), time.monotonic())
        gathering.lookups -= 1
        self._wakeup.set()

    def _offer(self, mapped: list[Address], hosts: list[str]) -> None:
        base = self._socket.local
        candidates: list[Candidate] = [srflx_candidate(address, base) for address in mapped]
        candidates += [host_candidate(Address(host, base.port)) for host in hosts]
        if not candidates:
            raise RtunError("no local IPv4 address can be offered to the peer, and no STUN server answered")
        self.local = self.local._replace(candidates=tuple(candidates))

    def _checker_for(self, remote: IceParams) -> IceChecker:
        if self._checker is None:
            self._peer = remote
            self._checker = IceChecker(
                controlling=self._controlling,
                local=self.local,
                remote=remote,
                tie_breaker=1 + secrets.randbelow(2**64 - 1),
                new_transaction_id=_new_transaction_id,
                counters=self.counters,
            )
        elif self._peer != remote or self._started:
            raise LocalProtocolError("an ICE session has one peer and connects once")
        return self._checker

    def _replay(self, checker: IceChecker) -> None:
        """Give the checker what came before it started: a peer that was quicker has begun to check."""
        while self._pending:
            data, source = self._pending.popleft()
            checker.receive(data, source, time.monotonic())
        self._flush(checker)

    async def _run(self, checker: IceChecker) -> None:
        while checker.state == "checking":
            await self._sleep_until(checker.next_timer())
            checker.handle_timer(time.monotonic())
            self._flush(checker)
        if checker.selected is None:
            raise RtunError(f"ICE found no path to the peer: {checker.failure}")

    def _hand_over(self, checker: IceChecker) -> SelectedPath:
        assert checker.selected is not None
        try:
            self._socket.connect(checker.selected)
        except OSError as error:
            raise RtunError(f"the socket cannot be connected to {checker.selected}: {error}") from error
        early = [data for data, source in self._early if source == checker.selected]
        self._path = SelectedPath(
            self._socket, checker.selected, checker.rtt, checker.answer_after_selection, early
        )
        return self._path

    def _on_batch(self, batch: DatagramBatch) -> None:
        for row in range(batch.count):
            data, source = batch.payload(row), batch.address(row)
            if is_stun(data):
                self._on_stun(data, source)
            else:
                self._on_data(data, source)
        if self._checker is not None and self._started:
            self._flush(self._checker)
        self._wakeup.set()

    def _on_error(self, error: OSError) -> None:
        """Count it: an unreachable candidate is to be expected, and the time limit ends what is hopeless."""
        self.counters["socket"] += 1

    def _on_stun(self, data: bytes, source: Address) -> None:
        if self._gathering is not None and self._gathering.receive(data):
            return
        if self._checker is not None and self._started:
            self._checker.receive(data, source, time.monotonic())
            return
        if len(self._pending) == MAX_EARLY:
            self.counters["overflow"] += 1
        self._pending.append((data, source))

    def _on_data(self, data: bytes, source: Address) -> None:
        """Keep the peer's first datagrams: it may have its path before we know of it."""
        if self._checker is None or not self._checker.knows(source):
            self.counters["stray"] += 1
            return
        self._checker.data_received(source)
        early = self._early if self._path is None else self._path.early
        if len(early) >= MAX_EARLY:
            self.counters["overflow"] += 1
        elif self._path is None:
            self._early.append((data, source))
        elif source == self._path.remote:
            self._path.early.append(data)

    def _flush(self, checker: IceChecker) -> None:
        if checker.first_request_seen and not self._ttl_raised:
            self._ttl_raised = True
            self._socket.set_ttl(_NORMAL_TTL)
        self._send_all(checker.datagrams_to_send(time.monotonic()))

    def _send_all(self, datagrams: list[tuple[bytes, Address]]) -> None:
        for data, to in datagrams:
            self._send(data, to)

    def _send(self, data: bytes, to: Address) -> None:
        if not self._socket.send(data, None if self._path is not None else to):
            self.counters["send"] += 1

    async def _sleep_until(self, when: float | None) -> None:
        """Wait for a datagram or for the time `when`.

        Times are `time.monotonic`, the clock of every loop; uvloop's own is cut to milliseconds, which
        would make round trips on short paths look like zero.
        """
        try:
            async with asyncio.timeout_at(when):
                await self._wakeup.wait()
        except TimeoutError:
            return
        finally:
            self._wakeup.clear()


def _new_transaction_id() -> bytes:
    return secrets.token_bytes(TRANSACTION_ID_LENGTH)


def _random_id() -> str:
    return encode_id(secrets.randbits(64))


def _can_ask(server: Address, *, wildcard: bool) -> bool:
    """Whether our socket can reach a server: by IPv4, and from a loopback address only on loopback."""
    if not server.is_ip:
        return wildcard
    return not server.is_ipv6 and (wildcard or _is_loopback(server.host))


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback


def _is_mapped(address: Address) -> bool:
    """Whether a server's answer can be an address of ours: it comes from outside, and unauthenticated."""
    ip = ipaddress.ip_address(address.host)
    return ip.version == 4 and address.port > 0 and not (ip.is_multicast or ip.is_unspecified)
