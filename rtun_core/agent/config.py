"""What a publishing agent was asked to do, already checked."""

from __future__ import annotations

from dataclasses import dataclass, field

from rtun_core.agent.egress import EgressPolicy
from rtun_core.net.endpoint import SignalEndpoint
from rtun_core.net.ice import IceConfig
from rtun_core.wire.address import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitConfig:
    """The exit side: which addresses ICE offers and what relays may reach."""

    ice: IceConfig
    egress: EgressPolicy = field(default_factory=EgressPolicy)
    max_tunnels: int = 1024
    max_flows: int = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class PubConfig:
    """One `rtun agent pub`: `name` None lets the server choose, `expire_in` is in seconds."""

    endpoint: SignalEndpoint
    exit: ExitConfig
    name: str | None = None
    expire_in: float | None = None
    echo: Address | None = None
