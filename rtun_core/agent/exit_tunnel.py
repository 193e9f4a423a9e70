"""One relay tunnel on the exit side, from the selected ICE path to its end (wire spec 9).

What the relay sends goes to the flow table by flow; answers of targets come back from there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from rtun_core.agent.codec_terms import CodecTerms
from rtun_core.agent.exit_flows import Attachment, ExitFlows
from rtun_core.model import Traffic, TunnelId
from rtun_core.net.frame_socket import FramePath, Frames, FrameSocket
from rtun_core.wire.address import Address
from rtun_core.wire.relay_report import Ping, Pong


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelTerms:
    """What was agreed for one tunnel: `session` is what tunnels of one relay share."""

    session: str
    target: Address
    idle_timeout: float
    codec: CodecTerms
    reports: bool = False


class ExitTunnel:
    """One tunnel. `on_closed(tunnel, reason)` is called once, unless the owner called `close` itself.

    `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        tunnel: TunnelId,
        path: FramePath,
        terms: TunnelTerms,
        flows: ExitFlows,
        *,
        clock: Callable[[], float],
        on_closed: Callable[[ExitTunnel, str], None],
    ) -> None:
        self.id = tunnel
        self.terms = terms
        self.idle_timeout = terms.idle_timeout
        self.opened_at = clock()
        self.draining = False
        self.frames = FrameSocket(
            path,
            terms.codec.frames,
            self,
            reports=terms.reports,
            max_payload=terms.codec.max_payload,
            clock=clock,
        )
        self._flows = flows
        self._clock = clock
        self._on_closed = on_closed
        self._at: Attachment = flows.attach(self, terms.session, terms.target)

    @property
    def path_index(self) -> int:
        """Where the flow table has this tunnel."""
        return self._at.path

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self.frames.closed

    @property
    def remote(self) -> Address:
        """The relay's address of the path."""
        return self.frames.remote

    @property
    def max_payload(self) -> int:
        """The largest payload it carries, in bytes."""
        return self.frames.max_payload

    @property
    def traffic(self) -> Traffic:
        """Payload carried so far."""
        frames = self.frames
        up = (frames.received_packets, frames.received_bytes)
        return Traffic(*up, frames.sent_packets, frames.sent_bytes)

    def start(self) -> None:
        """Read the path, and beat if the frame form is known."""
        self.frames.start()

    def tick(self) -> None:
        """Once a second: heartbeat and watchdog."""
        self.frames.tick()

    def close(self) -> None:
        """Close silently. May be called again."""
        if not self.closed:
            self.frames.close()
            self._flows.detach(self._at)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count datagrams that are not carried."""
        self.frames.drop(reason, count)

    def counters(self) -> tuple[Counter[str], Counter[str]]:
        """Drops and faults by reason."""
        return self.frames.counters()

    def downlink(self, frames: Frames) -> None:
        """Carry payloads that have room for a header before them."""
        self.frames.send(frames)

    def downlink_one(self, flow: int, payload: bytes) -> None:
        """Carry one datagram as flow `flow`."""
        self.frames.send_one(flow, payload)

    def on_frame(self, flow: int, payload: bytes) -> None:
        """One datagram of the relay."""
        self._flows.uplink_one(self._at, flow, payload, self._clock())

    def on_frames(self, frames: Frames) -> None:
        """Data of the relay."""
        self._flows.uplink(self._at, frames)

    def on_report(self, report: Ping | Pong) -> None:
        """Answer a ping; we send none, so a pong is not for us."""
        if isinstance(report, Ping):
            mine = self.frames
            mine.send_report(Pong(report.seq, report.sent_us, mine.rx_frames, mine.tx_frames))
        else:
            self.frames.faults["unsolicited"] += 1

    def on_lost(self, reason: str) -> None:
        """The path or the peer is gone."""
        self._flows.detach(self._at)
        self._on_closed(self, reason)
