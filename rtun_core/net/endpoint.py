"""Where and how a client reaches its signalling server."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rtun_core.wire.signal_url import SignalUrl


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalEndpoint:
    """A signalling server, the shared secret, and how its certificate is judged.

    `ca` is a PEM file of trusted roots instead of the system's; `insecure` accepts any certificate.
    Both apply to `https://` and `quic://` alike.
    """

    url: SignalUrl
    secret: bytes = field(repr=False)
    ca: Path | None = None
    insecure: bool = False
