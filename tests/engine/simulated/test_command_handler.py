"""The words of results and refusals are the relay's."""

import pytest

from rtun_core import commands as cmd
from rtun_core.engine.simulated.command_handler import HANDLED
from rtun_core.errors import CommandRefused
from rtun_core.events import FlowClosed, FlowMoved, RuleChanged, TunnelClosed, TunnelReplaced
from rtun_core.relay.command_handler import HANDLED as REAL


@pytest.fixture
def do(world):
    world.advance(20.0)
    world.take_events()
    return lambda line: world.handle(cmd.parse_command(line)).text


@pytest.fixture
def refusal(do):
    def ask(line):
        with pytest.raises(CommandRefused) as refused:
            do(line)
        return str(refused.value)

    return ask


def flows_of(world, rule):
    return [flow for flow in world.picture().flows if flow.rule == rule]


def test_it_handles_what_the_relay_handles(world):
    assert set(HANDLED) == set(REAL)
    assert world.handles(cmd.PinAgent())
    assert not world.handles(cmd.Quit())


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("agent pin", "pinned: no automatic switch"),
        ("agent unpin", "automatic switches are allowed"),
        ("tunnel recycle t5", "tunnel t5 is being replaced"),
        ("tunnel close t5", "tunnel t5 closed"),
        ("tunnel prefer t6", "new flows prefer tunnel t6"),
        ("tunnel prefer none", "no tunnel is preferred"),
        ("tunnel limits --max 6", "tunnels 2..6, 1..6"),
        ("tunnel limits --rule r1 --min 1 --max 2", "tunnels 1..2"),
        ("rule pause r2", "rule r2 paused"),
        ("flow close @all", "300 flows closed"),
    ],
)
def test_results(do, world, line, text):
    if "300" in text:
        text = text.replace("300", str(len(world.picture().flows)))
    assert do(line) == text


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "agent use nobody",
            "agent nobody is not registered or does not match; known: alpha, beta, delta, gamma",
        ),
        (
            "agent use beta --instance ffff",
            "agent beta/ffff is not registered or does not match; known: alpha, beta, delta, gamma",
        ),
        ("agent use beta", "agent beta/7f3c is in use already"),
        ("agent use delta", "agent delta/0b51 refused the channel: it is stopping"),
        (
            "agent probe delta",
            "the probe of delta failed: agent delta/0b51 refused the channel: it is stopping",
        ),
        ("tunnel drain t99", "there is no tunnel t99"),
        ("tunnel open --rule r9", "there is no rule r9; known: r1, r2, r3, r4, r5, r6"),
        ("tunnel open", "rule r1 has its 4 tunnels; see tunnel limits --max"),
        ("tunnel limits --min 7", "limits 7..4 cannot be; accepted: 0 <= min <= max, max >= 1"),
        ("flow close ffffffff", "there is no flow ffffffff"),
        ("flow move nonsense", "there is no flow nonsense"),
        ("rule resume r1", "rule r1 is not paused"),
    ],
)
def test_refusals(refusal, line, reason):
    assert refusal(line) == reason


def test_a_probe(do, world):
    text = do("agent probe gamma")
    assert text.startswith("agent gamma answers in ")
    agent = next(agent for agent in world.picture().agents if agent.name == "gamma")
    assert f"{agent.rtt_ms:.1f} ms" in text
    assert agent.probed_at == pytest.approx(world.now, abs=1.0)


def test_one_switch_at_a_time(do, world, refusal):
    answer = world.begin(cmd.SwitchAgent(name="alpha"))
    assert refusal("agent use gamma") == "another agent switch is under way"
    while not answer.given:
        world.advance(0.25)
    assert do("agent use beta").startswith("agent beta in use, ")


