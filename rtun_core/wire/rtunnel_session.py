"""One RTunnel session: a TCP connection carried over WebSockets that come and go (rtunnel spec 5 to 8, 15).

The engine has no sockets and no clock. Its owner does this:

    a WebSocket is there / is gone   connected(now, half_close=...), disconnected(now)
    a message came / any frame       receive(message, now), heard(now), pong(payload, now)
    after anything above             for each of packets(now): send it, until the list is empty;
                                     ping(now) and send that; close the WebSocket if `drop_socket`
    the local TCP                    write(data) while `room`, write_eof(now), reset(reason);
                                     read(), write and drain that, then delivered(now);
                                     `read_eof`: end its stream; `end`: close it, or reset it if `end.abort`
    time                             handle_timer(now) at timer()

Packets, ACKs and the position of the peer belong to one WebSocket at a time: after `connected` nothing that
an older one still holds may be passed in. An ACK says that the local TCP has taken the bytes, so without
`delivered` the peer stops after one window. A client dials while `wants_socket`. A server keeps an ended
session for a while: if the client comes back, `packets` has the FIN that tells it.

Towards the original program nothing but its own packets is sent, nothing twice on one WebSocket, and nothing
after a reconnect that it already has; FIN comes when all is acknowledged and it has been silent for a while.
With `half_close`, which the handshake settles between our own ends, each direction ends by itself with a
numbered EOF, and packets are bigger. The server that agreed to it must refuse, in the handshake, to resume a
session that it does not know; towards the original both roles find that out by themselves.

A client starts with an empty data packet: as soon as that is acknowledged, a server that has forgotten the
session betrays itself by its position. A server asks a new client for its position before it sends anything,
because a client that comes back to a restarted server looks like a new one. Either way the session ends with
a FIN and a reset of the local TCP, never with a stream that has a hole.

Memory of one session at most: 2.1 MiB sent and not acknowledged, 2.2 MiB received and not taken, 0.25 MiB
waiting to be sent, towards the original; 4.1, 4.1 and 0.25 MiB between our own ends. A hostile server can
have 2.2 MiB more held while it is being asked for its position. What many sessions have sent together is
bounded by a `Budget` that they share.
"""

from __future__ import annotations

from rtun_core.errors import RemoteProtocolError
from rtun_core.wire import rtunnel_packet as wire
from rtun_core.wire.rtunnel_packet import Packet
from rtun_core.wire.rtunnel_terms import OWN_SHAPE, End, Role
from rtun_core.wire.rtunnel_view import SessionView

_MAX_ANSWERS = 64


