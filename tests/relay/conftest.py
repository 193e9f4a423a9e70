"""A bus that remembers, agents without a server, and a whole stage with one."""

import pytest

from rtun_core.bus import EventBus
from rtun_core.relay import director as director_module
from rtun_core.relay import service as service_module
from tests.relay.world import Agent, Events, FarEnd, Link, Peer, Stage


@pytest.fixture
def bus():
    return EventBus()


@pytest.fixture
def events(bus):
    return Events(bus)


@pytest.fixture
async def make_link():
    """Builds agents that are reached without a server."""
    agents = []

    def make(name="alpha", **options):
        agents.append(Agent(EventBus()))
        return Link(agents[-1], name, **options)

    yield make
    for agent in agents:
        await agent.close()


@pytest.fixture
def make_peer():
    """Builds plain UDP sockets, or far ends of channels."""
    peers = []

    def make(kind=Peer, *args, **options):
        peers.append(kind(*args, **options))
        return peers[-1]

    yield make
    for peer in peers:
        peer.close()


@pytest.fixture
def far(make_peer):
    return make_peer(FarEnd)


@pytest.fixture
async def stage(monkeypatch):
    """Server, agents, relays; everything that is looked at now and then is looked at often."""
    monkeypatch.setattr(service_module, "TICK", 0.05)
    monkeypatch.setattr(director_module, "POLL_STEADY", 0.1)
    monkeypatch.setattr(director_module, "POLL_SEEKING", 0.05)
    monkeypatch.setattr(director_module, "POLL_FIRST", 0.02)
    stage = Stage()
    await stage.start_server()
    yield stage
    await stage.close()
