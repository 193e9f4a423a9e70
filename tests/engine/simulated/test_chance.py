import itertools

import pytest

from rtun_core.engine.simulated.chance import shares


def test_shares_are_of_everything(world):
    assert sum(shares(world._rules)) == pytest.approx(1.0)


def test_the_number_of_flows_stays(make_world):
    world = make_world(flows=2000)
    numbers = []
    for _ in range(40):
        world.advance(15.0)
        numbers.append(sum(rule.flows for rule in world.picture(flows=False).rules))
    assert min(numbers) > 1900
    assert max(numbers) <= 2000


def test_traffic_swings_smoothly(make_world):
    world = make_world(flows=3000)
    down = [picture.rates.down_bytes for picture in world.run_up(200)]
    assert max(down) > 1.3 * min(down)
    assert max(abs(one - other) for one, other in itertools.pairwise(down)) < 0.25 * max(down)


def test_before_the_scene_nothing_else_happens(world):
    for _ in world.run_up(300):
        pass
    kinds = {type(event).__name__ for event in world.take_events() if event.severity >= 20}
    assert kinds == {"AgentLost", "CommandDone", "TunnelDegraded", "TunnelDraining"}


def test_packets_are_dropped_now_and_then(world):
    world.advance(600.0)
    drops, faults = world.counters()
    assert drops["kernel"] > 0
    assert set(faults) <= {"unsolicited"}
    assert sum(drops.values()) < 0.001 * world.picture().traffic.down_packets
