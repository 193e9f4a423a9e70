"""Answers what servers and relays ask of an agent, and owns the tunnels and flows that follow from it.

Tunnels and flows live here and not in a signalling session: sessions come and go, tunnels stay until
their own end (wire spec 12).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from rtun_core.agent.config import ExitConfig
from rtun_core.agent.descriptors import flows_within, raise_descriptor_limit
from rtun_core.agent.exit_flows import ExitFlows
from rtun_core.agent.exit_tunnel import ExitTunnel, TunnelTerms
from rtun_core.agent.flow_rows import flow_rows
from rtun_core.agent.relay_request import RelayRequest, check_request
from rtun_core.agent.tunnel_rows import tunnel_rows
from rtun_core.bus import EventBus
from rtun_core.errors import CommandRefused, RemoteProtocolError, RtunError
from rtun_core.events import Notice, TunnelClosed, TunnelDraining, TunnelOpening, TunnelUp
from rtun_core.flow_rows import FlowRows
from rtun_core.model import AgentId, FlowId, Traffic, TunnelId, TunnelView, add_traffic
from rtun_core.net.ice import IceSession, SelectedPath
from rtun_core.net.tasks import TaskOwner
from rtun_core.wire.control import ControlMessage, error_answer, error_p2p, ok_status
from rtun_core.wire.ice_params import ice_params_to_pb
from rtun_core.wire.pb import rtun_pb2 as pb

MAX_PENDING: Final = 64
"""Tunnels that may be between request and ICE result at a time."""

GATHER_TIMEOUT: Final = 12.0
ICE_TIMEOUT: Final = 10.0
TICK: Final = 1.0

_SOURCE = "request"


class AgentControl:
    """A `rtun_core.net.switch.ControlHandler` that serves relays.

    `agent` is the name to show in events and rows, known once a server has accepted it. The object
    belongs to the loop that it was made on, and has to be closed.
    """

    def __init__(
        self,
        config: ExitConfig,
        bus: EventBus,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.agent: AgentId | None = None
        self._config = config
        self._bus = bus
        self._clock = clock
        self._wall = wall
        max_flows = flows_within(raise_descriptor_limit(), config.max_flows)
        self._flows = ExitFlows(max_flows=max_flows, clock=clock, emit=bus.emit)
        self._tunnels: dict[TunnelId, ExitTunnel] = {}
        self._gathering = 0
        self._checking: set[IceSession] = set()
        self._last_id = 0
        self._drops: Counter[str] = Counter()  # of closed tunnels, as everything below
        self._faults: Counter[str] = Counter()
        self._traffic = Traffic()
        self._noticed: set[str] = set()
        self._tasks = TaskOwner("agent-control")
        self._ticking = False

    def start(self) -> None:
        """Begin to tick; the first request does so too."""
        if not self._ticking:
            self._ticking = True
            self._tasks.spawn(self._tick_forever(), "tick")

    async def close(self) -> None:
        """Close every tunnel and flow."""
        await self._tasks.close()
        for session in list(self._checking):  # a task that was cancelled before it ran closes nothing
            session.close()
        for tunnel in list(self._tunnels.values()):
            tunnel.close()
            self._gone(tunnel, "the agent stops")
        self._flows.close()

    async def handle(self, request: pb.C2ARequest) -> ControlMessage:
        """Answer one request; what an agent of this kind does not do is refused with one sentence."""
        variant = request.WhichOneof("c2a_req_args") or ""
        if variant == "open_p2p":
            return await self._open_p2p(request.open_p2p)
        if variant == "close_channel":
            return ok_status()  # there are no channels, so it is closed
        self._faults[f"unsupported {variant}"] += 1
        return error_answer(request, _NOT_SUPPORTED.get(variant, f"{variant} is not supported by this agent"))

    def tunnels(self) -> tuple[TunnelView, ...]:
        """A row for each tunnel that is up."""
        return tunnel_rows(
            self._tunnels.values(), self._flows, agent=self.agent, now=self._clock(), wall=self._wall()
        )

    def flows(self) -> FlowRows:
        """A picture of all flows, whose rows are made when they are looked at."""
        return flow_rows(self._flows, now=self._clock(), wall=self._wall())

    def traffic(self) -> Traffic:
        """Payload of all tunnels since the start."""
        total = self._traffic
        for tunnel in self._tunnels.values():
            total = add_traffic(total, tunnel.traffic)
        return total

    def counters(self) -> tuple[dict[str, int], dict[str, int]]:
        """Drops and faults by reason since the start."""
        drops, faults = self._flows.counters()
        drops += self._drops
        faults += self._faults
        for tunnel in self._tunnels.values():
            tunnel_drops, tunnel_faults = tunnel.counters()
            drops += tunnel_drops
            faults += tunnel_faults
        return dict(drops), dict(faults)

    def drain_tunnel(self, name: TunnelId) -> str:
        """Close a tunnel as soon as no flow uses it; the relay alone can move them. Raises CommandRefused."""
        tunnel = self._find(name)
        tunnel.draining = True
        flows = len(self._flows.columns.on_path(tunnel.path_index))
        self._bus.emit(TunnelDraining(tunnel=name, flows=flows, reason="command"))
        return f"tunnel {name} closes when no flow uses it, now {flows}"

    def close_tunnel(self, name: TunnelId) -> str:
        """Close a tunnel at once. Raises CommandRefused."""
        tunnel = self._find(name)
        tunnel.close()
        self._gone(tunnel, "command")
        return f"tunnel {name} closed"

    def close_flows(self, ids: frozenset[FlowId] | None) -> str:
        """Close flows by id, or all of them. Raises CommandRefused when there are none with these ids."""
        count = self._flows.close_flows(ids)
        if not count and ids is not None:
            raise CommandRefused(f"no flow has the id {', '.join(sorted(ids))}")
        return f"{count} flow{'' if count == 1 else 's'} closed"

    async def _open_p2p(self, args: pb.P2PArgs) -> pb.OpenP2PResponse:
        variant = args.WhichOneof("p2p_args") or "an empty request"
        if variant != "udp_relay":
            self._faults[f"unsupported {variant}"] += 1
            return error_p2p(f"{variant} is not supported by this agent, only udp_relay is")
        if refusal := self._refusal():
            return error_p2p(refusal)
        self.start()
        self._gathering += 1
        try:
            return await self._offer(args.udp_relay)
        except RemoteProtocolError as error:
            self._faults[error.reason] += 1
            return error_p2p(str(error))
        except RtunError as error:
            return error_p2p(str(error))
        finally:
            self._gathering -= 1

    def _refusal(self) -> str | None:
        pending = self._gathering + len(self._checking)
        if len(self._tunnels) + pending >= self._config.max_tunnels:
            return f"this agent has its {self._config.max_tunnels} tunnels already"
        if pending >= MAX_PENDING:
            return f"this agent is setting up {MAX_PENDING} tunnels already; try again in a few seconds"
        return None

    async def _offer(self, args: pb.UdpRelayArgs) -> pb.OpenP2PResponse:
        """Check the request, gather, and answer; the checks go on in the background."""
        request = await check_request(args, self._config.egress)
        if request.hard_nat:
            self._notice_once("hard-nat", "a relay asked for hard-NAT procedures; plain ICE is used instead")
        session = await self._gather()
        try:
            session.prime(request.remote)
            answer = _answer(args, session, request)
            self._last_id += 1
            name = TunnelId(f"t{self._last_id}")
            self._checking.add(session)
            self._tasks.spawn(self._establish(name, session, request), f"tunnel {name}")
        except BaseException:
            self._checking.discard(session)
            session.close()
            raise
        return answer

    async def _gather(self) -> IceSession:
        try:
            async with asyncio.timeout(GATHER_TIMEOUT):
                return await IceSession.gather(self._config.ice, controlling=False)
        except TimeoutError:
            raise RtunError(f"ICE candidates could not be gathered in {GATHER_TIMEOUT:g} s") from None

    async def _establish(self, name: TunnelId, session: IceSession, request: RelayRequest) -> None:
        self._bus.emit(TunnelOpening(tunnel=name, rule=None, agent=self.agent, source=_SOURCE))
        try:
            path = await session.connect(request.remote, timeout=ICE_TIMEOUT)
        except RtunError as error:
            self._bus.emit(TunnelClosed(tunnel=name, reason=str(error), opened=False))
        else:
            self._start_tunnel(name, path, request)
        finally:
            self._checking.discard(session)
            session.close()

    def _start_tunnel(self, name: TunnelId, path: SelectedPath, request: RelayRequest) -> None:
        terms = TunnelTerms(
            session=_session_key(request, path),
            target=request.target,
            idle_timeout=float(request.idle_timeout),
            codec=request.terms,
            reports=request.reports,
        )
        tunnel = ExitTunnel(name, path, terms, self._flows, clock=self._clock, on_closed=self._gone)
        self._tunnels[name] = tunnel
        self._bus.emit(
            TunnelUp(
                tunnel=name,
                rule=None,
                agent=self.agent,
                source=_SOURCE,
                remote=str(path.remote),
                codec=tunnel.frames.codec_name,
                rtt_ms=None if path.rtt is None else path.rtt * 1000,
            )
        )
        tunnel.start()

    def _gone(self, tunnel: ExitTunnel, reason: str) -> None:
        """A tunnel was closed: keep its counts, tell of it."""
        if self._tunnels.pop(tunnel.id, None) is None:
            return
        drops, faults = tunnel.counters()
        self._drops += drops
        self._faults += faults
        self._traffic = add_traffic(self._traffic, tunnel.traffic)
        self._bus.emit(TunnelClosed(tunnel=tunnel.id, reason=reason))

    async def _tick_forever(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + TICK, loop.time())
            await asyncio.sleep(due - loop.time())
            self.tick()

    def tick(self) -> None:
        """Idle flows, heartbeats, watchdogs, drained tunnels; once a second."""
        self._flows.tick()
        for tunnel in list(self._tunnels.values()):
            tunnel.tick()
            if (
                tunnel.draining
                and not tunnel.closed
                and not len(self._flows.columns.on_path(tunnel.path_index))
            ):
                tunnel.close()
                self._gone(tunnel, "drained")

    def _find(self, name: TunnelId) -> ExitTunnel:
        tunnel = self._tunnels.get(name)
        if tunnel is None:
            raise CommandRefused(f"there is no tunnel {name}")
        return tunnel

    def _notice_once(self, topic: str, message: str) -> None:
        self._faults[topic] += 1
        if topic not in self._noticed:
            self._noticed.add(topic)
            self._bus.emit(Notice(topic=topic, message=message))


_NOT_SUPPORTED: Final = {
    "open_sell": "shells are not supported by this agent",
    "open_socks": "socks channels are not supported by this agent",
    "exec_agent_script": "scripts are not supported by this agent",
}


def _answer(args: pb.UdpRelayArgs, session: IceSession, request: RelayRequest) -> pb.OpenP2PResponse:
    """Our ICE parameters and what the relay expects to see again (wire spec 9.1)."""
    relay = pb.UdpRelayArgs(
        ice=ice_params_to_pb(session.local),
        target_addr=args.target_addr,
        idle_timeout_secs=request.idle_timeout,
        max_payload=args.max_payload,
        obfs_seed=args.obfs_seed,
    )
    if args.HasField("ext"):
        relay.ext.session_id = args.ext.session_id
        relay.ext.features = request.features
    return pb.OpenP2PResponse(args=pb.P2PArgs(udp_relay=relay))


def _session_key(request: RelayRequest, path: SelectedPath) -> str:
    """What the tunnels of one relay have in common: its session id, or else its public address.

    The address keeps the flows of two foreign relays apart, and those of one relay together
    (wire spec 15.5, 18.4).
    """
    if request.session_id is not None:
        return f"id {request.session_id.hex()}"
    return f"ip {path.remote.host}"
