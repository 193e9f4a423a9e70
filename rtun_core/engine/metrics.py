"""`--metrics`: the snapshot as Prometheus text over HTTP. No label per flow."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable, Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from rtun_core.bus import HISTORY, EventBus
from rtun_core.errors import BindError
from rtun_core.events import FlowMoved
from rtun_core.model import Snapshot, TunnelState, TunnelView, add_counts
from rtun_core.net.tasks import TaskOwner
from rtun_core.wire.address import Address

LAG_PERIOD = 0.1  # seconds between two measurements of the loop
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
MAX_REASONS = 32  # different reasons of flow moves; what comes later is counted as "other"


class FlowMoves:
    """Counts moved flows by reason, from events."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, event: FlowMoved) -> None:
        """Count one event."""
        known = event.reason in self.counts or len(self.counts) < MAX_REASONS
        add_counts(self.counts, {event.reason if known else "other": event.count})


class SnapshotCollector:
    """Makes every metric but the histogram from one snapshot when Prometheus asks."""

    def __init__(self, snapshot: Callable[[], Snapshot], moves: FlowMoves) -> None:
        self._snapshot = snapshot
        self._moves = moves

    def collect(self) -> Iterator[Metric]:
        """Called by the registry for each scrape."""
        snapshot = self._snapshot()
        yield _build_info(snapshot)
        yield _gauge("rtun_uptime_seconds", "Time since the start", snapshot.uptime_s)
        yield _expiry(snapshot)
        yield _tunnel_states(snapshot)
        yield from _tunnel_quality(snapshot.tunnels)
        yield _tunnel_bytes(snapshot.tunnels)
        yield _traffic("bytes", snapshot.traffic.up_bytes, snapshot.traffic.down_bytes)
        yield _traffic("packets", snapshot.traffic.up_packets, snapshot.traffic.down_packets)
        yield _by_reason("rtun_flow_moves", "Flows moved to another tunnel", self._moves.counts)
        yield _by_reason("rtun_drops", "Datagrams dropped", snapshot.drops)
        yield _by_reason("rtun_faults", "What peers did wrong", snapshot.faults)
        yield CounterMetricFamily(
            "rtun_console_frames_dropped",
            "Frames that the terminal of the console was too slow to take",
            value=snapshot.console_frames_dropped,
        )


class Metrics:
    """Serves `/metrics` at an address."""

    def __init__(self, address: Address, snapshot: Callable[[], Snapshot], bus: EventBus) -> None:
        self._address = address
        self._bus = bus
        self._moves = FlowMoves()
        self._registry = CollectorRegistry()
        self._registry.register(SnapshotCollector(snapshot, self._moves))
        self._lag = Histogram(
            "rtun_loop_lag_seconds",
            "How late the event loop ran a timer",
            buckets=LAG_BUCKETS,
            registry=self._registry,
        )
        self._tasks = TaskOwner("metrics")
        self._runner: web.AppRunner | None = None
        self.port = address.port

    async def start(self) -> None:
        """Listen. Raises BindError; `port` is then the real one."""
        app = web.Application(client_max_size=1024)
        app.router.add_get("/metrics", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._address.host, self._address.port).start()
        except OSError as error:
            await self._runner.cleanup()
            reason = os.strerror(error.errno) if error.errno else error
            raise BindError(f"--metrics: cannot listen on {self._address}: {reason}") from None
        self.port = self._runner.addresses[0][1]
        self._tasks.spawn(self._count_moves(), "flow moves")
        self._tasks.spawn(self._measure_lag(), "loop lag")

    async def stop(self) -> None:
        """Close the listener and its connections."""
        await self._tasks.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def _count_moves(self) -> None:
        subscription = self._bus.subscribe(HISTORY)
        while events := await subscription.get():
            for stamped in events:
                if isinstance(stamped.event, FlowMoved):
                    self._moves.add(stamped.event)

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_PERIOD
            await asyncio.sleep(LAG_PERIOD)
            self._lag.observe(max(0.0, loop.time() - due))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _build_info(snapshot: Snapshot) -> Metric:
    family = GaugeMetricFamily("rtun_build_info", "Versions, always 1", labels=["version", "python"])
    family.add_metric([snapshot.version, platform.python_version()], 1)
    return family


def _expiry(snapshot: Snapshot) -> Metric:
    family = GaugeMetricFamily("rtun_agent_expires_seconds", "Time until an agent ends", labels=["agent"])
    for agent in snapshot.agents:
        if agent.expires_at is not None:
            family.add_metric([agent.id], agent.expires_at - snapshot.ts)
    return family


def _tunnel_states(snapshot: Snapshot) -> Metric:
    family = GaugeMetricFamily("rtun_tunnels", "Tunnels by state", labels=["state"])
    for state in TunnelState:
        family.add_metric([state.value], sum(tunnel.state is state for tunnel in snapshot.tunnels))
    return family


def _tunnel_quality(tunnels: tuple[TunnelView, ...]) -> Iterator[Metric]:
    rtt = GaugeMetricFamily("rtun_tunnel_rtt_seconds", "Round-trip time of a tunnel", labels=["tunnel"])
    loss = GaugeMetricFamily(
        "rtun_tunnel_loss_ratio", "Share of datagrams lost, of the worse direction", labels=["tunnel"]
    )
    flows = GaugeMetricFamily("rtun_flows", "Flows on a tunnel", labels=["tunnel"])
    for tunnel in tunnels:
        flows.add_metric([tunnel.id], tunnel.flows)
        if tunnel.rtt_ms is not None:
            rtt.add_metric([tunnel.id], tunnel.rtt_ms / 1000)
        known = [share for share in (tunnel.loss_up, tunnel.loss_down) if share is not None]
        if known:
            loss.add_metric([tunnel.id], max(known))
    yield from (rtt, loss, flows)


def _tunnel_bytes(tunnels: tuple[TunnelView, ...]) -> Metric:
    family = CounterMetricFamily("rtun_bytes", "Payload carried by a tunnel", labels=["tunnel", "direction"])
    for tunnel in tunnels:
        family.add_metric([tunnel.id, "up"], tunnel.traffic.up_bytes)
        family.add_metric([tunnel.id, "down"], tunnel.traffic.down_bytes)
    return family


def _traffic(unit: str, up: int, down: int) -> Metric:
    family = CounterMetricFamily(
        f"rtun_traffic_{unit}",
        f"Payload {unit} carried by all tunnels, also closed ones",
        labels=["direction"],
    )
    family.add_metric(["up"], up)
    family.add_metric(["down"], down)
    return family


def _by_reason(name: str, text: str, counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=["reason"])
    for reason, count in sorted(counts.items()):
        family.add_metric([reason], count)
    return family
