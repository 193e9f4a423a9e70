import msgspec
import pytest

from rtun_core.model import (
    AgentState,
    AgentView,
    FlowState,
    FlowView,
    RuleState,
    RuleView,
    SignalView,
    Snapshot,
    Traffic,
    TunnelState,
    TunnelView,
    add_counts,
    add_traffic,
    agent_id,
)
from tests.lazy import encode_lazy

FLOW = FlowView(
    id="00a1f3c2",
    rule="r1",
    source="127.0.0.1:5000",
    target="192.0.2.1:53",
    tunnel="t1",
    state=FlowState.ACTIVE,
    opened_at=1.0,
    idle_s=0.5,
    up_packets=1,
)


def full_snapshot(**fields):
    return Snapshot(
        seq=9,
        ts=100.0,
        uptime_s=5.0,
        pid=1,
        version="1",
        services=("relay",),
        signal=(SignalView(url="quic://a:1", state="connected", since=1.0),),
        rules=(RuleView(id="r1", family="rtun", listen="a", target="b", state=RuleState.ACTIVE),),
        agents=(AgentView(id="a/b", name="a", instance="b", state=AgentState.IN_USE),),
        tunnels=(
            TunnelView(
                id="t1", rule="r1", agent="a/b", state=TunnelState.UP, kind="p2p", opened_at=1.0, loss_up=0.5
            ),
        ),
        traffic=Traffic(1, 2, 3, 4),
        drops={"oversize": 1},
        **fields,
    )


def test_agent_id():
    assert agent_id("beta", "7f3c") == "beta/7f3c"
    assert agent_id("beta", None) == agent_id("beta", "") == "beta"


def test_counts_are_added_in_place():
    counts = {"a": 1}
    add_counts(counts, {"a": 2, "b": 3})
    assert counts == {"a": 3, "b": 3}


def test_traffic_is_added():
    assert add_traffic(Traffic(1, 2, 3, 4), Traffic(10, 20, 30, 40)) == Traffic(11, 22, 33, 44)


def test_json_round_trip():
    snapshot = full_snapshot(flows=[FLOW])
    data = msgspec.json.encode(snapshot, enc_hook=encode_lazy)
    assert msgspec.json.decode(data, type=Snapshot) == snapshot


def test_states_travel_as_words():
    fields = msgspec.to_builtins(full_snapshot(), enc_hook=encode_lazy)
    assert fields["v"] == 1
    assert fields["agents"][0]["state"] == "in use"


def test_everything_is_immutable():
    with pytest.raises(AttributeError):
        FLOW.moves = 5
