"""What the relay makes of a bad network: loss, delay, reordering, blackholes, and paths that are gone."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest

from tests.e2e.path_proxy import Path, PathProxy
from tests.e2e.processes import Fleet, Process
from tests.e2e.udp import Client, EchoTarget

TWO = ("--p2p-min-channels", "2", "--p2p-max-channels", "2")
SLOW = pytest.mark.slow
NOTICED = 8.0  # seconds from the beginning of a blackhole to round trips that work again


def start(fleet: Fleet, echo: EchoTarget, *args: str, tunnels: int = 1) -> tuple[Process, Client]:
    """A relay through the bad network, and a client whose flow exists."""
    relay = fleet.relay(f"127.0.0.1:0?to={echo.address}", args=args)
    relay.wait_until(lambda: relay.count("tunnel.up") == tunnels, what="tunnels")
    client = fleet.client(relay)
    assert client.round_trip()
    return relay, client


def tunnel_in_use(relay: Process) -> dict[str, Any]:
    """The tunnel that carries the only flow."""
    snapshot = relay.snapshot()
    (flow,) = snapshot["flows"]
    return next(tunnel for tunnel in snapshot["tunnels"] if tunnel["id"] == flow["tunnel"])


def path_in_use(relay: Process, network: PathProxy) -> tuple[str, Path]:
    """Name and path of the tunnel that carries the only flow."""
    tunnel = tunnel_in_use(relay)
    return tunnel["id"], network.path_of(tunnel["remote"])


def moved_from(relay: Process, tunnel: str) -> bool:
    return any(event["type"] == "flow.moved" and event["old"] == tunnel for event in relay.events)


@SLOW
def test_loss_is_measured_and_shown(network: PathProxy, fleet: Fleet, echo: EchoTarget) -> None:
    relay, client = start(fleet, echo)
    network.paths[0].up.loss = 0.2
    made, answered = client.keep_on(lambda: 0.14 < (tunnel_in_use(relay)["loss_up"] or 0) < 0.3, each=0.03)
    assert 0.7 < answered / made < 0.9
    tunnel = tunnel_in_use(relay)
    assert tunnel["state"] == "degraded"
    assert tunnel["loss_down"] < 0.05
    assert relay.wait_for("tunnel.degraded")["reason"].startswith("loss")
    assert len(echo.peers) == 1


@pytest.mark.parametrize("trouble", ["slow", pytest.param("lossy", marks=SLOW)])
def test_flows_leave_a_tunnel_that_got_worse(
    network: PathProxy, fleet: Fleet, echo: EchoTarget, trouble: str
) -> None:
    relay, client = start(fleet, echo, *TWO, tunnels=2)
    tunnel, path = path_in_use(relay, network)
    for way in (path.up, path.down):
        way.delay, way.loss = (0.15, 0.0) if trouble == "slow" else (0.0, 0.3)
    client.keep_on(lambda: moved_from(relay, tunnel))
    assert relay.wait_for("tunnel.degraded")["tunnel"] == tunnel
    begin = time.monotonic()
    assert all(client.round_trip() for _ in range(10))
    assert time.monotonic() - begin < 1.0
    assert len(echo.peers) == 1


@SLOW
@pytest.mark.parametrize("ways", ["both ways", "up", "down"])
def test_flows_leave_a_blackhole(network: PathProxy, fleet: Fleet, echo: EchoTarget, ways: str) -> None:
    relay, client = start(fleet, echo, *TWO, tunnels=2)
    tunnel, path = path_in_use(relay, network)
    path.up.dark = ways in ("up", "both ways")
    path.down.dark = ways in ("down", "both ways")
    assert client.until_answered(each=0.3) < NOTICED
    relay.wait_until(lambda: moved_from(relay, tunnel), what="moved flow")
    assert all(client.round_trip() for _ in range(10))
    assert len(echo.peers) == 1


def test_reordering_loses_and_doubles_nothing(network: PathProxy, fleet: Fleet, echo: EchoTarget) -> None:
    _, client = start(fleet, echo)
    path = network.paths[0]
    path.up.delay = path.down.delay = 0.01
    path.up.jitter = path.down.jitter = 0.03
    sent = [b"number %d" % number for number in range(150)]  # few enough for the buffers of plain sockets
    answers = client.burst(sent)
    assert Counter(answers) == Counter(sent)
    assert answers != sent
    assert client.burst([b"last"]) == [b"last"]
    assert echo.received == 152


@SLOW
def test_the_only_path_is_dark_for_a_while(network: PathProxy, fleet: Fleet, echo: EchoTarget) -> None:
    relay, client = start(fleet, echo)
    network.darken()
    begin = time.monotonic()
    made, answered = client.keep_on(lambda: time.monotonic() - begin > 6)
    assert (made > 0, answered) == (True, 0)
    network.darken(dark=False)
    assert client.until_answered(each=0.3) < NOTICED
    assert relay.wait_for("tunnel.degraded")
    assert len(echo.peers) == 1


@pytest.mark.parametrize("end", ["refused", pytest.param("silent", marks=SLOW)])
def test_the_only_path_is_lost_for_ever(network: PathProxy, fleet: Fleet, echo: EchoTarget, end: str) -> None:
    relay, client = start(fleet, echo)
    if end == "refused":
        network.paths[0].cut()
    else:
        network.paths[0].darken()
    assert client.until_answered(each=0.3) < NOTICED
    relay.wait_until(lambda: relay.count("tunnel.up") == 2, what="replacement")
    assert all(client.round_trip() for _ in range(10))
    assert len(echo.peers) == 1
