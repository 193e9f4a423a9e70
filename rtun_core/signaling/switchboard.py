"""The server's state behind its listeners: who is registered, who is attached, who may (wire spec 6.4).

Listeners bring transports whose token was checked; the switchboard runs their sessions to the end.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from rtun_core.bus import EventBus
from rtun_core.errors import RemoteProtocolError, SignalingError, Unauthorized
from rtun_core.events import AgentLost, AgentSeen
from rtun_core.model import AgentId, AgentState, AgentView, TunnelId, TunnelState, TunnelView, agent_id
from rtun_core.net.packet_transport import PacketTransport
from rtun_core.net.switch import ClientSession, ControlHandler, ServiceSession, SwitchSession
from rtun_core.net.tasks import TaskOwner
from rtun_core.signaling.bridge import Bridge
from rtun_core.signaling.config import ServerConfig
from rtun_core.signaling.registry import AgentRecord, Registry, expire_at
from rtun_core.wire.control import REPLACED, kick_request
from rtun_core.wire.ids import encode_id, snowflake
from rtun_core.wire.signal_json import NEVER, AgentEntry
from rtun_core.wire.token import verify_token

LOCAL = "local"
KICK_TIMEOUT = 5.0

_EXPIRING_MS = 60_000
_MAX_VER = 64
_OWN_VERSION = ".py"
_OWN_IN_FLIGHT = 8

AgentSession = AgentRecord[ClientSession]


@dataclass(frozen=True)
class Target:
    """Where a client's requests go: the server itself, or an agent by name and maybe instance."""

    name: str
    instance: str | None
    record: AgentSession | None  # None: the server's own handler

    @property
    def id(self) -> AgentId:
        """Identity of the agent when the client attached."""
        return agent_id(self.name, self.record.instance if self.record is not None else None)


def unix_ms() -> int:
    """The server's clock."""
    return time.time_ns() // 1_000_000


