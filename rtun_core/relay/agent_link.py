"""The signalling session of the relay with one agent. Channels outlive it: it only opens them."""

from __future__ import annotations

import time

from google.protobuf.message import Message

from rtun_core.errors import SignalingError
from rtun_core.model import AgentId
from rtun_core.net.endpoint import SignalEndpoint
from rtun_core.net.signal_client import open_sub
from rtun_core.net.switch import ClientSession
from rtun_core.relay.agent_choice import entry_id
from rtun_core.wire.pb import rtun_pb2 as pb
from rtun_core.wire.signal_json import AgentEntry


class AgentLink:
    """One agent as this relay reaches it. `entry` may change when the agent registers anew."""

    def __init__(self, endpoint: SignalEndpoint, entry: AgentEntry) -> None:
        self.entry = entry
        self._endpoint = endpoint
        self._session: ClientSession | None = None

    @property
    def id(self) -> AgentId:
        """The agent's identity."""
        return entry_id(self.entry)

    @property
    def connected(self) -> bool:
        """Whether requests can be made now."""
        return self._session is not None and not self._session.closed.is_set()

    @property
    def why_lost(self) -> str:
        """Why the session ended."""
        return self._session.close_reason if self._session is not None else "not connected yet"

    async def connect(self) -> float:
        """Open the session; returns the server's answer time in seconds. Raises SignalingError."""
        await self.close()
        start = time.monotonic()
        self._session = await open_sub(self._endpoint, agent=self.entry.name, instance=self.entry.instance_id)
        return time.monotonic() - start

    async def wait_lost(self) -> None:
        """Return when the session has ended."""
        if self._session is not None:
            await self._session.closed.wait()

    async def request(self, request: pb.C2ARequest, *, timeout: float) -> Message:
        """Ask the agent through the server. Raises SignalingError."""
        if self._session is None:
            raise SignalingError(f"there is no signalling session with agent {self.id}")
        return await self._session.request(request, timeout=timeout)

    async def close(self) -> None:
        """End the session; channels stay."""
        session, self._session = self._session, None
        if session is not None:
            await session.close("done")