class Session(SessionView):
    """One end of one session: `SessionView` is what can be seen of it, this is what can be done.

    `now` is any clock in seconds that never goes back.
    """

    # The WebSocket.

    def connected(self, now: float, *, half_close: bool = False) -> None:
        """A WebSocket is there; it takes the place of one that was not reported gone.

        `half_close` says that both ends agreed on it in this handshake. A peer that agrees to something else
        than the first time is another program.
        """
        if self._attached:
            self.disconnected(now)
        self._attached = True
        self._live.attached(now)
        self._closing.progress(now)
        if self.end is not None:
            self._announce_end()
            return
        self._connections += 1
        if self._connections == 1:
            self._begin(now, half_close)
        elif half_close != self.half_close:
            self._finish("changed", abort=True)
        else:
            self._resume(now)

    def _begin(self, now: float, half_close: bool) -> None:
        self.half_close = half_close
        if half_close:
            self._closing.half_close = True
            self._send.adopt(OWN_SHAPE, numbered_eof=True)
            self._receive.limit = OWN_SHAPE.window
        elif self.role is Role.SERVER:
            self._probe.start(now, once=True)
        else:
            self._send.greet()

    def _resume(self, now: float) -> None:
        self.counters.reconnects += 1
        self._acks.attach(0 if self.half_close else self._receive.accepted)
        self._probe.start(now, once=self.half_close)

    def disconnected(self, now: float) -> None:
        """The WebSocket is gone, or is about to be closed because of `drop_socket`."""
        self._attached = False
        self.drop_socket = False
        self._detached_at = now
        self._probe.stop()
        self._answers = 0
        self._fin_due = False
        self._held.release()

    def heard(self, now: float) -> None:
        """Any frame came, for example a ping."""
        self._live.heard_at = now

    def ping(self, now: float) -> bytes | None:
        """The payload of a WebSocket ping to send now, if one is due."""
        return self._live.ping(now) if self._attached and self.end is None else None

    def pong(self, payload: bytes, now: float) -> None:
        """A WebSocket pong came."""
        self._live.pong(payload, now)

    # Packets.

    def receive(self, message: bytes, now: float) -> None:
        """Take one WebSocket message; it is kept by reference.

        Raises RemoteProtocolError when the session cannot go on. It has ended then: `packets` has the FIN.
        Messages that are no packet, or of an unknown kind, are counted or skipped, as the original does.
        """
        self._live.heard_at = now
        if self.end is not None or not self._attached:
            return
        self.counters.packets_in += 1
        try:
            packet = wire.decode_packet(message)
        except RemoteProtocolError as error:
            self.counters.bad_packets += 1
            if error.reason == "oversize":
                self._finish(error.reason, abort=True)
                raise
            return
        try:
            self._dispatch(packet, now)
        except RemoteProtocolError as error:
            self._finish(error.reason, abort=True)
            raise

    def _dispatch(self, packet: Packet, now: float) -> None:
        if packet.flag == wire.DATA or (packet.flag == wire.EOF and self.half_close):
            self._on_numbered(packet, now)
        elif packet.flag == wire.ACK:
            self._on_ack(packet, now)
        elif packet.flag == wire.FIN:
            self._on_fin()

    def _on_numbered(self, packet: Packet, now: float) -> None:
        if packet.seq == 0:
            self._answers = min(self._answers + 1, _MAX_ANSWERS)
        elif self._must_hold:
            self._hold(packet)
        else:
            self._place(packet, now)

    @property
    def _must_hold(self) -> bool:
        """Whether the server may be another life that has forgotten the session."""
        return self._probe.active and self.role is Role.CLIENT and not self.half_close

    def _hold(self, packet: Packet) -> None:
        """Whose data this is turns out with the answer to the probe."""
        if packet.seq <= self._receive.received or not self._held.hold(packet, self._receive.limit):
            self.counters.duplicates += 1

    def _place(self, packet: Packet, now: float) -> None:
        if packet.seq != 1 and not self._met and (self._connections == 1 or self.role is Role.SERVER):
            raise RemoteProtocolError(f"the first packet of a session is number {packet.seq}", reason="stale")
        self._meet(now)
        if self._receive.push(packet.flag, packet.seq, packet.payload):
            self.counters.bytes_in += len(packet.payload)
            self._closing.heard(now)
            self._acks.update(self._receive.accepted, now, urgent=self._receive.eof)
        else:
            self.counters.duplicates += 1

    def _meet(self, now: float) -> None:
        """The first packet of a new client answers the probe of the first WebSocket."""
        if not self._met:
            self._met = True
            if self._probe.active and self._connections == 1:
                self._probe.stop()
                self._closing.progress(now)

    def _on_ack(self, packet: Packet, now: float) -> None:
        self.counters.acks_in += 1
        reached = max(packet.ack, packet.seq) if self.half_close else packet.ack
        if not self._send.acked <= packet.ack <= reached <= self._send.sent:
            word = "lost" if self._probe.active else "ack"
            raise RemoteProtocolError(
                f"ACK {packet.ack}; accepted: {self._send.acked} to {self._send.sent}", reason=word
            )
        self._met = True
        advanced = self._send.acknowledge(packet.ack)
        if advanced:
            self._closing.progress(now)
        if not self._probe.active:
            self._probe.passed(advanced=advanced)
        elif self._probe.answer(reached, sent=self._send.sent, advanced=advanced) or self.half_close:
            self._go_on(reached, now)

    def _go_on(self, reached: int, now: float) -> None:
        """The position of the peer is known: send what it lacks, take what it sent meanwhile."""
        if self._must_hold and reached == 0 and self._receive.received:
            raise RemoteProtocolError(
                "the peer has nothing of ours, and may have forgotten us", reason="lost"
            )
        self._probe.stop()
        self._send.rewind(reached)
        self._closing.progress(now)
        if not self.half_close and self._connections > 1:
            self._acks.nudge()
        for packet in self._held.release():
            self._place(packet, now)

    def _on_fin(self) -> None:
        self._fin_due, self.drop_socket = False, True
        if self.half_close:
            ended = self._receive.eof
            self._close(End("done" if ended else "aborted", abort=not ended))
        elif self._must_hold:
            self._close(End("refused", abort=True))
        else:
            cut = self._receive.gap
            self._close(End("truncated" if cut else "eof", abort=cut))

    def packets(self, now: float, *, limit: int = 262_144) -> list[bytes]:
        """What to send on the current WebSocket, in order; data of about `limit` bytes. Call until empty."""
        if not self._attached or self.drop_socket:
            return []
        self._settle(now)
        packets = [self._ack_packet()] * self._answers
        self._answers = 0
        packets += [wire.PROBE_PACKET] * self._probe.take()
        if self._may_acknowledge and self._acks.take(now):
            packets.append(self._ack_packet())
        self.counters.acks_out += sum(packet is not wire.PROBE_PACKET for packet in packets)
        if self.end is None and not self._probe.active:
            packets += self._send.take(limit)
        if self._fin_due:
            packets.append(wire.FIN_PACKET)
            self._fin_due, self.drop_socket = False, True
        return packets

    @property
    def _may_acknowledge(self) -> bool:
        """An ACK beyond what a server's new life has sent would freeze the original for good."""
        return self.end is None and not self._must_hold

    def _ack_packet(self) -> bytes:
        return wire.encode_ack(self._receive.accepted, self._receive.received if self.half_close else 0)

    # The local TCP.

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take bytes that the local TCP received; the number taken is at most `room`.

        bytes objects may be kept as they are, anything else is copied. After the end of the session nothing
        is taken. Raises LocalProtocolError after `write_eof`.
        """
        return self._send.write(data) if self.end is None else 0

    def write_eof(self, now: float) -> None:
        """The local TCP has ended its stream."""
        if self.end is None:
            self._send.finish()
            self._closing.ended(now)

    def reset(self, reason: str) -> None:
        """The local TCP has failed, or the owner gives up: tell the peer, drop the rest."""
        self._finish(reason, abort=True)

    def read(self, limit: int = 262_144) -> list[memoryview]:
        """Bytes for the local TCP, in parts: about `limit`, more only if a single packet is bigger."""
        return self._receive.read(limit)

    def delivered(self, now: float) -> None:
        """The local TCP has taken everything that `read` returned so far."""
        self._receive.delivered()
        self._acks.update(self._receive.accepted, now, urgent=self._receive.eof)

    # Time and the end.

    def timer(self) -> float | None:
        """When to call `handle_timer`, and `packets` after it. None while nothing is waited for."""
        if self.end is not None:
            return None
        if not self._attached:
            return self._detached_at + self._config.resume_limit
        if self.drop_socket:
            return None
        closing = None if self._probe.active else self._closing.due()
        times = [self._live.next_ping, self._live.dead_at, self._probe_at, self._acks_at, closing]
        return min(time for time in times if time is not None)

    @property
    def _acks_at(self) -> float | None:
        return self._acks.timer if self._may_acknowledge else None

    @property
    def _probe_at(self) -> float | None:
        if not self._probe.active:
            return None
        return self._probe.asked_at + self._config.probe_timeout

    def handle_timer(self, now: float) -> None:
        """Do what is due at `now`. Calling it too early or too often does no harm."""
        if self.end is not None or self.drop_socket:
            return
        if not self._attached:
            self._give_up(now)
        elif now >= self._live.dead_at:
            self.drop_socket = True
        elif self._probe.active:
            self._check_probe(now)
        else:
            self._settle(now)

    def _give_up(self, now: float) -> None:
        if now >= self._detached_at + self._config.resume_limit:
            self._finish("gone", abort=not (self._send.ending and self._receive.eof))

    def _check_probe(self, now: float) -> None:
        if now < self._probe.asked_at + self._config.probe_timeout:
            return
        if self._connections == 1:
            self._finish("ghost", abort=True)
        else:
            self.drop_socket = True

    def _settle(self, now: float) -> None:
        """End the session if it is complete, or if the peer no longer takes the rest."""
        if self.end is None and not self._probe.active and (end := self._closing.verdict(now)) is not None:
            self._finish(end.reason, abort=end.abort)

    def _finish(self, reason: str, *, abort: bool) -> None:
        """End the session from here; while it is closing, the local TCP can still fail."""
        if self.end is None:
            self._close(End(reason, abort))
            self._announce_end()
        elif abort and not self.end.abort and not self._receive.drained:
            self._close(End(reason, abort))

    def _announce_end(self) -> None:
        """Tell the peer, now or when it comes back. Our own kind learns first that all of it arrived."""
        assert self.end is not None
        self._fin_due = self._attached
        self._answers = int(self._attached and self.half_close and not self.end.abort)

    def _close(self, end: End) -> None:
        self.end = end
        self._probe.stop()
        self._held.release()
        self._answers = 0
        self._send.discard()
        if end.abort:
            self._receive.discard()