class Switchboard:
    """Agents and clients of one server. `faults` counts by reason what strangers and peers did wrong."""

    def __init__(
        self,
        config: ServerConfig,
        bus: EventBus,
        *,
        local: ControlHandler | None,
        clock: Callable[[], int] = unix_ms,
    ) -> None:
        self.faults: Counter[str] = Counter()
        self._config = config
        self._bus = bus
        self._local = None if config.bridge_only else local
        self._clock = clock
        self._registry: Registry[ClientSession] = Registry(config.limits.max_agents)
        self._clients: dict[TunnelId, TunnelView] = {}
        self._sessions: set[SwitchSession] = set()
        self._tasks = TaskOwner("switchboard")
        self._sequence = 0
        self._attached = 0

    def authorize(self, token: str) -> None:
        """Check a token. Raises Unauthorized with the detail."""
        try:
            verify_token(self._config.secret, token)
        except RemoteProtocolError as error:
            self.faults["token"] += 1
            raise Unauthorized(str(error)) from None

    def new_id(self) -> str:
        """An id for an instance, or a name for a nameless agent."""
        self._sequence += 1
        return encode_id(snowflake(self._clock(), self._sequence))

    def check_name(self, name: str) -> None:
        """Raise CommandRefused if an agent of this name cannot register now."""
        self._registry.check(name)

    def entries(self) -> list[AgentEntry]:
        """The list of agents as clients see it; the server's own is not in it."""
        return self._registry.entries()

    def find(self, name: str | None, instance: str | None) -> Target:
        """Where a client goes that names this agent. Raises CommandRefused with the reason on the wire."""
        name = name or LOCAL
        if name == LOCAL and self._local is not None:
            return Target(name, instance, None)
        return Target(name, instance, self._registry.find(name, instance))

    async def serve_agent(
        self, transport: PacketTransport, *, name: str, expire_in: int | None, ver: str | None
    ) -> None:
        """Register the agent behind `transport` and hold its session until it ends."""
        own = ver is not None and ver.endswith(_OWN_VERSION)
        session = ClientSession(transport, max_in_flight=_OWN_IN_FLIGHT if own else 1, name=f"agent {name}")
        async with _Held(self, session):
            session.start()
            record = self._register(session, name, expire_in, ver)
            try:
                await session.closed.wait()
            finally:
                if self._registry.remove(record):
                    self._lost(record, session.close_reason or "the server stops")

    async def serve_client(self, transport: PacketTransport, target: Target) -> None:
        """Answer the client behind `transport` until its session ends."""
        session = ServiceSession(transport, name="client")
        self._attached += 1
        key = TunnelId(f"s{self._attached}")
        self._clients[key] = _view(key, target, transport.peer, self._clock())
        async with _Held(self, session):
            try:
                await self._run_client(session, target)
            finally:
                del self._clients[key]

    def purge(self) -> None:
        """Let go of the agents that have expired."""
        for record in self._registry.purge(self._clock()):
            self._lost(record, "expired")
            self._tasks.spawn(self._kick(record, "expired"), f"kick {record.name}")

    def agents(self) -> tuple[AgentView, ...]:
        """The agents as tables show them."""
        attached = Counter(client.agent for client in self._clients.values())
        return tuple(self._agent_view(record, attached) for record in self._registry)

    def clients(self) -> tuple[TunnelView, ...]:
        """The attached clients as tables show them."""
        return tuple(self._clients.values())

    async def settle(self) -> None:
        """Wait until the clients have the answers to what they asked until now."""
        clients = [session for session in self._sessions if isinstance(session, ServiceSession)]
        await asyncio.gather(*(session.settle() for session in clients))

    async def close(self) -> None:
        """End every session."""
        await self._tasks.close()
        for session in list(self._sessions):
            session.end("the server stops")
        for session in list(self._sessions):
            await session.close("the server stops")

    def hold(self, session: SwitchSession) -> None:
        """Keep a session, to be ended by `close`."""
        self._sessions.add(session)

    def release(self, session: SwitchSession) -> None:
        """Forget a session and keep what its peer did wrong."""
        self._sessions.discard(session)
        self.faults.update(session.faults)

    def _register(
        self, session: ClientSession, name: str, expire_in: int | None, ver: str | None
    ) -> AgentSession:
        record, replaced = self._registry.register(
            name=name,
            instance=self.new_id(),
            address=session.peer,
            expire_at=expire_at(self._clock(), expire_in),
            ver=None if ver is None else ver[:_MAX_VER],
            session=session,
        )
        if replaced is not None:
            self._lost(replaced, "replaced by a newer session")
            # The old agent may be dead; nobody waits for its answer.
            self._tasks.spawn(self._kick(replaced, REPLACED), f"kick {name}")
        self._bus.emit(AgentSeen(agent=agent_id(name, record.instance), address=record.address))
        return record

    async def _run_client(self, session: ServiceSession, target: Target) -> None:
        if target.record is None:
            assert self._local is not None
            await session.run(self._local)
            return
        bridge = Bridge(
            session,
            lambda: self._session(target),
            channels=self._config.bridge_channels,
            timeout=self._config.limits.request_timeout,
        )
        try:
            await session.run(bridge)
        finally:
            await bridge.close()

    def _session(self, target: Target) -> ClientSession:
        """The session of the target now; an agent that came back under its name is found again."""
        assert target.record is not None
        if not target.record.session.closed.is_set():
            return target.record.session
        return self._registry.find(target.name, target.instance).session

    async def _kick(self, record: AgentSession, reason: str) -> None:
        try:
            await record.session.request(kick_request(reason), timeout=KICK_TIMEOUT)
        except SignalingError:
            self.faults["kick unanswered"] += 1
        finally:
            await record.session.close(reason)

    def _lost(self, record: AgentSession, reason: str) -> None:
        self._bus.emit(AgentLost(agent=agent_id(record.name, record.instance), reason=reason))

    def _agent_view(self, record: AgentSession, attached: Counter[AgentId | None]) -> AgentView:
        expiring = record.expire_at - self._clock() < _EXPIRING_MS
        identity = agent_id(record.name, record.instance)
        return AgentView(
            id=identity,
            name=record.name,
            instance=record.instance,
            state=AgentState.EXPIRING if expiring else AgentState.READY,
            address=record.address,
            version=record.ver or "",
            expires_at=None if record.expire_at == NEVER else record.expire_at / 1000,
            tunnels=attached[identity],
        )


class _Held:
    """Keeps a session at the switchboard while its body runs, and closes it afterwards."""

    def __init__(self, board: Switchboard, session: SwitchSession) -> None:
        self._board = board
        self._session = session

    async def __aenter__(self) -> None:
        self._board.hold(self._session)

    async def __aexit__(self, *_exc: object) -> None:
        try:
            await self._session.close("the session was closed on this side")
        finally:
            self._board.release(self._session)


def _view(key: TunnelId, target: Target, peer: str, now_ms: int) -> TunnelView:
    return TunnelView(
        id=key,
        rule=None,
        agent=target.id,
        state=TunnelState.UP,
        kind="signal",
        opened_at=now_ms / 1000,
        remote=peer,
    )
