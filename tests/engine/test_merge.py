from rtun_core.engine.merge import grown, merge, total
from rtun_core.flow_rows import FlowRows
from rtun_core.model import ServiceSnapshot, Traffic


class Lazy:
    """A sequence that must not be walked."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise AssertionError("a lone table is passed on untouched")


def test_nothing_merges_to_nothing():
    merged = merge([])
    assert (merged.services, merged.flows, merged.traffic) == ((), (), Traffic())


def test_counters_are_added():
    one = ServiceSnapshot(service="a", traffic=Traffic(1, 2, 3, 4), drops={"oversize": 1}, faults={"tag": 2})
    two = ServiceSnapshot(service="b", traffic=Traffic(1, 1, 1, 1), drops={"oversize": 2, "kernel": 1})
    merged = merge([one, two])
    assert merged.traffic == Traffic(2, 3, 4, 5)
    assert merged.drops == {"oversize": 3, "kernel": 1}
    assert merged.faults == {"tag": 2}
    assert one.drops == {"oversize": 1}


def test_one_table_of_flows_stays_lazy():
    flows = Lazy()
    assert merge([ServiceSnapshot(service="a"), ServiceSnapshot(service="b", flows=flows)]).flows is flows


def test_two_tables_of_flows_follow_each_other(flow):
    first, second = flow(1), flow(2)
    parts = [ServiceSnapshot(service="a", flows=[first]), ServiceSnapshot(service="b", flows=[second])]
    assert list(merge(parts).flows) == [first, second]


def test_tables_in_columns_stay_columns(flow):
    first, second = flow(1), flow(2)
    parts = [ServiceSnapshot(service=row.id, flows=FlowRows.of([row])) for row in (first, second)]
    merged = merge(parts)
    assert isinstance(merged.flows, FlowRows)
    assert list(merged.flows) == [first, second]
    mixed = merge([parts[0], ServiceSnapshot(service="c", flows=[second])])
    assert mixed.flows == (first, second)


def test_total_and_grown():
    assert total([{"a": 1}, {"a": 2, "b": 1}, {}]) == {"a": 3, "b": 1}
    assert grown({"a": 5, "b": 1, "c": 2}, {"a": 3, "c": 2}) == {"a": 2, "b": 1}
