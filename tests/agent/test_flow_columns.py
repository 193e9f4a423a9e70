"""Column storage of flows."""

from hypothesis import given
from hypothesis import strategies as st

from rtun_core.agent.flow_columns import MIN_SAMPLE, NO_PATH, FlowColumns


def add(columns, flow, *, path=0, idle=10.0, now=0.0):
    return columns.add(flow=flow, scope=3, handle=flow + 100, path=path, idle_timeout=idle, now=now)


def test_a_new_flow_starts_with_its_fields_and_no_traffic():
    columns = FlowColumns()
    slot = add(columns, 7, now=5.0)
    assert len(columns) == 1
    assert (columns.flow[slot], columns.handle[slot], columns.scope[slot]) == (7, 107, 3)
    assert (columns.opened_at[slot], columns.last[slot]) == (5.0, 5.0)
    assert columns.up_packets[slot] == columns.down_bytes[slot] == columns.moves[slot] == 0


def test_a_slot_is_clean_when_used_again():
    columns = FlowColumns()
    slot = add(columns, 1)
    columns.up_packets[slot] = 9
    columns.moves[slot] = 2
    columns.remove(slot)
    assert add(columns, 2) == slot
    assert columns.up_packets[slot] == columns.moves[slot] == 0


def test_columns_grow_and_keep_what_they_hold():
    columns = FlowColumns()
    slots = [add(columns, flow) for flow in range(1000)]
    assert len(set(slots)) == 1000
    assert [int(columns.flow[slot]) for slot in slots] == list(range(1000))


def test_each_flow_has_its_own_idle_time_out():
    columns = FlowColumns()
    short, long = add(columns, 1, idle=2.0), add(columns, 2, idle=20.0)
    assert columns.idle(2.0).tolist() == []
    assert columns.idle(2.1).tolist() == [short]
    columns.last[short] = 19.0
    assert columns.idle(20.5).tolist() == [long]


def test_flows_are_counted_by_path():
    columns = FlowColumns()
    first = add(columns, 1, path=0)
    add(columns, 2, path=2)
    add(columns, 3, path=NO_PATH)
    gone = add(columns, 4, path=0)
    columns.remove(gone)
    assert columns.per_path(3).tolist() == [1, 0, 1]
    assert columns.on_path(0).tolist() == [first]


def test_a_copy_is_dense_and_does_not_change():
    columns = FlowColumns()
    gone, kept = add(columns, 1), add(columns, 2)
    columns.remove(gone)
    picture = columns.copy()
    columns.up_bytes[kept] = 5
    assert len(picture) == 1
    assert (picture.flow[0], picture.up_bytes[0]) == (2, 0)


def test_rates_are_bytes_per_second_between_samples():
    columns = FlowColumns()
    slot, other = add(columns, 1), add(columns, 2)
    columns.up_bytes[slot] = 900
    columns.sample_rates(10.0)
    assert columns.up_rate[slot] == 0
    columns.up_bytes[slot] += 300
    columns.down_bytes[other] += 800
    columns.sample_rates(10.0 + MIN_SAMPLE / 2)
    assert columns.up_rate[slot] == 0
    columns.sample_rates(12.0)
    assert (columns.up_rate[slot], columns.down_rate[slot]) == (150, 0)
    assert (columns.up_rate[other], columns.down_rate[other]) == (0, 400)
    columns.sample_rates(13.0)
    assert columns.up_rate[slot] == columns.down_rate[other] == 0


def test_rates_of_a_slot_begin_at_zero_again():
    columns = FlowColumns()
    slot = add(columns, 1)
    columns.sample_rates(10.0)
    columns.up_bytes[slot] = 5000
    columns.sample_rates(11.0)
    columns.remove(slot)
    assert add(columns, 2) == slot
    assert columns.up_rate[slot] == 0
    columns.up_bytes[slot] = 70
    columns.sample_rates(12.0)
    assert columns.up_rate[slot] == 70


@given(st.lists(st.integers(0, 40), max_size=300))
def test_slots_behave_like_a_dictionary(steps):
    columns, model = FlowColumns(), {}
    for flow in steps:
        if flow in model:
            columns.remove(model.pop(flow))
        else:
            model[flow] = add(columns, flow)
        assert len(columns) == len(model)
    assert sorted(columns.slots().tolist()) == sorted(model.values())
    assert {flow: int(columns.flow[slot]) for flow, slot in model.items()} == {flow: flow for flow in model}
