"""A small simulated world, and what must hold of every one."""

import msgspec
import pytest

from rtun_core.engine.simulated.world import SimulatedWorld
from rtun_core.model import AgentState, FlowState, Snapshot, TunnelState
from tests.lazy import encode_lazy

START = 1_700_000_000.0


@pytest.fixture
def world():
    return SimulatedWorld(flows=300, start=START)


@pytest.fixture
def make_world():
    def make(**options):
        return SimulatedWorld(**({"flows": 300, "start": START} | options))

    return make


@pytest.fixture
def check():
    """Every promise of a single picture; returns the picture."""
    return check_picture


def check_picture(world):
    picture = world.picture()
    data = msgspec.json.encode(picture, enc_hook=encode_lazy)
    decoded = msgspec.json.decode(data, type=msgspec.defstruct("Decoded", _fields(), kw_only=True))
    assert decoded.ts == world.now
    tunnels = {tunnel.id: tunnel for tunnel in picture.tunnels}
    assert len(tunnels) == len(picture.tunnels)
    assert all(tunnel.state is not TunnelState.CLOSED for tunnel in picture.tunnels)
    for flow in picture.flows:
        if flow.state is FlowState.WAITING:
            assert flow.tunnel is None
        else:
            assert tunnels[flow.tunnel].state is not TunnelState.OPENING
            assert tunnels[flow.tunnel].rule == flow.rule
    counted = [sum(flow.tunnel == name for flow in picture.flows) for name in tunnels]
    assert counted == [tunnel.flows for tunnel in picture.tunnels]
    assert sum(rule.flows for rule in picture.rules) == len(picture.flows)
    assert sum(agent.state is AgentState.IN_USE for agent in picture.agents) <= 1
    assert len({flow.id for flow in picture.flows}) == len(picture.flows)
    return picture


def _fields():
    """The fields of a snapshot, with flows as the list that they are in JSON."""
    from rtun_core.model import FlowView

    fields = []
    for field in msgspec.structs.fields(Snapshot):
        kind = list[FlowView] if field.name == "flows" else field.type
        fields.append((field.name, kind))
    return fields
