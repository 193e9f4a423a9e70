"""Processes that are killed, restarted, refused, fed with garbage, or badly started."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from tests.e2e.garbage import garbage, throw_tcp, throw_udp
from tests.e2e.path_proxy import PathProxy
from tests.e2e.processes import LOOPBACK_ICE, SECRET, Fleet, Process, local_address, rtun
from tests.e2e.udp import Client, EchoTarget

SLOW = pytest.mark.slow


def rule(echo: EchoTarget) -> str:
    return f"127.0.0.1:0?to={echo.address}"


def start(fleet: Fleet, echo: EchoTarget) -> tuple[Process, Process, Process, Client]:
    """Server, agent `a`, relay, and a client whose flow exists."""
    server = fleet.server("http")
    agent = fleet.agent("a")
    relay = fleet.relay(rule(echo))
    client = fleet.client(relay)
    assert client.round_trip()
    return server, agent, relay, client


def port_of(fleet: Fleet) -> int:
    return int(fleet.url.rpartition(":")[2])


# ---- kill -9 ------------------------------------------------------------------------------------------


@SLOW
def test_another_agent_takes_over(fleet: Fleet, echo: EchoTarget) -> None:
    _, first, relay, client = start(fleet, echo)
    fleet.agent("b")
    first.kill()
    assert client.until_answered(each=0.3) < 15
    assert relay.wait_for("agent.selected")["agent"].startswith("a/")
    assert relay.wait_for("agent.selected", lambda event: event["agent"].startswith("b/"))


@SLOW
def test_the_only_agent_comes_back(fleet: Fleet, echo: EchoTarget) -> None:
    _, agent, relay, client = start(fleet, echo)
    agent.kill()
    client.keep_on(lambda: relay.count("tunnel.closed"))
    relay.wait_until(lambda: relay.snapshot()["rules"][0]["state"] == "waiting", what="waiting rule")
    fleet.agent("a")
    assert client.until_answered(each=0.3) < 10
    relay.wait_until(lambda: relay.snapshot()["rules"][0]["state"] == "active", what="active rule")


@SLOW
def test_traffic_goes_on_without_the_server(fleet: Fleet, echo: EchoTarget) -> None:
    server, agent, relay, client = start(fleet, echo)
    server.kill()
    begin = time.monotonic()
    made, answered = client.keep_on(lambda: time.monotonic() - begin > 6, each=2)
    assert made == answered > 100
    assert len(echo.peers) == 1
    assert relay.wait_for("signal.lost")
    assert agent.wait_for("signal.lost")
    assert relay.snapshot()["signal"][0]["state"] == "lost"


@SLOW
def test_the_server_comes_back_and_rotation_works(fleet: Fleet, echo: EchoTarget) -> None:
    server, agent, relay, client = start(fleet, echo)
    server.kill()
    for process in (agent, relay):
        process.wait_for("signal.lost")
    fleet.server("http", port=port_of(fleet))
    for process in (agent, relay):
        process.wait_until(lambda process=process: process.count("signal.connected") == 2, what="reconnect")
    (old,) = [tunnel["id"] for tunnel in relay.snapshot()["tunnels"]]
    assert relay.command(f"tunnel recycle {old}")["ok"]
    client.keep_on(lambda: relay.count("tunnel.replaced"), each=2)
    relay.wait_for("tunnel.closed", lambda event: event["tunnel"] == old)
    assert all(client.round_trip() for _ in range(10))
    assert len(echo.peers) == 1


@SLOW
def test_the_agent_lets_go_of_a_killed_relay(fleet: Fleet, echo: EchoTarget) -> None:
    _, agent, relay, _ = start(fleet, echo)
    relay.kill()
    agent.wait_for("tunnel.closed", timeout=15)
    assert agent.snapshot()["tunnels"] == []
    again = fleet.client(fleet.relay(rule(echo)))
    assert all(again.round_trip() for _ in range(10))


# ---- the wrong secret -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", pytest.param("quic", marks=SLOW)])
def test_a_relay_with_the_wrong_secret_says_so_and_ends(fleet: Fleet, echo: EchoTarget, scheme: str) -> None:
    fleet.server(scheme)
    fleet.agent("a")
    args = ("relay", "-L", rule(echo), fleet.url, "--json", "--secret", "wrong", "--wait-agent", "5")
    relay = fleet.run(*args, *LOOPBACK_ICE, *fleet.trust)
    assert "refuses the secret" in relay.wait_for("signal.lost")["reason"]
    assert relay.join() == 4
    assert relay.log[-1].startswith("Error: no tunnel was up within 5 s: ")
    assert "refuses the secret" in relay.log[-1]


@pytest.mark.parametrize("scheme", ["http", pytest.param("quic", marks=SLOW)])
def test_an_agent_with_the_wrong_secret_says_so_and_stays(fleet: Fleet, scheme: str) -> None:
    server = fleet.server(scheme)
    args = ("agent", "pub", fleet.url, "--agent", "a", "--secret", "wrong", "--json")
    agent = fleet.run(*args, *LOOPBACK_ICE, *fleet.trust)
    notice = agent.wait_for("notice", lambda event: event["topic"] == "unauthorized")
    assert "refuses the secret" in notice["message"]
    assert agent.status is None
    assert server.wait_for("faults")["counts"] == {"token": 1}
    assert agent.stop() == 0


# ---- garbage --------------------------------------------------------------------------------------------


@SLOW
def test_garbage_at_every_port_ends_nothing(fleet: Fleet, echo: EchoTarget) -> None:
    server = fleet.server("quic")
    agent = fleet.agent("a", "--echo", "127.0.0.1:0")
    relay = fleet.relay(rule(echo))
    port = port_of(fleet)
    junk = garbage()
    throw_udp(("127.0.0.1", port), junk)
    throw_tcp(("127.0.0.1", port), junk[::40])
    throw_udp(local_address(relay), junk)
    listening = agent.wait_for("service.listening", lambda event: event["service"] == "echo")
    throw_udp(("127.0.0.1", int(listening["address"].rpartition(":")[2])), junk)
    for tunnel in relay.snapshot()["tunnels"] + agent.snapshot()["tunnels"]:
        throw_udp(("127.0.0.1", int(tunnel["local"].rpartition(":")[2])), junk[::10])
    client = fleet.client(relay)
    client.until_answered()
    assert all(client.round_trip() for _ in range(10))
    assert [process.status for process in (server, agent, relay)] == [None] * 3
    relay.wait_until(lambda: relay.snapshot()["drops"].get("oversize", 0) >= 500, what="drops", timeout=3)
    assert server.snapshot()["faults"]
    assert fleet.agent("b").count("signal.connected") == 1


def test_garbage_at_an_http_server_is_counted(fleet: Fleet) -> None:
    server = fleet.server("http")
    throw_tcp(("127.0.0.1", port_of(fleet)), garbage()[::20])
    assert fleet.agent("a").count("signal.connected") == 1
    assert server.wait_for("faults", timeout=3)
    assert server.status is None


@SLOW
def test_garbage_from_the_peer_is_counted_at_both_ends(
    network: PathProxy, fleet: Fleet, echo: EchoTarget
) -> None:
    relay = fleet.relay(rule(echo))
    agent = next(process for process in fleet.processes if "pub" in process.args)
    client = fleet.client(relay)
    assert client.round_trip()
    path = network.paths[0]
    path.inject(path.relay_side, garbage(2))
    path.inject(path.agent_side, garbage(3))
    assert all(client.round_trip() for _ in range(50))
    for process in (relay, agent):
        snapshot = process.snapshot()
        counted = sum(snapshot["drops"].values()) + sum(snapshot["faults"].values())
        assert counted > 1500, snapshot
    assert relay.count("tunnel.up") == 1
    assert len(echo.peers) == 1
    shown = rtun("status", str(relay.control))
    assert "drops:" in shown.stdout


# ---- bad starts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["rule", "server", "echo", "metrics"])
def test_a_port_in_use_is_one_sentence_and_status_3(what: str) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
    ):
        udp.bind(("127.0.0.1", 0))
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        taken = {"udp": f"127.0.0.1:{udp.getsockname()[1]}", "tcp": f"127.0.0.1:{tcp.getsockname()[1]}"}
        nowhere = ("http://127.0.0.1:1", "--secret", SECRET, "--quiet")
        args = {
            "rule": ("relay", "-L", f"{taken['udp']}?to=127.0.0.1:9", *nowhere),
            "server": ("agent", "listen", "--addr", taken["tcp"], "--secret", SECRET, "--quiet"),
            "echo": ("agent", "pub", *nowhere, "--echo", taken["udp"]),
            "metrics": ("agent", "pub", *nowhere, "--metrics", taken["tcp"]),
        }[what]
        result = rtun(*args)
    address = taken["udp" if what in ("rule", "echo") else "tcp"]
    assert result.returncode == 3, result
    (sentence,) = result.stderr.splitlines()
    assert sentence.startswith("Error: ")
    assert address in sentence


@pytest.mark.parametrize(
    ("option", "status"), [("--secret-file", 1), ("--ca", 2), ("--https-cert", 2), ("--status-file", 1)]
)
def test_a_missing_file_is_named(tmp_path: Path, option: str, status: int) -> None:
    missing = str(tmp_path / "none" / "missing")
    args = ["agent", "pub", "https://127.0.0.1:1", "--quiet", option, missing]
    if option == "--https-cert":
        args = [
            "agent",
            "listen",
            "--addr",
            "127.0.0.1:0",
            "--quiet",
            option,
            missing,
            "--https-key",
            missing,
        ]
    result = rtun(*args)
    assert result.returncode == status, result
    (sentence,) = result.stderr.splitlines()
    assert option in sentence
    assert missing in sentence


# ---- the end --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=SLOW)])
def test_a_signal_ends_every_process_in_order(fleet: Fleet, echo: EchoTarget, number: signal.Signals) -> None:
    def status_file(name: str) -> tuple[str, str]:
        return "--status-file", str(fleet.folder / name)

    server = fleet.server("http", *status_file("server"))
    agent = fleet.agent("a", *status_file("agent"))
    relay = fleet.relay(rule(echo), args=status_file("relay"))
    assert fleet.client(relay).round_trip()
    for process, name in ((relay, "relay"), (agent, "agent"), (server, "server")):
        assert process.control is not None
        assert process.control.stat().st_mode & 0o777 == 0o600
        assert (fleet.folder / name).stat().st_mode & 0o777 == 0o600
        process.signal(number)
        assert process.join() == 0, process.transcript()
        assert process.events[-1]["type"] in ("engine.stopping", "tunnel.closed", "drops", "faults")
        assert not process.control.exists()
        assert not (fleet.folder / name).exists()
