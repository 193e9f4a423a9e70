"""Differences between pictures of flows: exact, small where little changed, and safe to read."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtun_core.engine import flow_delta
from rtun_core.engine.flow_delta import decode_flows, encode_flows
from rtun_core.engine.packing import pack, unpack
from rtun_core.engine.simulated import SimulatedWorld
from rtun_core.flow_rows import FlowRows
from tests.engine.flow_sequences import assert_same, following, new_rows
from tests.view.random_rows import random_rows

NONE = FlowRows.empty()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 60))
def test_a_sequence_is_read_back_bit_by_bit(seed, count):
    rng = np.random.default_rng(seed)
    before = read = NONE
    rows = new_rows(rng, count, first_id=1, now=1e9)
    for second in range(6):
        read = decode_flows(read, encode_flows(before, rows))
        assert_same(rows, read)
        before, rows = rows, following(rng, rows, now=1e9 + second)


@given(st.integers(0, 30), st.integers(0, 30))
@settings(max_examples=30, deadline=None)
def test_pictures_that_have_nothing_in_common(one, other):
    rows, next_rows = random_rows(one, seed=one), random_rows(other, seed=other)
    assert_same(next_rows, decode_flows(rows, encode_flows(rows, next_rows)))


def test_odd_numbers_keep_their_bits():
    rows = random_rows(4)
    odd = vars(rows).copy()
    odd["up_rate"] = np.array([np.nan, np.inf, -0.0, 5e-324])
    odd["idle_s"] = np.array([np.inf, np.nan, -1.0, 1e300])
    odd["up_bytes"] = np.array([2**63 - 1, -(2**63), 0, -1])
    odd = FlowRows(**odd)
    for before, after in ((NONE, odd), (rows, odd), (odd, rows), (odd, odd)):
        assert_same(after, decode_flows(before, encode_flows(before, after)))


def test_two_flows_of_one_id():
    rows = random_rows(3)
    twice = rows.take(np.array([0, 1, 1, 2, 0]))
    assert_same(twice, decode_flows(rows, encode_flows(rows, twice)))
    assert_same(rows, decode_flows(twice, encode_flows(twice, rows)))


def test_the_picture_before_stays_as_it_was():
    rows = random_rows(50)
    copy = rows.take(np.arange(50))
    changed = vars(rows).copy()
    changed["moves"] = rows.moves + 1
    decode_flows(rows, encode_flows(rows, FlowRows(**changed)))
    assert_same(rows, copy)


def test_silent_flows_cost_nothing():
    """Also where each rule has a clock of its own, and other tunnels have come."""
    rows = random_rows(2000)
    later = vars(rows).copy()
    later["idle_s"] = rows.idle_s + np.array([1.0, 1.25, 1.5])[rows.rule]
    later["opened_at"] = rows.opened_at + 0.5
    later["tunnels"] = ("t99", *rows.tunnels)
    later["tunnel"] = rows.tunnel + 1
    later = FlowRows(**later)
    packed = encode_flows(rows, later)
    assert len(packed) < 400
    assert_same(later, decode_flows(rows, packed))


def test_a_simulated_relay():
    world = SimulatedWorld(flows=300, start=1.8e9)
    before = read = NONE
    for _ in range(20):
        world.advance(1.0)
        rows = world.picture().flows
        read = decode_flows(read, encode_flows(before, rows))
        assert_same(rows, read)
        before = rows


# ---- what is read may be anything ------------------------------------------------------------


@pytest.fixture
def parts():
    """A difference taken apart: rows before, and the fields of the frame by name."""
    before = random_rows(20)
    rows = before.take(np.arange(19, -1, -1))
    frame = msgspec.msgpack.decode(unpack(encode_flows(before, rows), 1 << 20), type=flow_delta._Frame)
    return before, msgspec.structs.asdict(frame)


def decoded(before, fields):
    return decode_flows(before, pack(msgspec.msgpack.encode(flow_delta._Frame(**fields))))


def numbers(values):
    return flow_delta._planes(np.array(values, "<i4"))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"rows": 21}, "places in the picture before are missing"),
        ({"origin": b"", "rows": 21}, "21 flows out of 20"),
        ({"origin": numbers([20] + [0] * 19)}, "does not exist"),
        ({"origin": numbers([-2] + [1] * 19)}, "does not exist"),
        ({"changed": b"\xff"}, "a bit for each flow"),
        ({"drifts": (b"12345678", b"")}, "a drift for each rule"),
        ({"columns": (b"x",) * 15}, "in 1 bytes"),
        ({"rules": ()}, "without a rule"),
        ({"rules": ("r1",)}, "rule of a flow is out of bounds"),
        ({"targets": ()}, "target of a flow is out of bounds"),
        ({"rows": -1}, "not a picture"),
        ({"rows": flow_delta.MAX_ROWS + 1}, "not a picture"),
        ({"columns": ()}, "not a picture"),
    ],
)
def test_what_does_not_fit_is_refused(parts, changes, problem):
    before, fields = parts
    if changes.get("rules"):
        # Without names to turn positions into, all rows point at the first one: point one beyond.
        column = numbers([1] * 20)
        changes = changes | {"changed": b"\xff\xff\xf0"}
        changes["columns"] = (b"", b"", column, *(b"",) * 12)
    with pytest.raises(ValueError, match=problem):
        decoded(before, fields | changes)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_bytes_are_read_or_refused(data):
    before = random_rows(9)
    raw = bytearray(unpack(encode_flows(NONE, before), 1 << 20))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        rows = decode_flows(NONE, pack(bytes(raw)))
    except ValueError:
        return
    list(rows)
