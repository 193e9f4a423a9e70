import pytest

from rtun_core.engine.simulated.director import LOST_SHOWN
from rtun_core.model import AgentState


def views(world):
    return {agent.id: agent for agent in world.picture(flows=False).agents}


def test_a_lost_agent_is_listed_for_a_while(world):
    world.advance(60.0)
    delta = views(world)["delta/0b51"]
    assert (delta.state, delta.reason, delta.expires_at) == (AgentState.LOST, "no longer registered", None)
    assert delta.probed_at == pytest.approx(world.now, abs=3.0)
    world.advance(LOST_SHOWN)
    assert "delta/0b51" not in views(world)


def test_what_is_known_of_agents(world):
    agents = views(world)
    assert agents["beta/7f3c"].tunnels == 10
    assert agents["alpha/19d0"].rtt_ms == 21.0
    assert agents["alpha/19d0"].signal == "https://a.ex:8888"
    assert agents["gamma/c2aa"].expires_at - world.now == pytest.approx(731.0, abs=0.001)


def test_agents_come_when_others_have_gone(make_world):
    world = make_world(flows=10)
    world.advance(1500.0)
    seen = [event for event in world.take_events() if type(event).__name__ == "AgentSeen"]
    assert seen
    assert seen[0].text().startswith(f"agent {seen[0].agent} seen from ")
