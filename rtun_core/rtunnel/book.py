"""All sessions of one service: who they belong to, what they have done, and the events that tell of them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rtun_core.bus import EventBus
from rtun_core.events import (
    AgentLost,
    AgentSeen,
    FlowClosed,
    FlowOpened,
    RuleChanged,
    TunnelClosed,
    TunnelDegraded,
    TunnelDraining,
    TunnelOpening,
    TunnelUp,
)
from rtun_core.flow_rows import format_flow_id
from rtun_core.model import AgentId, RuleId, Traffic, TunnelId, add_traffic
from rtun_core.net.tasks import TaskOwner
from rtun_core.rtunnel.carrier import Carrier
from rtun_core.rtunnel.names import Names
from rtun_core.wire.rtunnel_budget import Budget
from rtun_core.wire.rtunnel_session import Session
from rtun_core.wire.rtunnel_terms import Role, SessionConfig

RULE: Final = RuleId("r1")
AGENT_MEMORY: Final = 60.0
"""Seconds that a client without sessions is still shown by a server."""
BAD_PACKET: Final = "bad-packet"


@dataclass(slots=True, kw_only=True)
class Peer:
    """The other end of some sessions: an agent of the tables."""

    id: AgentId
    name: str
    address: str = ""
    sessions: int = 0
    seen: bool = False
    reason: str = ""
    rtt: float | None = None  # seconds
    probed_at: float | None = None  # Unix seconds
    forget: asyncio.TimerHandle | None = None


class Book:
    """Keeps the living sessions by tunnel, and what the ended ones add to the counters.

    `on_finished` gets each session that is over. It implements `Watcher` for its carriers.
    """

    def __init__(
        self,
        role: Role,
        bus: EventBus,
        tasks: TaskOwner,
        *,
        idle_timeout: float | None,
        settings: SessionConfig,
        on_finished: Callable[[Carrier], None],
    ) -> None:
        self.role = role
        self.live: dict[TunnelId, Carrier] = {}
        self.linked: set[Carrier] = set()  # those with a WebSocket, ended ones too
        self.peers: dict[AgentId, Peer] = {}
        self.drops: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._gone = Traffic()
        self._bus = bus
        self._tasks = tasks
        self._idle_timeout = idle_timeout
        self._settings = settings
        self._on_finished = on_finished
        self._budget = Budget()
        self._numbers = 0

    # ---- sessions -----------------------------------------------------------------------------------

    def open(self, session_id: str, peer: Peer, *, source: str, target: str) -> Carrier:
        """A new session with `peer`."""
        self._numbers += 1
        names = Names(
            number=self._numbers,
            tunnel=TunnelId(f"t{self._numbers}"),
            flow=format_flow_id(self._numbers),
            agent=peer.id,
            source=source,
            target=target,
            opened_at=time.time(),
        )
        session = Session(
            session_id=session_id,
            role=self.role,
            now=time.monotonic(),
            config=self._settings,
            budget=self._budget,
        )
        carrier = Carrier(session, names, self, self._tasks, idle_timeout=self._idle_timeout)
        self.live[names.tunnel] = carrier
        peer.sessions += 1
        if peer.forget is not None:
            peer.forget.cancel()
            peer.forget = None
        self._bus.emit(TunnelOpening(tunnel=names.tunnel, rule=RULE, agent=peer.id, source="demand-open"))
        self._bus.emit(
            FlowOpened(flow=names.flow, rule=RULE, source=source, target=target, tunnel=names.tunnel)
        )
        return carrier

    def attached(self, carrier: Carrier) -> None:
        """Told by a carrier."""
        names, link = carrier.names, carrier.link
        self.linked.add(carrier)
        if names.tunnel not in self.live or link is None:
            return
        self.see(self.peers[names.agent])
        if carrier.session.counters.reconnects:
            self._bus.emit(
                TunnelDegraded(tunnel=names.tunnel, reason=f"resumed at {link.remote}", recovered=True)
            )
        else:
            self._bus.emit(
                TunnelUp(
                    tunnel=names.tunnel,
                    rule=RULE,
                    agent=names.agent,
                    source="demand-open",
                    remote=link.remote,
                    codec=codec_name(carrier),
                )
            )

    def detached(self, carrier: Carrier, reason: str) -> None:
        """Told by a carrier."""
        self.linked.discard(carrier)
        if carrier.session.end is None:
            self._bus.emit(TunnelDegraded(tunnel=carrier.names.tunnel, reason=reason))

    def fault(self, reason: str) -> None:
        """Count what a peer did wrong."""
        self._faults[reason] += 1

    def finished(self, carrier: Carrier) -> None:
        """Told by a carrier."""
        names, session = carrier.names, carrier.session
        if self.live.pop(names.tunnel, None) is None:
            return
        self._gone = add_traffic(self._gone, self.traffic_of(carrier))
        self._faults[BAD_PACKET] += session.counters.bad_packets
        reason = session.end.reason if session.end is not None else "closed"
        self._bus.emit(FlowClosed(flow=names.flow, count=1, reason=reason))
        self._bus.emit(
            TunnelClosed(
                tunnel=names.tunnel,
                reason=reason,
                opened=session.rtt is not None or session.counters.packets_in > 0,
            )
        )
        self._leave(self.peers[names.agent])
        self._on_finished(carrier)

    def draining(self, carrier: Carrier) -> None:
        """A tunnel was asked to close when its flow has ended."""
        self._bus.emit(TunnelDraining(tunnel=carrier.names.tunnel, flows=1, reason="requested"))

    def rule_changed(self, state: str) -> None:
        """The rule was paused or resumed."""
        self._bus.emit(RuleChanged(rule=RULE, state=state))

    # ---- peers --------------------------------------------------------------------------------------

    def peer(self, id_: AgentId, name: str, address: str) -> Peer:
        """The peer with this id, made if it is new."""
        if id_ not in self.peers:
            self.peers[id_] = Peer(id=id_, name=name, address=address)
        return self.peers[id_]

    def see(self, peer: Peer) -> None:
        """A peer has answered or come."""
        peer.reason = ""
        if not peer.seen:
            peer.seen = True
            self._bus.emit(AgentSeen(agent=peer.id, address=peer.address))

    def lose(self, peer: Peer, reason: str) -> None:
        """A peer cannot be reached."""
        peer.reason = reason
        if peer.seen:
            peer.seen = False
            self._bus.emit(AgentLost(agent=peer.id, reason=reason))

    def _leave(self, peer: Peer) -> None:
        peer.sessions -= 1
        if not peer.sessions and self.role is Role.SERVER:
            loop = asyncio.get_running_loop()
            peer.forget = loop.call_later(AGENT_MEMORY, self._forget, peer)

    def _forget(self, peer: Peer) -> None:
        self.lose(peer, "no session left")
        self.peers.pop(peer.id, None)

    def close(self) -> None:
        """Forget the peers."""
        for peer in self.peers.values():
            if peer.forget is not None:
                peer.forget.cancel()
        self.peers.clear()

    # ---- counters -----------------------------------------------------------------------------------

    def traffic_of(self, carrier: Carrier) -> Traffic:
        """What one session has carried; `up` goes from the client to the target on both sides."""
        counters = carrier.session.counters
        packets_in = counters.packets_in - counters.acks_in
        if self.role is Role.CLIENT:
            return Traffic(counters.packets_out, counters.bytes_out, packets_in, counters.bytes_in)
        return Traffic(packets_in, counters.bytes_in, counters.packets_out, counters.bytes_out)

    def traffic(self) -> Traffic:
        """What all sessions have carried since the start."""
        total = self._gone
        for carrier in self.live.values():
            total = add_traffic(total, self.traffic_of(carrier))
        return total

    def faults(self) -> dict[str, int]:
        """What peers did wrong, by reason, since the start."""
        faults = Counter(self._faults)
        faults[BAD_PACKET] += sum(each.session.counters.bad_packets for each in self.live.values())
        return {reason: count for reason, count in faults.items() if count}


def codec_name(carrier: Carrier) -> str:
    """What the two ends of a session have agreed on."""
    return "half-close" if carrier.session.half_close else "original"
