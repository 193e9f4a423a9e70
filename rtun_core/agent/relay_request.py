"""What a relay asks of an exit, checked: the `udp_relay` variant of `open_p2p` (wire spec 9.1)."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import Final

from rtun_core.agent.codec_terms import OBFS_V2_PAYLOAD, CodecTerms
from rtun_core.agent.egress import EgressPolicy
from rtun_core.errors import RtunError
from rtun_core.wire.address import Address, parse_address
from rtun_core.wire.ice_checker import IceParams
from rtun_core.wire.ice_params import ice_params_from_pb
from rtun_core.wire.pb import rtun_pb2 as pb

DEFAULT_IDLE: Final = 120
RESOLVE_TIMEOUT: Final = 3.0
MAX_SESSION_ID: Final = 64
FEATURE_REPORTS: Final = 1
OUR_FEATURES: Final = FEATURE_REPORTS


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayRequest:
    """A request that can be carried out. `target` is an IP address, `idle_timeout` is in seconds.

    `session_id` is what tunnels of one relay have in common, None where the relay gives none.
    `features` are the extensions that both ends know; always 0 towards a relay without extension.
    """

    remote: IceParams
    target: Address
    idle_timeout: int
    terms: CodecTerms
    session_id: bytes | None
    features: int
    hard_nat: bool

    @property
    def reports(self) -> bool:
        """Whether flow 0 may carry measurements."""
        return bool(self.features & FEATURE_REPORTS)


async def check_request(args: pb.UdpRelayArgs, egress: EgressPolicy) -> RelayRequest:
    """Check every field of `args`; a host name as target is looked up here, 3 s at most.

    Raises RtunError (RemoteProtocolError for broken ICE credentials) with one sentence for the relay.
    """
    remote = ice_params_from_pb(args.ice)
    terms = CodecTerms(args.obfs_seed, args.max_payload, args.HasField("ext"))
    if terms.max_payload > terms.payload_limit:
        limit = min(terms.payload_limit, OBFS_V2_PAYLOAD) if terms.seed else terms.payload_limit
        raise RtunError(
            f"udp max payload [{args.max_payload}] exceed p2p limit [{limit}], please set <= {limit}"
        )
    if len(args.ext.session_id) > MAX_SESSION_ID:
        raise RtunError(
            f"the session id has {len(args.ext.session_id)} bytes; accepted: up to {MAX_SESSION_ID}"
        )
    return RelayRequest(
        remote=remote,
        target=await _target(args.target_addr, egress),
        idle_timeout=args.idle_timeout_secs or DEFAULT_IDLE,
        terms=terms,
        session_id=args.ext.session_id or None,
        features=args.ext.features & OUR_FEATURES,
        hard_nat=args.hard_nat.mode != 0,
    )


async def _target(text: str, egress: EgressPolicy) -> Address:
    """The first permitted address that `text` stands for."""
    try:
        address = parse_address(text)
    except ValueError as error:
        raise RtunError(f"udp target {error}") from None
    if address.port == 0:
        raise RtunError(f"udp target {text!r} has the port 0; accepted: a port from 1 to 65535")
    addresses = [address] if address.is_ip else await _resolve(address)
    refusals = [egress.permits(candidate) for candidate in addresses]
    for candidate, refusal in zip(addresses, refusals, strict=True):
        if refusal is None:
            return candidate
    raise RtunError(next(filter(None, refusals), f"udp target {text!r} has no address"))


async def _resolve(address: Address) -> list[Address]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT):
            found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
    except TimeoutError:
        raise RtunError(f"udp target {address} could not be looked up in {RESOLVE_TIMEOUT:g} s") from None
    except (OSError, UnicodeError) as error:
        raise RtunError(f"udp target {address} could not be looked up: {error}") from None
    hosts = dict.fromkeys(str(entry[4][0]) for entry in found)
    return [Address(host, address.port) for host in hosts]
