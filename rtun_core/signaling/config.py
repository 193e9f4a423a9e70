"""What a signalling server was asked to do, already checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rtun_core.wire.address import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Bounds on what strangers can make the server hold; times in seconds."""

    max_connections: int = 4096
    max_agents: int = 4096
    max_frame: int = 16 * 1024 * 1024
    first_frame: int = 65536  # before a token was checked
    unauthenticated_time: float = 10.0
    request_timeout: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """One `rtun agent listen`. Certificate and key come together, or `self_signed`, or neither."""

    listen: Address
    secret: bytes = field(repr=False)
    cert: Path | None = None
    key: Path | None = None
    self_signed: bool = False
    bridge_only: bool = False
    bridge_channels: bool = True
    limits: ServerLimits = field(default_factory=ServerLimits)
