"""What the relay was asked to do, already checked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from rtun_core.net.endpoint import SignalEndpoint
from rtun_core.net.ice import IceConfig
from rtun_core.wire.relay_frame import CodecKind
from rtun_core.wire.relay_rule import RelayRule


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayConfig:
    """Settings of one relay process; times in seconds, defaults of wire spec 2.3 and 10.

    `max_payload` None means as much as the codec leaves of a 1452-byte datagram. `codec` None means
    obfs-v2, or whatever generation the agent turns out to speak. `wait_agent` bounds the time in
    which a first tunnel must be up, None waits for ever.
    """

    endpoint: SignalEndpoint
    rules: tuple[RelayRule, ...]
    ice: IceConfig
    agent: re.Pattern[str] = field(default_factory=lambda: re.compile(".*"))
    idle_timeout: float = 120.0
    max_payload: int | None = None
    min_channels: int = 1
    max_channels: int = 1
    channel_lifetime: float = 120.0
    open_retry_min_interval: float = 2.0
    codec: CodecKind | None = None
    max_flows: int = 65536
    wait_agent: float | None = None
