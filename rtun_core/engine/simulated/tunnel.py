"""One simulated tunnel: where it leads, how it fares, what it carried."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

from rtun_core.engine.simulated.scenery import CODEC
from rtun_core.engine.simulated.weather import PathWeather
from rtun_core.model import AgentId, Rates, RuleId, Traffic, TunnelId, TunnelState, TunnelView
from rtun_core.relay.health import ChannelHealth, Grade
from rtun_core.relay.router import ChannelLoad

PACKET_RATE_WEIGHT = 0.3  # of a new second, in the rate that the router sees


class Phase(enum.Enum):
    """What flows may do with a tunnel: opening -> active -> draining, or retiring after a switch."""

    OPENING = "opening"
    ACTIVE = "active"
    DRAINING = "draining"
    RETIRING = "retiring"


class Way(NamedTuple):
    """The way to an agent: `rtt` in seconds; `fault` is why no tunnel to it opens, empty if one does."""

    agent: AgentId
    host: str
    rtt: float
    fault: str = ""


@dataclass(slots=True, kw_only=True)
class Tunnel:
    """A path to an agent. `slot` is its small number in the flow columns; times are Unix seconds."""

    id: TunnelId
    slot: int
    rule: RuleId
    agent: AgentId
    source: str
    opened_at: float
    local: str
    remote: str
    weather: PathWeather
    health: ChannelHealth = field(init=False)
    phase: Phase = Phase.OPENING
    replaces: TunnelId | None = None
    preferred: bool = False
    flows: int = 0
    packet_rate: float = 0.0
    retire_at: float = 0.0
    drops: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.health = ChannelHealth(self.opened_at, reports=True)

    @property
    def usable(self) -> bool:
        """Whether it belongs to the agent in use and may have flows."""
        return self.phase in (Phase.ACTIVE, Phase.DRAINING)

    @property
    def draining(self) -> bool:
        """Whether flows are to leave it."""
        return self.phase in (Phase.DRAINING, Phase.RETIRING)

    def measure(self, now: float, *, packet_rate: float) -> None:
        """Once a second: take in what the path is like, and how many packets a second it carries."""
        health, weather = self.health, self.weather
        health.received(now)
        health.answered(now)
        health.sample_rtt(weather.rtt)
        health.loss_up = _smooth(health.loss_up, weather.loss * 0.8)
        health.loss_down = _smooth(health.loss_down, weather.loss)
        self.packet_rate += PACKET_RATE_WEIGHT * (packet_rate - self.packet_rate)

    def measure_exactly(self) -> None:
        """Take in what the path is like, without smoothing."""
        self.health.rtt = self.weather.rtt
        self.health.loss_up, self.health.loss_down = self.weather.loss * 0.8, self.weather.loss

    def load(self) -> ChannelLoad:
        """What the router must know."""
        health = self.health
        return ChannelLoad(
            id=self.id,
            grade=health.grade,
            cost=health.cost,
            flows=self.flows,
            rate=self.packet_rate,
            draining=self.draining,
            preferred=self.preferred,
        )

    def state(self) -> TunnelState:
        """The word for it."""
        if self.phase is Phase.OPENING:
            return TunnelState.OPENING
        if self.draining:
            return TunnelState.DRAINING
        return TunnelState.UP if self.health.grade is Grade.GOOD else TunnelState.DEGRADED

    def view(
        self, now: float, *, flows: int, expires_at: float | None, traffic: Traffic, rates: Rates
    ) -> TunnelView:
        """Its row of the snapshot."""
        opening, health = self.phase is Phase.OPENING, self.health
        return TunnelView(
            id=self.id,
            rule=self.rule,
            agent=self.agent,
            state=self.state(),
            kind="p2p",
            opened_at=self.opened_at,
            local=self.local,
            remote="" if opening else self.remote,
            codec="" if opening else CODEC,
            rtt_ms=None if opening or health.rtt is None else health.rtt * 1e3,
            loss_up=None if opening else health.loss_up,
            loss_down=None if opening else health.loss_down,
            quiet_s=max(0.0, now - health.last_rx),
            expires_at=expires_at,
            preferred=self.preferred,
            flows=flows,
            traffic=traffic,
            rates=rates,
            drops=dict(self.drops),
            reason=health.reason,
        )


def _smooth(before: float | None, sample: float) -> float:
    return sample if before is None else before + 0.3 * (sample - before)
