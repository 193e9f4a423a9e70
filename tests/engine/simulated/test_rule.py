"""One rule over time, as a dialogue with its scene."""

import pytest

from rtun_core.engine.simulated.rule import LINGER, SimulatedRule
from rtun_core.engine.simulated.scene import Scene
from rtun_core.engine.simulated.scenery import SORTS
from rtun_core.engine.simulated.tunnel import Phase, Way
from rtun_core.errors import CommandRefused
from rtun_core.model import RuleState

WAY = Way("beta/7f3c", "203.0.113.9", 0.020)
OTHER = Way("alpha/19d0", "198.51.100.7", 0.030)
BROKEN = Way("delta/0b51", "192.0.2.200", 0.030, "agent delta/0b51 refused the channel: it is stopping")


@pytest.fixture
def scene():
    return Scene(seed=3, now=1000.0, sorts=SORTS[:1])


@pytest.fixture
def rule(scene):
    return SimulatedRule(scene, 0, SORTS[0], tunnels=(1, 2))


@pytest.fixture
def play(scene, rule):
    """Seconds pass; returns what was said."""

    def seconds(number):
        for _ in range(number):
            for _ in range(4):
                scene.advance(0.25)
            rule.count(scene.flows.loads(len(scene.slots)))
            rule.tick(wishes=False, balance=True)
        return [event.text() for event in scene.take_events()]

    return seconds


def add_flows(scene, rule, number):
    import numpy as np

    slot = rule.choose().slot
    scene.flows.open(np.zeros(number, np.int32), np.full(number, slot, np.intp), scene.now)
    rule.flows = number
    rule.count(scene.flows.loads(len(scene.slots)))


def test_without_an_agent_it_waits(rule, play):
    assert rule.state is RuleState.WAITING
    assert play(3) == ["rule r1 wants 1 tunnel: there are no flows", "rule r1 waiting: no agent yet"]


def test_the_first_tunnel_and_one_more_for_flows(scene, rule, play):
    rule.use(WAY)
    said = play(4)
    assert said[1] == "tunnel t1 opening to beta/7f3c (bootstrap)"
    assert said[-2].startswith("tunnel t1 up (bootstrap): beta/7f3c at 203.0.113.9:")
    assert said[-1] == "rule r1 active"
    assert rule.state is RuleState.ACTIVE
    add_flows(scene, rule, 40)
    said = play(12)
    assert said[:2] == [
        "rule r1 wants 2 tunnels: there are flows",
        "tunnel t2 opening to beta/7f3c (scale-up)",
    ]
    assert said[-1].endswith("moved t1 -> t2: balance")
    with pytest.raises(CommandRefused, match="tunnel t9 is not in use"):
        rule.find("t9")


def test_an_agent_that_gives_no_tunnel(rule, play):
    rule.use(BROKEN)
    said = play(6)
    assert f"tunnel t1 not opened: {BROKEN.fault}" in said
    assert "tunnel t2 opening to delta/0b51 (bootstrap)" in said
    assert not rule.usable()
    assert rule.reason == BROKEN.fault


def test_another_agent(scene, rule, play):
    rule.use(WAY)
    play(4)
    add_flows(scene, rule, 10)
    prepared = rule.open(OTHER, "switch", lambda *_: None)
    play(3)
    assert prepared.phase is Phase.OPENING
    assert rule.commit(OTHER, prepared) == 10
    said = play(int(LINGER) + 1)
    assert any(text.startswith(f"tunnel {prepared.id} up (switch): alpha/19d0") for text in said)
    assert f"10 flows moved t1 -> {prepared.id}: agent switch" in said
    assert "tunnel t1 closed: another agent is in use" in said
    assert rule.commit(WAY, None) == 0


def test_an_attempt_for_a_former_agent_comes_to_nothing(rule, play):
    rule.use(WAY)
    rule.step()
    rule.use(OTHER)
    said = play(4)
    assert "tunnel t1 not opened: another agent is in use" in said
    assert {tunnel.agent for tunnel in rule.usable()} == {OTHER.agent}


def test_what_is_carried_is_kept(scene, rule, play):
    rule.use(WAY)
    play(4)
    add_flows(scene, rule, 10)
    scene.ledger.carry(scene.flows.step(scene.now, 1.0, [0.0, 1.0]), 1.0)
    total = rule.total()
    assert total.down == pytest.approx(rule.rate().down)
    assert total.down > 0
    rule.tunnels["t1"].drops["oversize"] = 3
    rule.lose_all("the peer's port is closed")
    assert rule.total() == total
    assert rule.all_drops() == {"oversize": 3}
    assert (scene.flows.slot == 0).all()
