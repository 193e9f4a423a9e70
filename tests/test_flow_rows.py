"""Pictures of flows in columns: their rows, joining, taking, and the two forms of a source."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtun_core import flow_rows
from rtun_core.flow_rows import (
    ADDRESS_SIZE,
    FLOW_STATES,
    IDLE_AFTER,
    FlowRows,
    flow_states,
    format_flow_id,
    pack_source,
    sources_of_sockaddrs,
    tally,
)
from rtun_core.model import FlowState, FlowView, ServiceSnapshot
from rtun_core.net.sockaddr import NAME_SIZE, pack_sockaddr
from rtun_core.wire.address import Address
from tests.lazy import encode_lazy
from tests.view.random_rows import random_rows

V4 = st.ip_addresses(v=4).map(str)
V6 = st.ip_addresses(v=6).filter(lambda each: each.ipv4_mapped is None).map(str)
ADDRESSES = st.builds(Address, V4 | V6, st.integers(0, 65535)).filter(lambda each: tuple(each) != ("::", 0))
FLOWS = st.builds(
    FlowView,
    id=st.integers(0, 2**64 - 1).map(format_flow_id),
    rule=st.sampled_from([None, "r1", "r2"]),
    source=st.just("-") | ADDRESSES.map(str),
    target=st.sampled_from(["a:1", "b:2", "[::1]:3"]),
    tunnel=st.sampled_from([None, "t1", "t2", "t3"]),
    state=st.sampled_from(FlowState),
    opened_at=st.floats(0, 2e9),
    idle_s=st.floats(0, 1e6),
    up_bytes=st.integers(0, 2**62),
    down_packets=st.integers(0, 2**62),
    up_rate=st.floats(0, 1e9),
    down_rate=st.floats(0, 1e9),
    moves=st.integers(0, 99),
)
LISTS = st.lists(FLOWS, max_size=12)


def raw(addresses):
    """Raw socket addresses, one in a row."""
    data = b"".join(pack_sockaddr(each) for each in addresses)
    return np.frombuffer(data, np.uint8).reshape(-1, NAME_SIZE)


# ---- rows ---------------------------------------------------------------------------------------------


@given(LISTS)
def test_rows_come_back_as_they_were(views):
    rows = FlowRows.of(views)
    assert len(rows) == len(views)
    assert list(rows) == views
    assert [rows[index] for index in range(len(rows))] == views


@given(LISTS, st.slices(14))
def test_slices_are_those_of_a_list(views, part):
    assert FlowRows.of(views)[part] == views[part]


def test_rows_are_a_sequence():
    rows = random_rows(10)
    everything = list(rows)
    assert [rows[index] for index in range(-10, 0)] == everything
    assert list(reversed(rows)) == everything[::-1]
    assert everything[4] in rows
    assert rows.index(everything[4]) == 4
    for index in (10, -11):
        with pytest.raises(IndexError):
            rows[index]


def test_values_are_plain():
    row = random_rows(1)[0]
    kinds = {type(getattr(row, name)) for name in row.__struct_fields__}
    assert kinds <= {str, int, float, FlowState, type(None)}


def test_no_rows():
    rows = FlowRows.empty()
    assert (len(rows), list(rows), rows[:], rows.source_texts()) == (0, [], [], [])
    assert rows.sources.shape == (0, ADDRESS_SIZE)
    assert rows.index_of("00000001") is None


@given(LISTS, st.data())
def test_some_are_taken_by_position_or_by_mark(views, data):
    rows = FlowRows.of(views)
    marks = data.draw(st.lists(st.booleans(), min_size=len(views), max_size=len(views)))
    marked = [view for view, mark in zip(views, marks, strict=True) if mark]
    assert list(rows.take(np.array(marks, np.bool_))) == marked
    order = data.draw(st.permutations(range(len(views))))
    assert list(rows.take(np.array(order, np.intp))) == [views[index] for index in order]


def test_a_flow_is_found_by_its_printed_id():
    rows = random_rows(50)
    assert [rows.index_of(row.id) for row in rows] == list(range(50))
    for unknown in ("ffffffff", "", "no number", "-1", "f" * 17):
        assert rows.index_of(unknown) is None


@given(st.lists(LISTS, max_size=4))
def test_pictures_are_joined(parts):
    joined = FlowRows.join([FlowRows.of(part) for part in parts])
    assert list(joined) == [view for part in parts for view in part]
    for names in (joined.rules, joined.targets, joined.tunnels):
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("field", [{"id": "no number"}, {"source": "somewhere"}])
def test_a_row_in_a_foreign_form_is_refused(field):
    row = msgspec.structs.replace(random_rows(1)[0], **field)
    with pytest.raises(ValueError):
        FlowRows.of([row])


def test_the_json_form_is_that_of_rows():
    rows = random_rows(20)
    data = msgspec.json.encode(ServiceSnapshot(service="a", flows=rows), enc_hook=encode_lazy)
    assert list(msgspec.json.decode(data, type=ServiceSnapshot).flows) == list(rows)


# ---- states -------------------------------------------------------------------------------------------


def test_the_state_follows_from_tunnel_and_silence():
    idle = np.array([IDLE_AFTER, IDLE_AFTER + 0.1, 0.0, 99.0])
    states = flow_states(idle, has_tunnel=np.array([True, True, False, False]))
    assert [FLOW_STATES[each] for each in states] == [
        FlowState.ACTIVE,
        FlowState.IDLE,
        FlowState.WAITING,
        FlowState.WAITING,
    ]
    assert states.dtype == np.uint8


# ---- sources ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "packed"),
    [
        ("-", bytes(18)),
        ("10.0.0.1:53", bytes(10) + b"\xff\xff\x0a\x00\x00\x01\x00\x35"),
        ("[::1]:53", bytes(15) + b"\x01\x00\x35"),
        ("[fe80::1%2]:65535", b"\xfe\x80" + bytes(13) + b"\x01\xff\xff"),
        ("0.0.0.0:0", bytes(10) + b"\xff\xff" + bytes(6)),
    ],
)
def test_packed_sources(text, packed):
    assert pack_source(text) == packed


@pytest.mark.parametrize(
    "text",
    ["", "10.0.0.1", "10.0.0.1:", "10.0.0.1:65536", "10.0.0.1:-1", "::1:53", "[10.0.0.1]:53", "a.ex:5"],
)
def test_what_is_no_source(text):
    with pytest.raises(ValueError):
        pack_source(text)


@given(st.lists(ADDRESSES, max_size=20))
@settings(deadline=None)
def test_sources_of_raw_socket_addresses(addresses):
    packed = sources_of_sockaddrs(raw(addresses))
    assert packed.shape == (len(addresses), ADDRESS_SIZE)
    assert packed.tobytes() == b"".join(pack_source(str(each)) for each in addresses)


@given(st.lists(V4, min_size=1, max_size=9))
def test_sources_of_one_family(hosts):
    packed = sources_of_sockaddrs(raw([Address(host, 53) for host in hosts]))
    assert packed.tobytes() == b"".join(pack_source(f"{host}:53") for host in hosts)


def test_a_row_of_zeros_has_no_source():
    names = np.zeros((2, NAME_SIZE), np.uint8)
    names[0] = raw([Address("10.0.0.1", 1)])[0]
    packed = sources_of_sockaddrs(names[::-1])
    assert packed.tobytes() == pack_source("-") + pack_source("10.0.0.1:1")


def test_mapped_addresses_are_written_as_ipv4():
    packed = sources_of_sockaddrs(raw([Address("::ffff:10.0.0.1", 5)]))
    assert packed.tobytes() == pack_source("10.0.0.1:5")


def test_written_sources_are_kept_but_not_for_ever(monkeypatch):
    monkeypatch.setattr(flow_rows, "_texts", {})
    monkeypatch.setattr(flow_rows, "_MAX_TEXTS", 8)
    rows = random_rows(50)
    texts = rows.source_texts()
    assert rows.source_texts() is texts
    assert [rows.source_text(index) for index in range(50)] == texts
    assert len(flow_rows._texts) <= 8


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 65535)), max_size=40), st.booleans())
def test_datagrams_are_counted_whether_rows_repeat_or_not(datagrams, distinct):
    if distinct:
        datagrams = list(dict(datagrams).items())
    packets, sizes = np.arange(10), np.arange(10) * 1000
    rows = np.array([row for row, _ in datagrams], np.intp)
    lengths = np.array([length for _, length in datagrams], np.int64)
    tally(packets, sizes, rows, lengths, distinct=distinct)
    for row in range(10):
        mine = [length for each, length in datagrams if each == row]
        assert (packets[row], sizes[row]) == (row + len(mine), row * 1000 + sum(mine))
