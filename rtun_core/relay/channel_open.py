"""Opening one channel: gather, ask the agent, check connectivity, learn the codec (wire spec 8.1, 9.1)."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from dataclasses import dataclass

from rtun_core.errors import SignalingError
from rtun_core.net.ice import IceConfig, IceSession, SelectedPath
from rtun_core.net.udp import DatagramBatch
from rtun_core.relay.agent_link import AgentLink
from rtun_core.relay.channel_policy import DETECT_TIMEOUT, ChannelPolicy
from rtun_core.wire.address import Address
from rtun_core.wire.ice_params import ice_params_from_pb, ice_params_to_pb
from rtun_core.wire.pb import rtun_pb2 as pb
from rtun_core.wire.relay_frame import MAX_DATAGRAM, CodecKind, make_codec

FEATURE_REPORTS = 1  # RelayExtension.features: RTT and loss reports on flow 0
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
    """A path that is ready to carry frames."""

    path: SelectedPath
    policy: ChannelPolicy
    reports: bool
    max_payload: int
    early: list[bytes]


async def open_channel(link: AgentLink, wish: ChannelWish, *, timeout: float) -> OpenedPath:
    """Open a channel within `timeout` seconds. Raises RtunError; nothing is left open then."""
    ice: IceSession | None = None
    try:
        async with asyncio.timeout(timeout):
            ice = await IceSession.gather(wish.ice, controlling=True)
            answer = await _ask(link, wish, ice, timeout)
            path = await ice.connect(ice_params_from_pb(answer.ice), timeout=timeout)
            return await _settle(path, wish, answer)
    except BaseException as error:
        if ice is not None:
            ice.close()
        if isinstance(error, TimeoutError):
            raise SignalingError(f"no channel to agent {link.id} within {timeout:.0f} s") from None
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


async def _settle(path: SelectedPath, wish: ChannelWish, answer: pb.UdpRelayArgs) -> OpenedPath:
    """Decide the codec: agreed with our own agents, told by the first frame of others."""
    ours = answer.HasField("ext")
    agreed = wish.codec or (CodecKind.OBFS_V2 if ours else None)
    policy = ChannelPolicy(seed=answer.obfs_seed, agreed=agreed, now=time.monotonic())
    early = list(path.early)
    if policy.codec is None:
        early += await _listen_for_codec(path, policy, early)
    codec = policy.assume_codec()
    return OpenedPath(
        path=path,
        policy=policy,
        reports=ours and bool(answer.ext.features & FEATURE_REPORTS),
        max_payload=min(answer.max_payload or codec.max_payload, codec.max_payload),
        early=early,
    )


async def _listen_for_codec(path: SelectedPath, policy: ChannelPolicy, early: list[bytes]) -> list[bytes]:
    """Wait for the first frame that tells the agent's generation; returns what arrived meanwhile."""
    heard: list[bytes] = []
    decided = asyncio.Event()

    def on_batch(batch: DatagramBatch) -> None:
        for row in range(batch.count):
            datagram = batch.payload(row)
            if (answer := path.responder(datagram, path.remote)) is not None:
                path.socket.send(answer)
                continue
            heard.append(datagram)
            if policy.first_frame(datagram) is not None:
                decided.set()

    if any(policy.first_frame(datagram) is not None for datagram in early):
        return heard
    path.socket.start(on_batch, lambda _error: None)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(decided.wait(), DETECT_TIMEOUT)
    return heard
