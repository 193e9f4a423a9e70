"""What the network offers rtun: STUN servers, the kind of NAT, and one signalling server."""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

import aiohttp
import yarl
from cryptography import x509

from rtun_core.engine.doctor import Finding
from rtun_core.errors import BindError, RemoteProtocolError, SignalingError
from rtun_core.event import counted
from rtun_core.net.endpoint import SignalEndpoint
from rtun_core.net.interfaces import local_addresses
from rtun_core.net.signal_client import list_agents
from rtun_core.net.tls import client_context
from rtun_core.net.udp import DatagramBatch, UdpSocket
from rtun_core.relay.agent_choice import REPLACEMENT_WINDOW_MS
from rtun_core.wire.address import Address
from rtun_core.wire.stun import TRANSACTION_ID_LENGTH, parse_stun, plain_binding_request

STUN_LIMIT: Final = 3.0  # seconds for all servers together, name lookups included
SERVER_LIMIT: Final = 5.0  # seconds for each request

_RETRANSMISSION = 0.5
_SKEW_HINT = 5.0  # seconds; the Date header counts whole ones
_SKEW_PROBLEM = REPLACEMENT_WINDOW_MS / 1000
_SOON = 14  # days


class StunAnswer(NamedTuple):
    """A server was asked at the IP address `asked`, and sees us at `mapped`."""

    asked: Address
    mapped: Address


async def check_stun(servers: Sequence[Address], *, limit: float = STUN_LIMIT) -> list[Finding]:
    """Ask all servers at once from one socket; nothing is found when there are none."""
    if not servers:
        return []
    try:
        survey = StunSurvey()
    except (BindError, OSError) as error:
        return [Finding("stun", "problem", str(error))]
    try:
        await survey.ask(servers, limit)
    finally:
        survey.close()
    hosts = {str(address) for address in local_addresses()}
    findings = [judge_stun(servers, survey.answers)]
    if survey.answers:
        findings.append(judge_nat(survey.answers, survey.port, hosts))
    return findings


def judge_stun(servers: Sequence[Address], answers: Mapping[Address, StunAnswer]) -> Finding:
    """Enough servers answer when the NAT can be judged by them."""
    silent = [str(server) for server in dict.fromkeys(servers) if server not in answers]
    text = f"{len(answers)} of {len(answers) + len(silent)} servers answered"
    if not answers:
        remedy = "let UDP out, or name other servers by --stun HOST:PORT; --stun none does without"
        return Finding("stun", "problem", f"{text}: our public address is not known", remedy)
    if silent:
        text += f"; silent: {', '.join(silent)}"
    if len(answers) == 1 and silent:
        return Finding("stun", "hint", text, "name servers that can be reached by --stun HOST:PORT")
    return Finding("stun", "ok", text)


def judge_nat(answers: Mapping[Address, StunAnswer], port: int, hosts: set[str]) -> Finding:
    """Compare how different servers see one socket, which has the local `port` on `hosts` (RFC 4787 4.1).

    There must be an answer.
    """
    mapped = list(dict.fromkeys(answer.mapped for answer in answers.values()))
    if len(mapped) > 1:
        text = "symmetric: direct paths to peers may fail"
        remedy = "give the other side a public address or a cone NAT"
        return Finding("nat", "hint", f"{text} ({', '.join(map(str, mapped[:2]))})", remedy)
    if mapped[0].host in hosts and mapped[0].port == port:
        return Finding("nat", "ok", f"none: servers see our own address, {mapped[0].host}")
    if len({answer.asked for answer in answers.values()}) < 2:
        remedy = "name a second server by --stun HOST:PORT"
        return Finding("nat", "hint", f"unknown: one server alone sees us, at {mapped[0]}", remedy)
    return Finding("nat", "ok", f"cone: all see us at {mapped[0]}")


