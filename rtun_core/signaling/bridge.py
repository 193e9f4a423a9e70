"""What a client asks of an agent goes through here: requests are forwarded, channels are joined (6.3).

The two hops number their channels independently. Both ends of a joined pair are open before the agent is
asked, so nothing that follows its answer is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from rtun_core.errors import RtunError
from rtun_core.net.switch import Channel, ClientSession, ServiceSession
from rtun_core.net.tasks import TaskOwner
from rtun_core.wire.control import ControlMessage, error_answer, error_channel, ok_status, refusal
from rtun_core.wire.pb import rtun_pb2 as pb

MAX_SCRIPT_S = 600

_FORWARDED = ("open_p2p", "exec_agent_script")
_CHANNELS = ("open_sell", "open_socks")


class Bridge:
    """The `ControlHandler` of one client session that is attached to a remote agent.

    `agent` finds the agent's present session for each request; what it raises is told to the client.
    """

    def __init__(
        self,
        client: ServiceSession,
        agent: Callable[[], ClientSession],
        *,
        channels: bool,
        timeout: float,
    ) -> None:
        self._client = client
        self._agent = agent
        self._channels_allowed = channels
        self._timeout = timeout
        self._joined: dict[int, tuple[Channel, Channel]] = {}
        self._tasks = TaskOwner("bridge")

    def __len__(self) -> int:
        return len(self._joined)

    async def handle(self, request: pb.C2ARequest) -> ControlMessage:
        """Forward the request or join a channel. Raises SignalingError and CommandRefused."""
        variant = request.WhichOneof("c2a_req_args")
        if variant in _FORWARDED:
            return await self._agent().request(request, timeout=self._patience(request))
        if variant in _CHANNELS:
            return await self._open(request, variant)
        if variant == "close_channel":
            await self._leave(request.close_channel.ch_id)
            return ok_status()
        return error_answer(request, f"{variant} is not bridged")

    async def close(self) -> None:
        """End every joined channel."""
        await self._tasks.close()
        for channel_id in list(self._joined):
            await self._leave(channel_id)

    def _patience(self, request: pb.C2ARequest) -> float:
        """Seconds that the agent has for its answer; a script's own time comes on top."""
        return self._timeout + min(request.exec_agent_script.timeout_secs, MAX_SCRIPT_S)

    async def _open(self, request: pb.C2ARequest, variant: str) -> ControlMessage:
        if not self._channels_allowed:
            return error_channel("bridge ch disabled")
        agent = self._agent()
        args = getattr(request, variant)
        near = self._client.channel(args.ch_id) if args.HasField("ch_id") else self._client.new_channel()
        try:
            far = agent.new_channel()
        except RtunError:
            await near.close()
            raise
        forwarded = pb.C2ARequest.FromString(request.SerializeToString())
        getattr(forwarded, variant).ch_id = far.id
        return await self._ask(agent, forwarded, near, far)

    async def _ask(
        self, agent: ClientSession, forwarded: pb.C2ARequest, near: Channel, far: Channel
    ) -> ControlMessage:
        error = "the bridge is closing"
        try:
            answer = await agent.request(forwarded, timeout=self._timeout)
            error = refusal(answer) or _mismatch(answer, far.id)
        finally:
            if error:
                # Closing tells an agent that opened the channel after all, or will when it wakes up.
                self._client.drop_channel(near)
                await far.close()
        if error:
            return error_channel(error)
        self._join(near, far)
        return pb.OpenChannelResponse(ch_id=near.id)

    def _join(self, near: Channel, far: Channel) -> None:
        self._joined[near.id] = (near, far)
        self._tasks.spawn(self._pump(near, far, near), f"channel {near.id} up")
        self._tasks.spawn(self._pump(far, near, near), f"channel {near.id} down")

    async def _pump(self, source: Channel, sink: Channel, near: Channel) -> None:
        # A lost session, or a channel that the other pump has ended: both are known where it matters.
        with suppress(RtunError):
            while payload := await source.recv():
                await sink.send(payload)
        pair = self._joined.get(near.id)
        if pair is not None and pair[0] is near:
            del self._joined[near.id]
        await sink.close()
        await source.close()

    async def _leave(self, channel_id: int) -> None:
        pair = self._joined.pop(channel_id, None)
        if pair is not None:
            near, far = pair
            self._client.drop_channel(near)
            await far.close()


def _mismatch(answer: ControlMessage, channel_id: int) -> str:
    if isinstance(answer, pb.OpenChannelResponse) and answer.ch_id == channel_id:
        return ""
    return f"the agent opened another channel than {channel_id}"