def test_draining_moves_flows_bit_by_bit(do, world, refusal):
    before = next(tunnel.flows for tunnel in world.picture().tunnels if tunnel.id == "t5")
    assert do("tunnel drain t5") == f"tunnel t5 draining, {before} flows left"
    assert refusal("flow move @all --to t5") == "tunnel t5 is draining and takes no flows"
    world.advance(2.0)
    left = next(tunnel.flows for tunnel in world.picture().tunnels if tunnel.id == "t5")
    assert 0 < left < before
    world.advance(60.0)
    assert "t5" not in {tunnel.id for tunnel in world.picture().tunnels}
    events = world.take_events()
    assert TunnelClosed(tunnel="t5", reason="drained") in events
    assert {event.reason for event in events if isinstance(event, FlowMoved) and event.old == "t5"} == {
        "draining"
    }


def test_closing_the_only_tunnel_makes_flows_wait(do, world):
    (only,) = [tunnel for tunnel in world.picture().tunnels if tunnel.rule == "r2"]
    do(f"tunnel close {only.id}")
    assert {flow.state.value for flow in flows_of(world, "r2")} == {"waiting"}
    world.advance(5.0)
    assert {flow.tunnel for flow in flows_of(world, "r2")} == {"t11"}
    reasons = [event.reason for event in world.take_events() if isinstance(event, FlowMoved)]
    assert "tunnel up" in reasons


def test_recycling(do, world):
    do("tunnel recycle t6")
    world.advance(4.0)
    assert TunnelReplaced(tunnel="t6", by="t11") in world.take_events()


def test_a_tunnel_more(do, world):
    do("tunnel limits --max 5 --rule r3")
    world.advance(15.0)
    assert sum(tunnel.rule == "r3" for tunnel in world.picture().tunnels) == 5
    do("tunnel limits --max 9 --rule r3 --min 1")
    assert do("tunnel open --rule r3") == "opening a tunnel for r3"


def test_moving_flows(do, world, refusal):
    one, two, *_ = (flow for flow in flows_of(world, "r1") if flow.tunnel == "t5")
    assert do(f"flow move {one.id} {two.id} --to t6") == "2 flows moved"
    assert {flow.tunnel for flow in world.picture().flows if flow.id in (one.id, two.id)} == {"t6"}
    assert do(f"flow move {one.id}") == "1 flow moved"
    foreign = flows_of(world, "r2")[0]
    assert refusal(f"flow move {foreign.id} --to t6") == "tunnel t6 belongs to rule r1, the flow to rule r2"
    assert refusal(f"flow move {foreign.id}") == "rule r2 has no other tunnel to move flows to"
    many = len(flows_of(world, "r1")) - sum(flow.tunnel == "t6" for flow in world.picture().flows)
    assert do("flow move @all --to t6") == f"{many} flows moved"


def test_closing_flows(do, world, refusal):
    one, two = flows_of(world, "r1")[0], flows_of(world, "r2")[0]
    assert do(f"flow close {one.id} {two.id} 00000000") == "2 flows closed"
    assert [event.flow for event in world.take_events() if isinstance(event, FlowClosed)] == [one.id, two.id]
    do("flow close @all")
    assert refusal("flow close @all") == "there are no flows"


def test_pausing(do, world, refusal):
    do("rule pause r1")
    assert refusal("rule pause r1") == "rule r1 is paused already"
    world.advance(5.0)
    rule = world.picture().rules[0]
    assert (rule.state.value, rule.rates.down_bytes) == ("paused", 0.0)
    assert rule.drops["paused"] > 10
    do("rule resume r1")
    world.advance(2.0)
    assert world.picture().rules[0].rates.down_bytes > 0
    told = [event.state for event in world.take_events() if isinstance(event, RuleChanged)]
    assert told == ["paused", "resumed"]


def test_without_an_agent(make_world):
    world = make_world(agents=0)
    for command, reason in (
        (cmd.PinAgent(), "no agent is in use that could be pinned"),
        (cmd.OpenTunnel(), "there is no signalling session to open a tunnel with"),
    ):
        with pytest.raises(CommandRefused, match=reason):
            world.handle(command)
