"""Everything `rtun demo` needs, on loopback and in one process: server, agents, echo target, relay, traffic.

The stage is what the engine runs. Server and agents work on a bus of their own, so that what is shown,
logged and recorded is what an operator of the relay would see.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
from collections import Counter
from dataclasses import dataclass

from rtun_core.agent.config import ExitConfig, PubConfig
from rtun_core.agent.echo import EchoService
from rtun_core.agent.service import AgentService
from rtun_core.bus import EventBus, Subscription
from rtun_core.commands import Command, CommandResult, SwitchAgent
from rtun_core.engine.demo_traffic import DemoTraffic, TrafficReport
from rtun_core.engine.service import Service
from rtun_core.errors import RtunError
from rtun_core.events import AgentSwitchDone, CommandDone, DemoSummary, TunnelReplaced, TunnelUp
from rtun_core.model import ServiceSnapshot
from rtun_core.net.endpoint import SignalEndpoint
from rtun_core.net.ice import IceConfig
from rtun_core.relay.config import RelayConfig
from rtun_core.relay.service import RelayService
from rtun_core.signaling.config import ServerConfig
from rtun_core.signaling.server import SignalingServer
from rtun_core.wire.address import Address
from rtun_core.wire.relay_rule import RelayRule
from rtun_core.wire.signal_url import parse_signal_url

LOOPBACK = Address("127.0.0.1", 0)
FIRST_TUNNEL = 10.0  # seconds that the first tunnel may take
SETTLE = 3.0  # seconds for answers still on their way at the end
AGENTS = {"alpha": 3600.0, "beta": 3000.0}  # name -> seconds it lives on; the relay begins with alpha

_LOOPBACK_ONLY = IceConfig(stun_servers=(), candidate_cidrs=(ipaddress.ip_network("127.0.0.1/32"),))


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPlan:
    """How long, how much, and the seed of it all. `rate` in datagrams a second.

    `rotate` is the lifetime of a tunnel and `switch_after` when the agent is switched, in seconds; None: by
    nobody but the user.
    """

    seconds: float
    seed: int
    clients: int
    rate: float
    rotate: float = 30.0
    switch_after: float | None = None


class DemoStage:
    """The whole demo as one service; `summary` tells what happened once it has ended."""

    name = "relay"

    def __init__(self, plan: DemoPlan) -> None:
        self.plan = plan
        self.summary: DemoSummary | None = None
        self._counts: Counter[str] = Counter()
        self._bus = EventBus()
        self._backstage = EventBus()
        self._secret = secrets.token_hex(16).encode()
        self._echo: EchoService | None = None
        self._server: SignalingServer | None = None
        self._agents: list[AgentService] = []
        self._relay: RelayService | None = None
        self._traffic: DemoTraffic | None = None
        self._events: Subscription | None = None

    def on(self, bus: EventBus) -> list[Service]:
        """The services to run, on that bus."""
        self._bus = bus
        return [self]

    async def start(self) -> None:
        """Bring everything up, in the order in which it is needed."""
        try:
            await self._start()
        except BaseException:
            await self.stop(drain=False)
            raise

    async def _start(self) -> None:
        self._echo = EchoService(LOOPBACK)
        self._server = SignalingServer(
            ServerConfig(listen=LOOPBACK, secret=self._secret, bridge_only=True), self._backstage, local=None
        )
        await self._server.start()
        endpoint = SignalEndpoint(url=parse_signal_url(f"http://{self._server.address}"), secret=self._secret)
        for name, seconds in AGENTS.items():
            lifetime = self.plan.seconds + seconds
            config = PubConfig(
                endpoint=endpoint, exit=ExitConfig(ice=_LOOPBACK_ONLY), name=name, expire_in=lifetime
            )
            agent = AgentService(config, self._backstage)
            self._agents.append(agent)
            await agent.start()
        await self._start_relay(endpoint, self._echo.address)

    async def _start_relay(self, endpoint: SignalEndpoint, target: Address) -> None:
        self._events = self._bus.subscribe(4096)
        config = RelayConfig(
            endpoint=endpoint,
            rules=(RelayRule(LOOPBACK, target),),
            ice=_LOOPBACK_ONLY,
            agent=re.compile("alpha|beta"),
            min_channels=2,
            max_channels=2,
            channel_lifetime=self.plan.rotate,
            wait_agent=FIRST_TUNNEL,
        )
        self._relay = RelayService(config, self._bus)
        await self._relay.start()
        listen = Address("127.0.0.1", self._relay.rules[0].port.local.port)
        self._traffic = DemoTraffic(
            listen, seed=self.plan.seed, clients=self.plan.clients, rate=self.plan.rate
        )
        await self._traffic.start()

    async def wait(self) -> str:
        """Play the demo; returns when it is over, raises RtunError when not everything came back."""
        assert self._relay is not None, "started before waited for"
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._relay.wait())
                await self._play()
                watch.cancel()
        except ExceptionGroup as errors:
            raise _first(errors) from None
        return "the demo is over"

    async def _play(self) -> None:
        assert self._traffic is not None, "started before waited for"
        assert self._events is not None
        await self._first_tunnel()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._traffic.run(self.plan.seconds))
            if self.plan.switch_after is not None:
                await asyncio.sleep(self.plan.switch_after)
                await self._switch_agent()
        report = await self._traffic.settle(SETTLE)
        self._count(self._events)
        self.summary = self._summarise(report)
        self._bus.emit(self.summary)
        if not report.perfect:
            raise RtunError(
                f"{report.lost} of {report.sent} datagrams did not come back, {report.wrong} were changed"
            )

    async def _first_tunnel(self) -> None:
        assert self._events is not None
        while not self._counts[TunnelUp.__name__]:
            for stamped in await self._events.get():
                self._counts[type(stamped.event).__name__] += 1

    async def _switch_agent(self) -> None:
        assert self._relay is not None
        link = self._relay.director.link
        if link is None:
            raise RtunError("the demo has no agent in use that it could switch from")
        name = next(name for name in AGENTS if name != link.entry.name)
        result = await self._relay.handle(SwitchAgent(name=name))
        self._bus.emit(CommandDone(who="demo", command=f"agent use {name}", result=result.text))

    def _count(self, events: Subscription) -> None:
        for stamped in events.drain():
            self._counts[type(stamped.event).__name__] += 1

    def _summarise(self, report: TrafficReport) -> DemoSummary:
        return DemoSummary(
            seconds=self.plan.seconds,
            sent=report.sent,
            answered=report.answered,
            wrong=report.wrong,
            duplicates=report.twice,
            rtt_p50_ms=report.percentile(0.5) * 1e3,
            rtt_p90_ms=report.percentile(0.9) * 1e3,
            rtt_p99_ms=report.percentile(0.99) * 1e3,
            rtt_max_ms=report.percentile(1.0) * 1e3,
            switches=self._counts[AgentSwitchDone.__name__],
            rotations=self._counts[TunnelReplaced.__name__],
        )

    async def stop(self, *, drain: bool) -> None:
        """Take everything down, in the opposite order."""
        for service in (self._traffic, self._relay, *self._agents, self._server):
            if service is not None:
                await service.stop(drain=drain)
        if self._echo is not None:
            self._echo.close()
        if self._events is not None:
            self._events.close()

    def snapshot(self, *, flows: bool = True) -> ServiceSnapshot:
        """The relay's picture."""
        if self._relay is None:
            return ServiceSnapshot(service=self.name)
        return self._relay.snapshot(flows=flows)

    def counters(self) -> tuple[dict[str, int], dict[str, int]]:
        """The relay's drops, the traffic's wrong answers."""
        drops = {} if self._relay is None else self._relay.counters()[0]
        return drops, {} if self._traffic is None else self._traffic.counters()[1]

    def handles(self, command: Command) -> bool:
        """The relay's commands."""
        return self._relay is not None and self._relay.handles(command)

    async def handle(self, command: Command) -> CommandResult:
        """Carry out a command on the relay."""
        assert self._relay is not None, "asked only what it handles"
        return await self._relay.handle(command)


def _first(error: Exception) -> Exception:
    """The first of what went wrong, out of its groups."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
