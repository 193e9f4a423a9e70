"""`rtun agent pub`: publish an exit at a signalling server for as long as it is wanted (wire spec 2.2)."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import rtun_core
from rtun_core.agent.config import PubConfig
from rtun_core.agent.control import AgentControl
from rtun_core.agent.echo import EchoService
from rtun_core.agent.exit_commands import carry_out, is_known
from rtun_core.agent.reconnect import Backoff
from rtun_core.bus import EventBus
from rtun_core.commands import Command, CommandResult
from rtun_core.errors import CommandRefused, SignalingError, Unauthorized
from rtun_core.events import Notice, ServiceListening, SignalConnected, SignalLost
from rtun_core.model import (
    AgentState,
    AgentView,
    ServiceSnapshot,
    SignalView,
    add_counts,
    agent_id,
)
from rtun_core.net.signal_client import open_pub
from rtun_core.net.switch import ServiceSession
from rtun_core.net.tasks import TaskOwner
from rtun_core.wire.token import PUBLIC_SECRET

VERSION: Final = f"{rtun_core.__version__}.py"
"""What the registry shows; the suffix tells our own relays that we know their extensions."""

EXPIRED: Final = "running expired"

_UNNAMED = "agent"


class AgentService:
    """One published agent. It ends by itself when its time is over or when the server kicks it.

    Tunnels and flows do not depend on the signalling session, which is opened again behind them.
    `clock` and `wall` give monotonic and Unix seconds, `jitter` a number in 0..1.
    """

    name: str = "agent"

    def __init__(
        self,
        config: PubConfig,
        bus: EventBus,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._config = config
        self._bus = bus
        self._clock = clock
        self._wall = wall
        self._jitter = jitter
        self._sleep = sleep
        self._url = str(config.endpoint.url)
        self._tasks = TaskOwner("agent", on_failure=self._task_failed)
        self._backoff = Backoff()
        self._control: AgentControl | None = None
        self._echo: EchoService | None = None
        self._ends_at: float | None = None
        self._expires_at: float | None = None
        self._published = config.name
        self._signal = SignalView(url=self._url, state="connecting", since=wall())
        self._told: set[str] = set()
        self._faults: Counter[str] = Counter()
        self._ended: asyncio.Future[str] | None = None

    async def start(self) -> None:
        """Open the echo service and begin to publish. Raises BindError."""
        self._ended = asyncio.get_running_loop().create_future()
        if self._config.echo is not None:
            self._echo = EchoService(self._config.echo)
            self._bus.emit(ServiceListening(service="echo", address=str(self._echo.address), detail="(udp)"))
        self._warn_of_public_secret()
        self._control = AgentControl(self._config.exit, self._bus, clock=self._clock, wall=self._wall)
        self._control.start()
        if self._config.expire_in is not None:
            self._ends_at = self._clock() + self._config.expire_in
            self._expires_at = self._wall() + self._config.expire_in
            self._tasks.spawn(self._expire(), "expiry")
        self._tasks.spawn(self._publish_forever(self._control), "signalling")

    async def wait(self) -> str:
        """Return why the agent ended by itself: its time is over, or the server kicked it."""
        assert self._ended is not None, "wait comes after start"
        return await asyncio.shield(self._ended)

    async def stop(self, *, drain: bool) -> None:
        """Close the session, then tunnels and flows. There is nothing to drain: relays see silence anyway."""
        await self._tasks.close()
        if self._control is not None:
            await self._control.close()
        if self._echo is not None:
            self._echo.close()
        if self._ended is not None:
            self._ended.cancel()

    def snapshot(self, *, flows: bool = True) -> ServiceSnapshot:
        """The picture right now."""
        if self._control is None:
            return ServiceSnapshot(service=self.name, signal=(self._signal,))
        drops, faults = self.counters()
        tunnels = self._control.tunnels()
        return ServiceSnapshot(
            service=self.name,
            signal=(self._signal,),
            agents=(self._agent_row(len(tunnels)),),
            tunnels=tunnels,
            flows=self._control.flows() if flows else (),
            traffic=self._control.traffic(),
            drops=drops,
            faults=faults,
        )

    def counters(self) -> tuple[dict[str, int], dict[str, int]]:
        """Drops and faults by reason since the start."""
        drops: dict[str, int] = {}
        faults: dict[str, int] = dict(self._faults)
        for part in (self._control, self._echo):
            if part is not None:
                more_drops, more_faults = part.counters()
                add_counts(drops, more_drops)
                add_counts(faults, more_faults)
        return drops, faults

    def handles(self, command: Command) -> bool:
        """An exit can close what it has; which tunnel a flow uses is the relay's choice."""
        return is_known(command)

    async def handle(self, command: Command) -> CommandResult:
        """Carry out a command. Raises CommandRefused."""
        if self._control is None:
            raise CommandRefused("the agent has not started")
        return carry_out(self._control, command)

    def _agent_row(self, tunnels: int) -> AgentView:
        name = self._published or _UNNAMED
        connected = self._signal.state == "connected"
        return AgentView(
            id=agent_id(name, None),
            name=name,
            instance="",
            state=AgentState.IN_USE if connected else AgentState.LOST,
            signal=self._url,
            version=VERSION,
            expires_at=self._expires_at,
            tunnels=tunnels,
            reason=self._signal.reason,
        )

    async def _expire(self) -> None:
        """End when the time is over; the clock is asked again, since sleeping may be cut short."""
        while (left := self._left()) is not None and left > 0:
            await self._sleep(left)
        self._end(EXPIRED)

    def _left(self) -> float | None:
        """Seconds until the agent expires, None if it never does."""
        return None if self._ends_at is None else self._ends_at - self._clock()

    async def _publish_forever(self, control: AgentControl) -> None:
        while True:
            delay = await self._publish(control)
            if delay is None:
                return
            await self._sleep(delay)

    async def _publish(self, control: AgentControl) -> float | None:
        """One session from end to end; seconds until the next try, None when there is none."""
        left = self._left()
        if left is not None and left <= 0:
            self._end(EXPIRED)
            return None
        try:
            session, name = await open_pub(
                self._config.endpoint,
                agent=self._published,
                expire_in_ms=None if left is None else max(1, int(left * 1000)),
                ver=VERSION,
            )
        except SignalingError as error:
            return self._failed(error)
        return await self._serve(control, session, name)

    async def _serve(self, control: AgentControl, session: ServiceSession, name: str) -> float | None:
        self._connected(control, name)
        try:
            reason = await session.run(control)
        finally:
            self._faults += session.faults
        self._set_signal("lost", reason)
        self._told.add("signal")
        self._bus.emit(SignalLost(url=self._url, reason=reason))
        if session.kicked:
            self._end(reason)
            return None
        return self._backoff.failed(self._jitter())

    def _connected(self, control: AgentControl, name: str) -> None:
        self._backoff.succeeded()
        self._told.clear()
        self._published = name  # the name that the server chose stays ours on the next connection
        control.agent = agent_id(name, None)
        self._set_signal("connected", "")
        self._bus.emit(SignalConnected(url=self._url, agent=name))

    def _failed(self, error: SignalingError) -> float:
        """Tell once in an outage what is wrong; a refused secret is tried again, but rarely."""
        refused = isinstance(error, Unauthorized)
        topic = "unauthorized" if refused else "signal"
        if topic not in self._told:
            self._told.add(topic)
            self._bus.emit(Notice(topic=topic, message=f"{error}; trying again"))
        self._set_signal(self._signal.state, str(error))
        return self._backoff.failed(self._jitter(), refused=refused)

    def _set_signal(self, state: str, reason: str) -> None:
        since = self._signal.since if state == self._signal.state else self._wall()
        self._signal = SignalView(url=self._url, state=state, since=since, reason=reason)

    def _warn_of_public_secret(self) -> None:
        if self._config.endpoint.secret == PUBLIC_SECRET:
            self._bus.emit(
                Notice(
                    topic="secret",
                    message="NO SECRET: the built-in one is public, so ANYONE who reaches the server can "
                    "send datagrams through this machine; use --secret, --secret-file or RTUN_SECRET",
                )
            )

    def _end(self, reason: str) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(reason)

    def _task_failed(self, name: str, error: BaseException) -> None:
        """A bug of ours: the loop reports it, and the agent ends rather than stay unreachable."""
        asyncio.get_running_loop().call_exception_handler({"message": f"{name} failed", "exception": error})
        self._end(f"{name} failed: {error}")