class StunSurvey:
    """One IPv4 socket that asks many servers; `answers` has those that told an address."""

    def __init__(self) -> None:
        """Open the socket. Raises BindError, OSError where the system has none to give."""
        self.answers: dict[Address, StunAnswer] = {}
        self._waiting: dict[bytes, asyncio.Future[Address | None]] = {}
        self._udp = UdpSocket.open()
        self._udp.start(self._on_batch, self._on_error)

    @property
    def port(self) -> int:
        """Our own port."""
        return self._udp.local.port

    async def ask(self, servers: Sequence[Address], limit: float) -> None:
        """Return when every server has answered, or after `limit` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await asyncio.gather(*map(self._ask, dict.fromkeys(servers)))

    def close(self) -> None:
        """Close the socket."""
        self._udp.close()

    async def _ask(self, server: Address) -> None:
        host = server.host if server.is_ip else await look_up(server)
        # As in ICE, there is only IPv4.
        if host is None or ":" in host:
            return
        asked = Address(host, server.port)
        transaction_id = secrets.token_bytes(TRANSACTION_ID_LENGTH)
        answered = asyncio.get_running_loop().create_future()
        self._waiting[transaction_id] = answered
        while not answered.done():
            self._udp.send(plain_binding_request(transaction_id), asked)
            await asyncio.wait([answered], timeout=_RETRANSMISSION)
        if (mapped := answered.result()) is not None:
            self.answers[server] = StunAnswer(asked, mapped)

    def _on_batch(self, batch: DatagramBatch) -> None:
        for row in range(batch.count):
            self._on_datagram(batch.payload(row))

    def _on_datagram(self, data: bytes) -> None:
        try:
            message = parse_stun(data)
        except RemoteProtocolError:
            return  # whoever sends it, it is no answer
        answered = self._waiting.get(message.transaction_id)
        if answered is not None and not answered.done() and message.kind in ("success", "error"):
            answered.set_result(message.mapped)

    def _on_error(self, error: OSError) -> None:
        """A server that cannot be reached is a silent one."""


async def look_up(server: Address) -> str | None:
    """The first IPv4 address of a name; None when it has none.

    Done in a thread that nobody waits for at the end: a resolver without a network takes half a minute,
    and the loop's own threads would hold up the exit for as long.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[str | None] = loop.create_future()

    def tell(host: str | None) -> None:
        if not found.done():
            found.set_result(host)

    def work() -> None:
        try:
            infos = socket.getaddrinfo(server.host, server.port, socket.AF_INET, socket.SOCK_DGRAM)
            host = str(infos[0][4][0])
        except (OSError, UnicodeError):
            host = None
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(tell, host)

    threading.Thread(target=work, name=f"look up {server.host}", daemon=True).start()
    return await found


async def check_server(
    endpoint: SignalEndpoint, *, limit: float = SERVER_LIMIT, clock: Callable[[], float] = time.time
) -> list[Finding]:
    """Whether the signalling server answers, who it is, and what time it has.

    `clock` is this machine's, in Unix seconds. Raises UsageError when the CA file cannot be used.
    """
    certificate = await _certificate(endpoint, limit, clock())
    if certificate is not None and certificate.grade == "problem":
        return [certificate]
    try:
        agents = await list_agents(endpoint, timeout=limit)
    except SignalingError as error:
        return [Finding("server", "problem", str(error))]
    findings = [judge_agents(endpoint, len(agents))]
    if certificate is not None:
        findings.append(certificate)
    if not endpoint.url.is_quic:
        findings.append(judge_clock(await _skew(endpoint, limit, clock)))
    return findings


def judge_agents(endpoint: SignalEndpoint, agents: int) -> Finding:
    """The server answers; does it know an agent?"""
    if agents:
        return Finding("server", "ok", f"{endpoint.url} answers and lists {counted(agents, 'agent')}")
    text = f"{endpoint.url} answers and lists no agent"
    return Finding("server", "hint", text, f"rtun agent pub {endpoint.url}  # on a machine near the targets")


