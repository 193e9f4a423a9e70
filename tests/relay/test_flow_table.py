"""The flow table against a dictionary, its growth, its ids, and the picture it gives."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rtun_core.flow_rows import IDLE_AFTER, format_flow_id
from rtun_core.model import FlowState
from rtun_core.net.sockaddr import NAME_SIZE as RAW_SIZE
from rtun_core.net.sockaddr import pack_sockaddr
from rtun_core.relay.flow_table import MIN_SAMPLE, NAME_SIZE, NO_CHANNEL, FlowTable, flow_rows
from rtun_core.wire.address import Address
from tests.net.name_key import name_key

LAST_ID = 2**32 - 1
COUNTERS = ("up_packets", "up_bytes", "down_packets", "down_bytes")


def source(number):
    """The raw address and the key of the n-th client; every third one is IPv6."""
    host = (
        f"2001:db8::{number:x}"
        if number % 3 == 2
        else f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    )
    raw = pack_sockaddr(Address(host, 4000 + number % 1000))
    return np.frombuffer(raw, np.uint8), name_key(raw)


def filled(count, *, first_id=1, capacity=1 << 20):
    table = FlowTable(first_id=first_id, capacity=capacity)
    for number in range(count):
        add(table, number, channel=number % 3)
    return table


def add(table, number, *, channel=0, now=0.0, wall=1e9):
    name, key = source(number)
    return table.open(key, name, channel=channel, now=now, wall=wall)


def ids(table, rows):
    return table.ids[rows].tolist()


def array(numbers, dtype=np.intp):
    return np.array(numbers, dtype)


# ---- ids ----------------------------------------------------------------------------------------------


def test_ids_count_up_from_the_first():
    assert ids(filled(3, first_id=7), slice(0, 3)) == [7, 8, 9]


def test_ids_wrap_around_at_32_bits_and_skip_zero():
    table = filled(4, first_id=LAST_ID - 1)
    assert ids(table, table.rows()) == [LAST_ID - 1, LAST_ID, 1, 2]


@pytest.mark.parametrize(("first", "becomes"), [(0, 1), (2**32, 1), (2**32 + 5, 5), (2**40 - 1, LAST_ID)])
def test_the_first_id_fits_32_bits_and_is_not_zero(first, becomes):
    assert ids(filled(1, first_id=first), [0]) == [becomes]


def test_after_the_wrap_ids_in_use_are_skipped_and_free_ones_reused():
    table = filled(6, first_id=1)
    table.close(3)
    table._next_id = LAST_ID
    opened = [add(table, 100 + number) for number in range(3)]
    assert ids(table, opened) == [LAST_ID, 4, 7]
    assert len(set(ids(table, table.rows()))) == len(table) == 8


def test_an_id_is_not_reused_at_once_though_its_row_is():
    table = filled(1)
    table.close(0)
    assert add(table, 0) == 0
    assert ids(table, [0]) == [2]


def test_a_flow_id_has_one_spelling_and_is_found_by_it():
    table = filled(2, first_id=0xABC)
    assert format_flow_id(0xABC) == "00000abc"
    assert table.row_of("00000abd") == 1
    assert table.row_of(format_flow_id(0xABF)) is None
    assert table.row_of("no number") is None


# ---- rows ---------------------------------------------------------------------------------------------


def test_flows_are_found_by_source_and_by_id():
    table = filled(5)
    keys = [source(number)[1] for number in (3, 99, 0, 3)]
    assert table.rows_by_keys(keys) == [3, None, 0, 3]
    assert table.rows_by_ids([5, 0, 1, 77]) == [4, None, 0, None]
    assert table.rows_by_keys([]) == table.rows_by_ids([]) == []


def test_growing_keeps_every_flow():
    table = FlowTable(first_id=1, capacity=10_000)
    lengths = set()
    for number in range(1000):
        row = add(table, number, channel=number % 7, now=float(number))
        table.count_up(array([row]), array([number], np.int64), float(number))
        lengths.add(len(table.ids))
    assert lengths == {64, 128, 256, 512, 1024}
    rows = table.rows_by_keys([source(number)[1] for number in range(1000)])
    assert ids(table, rows) == list(range(1, 1001))
    assert table.up_bytes[rows].tolist() == list(range(1000))
    assert table.names[rows[999]].tobytes() == source(999)[0].tobytes()
    assert table.loads(7).tolist() == [143, 143, 143, 143, 143, 143, 142]
    assert len(table.on_channel(NO_CHANNEL)) == 0


def test_the_capacity_is_told_not_enforced():
    table = filled(3, capacity=3)
    assert table.full
    table.close(1)
    assert not table.full
    assert len(table) == 2


def test_a_closed_flow_leaves_nothing_behind_for_the_next_of_its_row():
    table = filled(1)
    table.count_up(array([0]), array([50], np.int64), 1.0)
    table.count_down(array([0]), array([60], np.int64), 1.0)
    table.move(array([0]), 2, 2.0)
    table.close(0)
    assert (len(table), table.totals(), table.loads(3).tolist()) == (0, (0, 0, 0, 0), [0, 0, 0])
    assert table.rows_by_keys([source(0)[1]]) == [None]
    row = add(table, 1, now=9.0, wall=5.0)
    assert (row, table.totals()) == (0, (0, 0, 0, 0))
    assert (table.moves[0], table.moved_at[0], table.last_active[0], table.opened_at[0]) == (0, 9.0, 9.0, 5.0)


# ---- counting, moving, idling -------------------------------------------------------------------------


def test_a_flow_that_is_several_times_in_a_batch_is_counted_each_time():
    table = filled(3)
    table.count_up(array([1, 0, 1, 1]), array([10, 20, 30, 40], np.int64), 5.0)
    table.count_down(array([2, 2]), array([1, 2], np.int64), 6.0)
    assert table.up_packets[:3].tolist() == [1, 3, 0]
    assert table.up_bytes[:3].tolist() == [20, 80, 0]
    assert table.down_bytes[:3].tolist() == [0, 0, 3]
    assert table.last_active[:3].tolist() == [5.0, 5.0, 6.0]
    assert table.totals() == (4, 100, 2, 3)


def test_flows_that_are_once_in_a_batch_are_counted_the_same_when_that_is_known():
    told, found_out = filled(3), filled(3)
    for table, distinct in ((told, True), (found_out, False)):
        table.count_up(array([2, 0]), array([10, 20], np.int64), 5.0, distinct=distinct)
        table.count_down(array([1, 2]), array([1, 2], np.int64), 6.0, distinct=distinct)
    for name in (*COUNTERS, "last_active"):
        assert getattr(told, name).tolist() == getattr(found_out, name).tolist()
    assert told.totals() == (2, 30, 2, 3)


def test_moved_flows_keep_their_ids_and_are_counted():
    table = filled(6)
    before = ids(table, table.rows())
    table.move(table.on_channel(0), 2, 7.0)
    assert table.loads(3).tolist() == [0, 2, 4]
    assert ids(table, table.rows()) == before
    assert table.moves[:6].tolist() == [1, 0, 0, 1, 0, 0]
    assert table.totals() == (0, 0, 0, 0)


def test_movable_are_the_longest_idle_first_and_none_that_moved_lately():
    table = FlowTable(first_id=1, capacity=9)
    for number, seen in enumerate((3.0, 1.0, 2.0, 0.0)):
        add(table, number, now=0.0)
        table.count_up(array([number]), array([1], np.int64), seen)
    table.move(array([1]), 0, 10.0)
    assert table.movable(0, before=9.9).tolist() == [3, 2, 0]
    assert table.movable(0, before=10.0).tolist() == [3, 1, 2, 0]
    assert table.movable(1, before=99.0).tolist() == []


def test_loads_leave_out_flows_without_a_channel_and_numbers_beyond():
    table = filled(5)
    table.move(array([0]), NO_CHANNEL, 1.0)
    assert table.loads(3).tolist() == [1, 2, 1]
    assert table.loads(5).tolist() == [1, 2, 1, 0, 0]
    assert table.loads(1).tolist() == [1]
    assert table.on_channel(NO_CHANNEL).tolist() == [0]


def test_idle_is_strictly_before():
    table = filled(2)
    table.count_down(array([1]), array([1], np.int64), 3.0)
    assert table.idle(0.0).tolist() == []
    assert table.idle(0.1).tolist() == [0]
    assert table.idle(3.1).tolist() == [0, 1]


def test_an_empty_table_answers_everything():
    table = FlowTable(first_id=1, capacity=0)
    assert table.full
    assert table.totals() == (0, 0, 0, 0)
    assert [len(rows) for rows in (table.rows(), table.idle(9.0), table.movable(0, before=9.0))] == [0, 0, 0]
    assert table.loads(2).tolist() == [0, 0]


# ---- rates --------------------------------------------------------------------------------------------


def rates(table):
    return [
        (float(up), float(down))
        for up, down in zip(table.up_rate[table.rows()], table.down_rate[table.rows()], strict=True)
    ]


def test_rates_are_bytes_per_second_between_samples():
    table = filled(2)
    table.count_up(array([0]), array([900], np.int64), 9.0)
    table.sample_rates(10.0)
    assert rates(table) == [(0.0, 0.0), (0.0, 0.0)]
    table.count_up(array([0, 0]), array([100, 200], np.int64), 11.0)
    table.count_down(array([1]), array([800], np.int64), 11.0)
    table.sample_rates(12.0)
    assert rates(table) == [(150.0, 0.0), (0.0, 400.0)]
    table.sample_rates(13.0)
    assert rates(table) == [(0.0, 0.0), (0.0, 0.0)]


def test_a_sample_that_comes_too_early_is_ignored():
    table = filled(1)
    table.sample_rates(10.0)
    table.count_up(array([0]), array([900], np.int64), 10.0)
    table.sample_rates(10.0 + MIN_SAMPLE / 2)
    assert rates(table) == [(0.0, 0.0)]
    table.sample_rates(11.0)
    assert rates(table) == [(900.0, 0.0)]


def test_the_rates_of_a_new_flow_begin_at_zero_in_a_used_row_and_in_a_new_one():
    table = filled(1)
    table.sample_rates(10.0)
    table.count_up(array([0]), array([5000], np.int64), 10.5)
    table.sample_rates(11.0)
    table.close(0)
    assert add(table, 1) == 0
    assert rates(table) == [(0.0, 0.0)]
    table.count_up(array([0]), array([70], np.int64), 11.5)
    for number in range(2, 100):
        add(table, number)
    table.sample_rates(12.0)
    assert rates(table) == [(70.0, 0.0)] + [(0.0, 0.0)] * 98
    assert [view.up_rate for view in picture(table)][:2] == [70.0, 0.0]


# ---- the model ----------------------------------------------------------------------------------------


class FlowMachine(RuleBasedStateMachine):
    """The table beside a dictionary from source number to everything that is known of its flow."""

    @initialize(first_id=st.integers(0, 10) | st.integers(LAST_ID - 40, LAST_ID))
    def begin(self, first_id):
        self.table = FlowTable(first_id=first_id, capacity=300)
        self.model, self.now, self.next_source = {}, 0.0, 0

    def rows_of(self, sources):
        return array(self.table.rows_by_keys([source(number)[1] for number in sources]))

    def draw_sources(self, data, *, repeat=False):
        some = st.lists(st.sampled_from(sorted(self.model)), min_size=1, max_size=12, unique=not repeat)
        return data.draw(some)

    @rule(count=st.integers(1, 70), channel=st.integers(NO_CHANNEL, 3), seconds=st.floats(0, 5))
    def open(self, count, channel, seconds):
        self.now += seconds
        for _ in range(count):
            number = self.next_source
            self.next_source += 1
            row = add(self.table, number, channel=channel, now=self.now, wall=self.now + 1e9)
            flow = int(self.table.ids[row])
            assert 0 < flow <= LAST_ID
            assert flow not in {each["id"] for each in self.model.values()}
            self.model[number] = {"id": flow, "channel": channel, "active": self.now, "moved": self.now}
            self.model[number] |= {"moves": 0, "opened": self.now + 1e9} | dict.fromkeys(COUNTERS, 0)

    @rule(back=st.integers(1, 20))
    def rewind_ids(self, back):
        """As if 2**32 flows had come and gone: the counter stands before ids that are in use."""
        self.table._next_id = (self.table._next_id - back) & LAST_ID

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def close(self, data):
        for number in self.draw_sources(data):
            self.table.close(int(self.rows_of([number])[0]))
            del self.model[number]

    @precondition(lambda self: self.model)
    @rule(data=st.data(), way=st.sampled_from(["up", "down"]), seconds=st.floats(0, 5))
    def count(self, data, way, seconds):
        self.now += seconds
        sources = self.draw_sources(data, repeat=True)
        lengths = data.draw(st.lists(st.integers(0, 1452), min_size=len(sources), max_size=len(sources)))
        counting = self.table.count_up if way == "up" else self.table.count_down
        distinct = len(set(sources)) == len(sources)
        counting(self.rows_of(sources), array(lengths, np.int64), self.now, distinct=distinct)
        for number, length in zip(sources, lengths, strict=True):
            flow = self.model[number]
            flow[f"{way}_packets"] += 1
            flow[f"{way}_bytes"] += length
            flow["active"] = self.now

    @precondition(lambda self: self.model)
    @rule(data=st.data(), channel=st.integers(NO_CHANNEL, 3), seconds=st.floats(0, 5))
    def move(self, data, channel, seconds):
        self.now += seconds
        sources = self.draw_sources(data)
        self.table.move(self.rows_of(sources), channel, self.now)
        for number in sources:
            flow = self.model[number]
            flow |= {"channel": channel, "moved": self.now, "moves": flow["moves"] + 1}

    def flows(self, condition=lambda flow: True):
        return sorted(flow["id"] for flow in self.model.values() if condition(flow))

    def ids(self, rows):
        return sorted(ids(self.table, rows))

    @invariant()
    def flows_are_found(self):
        table = self.table
        assert len(table) == len(self.model)
        assert table.full == (len(self.model) >= 300)
        assert self.ids(table.rows()) == self.flows()
        rows = self.rows_of(self.model)
        assert ids(table, rows) == [flow["id"] for flow in self.model.values()]
        assert table.rows_by_ids(ids(table, rows)) == rows.tolist()
        for number in list(self.model)[:3]:
            row = int(self.rows_of([number])[0])
            assert table.row_of(format_flow_id(self.model[number]["id"])) == row
            assert table.names[row].tobytes() == source(number)[0].tobytes()

    @invariant()
    def columns_agree(self):
        rows = self.rows_of(self.model)
        columns = {"channel": "channel", "active": "last_active", "moved": "moved_at", "opened": "opened_at"}
        for name, column in (columns | {name: name for name in ("moves", *COUNTERS)}).items():
            expected = [flow[name] for flow in self.model.values()]
            assert getattr(self.table, column)[rows].tolist() == expected, name

    @invariant()
    def questions_are_answered(self):
        table, limit = self.table, self.now - 2.5
        totals = tuple(sum(flow[name] for flow in self.model.values()) for name in COUNTERS)
        assert table.totals() == totals
        assert self.ids(table.idle(limit)) == self.flows(lambda flow: flow["active"] < limit)
        for channel in range(NO_CHANNEL, 4):
            mine = self.flows(lambda flow, channel=channel: flow["channel"] == channel)
            assert self.ids(table.on_channel(channel)) == mine
            if channel != NO_CHANNEL:
                assert table.loads(4)[channel] == len(mine)
            movable = table.movable(channel, before=limit)
            assert (np.diff(table.last_active[movable]) >= 0).all()
            assert self.ids(movable) == self.flows(
                lambda flow, channel=channel: flow["channel"] == channel and flow["moved"] <= limit
            )


FlowMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)
TestAgainstADictionary = FlowMachine.TestCase


# ---- the picture --------------------------------------------------------------------------------------


def picture(table, now=100.0, tunnels=("T1", "T2", "T3")):
    names = dict(enumerate(tunnels))
    return flow_rows(table, now=now, rule="R1", target="192.0.2.9:53", tunnels=names)


def test_a_flow_is_shown_with_everything_that_is_known_of_it():
    table = filled(1, first_id=0xBEEF)
    table.count_up(array([0]), array([700], np.int64), 98.0)
    table.count_down(array([0]), array([900], np.int64), 99.0)
    table.move(array([0]), 1, 99.5)
    (view,) = picture(table)
    assert (view.id, view.rule, view.source) == ("0000beef", "R1", "10.0.0.0:4000")
    assert (view.target, view.tunnel, view.state) == ("192.0.2.9:53", "T2", FlowState.ACTIVE)
    assert (view.opened_at, view.idle_s, view.moves) == (1e9, 1.0, 1)
    assert (view.up_packets, view.up_bytes, view.down_packets, view.down_bytes) == (1, 700, 1, 900)


def test_the_state_of_a_flow_follows_from_its_tunnel_and_its_silence():
    table = filled(4)
    table.count_up(array([0]), array([1], np.int64), 100.0 - IDLE_AFTER)
    table.move(array([2]), NO_CHANNEL, 100.0)
    table.move(array([3]), 9, 100.0)
    states = [view.state for view in picture(table)]
    assert states == [FlowState.ACTIVE, FlowState.IDLE, FlowState.WAITING, FlowState.WAITING]


def test_the_picture_does_not_change_with_the_table():
    table = filled(100)
    seen = picture(table)
    before = list(seen)
    table.count_up(table.rows(), np.ones(100, np.int64), 99.0)
    table.move(table.rows(), 2, 99.0)
    for row in range(0, 100, 2):
        table.close(row)
    for number in range(200, 400):
        add(table, number, now=50.0)
    assert list(seen) == before
    assert len(seen) == 100
    assert len(picture(table)) == 250


def test_the_picture_is_a_sequence():
    seen = picture(filled(10))
    everything = list(seen)
    assert [seen[index] for index in range(10)] == everything
    assert [seen[index] for index in range(-10, 0)] == everything
    assert seen[2:8:3] == everything[2:8:3]
    assert seen[::-1] == everything[::-1]
    assert seen[20:] == []
    assert everything[4] in seen
    assert list(reversed(seen)) == everything[::-1]
    for index in (10, -11):
        with pytest.raises(IndexError):
            seen[index]


def test_sources_of_both_families_are_shown():
    assert [view.source for view in picture(filled(3))][1:] == ["10.0.0.1:4001", "[2001:db8::2]:4002"]
    assert NAME_SIZE == RAW_SIZE


def test_an_empty_picture():
    seen = picture(FlowTable(first_id=1, capacity=5))
    assert (len(seen), list(seen), seen[:]) == (0, [], [])


@settings(deadline=None)
@given(st.integers(0, 130), st.slices(150))
def test_slices_are_those_of_a_list(count, part):
    seen = picture(filled(count))
    assert seen[part] == list(seen)[part]
