import re
import socket

import aiohttp
import pytest

from rtun_core.engine.metrics import MAX_REASONS, FlowMoves, Metrics
from rtun_core.errors import BindError
from rtun_core.events import FlowMoved
from rtun_core.model import AgentState, AgentView, Snapshot, Traffic, TunnelState, TunnelView
from rtun_core.wire.address import Address

LOOPBACK = Address("127.0.0.1", 0)


def moved(reason, count=1):
    return FlowMoved(flow=None, count=count, old="t1", new="t2", reason=reason)


def snapshot():
    agent = AgentView(id="beta/7f3c", name="beta", instance="7f3c", state=AgentState.IN_USE, expires_at=160.0)
    tunnel = TunnelView(
        id="t5",
        rule="r1",
        agent=agent.id,
        state=TunnelState.UP,
        kind="p2p",
        opened_at=0.0,
        rtt_ms=18.5,
        loss_up=0.01,
        loss_down=0.25,
        flows=3,
        traffic=Traffic(1, 100, 2, 200),
    )
    fresh = TunnelView(id="t6", rule="r1", agent=None, state=TunnelState.OPENING, kind="p2p", opened_at=0.0)
    return Snapshot(
        seq=1,
        ts=100.0,
        uptime_s=5.0,
        pid=1,
        version="9.9",
        services=("relay",),
        agents=(agent,),
        tunnels=(tunnel, fresh),
        traffic=Traffic(10, 1000, 20, 2000),
        drops={"oversize": 4},
        faults={"tag": 2},
    )


async def scrape(metrics):
    url = f"http://127.0.0.1:{metrics.port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.headers["Content-Type"].startswith("text/plain")
        return await response.text()


async def test_every_name_and_value(bus, until):
    metrics = Metrics(LOOPBACK, snapshot, bus)
    await metrics.start()
    await until(lambda: bus._subscribers)
    bus.emit(moved("degraded", 5))
    await until(lambda: metrics._moves.counts)
    await until(lambda: metrics._lag._sum.get() >= 0 and metrics._lag._buckets[-1].get() >= 0)
    text = await scrape(metrics)
    await metrics.stop()
    for line in (
        'rtun_agent_expires_seconds{agent="beta/7f3c"} 60.0',
        'rtun_tunnels{state="up"} 1.0',
        'rtun_tunnels{state="draining"} 0.0',
        'rtun_tunnel_rtt_seconds{tunnel="t5"} 0.0185',
        'rtun_tunnel_loss_ratio{tunnel="t5"} 0.25',
        'rtun_bytes_total{direction="up",tunnel="t5"} 100.0',
        'rtun_flows{tunnel="t5"} 3.0',
        'rtun_flows{tunnel="t6"} 0.0',
        'rtun_flow_moves_total{reason="degraded"} 5.0',
        'rtun_drops_total{reason="oversize"} 4.0',
        'rtun_faults_total{reason="tag"} 2.0',
        'rtun_traffic_bytes_total{direction="down"} 2000.0',
        'rtun_traffic_packets_total{direction="up"} 10.0',
        "rtun_uptime_seconds 5.0",
    ):
        assert line in text.splitlines()
    assert re.search(r'rtun_build_info\{python="3[^"]*",version="9.9"\} 1.0', text)
    assert 'rtun_loop_lag_seconds_bucket{le="0.005"}' in text
    assert "t6" not in "".join(line for line in text.splitlines() if "rtt" in line or "loss" in line)


async def test_the_loop_is_measured(bus, until, monkeypatch):
    monkeypatch.setattr("rtun_core.engine.metrics.LAG_PERIOD", 0.001)
    metrics = Metrics(LOOPBACK, snapshot, bus)
    await metrics.start()
    await until(lambda: sum(bucket.get() for bucket in metrics._lag._buckets) > 1)
    await metrics.stop()


async def test_a_port_in_use(bus):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(BindError, match=f"--metrics: cannot listen on {address}: "):
            await Metrics(address, snapshot, bus).start()


async def test_stop_without_start(bus):
    await Metrics(LOOPBACK, snapshot, bus).stop()


def test_reasons_are_bounded():
    moves = FlowMoves()
    for number in range(MAX_REASONS + 5):
        moves.add(moved(f"reason {number}"))
    moves.add(moved("reason 0"))
    assert len(moves.counts) == MAX_REASONS + 1
    assert (moves.counts["other"], moves.counts["reason 0"]) == (5, 2)
