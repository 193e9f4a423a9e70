import pytest

from rtun_core import commands as cmd
from rtun_core.errors import CommandRefused
from rtun_core.events import AgentSelected, AgentSwitchFailed, SignalConnected, TunnelClosed


def test_a_switch_that_fails_changes_nothing(make_world, check):
    world = make_world(failing=("alpha",))
    world.advance(30.0)
    before = {tunnel.id for tunnel in world.picture().tunnels}
    world.take_events()
    with pytest.raises(CommandRefused, match="agent alpha/19d0 refused the channel"):
        world.handle(cmd.SwitchAgent(name="alpha"))
    events = world.take_events()
    (failed,) = [event for event in events if isinstance(event, AgentSwitchFailed)]
    assert (failed.old, failed.new) == ("beta/7f3c", "alpha/19d0")
    closed = [event for event in events if isinstance(event, TunnelClosed)]
    assert len(closed) >= 6
    assert not any(event.opened for event in closed)
    picture = check(world)
    assert before <= {tunnel.id for tunnel in picture.tunnels}
    assert picture.rules[0].agent == "beta/7f3c"


def test_the_agent_is_probing_while_it_is_tried(world):
    answer = world.begin(cmd.SwitchAgent(name="gamma"))
    states = {agent.id: agent.state.value for agent in world.picture().agents}
    assert (states["gamma/c2aa"], states["beta/7f3c"]) == ("probing", "in use")
    while not answer.given:
        world.advance(0.25)
    events = [type(event) for event in world.take_events()]
    assert events.index(SignalConnected) + 1 == events.index(AgentSelected)


def test_our_own_idea_that_fails_is_not_tried_again_at_once(make_world):
    world = make_world(flows=10, failing=("alpha", "beta", "gamma", "delta", "epsilon", "zeta"))
    world.advance(2400.0)
    failures = [event for event in world.take_events() if isinstance(event, AgentSwitchFailed)]
    assert 1 <= len(failures) < 60
