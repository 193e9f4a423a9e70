from rtun_core.model import FlowState


def test_rows_and_columns_agree(world):
    world.advance(20.0)
    rows = world.snapshot().flows
    for index in (0, 17, len(rows) - 1):
        flow = rows[index]
        assert int(flow.id, 16) == rows.ids[index]
        assert flow.down_rate == rows.down_rate[index]
        assert (flow.state is FlowState.IDLE) == (flow.idle_s > 5.0)
        assert flow.up_packets <= flow.up_bytes
        assert flow.rule in {"r1", "r2", "r3", "r4", "r5", "r6"}


def test_what_does_not_change_is_copied_once(make_world):
    world = make_world(flows=0)
    assert world.snapshot().flows.ids is world.snapshot().flows.ids


def test_the_service_is_a_relay(world):
    snapshot = world.snapshot()
    assert snapshot.service == "relay"
    assert (snapshot.signal[0].url, snapshot.signal[0].state) == ("quic://a.ex:8888", "connected")
    assert {rule.family for rule in snapshot.rules} == {"relay"}
