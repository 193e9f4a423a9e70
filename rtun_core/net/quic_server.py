"""Many QUIC connections on one UDP socket: datagrams are told apart by connection id (RFC 9000, 5.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import (
    QuicHeader,
    QuicPacketType,
    encode_quic_version_negotiation,
    pull_quic_header,
)

from rtun_core.net.quic import QuicLink, install, server_configuration
from rtun_core.net.quic_transport import QuicStream
from rtun_core.net.tls import CertificatePair
from rtun_core.net.udp import DatagramBatch, UdpSocket
from rtun_core.wire.address import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptLimits:
    """What strangers may make a listener hold: connections, bytes before trust, bytes of one frame."""

    connections: int
    first_bytes: int
    max_frame: int


class QuicAcceptor:
    """The server side of QUIC signalling on `udp`.

    `on_stream` gets the stream of each new connection as soon as the handshake begins; it bounds the time
    until the first frame. `on_fault` gets a word for everything strange: "garbage" (not QUIC),
    "version", "stray" (of no connection of ours), "flood" (too many connections), "refused" (the system
    told of a peer that is gone).
    """

    def __init__(
        self,
        udp: UdpSocket,
        pair: CertificatePair,
        limits: AcceptLimits,
        *,
        on_stream: Callable[[QuicStream], None],
        on_fault: Callable[[str], None],
    ) -> None:
        self._udp = udp
        self._configuration = server_configuration(pair)
        self._limits = limits
        self._on_stream = on_stream
        self._on_fault = on_fault
        self._by_id: dict[bytes, _Accepted] = {}
        self._open: set[_Accepted] = set()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def address(self) -> Address:
        """Where the acceptor listens."""
        return self._udp.local

    def start(self) -> None:
        """Begin to accept."""
        self._udp.start(self._on_batch, self._on_error)

    def install(self, pair: CertificatePair) -> None:
        """Use another certificate for connections that begin from now on."""
        install(self._configuration, pair)

    def close(self) -> None:
        """Close every connection and the socket."""
        for accepted in list(self._open):
            accepted.link.close("the server stops", peer_reason="server stops")
        self._udp.close()

    def _on_error(self, _error: OSError) -> None:
        self._on_fault("refused")

    def _on_batch(self, batch: DatagramBatch) -> None:
        for row in range(batch.count):
            self._datagram(batch.payload(row), batch.address(row))

    def _datagram(self, data: bytes, source: Address) -> None:
        try:
            header = pull_quic_header(
                Buffer(data=data), host_cid_length=self._configuration.connection_id_length
            )
        except ValueError:  # also what Buffer raises at the end of the data
            self._on_fault("garbage")
            return
        accepted = self._by_id.get(header.destination_cid) or self._first(header, data, source)
        if accepted is not None:
            accepted.link.receive(data, source)

    def _first(self, header: QuicHeader, data: bytes, source: Address) -> _Accepted | None:
        """What to do with a datagram of no known connection: a new one, or None."""
        if header.packet_type is QuicPacketType.VERSION_NEGOTIATION or header.version is None:
            self._on_fault("stray")
            return None
        # A server answers only full-sized datagrams, so that nobody is flooded through it (RFC 9000, 14.1).
        if len(data) < SMALLEST_MAX_DATAGRAM_SIZE:
            self._on_fault("stray")
            return None
        if header.version not in self._configuration.supported_versions:
            self._negotiate(header, source)
            return None
        if header.packet_type is not QuicPacketType.INITIAL:
            self._on_fault("stray")
            return None
        if len(self._open) >= self._limits.connections:
            self._on_fault("flood")
            return None
        return self._accept(header.destination_cid, source)

    def _negotiate(self, header: QuicHeader, source: Address) -> None:
        self._on_fault("version")
        answer = encode_quic_version_negotiation(
            source_cid=header.destination_cid,
            destination_cid=header.source_cid,
            supported_versions=self._configuration.supported_versions,
        )
        self._udp.send(answer, source)

    def _accept(self, chosen_id: bytes, source: Address) -> _Accepted:
        connection = QuicConnection(
            configuration=self._configuration, original_destination_connection_id=chosen_id
        )
        accepted = _Accepted(self, connection, source)
        self.know(accepted, chosen_id)
        self.know(accepted, connection.host_cid)
        self._open.add(accepted)
        self._on_stream(accepted.stream)
        return accepted

    def stream(self, source: Address) -> QuicStream:
        """A stream with the bounds for strangers."""
        return QuicStream(str(source), allowance=self._limits.first_bytes, max_frame=self._limits.max_frame)

    def send(self, data: bytes, address: Address) -> None:
        """Put a datagram of a connection on the network."""
        self._udp.send(data, address)

    def know(self, accepted: _Accepted, connection_id: bytes) -> None:
        """Route datagrams with this id to `accepted`."""
        self._by_id[connection_id] = accepted
        accepted.ids.add(connection_id)

    def forget(self, accepted: _Accepted, connection_id: bytes) -> None:
        """Stop routing this id."""
        accepted.ids.discard(connection_id)
        self._by_id.pop(connection_id, None)

    def ended(self, accepted: _Accepted) -> None:
        """Forget a connection."""
        self._open.discard(accepted)
        for connection_id in list(accepted.ids):
            self.forget(accepted, connection_id)


class _Accepted:
    """One connection of the acceptor: its link, its stream, and the ids it is known by."""

    def __init__(self, acceptor: QuicAcceptor, connection: QuicConnection, source: Address) -> None:
        self.ids: set[bytes] = set()
        self.stream = acceptor.stream(source)
        self.link = QuicLink(connection, acceptor.send, on_data=self.stream.on_data, on_closed=self._closed)
        self.link.on_ids = self._on_id
        self.stream.attach(self.link)
        self._acceptor = acceptor

    def _on_id(self, connection_id: bytes, issued: bool) -> None:
        (self._acceptor.know if issued else self._acceptor.forget)(self, connection_id)

    def _closed(self, reason: str) -> None:
        self.stream.on_closed(reason)
        self._acceptor.ended(self)
