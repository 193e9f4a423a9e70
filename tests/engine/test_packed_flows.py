"""Flows on their way to a viewer: the same bits arrive, and what cannot be is refused."""

import contextlib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtun_core.engine.packed_flows import FlowNames, FlowRecords, PackedFlows, unpack_flows
from rtun_core.engine.simulated import SimulatedWorld
from rtun_core.flow_rows import FlowRows
from tests.engine.flow_sequences import following, new_rows
from tests.view.random_rows import random_rows

NONE = FlowRecords.of(FlowRows.empty())


def travelled(packed):
    """What arrives at the other end."""
    return msgspec.json.decode(msgspec.json.encode(packed), type=PackedFlows)


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(0, 60))
def test_a_sequence_of_changes_is_read_back_bit_by_bit(seed, count):
    rng = np.random.default_rng(seed)
    rows = new_rows(rng, count, first_id=1, now=1e9)
    before = read = NONE
    for second in range(6):
        now = FlowRecords.of(rows)
        read = unpack_flows(travelled(now.change_from(before)), read)
        assert list(read.rows()) == list(rows)
        assert read.records.tobytes() == now.records.tobytes()
        assert unpack_flows(travelled(now.packed()), None).records.tobytes() == now.records.tobytes()
        before, rows = now, following(rng, rows, now=1e9 + second)


@given(st.integers(0, 30), st.integers(0, 30))
@settings(max_examples=30)
def test_pages_that_have_nothing_in_common(one, other):
    before, now = (FlowRecords.of(random_rows(count, seed=count)) for count in (one, other))
    read = unpack_flows(travelled(now.change_from(before)), before)
    assert read.records.tobytes() == now.records.tobytes()


def test_rows_in_another_order_are_found_again():
    rows = random_rows(50)
    before = FlowRecords.of(rows)
    turned = FlowRecords.of(rows.take(np.arange(50)[::-1]))
    change = turned.change_from(before)
    assert change.data == b""
    assert list(unpack_flows(travelled(change), before).rows()) == list(rows)[::-1]


def test_the_page_before_stays_as_it_was():
    before = FlowRecords.of(random_rows(20))
    kept = before.records.copy()
    unpack_flows(FlowRecords.of(random_rows(20, seed=5)).change_from(before), before)
    assert (before.records == kept).all()


def test_names_that_no_row_uses_stay_at_home():
    rows = random_rows(3)
    columns = vars(rows).copy()
    columns["targets"] = tuple(f"192.0.2.1:{port}" for port in range(1000))
    columns["target"] = np.array([999, 5, 999], np.int32)
    many = FlowRows(**columns)
    records = FlowRecords.of(many)
    assert records.names.targets == ("192.0.2.1:5", "192.0.2.1:999")
    assert list(records.rows()) == list(many)


def test_a_change_is_a_fraction_of_the_page():
    world = SimulatedWorld(flows=180, start=1.7e9)
    before = FlowRecords.of(world.picture().flows)
    world.advance(0.25)
    now = FlowRecords.of(world.picture().flows)
    assert len(msgspec.json.encode(now.change_from(before))) < 0.4 * len(msgspec.json.encode(now.packed()))


PAGE = FlowRecords.of(random_rows(3))
CHANGE = FlowRecords.of(random_rows(4, seed=9)).change_from(PAGE)


@pytest.mark.parametrize(
    ("packed", "before"),
    [
        (msgspec.structs.replace(PAGE.packed(), data=b"x"), None),
        (msgspec.structs.replace(PAGE.packed(), count=4), None),
        (msgspec.structs.replace(PAGE.packed(), names=FlowNames((), (), ())), None),
        (CHANGE, None),
        (CHANGE, NONE),
        (msgspec.structs.replace(CHANGE, origin=b""), PAGE),
        (msgspec.structs.replace(CHANGE, origin=CHANGE.origin[:-1]), PAGE),
        (msgspec.structs.replace(CHANGE, origin=b"\xfe\xff" * 4), PAGE),
        (msgspec.structs.replace(CHANGE, origin=b"\x03\x00" * 4), PAGE),
        (msgspec.structs.replace(CHANGE, data=CHANGE.data[:-1]), PAGE),
        (msgspec.structs.replace(CHANGE, changed=b""), PAGE),
    ],
)
def test_what_cannot_be_is_refused(packed, before):
    with pytest.raises(ValueError, match=r"flows?|place|byte|bounds"):
        unpack_flows(packed, before).rows()


@given(
    st.builds(
        PackedFlows,
        st.integers(0, 5),
        st.just(PAGE.names),
        st.binary(max_size=500),
        st.none() | st.binary(max_size=80),
        st.binary(max_size=10),
    )
)
def test_any_bytes_are_read_or_refused(packed):
    with contextlib.suppress(ValueError):
        unpack_flows(packed, PAGE).rows()
