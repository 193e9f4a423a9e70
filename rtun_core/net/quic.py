"""One QUIC connection of signalling: aioquic's state machine driven over a UDP socket (wire spec 5.1).

A connection carries one bidirectional stream, id 0, opened by the client. Everything that aioquic leaves
to its user is here: the timer, the PING every 3 s, streams that end early, a bound on unsent data.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicErrorCode

from rtun_core.errors import SignalingError
from rtun_core.net.tls import CertificatePair
from rtun_core.wire.address import Address

IDLE_TIMEOUT = 30.0
PING_INTERVAL = 3.0
MAX_UNSENT = 1024 * 1024
STREAM = 0

_MAX_FOREIGN_STREAMS = 16
_REFUSED = 1  # application error code of a stream that we do not want; its value means nothing
# TLS alerts 42 to 48 as QUIC error codes: bad, unsupported, revoked, expired, unknown certificate or CA
_CERTIFICATE_ALERTS = {0x100 + alert for alert in (42, 43, 44, 45, 46, 48)}

# aioquic reports what peers do wrong to its logger as well; we report it in our own words.
logging.getLogger("quic").addHandler(logging.NullHandler())


def client_configuration(host: str, *, ca: Path | None, insecure: bool) -> QuicConfiguration:
    """Settings of a client of `host`: no ALPN, no 0-RTT, and no server name on the wire for an IP."""
    configuration = QuicConfiguration(is_client=True, idle_timeout=IDLE_TIMEOUT, server_name=host)
    if insecure:
        # Only chain and name go unchecked; the handshake is still signed by the certificate's key.
        configuration.verify_mode = ssl.CERT_NONE
    elif ca is not None:
        configuration.cafile = str(ca)
    else:
        paths = ssl.get_default_verify_paths()  # heeds SSL_CERT_FILE and SSL_CERT_DIR
        configuration.cafile, configuration.capath = paths.cafile, paths.capath
    return configuration


def server_configuration(pair: CertificatePair) -> QuicConfiguration:
    """Settings of a server with this certificate."""
    configuration = QuicConfiguration(is_client=False, idle_timeout=IDLE_TIMEOUT)
    install(configuration, pair)
    return configuration


def install(configuration: QuicConfiguration, pair: CertificatePair) -> None:
    """Give a server another certificate; connections that begin later use it."""
    leaf, *rest = pair.chain()
    configuration.certificate = leaf
    configuration.certificate_chain = rest
    configuration.private_key = pair.private_key()


class QuicLink:
    """Drives one `QuicConnection`: datagrams in and out, its timer, its one stream.

    `send(data, address)` puts a datagram on the network. `on_data(data, end)` gets the stream's bytes in
    order. `on_closed(reason)` is called once, when nothing more will come or go.
    """

    def __init__(
        self,
        connection: QuicConnection,
        send: Callable[[bytes, Address], object],
        *,
        on_data: Callable[[bytes, bool], None],
        on_closed: Callable[[str], None],
    ) -> None:
        self.connection = connection
        self.closed = False
        self.close_reason = ""
        self.on_ids: Callable[[bytes, bool], None] = _ignore_id
        self._send = send
        self._on_data = on_data
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._pinger: asyncio.TimerHandle | None = None
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._ready.add_done_callback(_retrieve)
        self._progress = asyncio.Event()
        self._foreign: set[int] = set()

    def connect(self, address: Address) -> None:
        """Begin the handshake as a client."""
        self.connection.connect(address, now=self._loop.time())
        self.transmit()

    @property
    def established(self) -> bool:
        """Whether the handshake was completed, even if the connection has ended since."""
        return self._ready.done() and self._ready.exception() is None

    async def connected(self) -> None:
        """Wait for the end of the handshake. Raises SignalingError with the reason when it fails."""
        await asyncio.shield(self._ready)

    def receive(self, data: bytes, address: Address) -> None:
        """Take one datagram from the network; nothing that a peer can send makes this raise."""
        if not self.closed and self._guarded(
            lambda: self.connection.receive_datagram(data, address, now=self._loop.time())
        ):
            self._handle_events()
            self.transmit()

    def transmit(self) -> None:
        """Send what is due and set the timer; call after every use of `connection`."""
        if not self.closed and self._guarded(self._send_due):
            self._progress.set()

    async def write(self, data: bytes, *, end: bool = False) -> None:
        """Send bytes on the stream, waiting first while more than 1 MiB is unsent or unacknowledged.

        Raises SignalingError when the connection has ended.
        """
        await self._until_unsent(MAX_UNSENT)
        if self.closed:
            raise SignalingError(self.close_reason)
        try:
            self.connection.send_stream_data(STREAM, data, end_stream=end)
        except (ValueError, AssertionError, RuntimeError):
            raise SignalingError("the peer stopped reading the QUIC stream") from None
        self.transmit()

    async def flush(self, timeout: float) -> None:
        """Wait until the peer has all bytes of the stream, but not longer than `timeout` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._until_unsent(0)

    def close(self, reason: str, *, peer_reason: str = "") -> None:
        """End the connection at once, telling the peer `peer_reason`; for us it ended with `reason`."""
        if self.closed:
            return
        self.connection.close(error_code=QuicErrorCode.NO_ERROR, reason_phrase=peer_reason)
        self._guarded(self._send_due)
        self._finish(reason)

    def _on_timer(self) -> None:
        self._timer = None
        if not self.closed and self._guarded(lambda: self.connection.handle_timer(now=self._loop.time())):
            self._handle_events()
            self.transmit()

    def _send_due(self) -> None:
        for data, address in self.connection.datagrams_to_send(now=self._loop.time()):
            self._send(data, address)
        if self._timer is not None:
            self._timer.cancel()
        due = self.connection.get_timer()
        self._timer = None if due is None else self._loop.call_at(due, self._on_timer)

    def _guarded(self, step: Callable[[], None]) -> bool:
        """Run a step of the state machine, which is not ours; what breaks in it costs this connection."""
        try:
            step()
        except Exception as error:
            self._finish(f"the QUIC library failed: {type(error).__name__}")
            return False
        return True

    def _handle_events(self) -> None:
        while not self.closed and (event := self.connection.next_event()) is not None:
            self._handle(event)

    def _handle(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.StreamDataReceived):
            self._stream_data(event)
        elif isinstance(event, events.StreamReset | events.StopSendingReceived):
            if event.stream_id == STREAM:
                self.close(f"the peer cancelled the QUIC stream (code {event.error_code})")
        elif isinstance(event, events.ConnectionIdIssued):
            self.on_ids(event.connection_id, True)
        elif isinstance(event, events.ConnectionIdRetired):
            self.on_ids(event.connection_id, False)
        elif isinstance(event, events.HandshakeCompleted):
            self._established()
        elif isinstance(event, events.ConnectionTerminated):
            self._finish(_termination(event, established=self._ready.done()))

    def _stream_data(self, event: events.StreamDataReceived) -> None:
        if event.stream_id == STREAM:
            self._on_data(event.data, event.end_stream)
        elif event.stream_id not in self._foreign:
            self._refuse(event.stream_id)

    def _refuse(self, stream_id: int) -> None:
        self._foreign.add(stream_id)
        if len(self._foreign) > _MAX_FOREIGN_STREAMS:
            self.close("the peer opened too many QUIC streams", peer_reason="one stream only")
            return
        # A stream that already ended has nothing left to stop.
        with suppress(ValueError):
            self.connection.stop_stream(stream_id, _REFUSED)
        with suppress(ValueError):
            self.connection.reset_stream(stream_id, _REFUSED)

    def _established(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)
            self._pinger = self._loop.call_later(PING_INTERVAL, self._ping)

    def _ping(self) -> None:
        self._pinger = self._loop.call_later(PING_INTERVAL, self._ping)
        self.connection.send_ping(0)
        self.transmit()

    async def _until_unsent(self, most: int) -> None:
        while not self.closed and self._unsent() > most:
            self._progress.clear()
            await self._progress.wait()

    def _unsent(self) -> int:
        """Bytes of the stream that the peer has not acknowledged; aioquic has no public word for them."""
        stream = self.connection._streams.get(STREAM)
        return 0 if stream is None else stream.sender._buffer_stop - stream.sender._buffer_start

    def _finish(self, reason: str) -> None:
        if self.closed:
            return
        self.closed = True
        self.close_reason = reason
        for timer in (self._timer, self._pinger):
            if timer is not None:
                timer.cancel()
        if not self._ready.done():
            self._ready.set_exception(SignalingError(reason))
        self._progress.set()
        self._on_closed(reason)


def _termination(event: events.ConnectionTerminated, *, established: bool) -> str:
    if event.reason_phrase == "Idle timeout":
        what = "the connection was silent for too long" if established else "no answer"
        return f"{what} (QUIC idle timeout)"
    detail = event.reason_phrase or f"code {event.error_code:#x}"
    if event.error_code == QuicErrorCode.NO_ERROR:
        return "the peer closed the QUIC connection" + (f": {detail}" if event.reason_phrase else "")
    if event.error_code in _CERTIFICATE_ALERTS and not established:
        return f"the certificate is not trusted: {detail}; use --ca FILE or --insecure"
    return f"the QUIC {'connection' if established else 'handshake'} failed: {detail}"


def _ignore_id(_connection_id: bytes, _issued: bool) -> None:
    """A client has one connection per socket and needs no table of connection ids."""


def _retrieve(future: asyncio.Future[None]) -> None:
    # A failed handshake that nobody waits for is not worth a complaint of the loop.
    if not future.cancelled():
        future.exception()
