"""What the two ends of an RTunnel were asked to do, already checked; times in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yarl

from rtun_core.wire.address import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """The server: WebSockets come in at `listen`, TCP connections go out to a target.

    `targets` maps the path of a request to its target; "" stands for every other path. Certificate and key
    come together or not at all. `token` is what clients have to show. `idle_timeout` ends sessions that
    carried nothing for so long; None lets them live.
    """

    listen: Address
    targets: Mapping[str, Address]
    cert: Path | None = None
    key: Path | None = None
    token: bytes | None = field(default=None, repr=False)
    max_sessions: int = 1024
    idle_timeout: float | None = None
    connect_timeout: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectConfig:
    """The client: TCP connections come in at `listen`, a WebSocket to `url` goes out for each.

    `url` has one of the schemes ws, wss, http and https. `ca` is a PEM file of trusted roots instead of the
    system's; `insecure` accepts every certificate. `headers` go into each request.
    """

    url: yarl.URL
    listen: Address
    ca: Path | None = None
    insecure: bool = False
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    token: bytes | None = field(default=None, repr=False)
    max_sessions: int = 1024
    idle_timeout: float | None = None
    connect_timeout: float = 10.0
