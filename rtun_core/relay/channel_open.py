"""Opening one channel: gather, ask the agent, check connectivity (wire spec 8.1, 9.1)."""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import dataclass

from rtun_core.errors import SignalingError
from rtun_core.net.ice import IceConfig, IceSession, SelectedPath
from rtun_core.relay.agent_link import AgentLink
from rtun_core.wire.address import Address
from rtun_core.wire.frame_policy import FrameTerms
from rtun_core.wire.ice_params import ice_params_from_pb, ice_params_to_pb
from rtun_core.wire.pb import rtun_pb2 as pb
from rtun_core.wire.relay_frame import MAX_DATAGRAM, CodecKind, make_codec

FEATURE_REPORTS = 1  # RelayExtension.features: RTT and loss reports on flow 0
DETECT_TIMEOUT = 4.0  # an agent's first heartbeat comes at once; a lost one is followed after 3 s
OWN_BUILD = ".py"  # ends the `ver` of our own agents in the registry
_LIMIT_IN_ERROR = re.compile(r"please set <= (\d{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelWish:
    """What a rule asks of every channel. `max_payload` None: as much as the codec leaves."""

    target: Address
    ice: IceConfig
    idle_timeout: float
    session_id: bytes
    max_payload: int | None = None
    codec: CodecKind | None = None


@dataclass(slots=True)
class OpenedPath:
    """A path, and what is known of the frames on it. `max_payload` as the agent answered."""

    path: SelectedPath
    terms: FrameTerms
    reports: bool
    max_payload: int


async def open_channel(link: AgentLink, wish: ChannelWish, *, timeout: float) -> OpenedPath:
    """Open a channel within `timeout` seconds. Raises RtunError; nothing is left open then."""
    ice: IceSession | None = None
    try:
        async with asyncio.timeout(timeout):
            ice = await IceSession.gather(wish.ice, controlling=True)
            answer = await _ask(link, wish, ice, timeout)
            path = await ice.connect(ice_params_from_pb(answer.ice), timeout=timeout)
            return _settle(path, wish, answer)
    except BaseException as error:
        if ice is not None:
            ice.close()
        if isinstance(error, TimeoutError):
            raise SignalingError(f"no channel to agent {link.id} within {timeout:.0f} s") from None
        if isinstance(error, OSError):  # no more sockets, say: not a reason to stop what works
            raise SignalingError(f"no socket for a channel to agent {link.id}: {error}") from None
        raise


async def _ask(link: AgentLink, wish: ChannelWish, ice: IceSession, timeout: float) -> pb.UdpRelayArgs:
    """Request a channel; an agent that allows less payload than we ask by default is asked again."""
    payload = wish.max_payload or MAX_DATAGRAM - make_codec(wish.codec or CodecKind.OBFS_V2, 1).header_size
    try:
        return await _ask_once(link, wish, ice, payload, timeout)
    except SignalingError as error:
        limit = _LIMIT_IN_ERROR.search(str(error))
        if wish.max_payload is not None or limit is None or not 0 < int(limit[1]) < payload:
            raise
        return await _ask_once(link, wish, ice, int(limit[1]), timeout)


async def _ask_once(
    link: AgentLink, wish: ChannelWish, ice: IceSession, max_payload: int, timeout: float
) -> pb.UdpRelayArgs:
    seed = 0 if wish.codec is CodecKind.LEGACY else secrets.randbelow(0xFFFFFFFF) + 1
    args = pb.UdpRelayArgs(
        ice=ice_params_to_pb(ice.local),
        target_addr=str(wish.target),
        idle_timeout_secs=int(wish.idle_timeout),
        max_payload=max_payload,
        obfs_seed=seed,
    )
    if wish.codec in (None, CodecKind.OBFS_V2, CodecKind.LEGACY):
        args.ext.session_id = wish.session_id
        args.ext.features = FEATURE_REPORTS
    request = pb.C2ARequest(open_p2p=pb.P2PArgs(udp_relay=args))
    answer = await link.request(request, timeout=timeout)
    return _check(link, wish, answer)


def _check(link: AgentLink, wish: ChannelWish, answer: object) -> pb.UdpRelayArgs:
    if not isinstance(answer, pb.OpenP2PResponse):
        raise SignalingError(f"agent {link.id} answered with {type(answer).__name__}")
    if answer.WhichOneof("open_p2p_rsp") == "args" and answer.args.WhichOneof("p2p_args") == "udp_relay":
        return answer.args.udp_relay
    reason = answer.status.reason[:500] or "no reason given"
    if not wish.target.is_ip and not (link.entry.ver or "").endswith(OWN_BUILD):
        reason += f" (host names as targets, here {wish.target.host}, need an agent of this program)"
    raise SignalingError(f"agent {link.id} refused the channel: {reason}")


def _settle(path: SelectedPath, wish: ChannelWish, answer: pb.UdpRelayArgs) -> OpenedPath:
    """What is known of the frames: agreed with our own agents, else told by the agent's first frame."""
    ours = answer.HasField("ext")
    agreed = wish.codec or (CodecKind.OBFS_V2 if ours else None)
    return OpenedPath(
        path=path,
        terms=FrameTerms(
            seed=answer.obfs_seed,
            settled=CodecKind.LEGACY if answer.obfs_seed == 0 else agreed,
            hold=DETECT_TIMEOUT,
        ),
        reports=ours and bool(answer.ext.features & FEATURE_REPORTS),
        max_payload=answer.max_payload,
    )