def judge_certificate(expires: datetime, now: datetime, *, insecure: bool) -> Finding:
    """A certificate of an HTTPS server that was accepted, rightly or because everything is."""
    date = f"{expires:%Y-%m-%d}"
    if insecure:
        text = f"not checked, as --insecure was given; valid until {date}"
        return Finding("certificate", "hint", text, "--ca FILE trusts one without trusting all")
    days = (expires - now).days
    if days < _SOON:
        text = f"trusted, but only until {date}, {counted(days, 'day')} from now"
        return Finding("certificate", "hint", text, "renew it on the server")
    return Finding("certificate", "ok", f"trusted, valid until {date}")


def judge_clock(skew: float | None) -> Finding:
    """`skew` is how many seconds the server's clock is ahead of ours; None when it does not tell its time.

    Agents announce when they expire by the server's clock, and relays leave them ten minutes before.
    """
    if skew is None:
        return Finding("clock", "hint", "the server does not tell its time")
    if abs(skew) <= _SKEW_HINT:
        return Finding("clock", "ok", "agrees with the server's")
    text = f"{abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} the server's"
    remedy = "timedatectl set-ntp true  # on the machine that is wrong"
    if abs(skew) < _SKEW_PROBLEM:
        return Finding("clock", "hint", text, remedy)
    return Finding("clock", "problem", f"{text}: agents are taken for expired, or used too long", remedy)


async def _certificate(endpoint: SignalEndpoint, limit: float, now: float) -> Finding | None:
    """What a TLS handshake tells; None when there is none to be had, which `list_agents` explains."""
    if endpoint.url.scheme == "http":
        remedy = "--https-cert or --self-signed at the server, https:// or quic:// here"
        return Finding("certificate", "hint", "none: http:// can be read and changed on its way", remedy)
    if endpoint.url.is_quic:
        if endpoint.insecure:
            return Finding("certificate", "hint", "not checked, as --insecure was given", "--ca FILE")
        return Finding("certificate", "ok", "trusted")
    try:
        der = await _peer_certificate(endpoint, limit)
        expires = x509.load_der_x509_certificate(der).not_valid_after_utc
    except ssl.SSLCertVerificationError as error:
        text = f"not trusted: {error.verify_message or error}"
        return Finding("certificate", "problem", text, "--ca FILE, or --insecure to accept any")
    except (OSError, ValueError):
        return None
    return judge_certificate(expires, datetime.fromtimestamp(now, UTC), insecure=endpoint.insecure)


async def _peer_certificate(endpoint: SignalEndpoint, limit: float) -> bytes:
    """The server's certificate as DER. Raises OSError, of which TLS errors and TimeoutError are kinds."""
    context = client_context(ca=endpoint.ca, insecure=endpoint.insecure)
    async with asyncio.timeout(limit):
        _, writer = await asyncio.open_connection(endpoint.url.host, endpoint.url.port, ssl=context)
    der: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return der or b""


async def _skew(endpoint: SignalEndpoint, limit: float, clock: Callable[[], float]) -> float | None:
    """How far the Date header of an answer (RFC 9110 6.6.1) is ahead of the middle of the request."""
    before = clock()
    date = await _date(endpoint, limit)
    if date is None:
        return None
    # The header leaves out the part of a second.
    return date + 0.5 - (before + clock()) / 2


async def _date(endpoint: SignalEndpoint, limit: float) -> float | None:
    context: ssl.SSLContext | bool = True
    if endpoint.url.scheme == "https":
        context = client_context(ca=endpoint.ca, insecure=endpoint.insecure)
    url = yarl.URL(endpoint.url.endpoint("/pub/sessions", {}), encoded=True)
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context, force_close=True),
                timeout=aiohttp.ClientTimeout(total=limit),
            ) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            return parsedate_to_datetime(response.headers["Date"]).timestamp()
    except (aiohttp.ClientError, OSError, KeyError, ValueError):
        return None
