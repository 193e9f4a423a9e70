import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.flow_rows import FlowRows, format_flow_id
from rtun_core.model import FlowState, FlowView, RuleId, TunnelId
from rtun_core.view.columns import COLUMNS, column_named
from rtun_core.view.filter_flows import column_mask, flow_ids, marked_mask
from rtun_core.view.filter_predicates import Contains, Equals, InNetwork, Matches, NumberTest
from rtun_core.view.filter_values import read_network
from rtun_core.view.pattern import compile_pattern

NOW = 1_000.0


def rows_with_ids(*numbers: int) -> FlowRows:
    return FlowRows.of(
        FlowView(
            id=format_flow_id(number),
            rule=RuleId("r1"),
            source=f"10.0.0.{place}:53",
            target="a.example:53",
            tunnel=TunnelId("t1") if place else None,
            state=FlowState.IDLE,
            opened_at=NOW - place,
            idle_s=0.0,
        )
        for place, number in enumerate(numbers)
    )


def mask_of(name: str, test, rows: FlowRows) -> list[bool]:
    return column_mask(column_named("flows", name), test, rows, NOW).tolist()


@pytest.mark.parametrize("column", COLUMNS["flows"], ids=lambda column: column.id)
def test_each_column_of_flows_has_a_form_to_ask(column):
    rows = rows_with_ids(1, 2)
    test = NumberTest(">=", [0.0]) if column.array else Contains([""])
    assert len(column_mask(column, test, rows, NOW)) == 2
    assert len(column_mask(column, test, FlowRows.empty(), NOW)) == 0


def test_what_flows_share_is_asked_once():
    asked = []

    class Counting(Contains):
        def __call__(self, value, /):
            asked.append(value)
            return super().__call__(value)

    assert mask_of("tunnel", Counting(["T1"]), rows_with_ids(1, 2, 3)) == [False, True, True]
    assert asked == ["t1"]


def test_sources_by_network_name_and_text():
    rows = rows_with_ids(1, 2)
    network = read_network("10.0.0.1")
    assert network is not None
    assert mask_of("src", InNetwork([network], []), rows) == [False, True]
    assert mask_of("src", InNetwork([], ["-", "10.0.0.0:53"]), rows) == [True, False]
    assert mask_of("src", Matches([compile_pattern("0:53$")]), rows) == [True, False]


def test_only_the_one_spelling_names_a_flow():
    texts = ["00a1f3c2", "a1f3c2", "00A1F3C2", "100000000", "0100000000", "0x123456", "t4", ""]
    texts += ["f" * 16, "f" * 17]
    assert flow_ids(texts).tolist() == [0xA1F3C2, 2**32, 2**64 - 1]
    assert flow_ids([]).dtype == np.uint64


def test_marks():
    rows = rows_with_ids(1, 2**32, 2**64 - 1)
    assert marked_mask(flow_ids(["00000001", "f" * 16]), rows).tolist() == [True, False, True]


ids = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 255))


@given(st.lists(ids, max_size=4), st.text("0123456789abcdefx", max_size=4))
def test_ids_are_searched_as_they_are_written(numbers, needle):
    rows = rows_with_ids(*numbers)
    written = [format_flow_id(number) for number in numbers]
    assert mask_of("flow", Contains([needle]), rows) == [needle in text for text in written]


@given(ids, st.data())
def test_each_part_of_an_id_is_found(number, data):
    text = format_flow_id(number)
    first = data.draw(st.integers(0, len(text) - 1))
    part = text[first : data.draw(st.integers(first + 1, len(text)))]
    assert mask_of("flow", Contains([part]), rows_with_ids(number)) == [True]
    assert mask_of("flow", Equals([text.upper()]), rows_with_ids(number)) == [True]
