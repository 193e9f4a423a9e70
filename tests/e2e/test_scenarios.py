"""The eight process-level scenarios that the original programs are tested with (wire spec 14.2)."""

from __future__ import annotations

import time

import pytest

from tests.e2e.processes import Fleet, Process, local_address
from tests.e2e.udp import Client, EchoTarget

SCHEMES = pytest.mark.parametrize("scheme", ["quic", "https"])


def start(fleet: Fleet, echo: EchoTarget, scheme: str, *args: str, up: bool = True) -> Process:
    """Server, one agent and a relay with one rule to the echo target."""
    fleet.server(scheme)
    fleet.agent("e2e")
    return fleet.relay(f"127.0.0.1:0?to={echo.address}", args=args, up=up)


def channels(low: int, high: int, *more: str) -> tuple[str, ...]:
    return ("--p2p-min-channels", str(low), "--p2p-max-channels", str(high), *more)


@SCHEMES
def test_smoke(fleet: Fleet, echo: EchoTarget, scheme: str) -> None:
    relay = start(fleet, echo, scheme)
    for _ in range(5):
        client = Client(local_address(relay))
        assert client.round_trip()
        client.close()
    assert all(process.status is None for process in fleet.processes)


@SCHEMES
def test_smoke_with_several_tunnels(fleet: Fleet, echo: EchoTarget, scheme: str) -> None:
    relay = start(fleet, echo, scheme, *channels(1, 2))
    for _ in range(5):
        client = Client(local_address(relay))
        assert client.round_trip()
        client.close()
    relay.wait_until(lambda: relay.count("tunnel.up") == 2, what="second tunnel")


@SCHEMES
def test_burst_from_one_socket(fleet: Fleet, echo: EchoTarget, scheme: str) -> None:
    relay = start(fleet, echo, scheme, *channels(1, 2))
    client = Client(local_address(relay))
    assert all(client.round_trip() for _ in range(50))
    client.close()


@SCHEMES
def test_first_datagram_opens_a_tunnel_when_none_is_kept(fleet: Fleet, echo: EchoTarget, scheme: str) -> None:
    relay = start(fleet, echo, scheme, *channels(0, 1), up=False)
    relay.wait_for("agent.selected")
    assert relay.count("tunnel.up") == 0
    client = Client(local_address(relay))
    assert client.round_trip(timeout=20)
    relay.wait_for("tunnel.up", lambda event: event["source"] == "demand-open")
    assert all(client.round_trip() for _ in range(3))
    client.close()


@pytest.mark.slow
@SCHEMES
def test_source_port_is_stable_over_rotation(fleet: Fleet, echo: EchoTarget, scheme: str) -> None:
    relay = start(fleet, echo, scheme, *channels(1, 1, "--p2p-channel-lifetime", "4"))
    client = Client(local_address(relay))
    assert client.round_trip()
    assert client.round_trip()
    relay.wait_for("tunnel.replaced")
    relay.wait_for("tunnel.closed", lambda event: event["reason"] == "drained")
    assert all(client.round_trip() for _ in range(3))
    assert len(echo.peers) == 1
    client.close()


@SCHEMES
def test_burst_with_a_target_that_answers_one_source_only(
    fleet: Fleet, echo: EchoTarget, scheme: str
) -> None:
    relay = start(fleet, echo, scheme, *channels(1, 3))
    client = Client(local_address(relay))
    assert client.round_trip()
    payloads = [f"burst {number}".encode() for number in range(5)]
    for payload in payloads:
        client.socket.send(payload)
    answers = set()
    client.socket.settimeout(2)
    while len(answers) < 5:
        answers.add(client.socket.recv(2048))
    assert answers == set(payloads)
    assert len(echo.peers) == 1
    client.close()


@pytest.mark.slow
@SCHEMES
def test_long_run_with_rotations(fleet: Fleet, echo: EchoTarget, scheme: str) -> None:
    relay = start(fleet, echo, scheme, *channels(1, 1, "--p2p-channel-lifetime", "4"))
    client = Client(local_address(relay))
    deadline = time.monotonic() + 40
    while relay.count("tunnel.replaced") < 3:
        assert client.round_trip()
        assert time.monotonic() < deadline
    assert len(echo.peers) == 1
    client.close()


@pytest.mark.slow
@SCHEMES
def test_agent_switch_before_the_agent_expires(fleet: Fleet, echo: EchoTarget, scheme: str) -> None:
    fleet.server(scheme)
    fleet.agent("short", "--expire-in", "1")
    relay = fleet.relay(f"127.0.0.1:0?to={echo.address}")
    client = Client(local_address(relay))
    assert client.round_trip()
    fleet.agent("long", "--expire-in", "3")
    switched = relay.wait_for("agent.switch.done")
    assert switched["new"].startswith("long/")
    assert all(client.round_trip() for _ in range(20))
    client.close()
