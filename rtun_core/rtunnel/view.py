"""The sessions of a service as tables: one tunnel and one flow each."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Final

import numpy as np

from rtun_core.flow_rows import ADDRESS_SIZE, FlowRows, flow_states, pack_source
from rtun_core.model import (
    AgentState,
    AgentView,
    RuleState,
    RuleView,
    ServiceSnapshot,
    SignalView,
    Traffic,
    TunnelId,
    TunnelState,
    TunnelView,
)
from rtun_core.rtunnel.book import RULE, Book, Peer, codec_name
from rtun_core.rtunnel.carrier import Carrier
from rtun_core.wire.rtunnel_terms import WINDOW_PACKETS, State

FAMILY: Final = "rtunnel"
RATE_SPAN = 1.0  # seconds that a rate is taken over, at least

_STATES: Final = {
    State.OPENING: TunnelState.OPENING,
    State.OPEN: TunnelState.UP,
    State.RESUMING: TunnelState.DEGRADED,
    State.CLOSING: TunnelState.DRAINING,
    State.CLOSED: TunnelState.CLOSED,
}


class View:
    """Draws the picture of a book. It remembers what it saw to tell rates."""

    def __init__(self, book: Book, *, service: str, listen: str, target: str) -> None:
        self.service = service
        self.listen = listen
        self.target = target
        self._book = book
        self._sampled_at = monotonic()
        self._before: dict[TunnelId, Traffic] = {}
        self._rates: dict[TunnelId, tuple[float, float]] = {}

    def snapshot(self, *, paused: bool, flows: bool, signal: SignalView | None) -> ServiceSnapshot:
        """The picture right now; without `signal`, the service has not started."""
        now = monotonic()
        carriers = list(self._book.live.values())
        traffic = [self._book.traffic_of(carrier) for carrier in carriers]
        self._sample(carriers, traffic, now)
        if signal is None:
            return ServiceSnapshot(service=self.service)
        drops = dict(self._book.drops)
        tunnels = tuple(
            _tunnel(carrier, counts, now) for carrier, counts in zip(carriers, traffic, strict=True)
        )
        total = self._book.traffic()
        return ServiceSnapshot(
            service=self.service,
            signal=(signal,),
            rules=(self._rule(tunnels, total, drops, paused=paused),),
            agents=tuple(_agent(peer, signal.url) for peer in self._book.peers.values()),
            tunnels=tunnels,
            flows=self._flows(carriers, traffic, now) if flows else (),
            traffic=total,
            drops=drops,
            faults=self._book.faults(),
        )

    def _rule(
        self, tunnels: Sequence[TunnelView], traffic: Traffic, drops: dict[str, int], *, paused: bool
    ) -> RuleView:
        agents = {tunnel.agent for tunnel in tunnels}
        return RuleView(
            id=RULE,
            family=FAMILY,
            listen=self.listen,
            target=self.target,
            state=RuleState.PAUSED if paused else RuleState.ACTIVE,
            agent=agents.pop() if len(agents) == 1 else None,
            tunnels_up=sum(tunnel.state is TunnelState.UP for tunnel in tunnels),
            flows=len(tunnels),
            traffic=traffic,
            drops=drops,
        )

    def _sample(self, carriers: Sequence[Carrier], traffic: Sequence[Traffic], now: float) -> None:
        """Keep rates of about the last second; whoever asks more often gets the same ones."""
        span = now - self._sampled_at
        if span < RATE_SPAN:
            return
        self._sampled_at = now
        before, self._before, self._rates = self._before, {}, {}
        none = Traffic()
        for carrier, counts in zip(carriers, traffic, strict=True):
            tunnel = carrier.names.tunnel
            last = before.get(tunnel, none)
            self._before[tunnel] = counts
            self._rates[tunnel] = (
                (counts.up_bytes - last.up_bytes) / span,
                (counts.down_bytes - last.down_bytes) / span,
            )

    def _flows(self, carriers: Sequence[Carrier], traffic: Sequence[Traffic], now: float) -> FlowRows:
        targets: dict[str, int] = {}
        names = [carrier.names for carrier in carriers]
        target = [targets.setdefault(each.target, len(targets)) for each in names]
        rates = [self._rates.get(each.tunnel, (0.0, 0.0)) for each in names]
        idle = np.array([max(0.0, now - carrier.active_at) for carrier in carriers], np.float64)
        linked = np.array([carrier.link is not None for carrier in carriers], np.bool_)
        sources = np.frombuffer(b"".join(pack_source(each.source) for each in names), np.uint8)
        return FlowRows(
            ids=np.array([each.number for each in names], np.uint64),
            sources=sources.reshape(-1, ADDRESS_SIZE),
            rule=np.zeros(len(names), np.int32),
            target=np.array(target, np.int32),
            tunnel=np.arange(len(names), dtype=np.int32),
            state=flow_states(idle, has_tunnel=linked),
            opened_at=np.array([each.opened_at for each in names], np.float64),
            idle_s=idle,
            up_packets=np.array([each.up_packets for each in traffic], np.int64),
            up_bytes=np.array([each.up_bytes for each in traffic], np.int64),
            down_packets=np.array([each.down_packets for each in traffic], np.int64),
            down_bytes=np.array([each.down_bytes for each in traffic], np.int64),
            up_rate=np.array([up for up, _ in rates], np.float64),
            down_rate=np.array([down for _, down in rates], np.float64),
            moves=np.array([each.session.counters.reconnects for each in carriers], np.int64),
            rules=(RULE,),
            targets=tuple(targets),
            tunnels=tuple(each.tunnel for each in names),
        )


def _tunnel(carrier: Carrier, traffic: Traffic, now: float) -> TunnelView:
    session, names, link = carrier.session, carrier.names, carrier.link
    state = _STATES[session.state]
    if carrier.draining and state in (TunnelState.UP, TunnelState.DEGRADED):
        state = TunnelState.DRAINING
    return TunnelView(
        id=names.tunnel,
        rule=RULE,
        agent=names.agent,
        state=state,
        kind="websocket",
        opened_at=names.opened_at,
        local=link.local if link is not None else "",
        remote=link.remote if link is not None else "",
        codec=codec_name(carrier),
        rtt_ms=None if session.rtt is None else session.rtt * 1e3,
        quiet_s=0.0 if link is None else max(0.0, now - link.heard_at),
        flows=1,
        traffic=traffic,
        reason=_reason(carrier),
    )


def _reason(carrier: Carrier) -> str:
    """How full the window is, and what this path has been through."""
    counters = carrier.session.counters
    parts = [f"window {carrier.session.in_flight}/{WINDOW_PACKETS}"]
    if counters.reconnects:
        parts.append(f"{counters.reconnects} reconnects")
    if counters.resends:
        parts.append(f"{counters.resends} resent")
    if counters.duplicates:
        parts.append(f"{counters.duplicates} duplicates")
    return ", ".join(parts)


def _agent(peer: Peer, url: str) -> AgentView:
    state = AgentState.READY
    if not peer.seen:
        state = AgentState.LOST if peer.reason else AgentState.PROBING
    elif peer.sessions:
        state = AgentState.IN_USE
    return AgentView(
        id=peer.id,
        name=peer.name,
        instance="",
        state=state,
        signal=url,
        address=peer.address,
        rtt_ms=None if peer.rtt is None else peer.rtt * 1e3,
        probed_at=peer.probed_at,
        tunnels=peer.sessions,
        reason=peer.reason,
    )
