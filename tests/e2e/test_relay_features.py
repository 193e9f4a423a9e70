"""What a relay offers beyond carrying datagrams: rules, limits, codecs, policies, commands, outputs."""

from __future__ import annotations

import json
import signal
import socket
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.processes import SECRET, Fleet, Process, fleets, rtun
from tests.e2e.udp import Client, EchoTarget

SLOW = pytest.mark.slow
MAX_PAYLOAD = {"legacy": 1444, "obfs-v1": 1443, "tagged-9": 1443, "obfs-v2": 1442}  # bytes


def rule(echo: EchoTarget) -> str:
    return f"127.0.0.1:0?to={echo.address}"


def start(fleet: Fleet, echo: EchoTarget, *args: str, up: bool = True) -> tuple[Process, Client]:
    """Server, agent `a`, a relay, and a client."""
    fleet.server("http")
    fleet.agent("a")
    relay = fleet.relay(rule(echo), args=args, up=up)
    return relay, fleet.client(relay)


def channels(low: int, high: int) -> tuple[str, ...]:
    return "--p2p-min-channels", str(low), "--p2p-max-channels", str(high)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class Live:
    """A relay with several rules; each test takes one for itself, so that all can share the processes."""

    def __init__(self, fleet: Fleet) -> None:
        fleet.server("http")
        fleet.agent("a")
        self.targets = [EchoTarget() for _ in range(8)]
        self.relay = fleet.relay(*map(rule, self.targets))
        self._fleet = fleet
        self._taken = 0

    def take(self) -> tuple[str, Client, EchoTarget]:
        """A rule, a client of it whose flow exists, and its target."""
        self._taken += 1
        client = self._fleet.client(self.relay, self._taken)
        assert client.round_trip()
        return f"r{self._taken}", client, self.targets[self._taken - 1]

    def view(self, name: str) -> dict[str, Any]:
        """The row of a rule."""
        return next(each for each in self.relay.snapshot()["rules"] if each["id"] == name)

    def tunnels(self, name: str) -> list[dict[str, Any]]:
        """The rows of a rule's tunnels."""
        return [each for each in self.relay.snapshot()["tunnels"] if each["rule"] == name]

    def flow(self, client: Client) -> dict[str, Any]:
        """The row of a client's flow."""
        return next(each for each in self.relay.snapshot()["flows"] if each["source"] == client.address)

    def do(self, command: str) -> dict[str, Any]:
        """Have a command carried out."""
        return self.relay.command(command)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One relay for the tests that can live together."""
    for fleet in fleets(tmp_path_factory.mktemp("live")):
        shared = Live(fleet)
        yield shared
        for target in shared.targets:
            target.close()


# ---- rules ----------------------------------------------------------------------------------------------


def test_several_rules_have_their_own_targets_and_tunnels(live: Live) -> None:
    taken = [live.take(), live.take()]
    for name, client, target in taken:
        assert all(client.round_trip() for _ in range(5))
        assert target.received == 6
        assert len(live.tunnels(name)) == 1
        assert live.view(name)["target"] == target.address


def test_a_host_name_is_a_target(fleet: Fleet, echo: EchoTarget) -> None:
    fleet.server("http")
    fleet.agent("a")
    relay = fleet.relay(f"udp://127.0.0.1:0?to=localhost:{echo.address.rpartition(':')[2]}")
    assert fleet.client(relay).round_trip()
    assert relay.snapshot()["rules"][0]["target"].startswith("localhost:")


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
def test_ipv6_listen_and_target(fleet: Fleet) -> None:
    target = EchoTarget("::1")
    fleet.server("http")
    fleet.agent("a")
    relay = fleet.relay(f"[::1]:0?to={target.address}")
    client = fleet.client(relay)
    assert all(client.round_trip() for _ in range(5))
    assert relay.snapshot()["flows"][0]["source"].startswith("[::1]:")
    target.close()


def test_an_idle_flow_ends_and_the_next_datagram_opens_another(fleet: Fleet, echo: EchoTarget) -> None:
    relay, client = start(fleet, echo, "--udp-idle-timeout", "1")
    assert client.round_trip()
    closed = relay.wait_for("flow.closed")
    assert (closed["count"], closed["reason"]) == (1, "idle for 1 s")
    fleet.processes[1].wait_for("flow.closed")
    assert client.round_trip()
    relay.wait_until(lambda: relay.count("flow.opened") == 2, what="second flow")
    assert len(echo.peers) == 2


def test_oversize_and_empty_datagrams_are_dropped_and_counted(live: Live) -> None:
    name, client, target = live.take()
    for size in (1443, 0, 1500, 9000):
        client.socket.send(bytes(size))
    assert client.round_trip(bytes(1442))
    live.relay.wait_until(lambda: live.view(name)["drops"] == {"oversize": 3, "empty": 1}, what="drops")
    assert target.received == 2
    assert live.relay.wait_for("drops")["counts"]["oversize"] > 0


# ---- codecs ---------------------------------------------------------------------------------------------


@SLOW
@pytest.mark.parametrize("codec", MAX_PAYLOAD)
def test_every_payload_size_in_every_codec(fleet: Fleet, echo: EchoTarget, codec: str) -> None:
    relay, client = start(fleet, echo, "--codec", codec)
    assert relay.wait_for("tunnel.up")["codec"] == codec
    largest = MAX_PAYLOAD[codec]
    for size in range(1, largest + 1):
        assert client.round_trip(bytes([size % 251]) * size), size
    client.socket.send(bytes(largest + 1))
    assert relay.wait_for("drops")["counts"] == {"oversize": 1}
    assert echo.received == largest
    assert len(echo.peers) == 1


def test_all_codecs_side_by_side(fleet: Fleet, echo: EchoTarget) -> None:
    fleet.server("http")
    agent = fleet.agent("a")
    for codec, largest in MAX_PAYLOAD.items():
        client = fleet.client(fleet.relay(rule(echo), args=("--codec", codec)))
        assert all(client.round_trip(bytes(size)) for size in (1, 2, largest - 1, largest))
    assert {tunnel["codec"] for tunnel in agent.snapshot()["tunnels"]} == set(MAX_PAYLOAD)


# ---- agents ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (("--allow-target", "10.0.0.0/8"), "is not among the targets that this agent allows"),
        pytest.param(
            ("--deny-target", "127.0.0.0/8"),
            "is denied by the egress rule 127.0.0.0/8 of this agent",
            marks=SLOW,
        ),
    ],
)
def test_a_refused_target_is_told_with_its_reason(
    fleet: Fleet, echo: EchoTarget, policy: tuple[str, ...], reason: str
) -> None:
    fleet.server("http")
    fleet.agent("a", *policy)
    relay = fleet.relay(rule(echo), up=False)
    refused = relay.wait_for("tunnel.closed")
    assert not refused["opened"]
    assert refused["reason"].endswith(f"target {echo.address} {reason}")
    relay.wait_until(lambda: any(reason in line for line in relay.log), what="log line")
    assert relay.snapshot()["rules"][0]["reason"] == refused["reason"]


@SLOW
def test_an_agent_ends_when_its_time_is_over(fleet: Fleet) -> None:
    fleet.server("http")
    agent = fleet.agent("a", "--expire-in", "1")
    assert agent.join(timeout=75) == 0
    assert agent.wait_for("engine.stopping")["reason"] == "running expired"


@SLOW
def test_a_second_agent_of_the_name_replaces_the_first(fleet: Fleet, echo: EchoTarget) -> None:
    relay, client = start(fleet, echo)
    assert client.round_trip()
    first = fleet.processes[1]
    fleet.agent("a")
    assert first.join() == 0
    assert first.wait_for("engine.stopping")["reason"]
    assert client.until_answered(each=0.3) < 15
    assert relay.status is None


@SLOW
def test_agents_that_both_expire_soon_do_not_bounce(fleet: Fleet, echo: EchoTarget) -> None:
    fleet.server("http")
    for name in ("a", "b"):
        fleet.agent(name, "--expire-in", "5")
    relay = fleet.relay(rule(echo))
    client = fleet.client(relay)
    relay.wait_for("agent.expiring")
    begin = relay.snapshot()["uptime_s"]
    made, answered = client.keep_on(lambda: relay.snapshot()["uptime_s"] > begin + 8)
    assert made == answered
    assert relay.count("agent.switch.started") <= 1


@SLOW
def test_without_flows_a_tunnel_on_demand_closes_again(fleet: Fleet, echo: EchoTarget) -> None:
    relay, client = start(fleet, echo, *channels(0, 1), "--udp-idle-timeout", "1", up=False)
    for number in (1, 2):
        assert client.until_answered()
        relay.wait_until(lambda number=number: relay.count("tunnel.up") == number, what="tunnel")
        relay.wait_until(lambda number=number: relay.count("tunnel.closed") == number, what="close")
    reasons = {event["reason"] for event in relay.events if event["type"] == "tunnel.closed"}
    assert reasons == {"drained"}


# ---- commands -------------------------------------------------------------------------------------------


def test_ctl_switches_the_agent_and_says_why_not(fleet: Fleet, echo: EchoTarget) -> None:
    fleet.server("http")
    for name in ("a", "b"):
        fleet.agent(name)
    relay = fleet.relay(rule(echo))
    client = fleet.client(relay)
    assert client.round_trip()
    other = "a" if relay.wait_for("agent.selected")["agent"].startswith("b/") else "b"
    on = ("ctl", "--on", str(relay.control))
    switched = rtun(*on, "agent", "use", other)
    assert (switched.returncode, switched.stderr) == (0, "")
    assert switched.stdout == f"agent {other} in use, 1 flow moved\n"
    assert relay.wait_for("agent.switch.done")["new"].startswith(f"{other}/")
    assert all(client.round_trip() for _ in range(10))
    refused = rtun(*on, "agent", "use", "nobody")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "agent nobody is not registered" in refused.stderr
    unknown = rtun(*on, "agent", "eat")
    assert unknown.returncode == 2
    assert "accepted: agent use" in unknown.stderr


@SLOW
def test_a_switch_to_an_agent_out_of_reach_is_refused(fleet: Fleet, echo: EchoTarget) -> None:
    relay, client = start(fleet, echo)
    stopped = fleet.agent("b")
    client.keep_on(lambda: any(agent["name"] == "b" for agent in relay.snapshot()["agents"]))
    stopped.signal(signal.SIGSTOP)
    answer = relay.command("agent use b")
    stopped.signal(signal.SIGCONT)
    assert not answer["ok"]
    assert relay.wait_for("agent.switch.failed")["old"].startswith("a/")
    assert all(client.round_trip() for _ in range(10))
    assert len(echo.peers) == 1
    assert relay.snapshot()["rules"][0]["agent"].startswith("a/")


def test_agents_are_probed_and_pinned(live: Live) -> None:
    probe = live.do("agent probe a")
    assert 0 < probe["data"]["rtt_ms"] < 1000
    assert live.do("agent pin")["ok"]
    live.relay.wait_until(lambda: live.relay.snapshot()["agents"][0]["pinned"], what="pinned agent")
    assert live.relay.snapshot()["agents"][0]["rtt_ms"] == probe["data"]["rtt_ms"]
    assert live.do("agent unpin")["ok"]
    live.relay.wait_until(lambda: not live.relay.snapshot()["agents"][0]["pinned"], what="unpinned agent")
    assert live.do("agent probe nobody")["error"].startswith("agent nobody is not registered")


def test_limits_change_while_it_runs(live: Live) -> None:
    name, client, _ = live.take()
    assert live.do(f"tunnel limits --min 2 --max 2 --rule {name}")["text"] == "tunnels 2..2"
    client.keep_on(lambda: len(live.tunnels(name)) == 2)
    assert "cannot be" in live.do(f"tunnel limits --min 3 --rule {name}")["error"]
    assert (live.view(name)["tunnels_min"], live.view(name)["tunnels_max"]) == (2, 2)
    assert live.do(f"tunnel open --rule {name}")["error"].startswith(f"rule {name} has its 2 tunnels")


def test_tunnels_are_opened_preferred_recycled_drained_and_closed(live: Live) -> None:
    name, client, target = live.take()
    (first,) = [tunnel["id"] for tunnel in live.tunnels(name)]
    assert live.do(f"tunnel limits --min 0 --max 2 --rule {name}")["ok"]
    client.keep_on(lambda: len(live.tunnels(name)) == 2)
    (second,) = [tunnel["id"] for tunnel in live.tunnels(name) if tunnel["id"] != first]

    assert live.do(f"tunnel prefer {second}")["ok"]
    assert live.do(f"flow move {live.flow(client)['id']} --to {second}")["ok"]
    live.relay.wait_until(lambda: live.flow(client)["tunnel"] == second, what="moved flow")
    assert live.do(f"tunnel recycle {first}")["ok"]
    client.keep_on(lambda: _ended(live.relay, "tunnel.replaced", first))

    assert live.do(f"tunnel drain {second}")["ok"]
    client.keep_on(lambda: _ended(live.relay, "tunnel.closed", second))
    assert _ended(live.relay, "tunnel.closed", second)["reason"] == "drained"

    client.keep_on(lambda: live.flow(client)["tunnel"] != second)
    third = live.flow(client)["tunnel"]
    assert live.do(f"tunnel close {third}")["ok"]
    assert live.do(f"tunnel close {third}")["error"] == f"there is no tunnel {third}"
    assert all(client.round_trip(timeout=5) for _ in range(10))
    assert len(target.peers) == 1


def _ended(relay: Process, kind: str, tunnel: str) -> dict[str, Any] | None:
    return next((each for each in relay.events if each["type"] == kind and each["tunnel"] == tunnel), None)


def test_flows_are_moved_and_closed(live: Live) -> None:
    name, client, target = live.take()
    live.do(f"tunnel limits --min 2 --max 2 --rule {name}")
    client.keep_on(lambda: len(live.tunnels(name)) == 2)
    flow = live.flow(client)
    assert live.do(f"flow move {flow['id']}")["text"] == "1 flow moved"
    moved = live.relay.wait_for("flow.moved", lambda event: event["flow"] == flow["id"])
    assert (moved["old"], moved["reason"]) == (flow["tunnel"], "requested")
    assert client.round_trip()
    assert len(target.peers) == 1
    assert live.do(f"flow close {flow['id']}")["text"] == "1 flow closed"
    assert live.do(f"flow close {flow['id']}")["error"].startswith("there is no flow")
    client.keep_on(lambda: live.flow(client)["id"] != flow["id"])
    assert len(target.peers) == 2


def test_a_paused_rule_drops_and_counts(live: Live) -> None:
    name, client, target = live.take()
    assert live.do(f"rule pause {name}")["ok"]
    assert not client.round_trip(timeout=0.3)
    live.relay.wait_until(lambda: live.view(name)["drops"] == {"paused": 1}, what="drops")
    assert live.view(name)["state"] == "paused"
    assert live.do(f"rule pause {name}")["error"] == f"rule {name} is paused already"
    assert live.do(f"rule resume {name}")["ok"]
    assert client.round_trip()
    assert len(target.peers) == 1


# ---- outputs --------------------------------------------------------------------------------------------


def test_status_file_metrics_and_events(fleet: Fleet, echo: EchoTarget) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        metrics = taken.getsockname()[1]
    status = fleet.folder / "status.json"
    more = ("--status-file", str(status), "--status-interval", "0.2", "--metrics", f":{metrics}")
    relay, client = start(fleet, echo, *more)
    follow = fleet.follow(relay)
    client.keep_on(lambda: json.loads(status.read_text())["traffic"]["down_packets"] > 0)
    shown = rtun("status", str(relay.control), "--json")
    assert json.loads(shown.stdout)["flows"][0]["source"] == client.address
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    assert 'rtun_tunnels{state="up"} 1.0' in text
    follow.wait_for("flow.opened")
    assert relay.stop() == 0
    assert follow.join() == 0
    assert follow.events[-1]["type"] == "tunnel.closed"


def test_the_demo_ends_with_a_summary() -> None:
    shown = rtun("demo", "--seconds", "3", "--quiet")
    assert (shown.returncode, shown.stderr) == (0, "")
    sent, answered, _, switches = shown.stdout.splitlines()
    assert sent.startswith("sent ")
    assert "lost 0 (0.00%), changed 0" in answered
    assert switches.startswith("switches   1 of the agent, ")


@SLOW
def test_the_demo_sends_the_same_for_the_same_seed(fleet: Fleet) -> None:
    runs = [fleet.run("demo", "--seconds", "3", "--seed", "7", "--json") for _ in range(2)]
    assert [run.join() for run in runs] == [0, 0]
    first, second = (run.wait_for("demo.summary") for run in runs)
    assert first["sent"] == first["answered"] == second["sent"]


@SLOW
def test_https_and_the_secret_from_a_file(fleet: Fleet, echo: EchoTarget) -> None:
    fleet.server("https")
    fleet.agent("a")
    secret = fleet.folder / "secret"
    secret.write_text(f"{SECRET}\n")
    relay = fleet.run(
        "relay", "-L", rule(echo), fleet.url, "--secret-file", str(secret), "--json", "--stun", "none",
        "--candidate", "127.0.0.1/32", *fleet.trust,
    )  # fmt: skip
    assert fleet.client(relay).until_answered()
