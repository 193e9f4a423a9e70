"""Routing as tables of channels in and moves out, and what holds for any set of channels."""

import random
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from rtun_core.relay.health import ChannelHealth, Grade
from rtun_core.relay.router import PACKETS_PER_FLOW, ChannelLoad, best_channel, plan_moves

GRADES = {"good": Grade.GOOD, "degraded": Grade.DEGRADED, "stale": Grade.STALE}


def channel(text):
    """A channel written as `T1 good 12` and any of `cost=0.1`, `rate=300`, `draining`, `preferred`."""
    name, grade, flows, *more = text.split()
    load = ChannelLoad(name, GRADES[grade], 0.05, int(flows))
    for word in more:
        field, _, value = word.partition("=")
        load = load._replace(**{field: float(value) if value else True})
    return load


def moves(*texts):
    return [
        f"{move.old} -> {move.new}: {move.flows} {move.reason}"
        for move in plan_moves([channel(text) for text in texts])
    ]


def carried_out(channels):
    """Channels after one plan; fails when a plan moves flows that are not there."""
    loads = {each.id: each for each in channels}
    for move in plan_moves(channels):
        assert 0 < move.flows <= loads[move.old].flows, move
        assert move.old != move.new
        loads[move.old] = loads[move.old]._replace(flows=loads[move.old].flows - move.flows)
        loads[move.new] = loads[move.new]._replace(flows=loads[move.new].flows + move.flows)
    return list(loads.values())


# ---- a new flow ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "best"),
    [
        ([], None),
        (["T1 good 3"], "T1"),
        (["T1 good 3", "T2 good 2"], "T2"),
        (["T1 good 2", "T2 good 2"], "T1"),
        (["T1 good 9", "T2 degraded 0"], "T1"),
        (["T1 stale 0", "T2 degraded 9"], "T2"),
        (["T1 good 0 draining", "T2 stale 9"], "T2"),
        (["T1 good 5 draining"], "T1"),
        (["T1 good 0 cost=0.2", "T2 good 2 cost=0.05"], "T2"),
        (["T1 good 0 cost=0.2", "T2 good 3 cost=0.05"], "T1"),
        (["T1 good 0 rate=400", "T2 good 1"], "T2"),
        (["T1 good 9 preferred", "T2 good 0"], "T1"),
        (["T1 degraded 0 preferred", "T2 good 9"], "T2"),
        (["T1 good 0 preferred draining", "T2 good 9"], "T2"),
    ],
)
def test_the_channel_for_a_new_flow(texts, best):
    chosen = best_channel(channel(text) for text in texts)
    assert (chosen and chosen.id) == best


def test_packets_weigh_as_much_as_flows():
    heavy, many = channel(f"T1 good 0 rate={PACKETS_PER_FLOW * 3}"), channel("T2 good 2")
    assert best_channel([heavy, many]) == many
    assert best_channel([heavy, many._replace(flows=4)]) == heavy


@settings(deadline=None)
@given(st.lists(st.floats(0.005, 0.5), min_size=2, max_size=5))
def test_new_flows_spread_in_proportion_to_the_inverse_of_the_cost(costs):
    loads = {f"T{i}": ChannelLoad(f"T{i}", Grade.GOOD, cost, 0) for i, cost in enumerate(costs)}
    for _ in range(100):
        best = best_channel(loads.values())
        loads[best.id] = best._replace(flows=best.flows + 1)
    total = sum(1 / cost for cost in costs)
    for each in loads.values():
        assert each.flows == pytest.approx(100 / each.cost / total, abs=len(costs) + 1)


# ---- leaving ------------------------------------------------------------------------------------------


def test_a_draining_channel_gives_everything_away():
    assert moves("T1 good 10 draining", "T2 good 0") == ["T1 -> T2: 10 draining"]
    assert moves("T1 good 10 draining", "T2 stale 3") == ["T1 -> T2: 10 draining"]


def test_nothing_moves_when_there_is_nowhere_to_go():
    assert moves() == []
    assert moves("T1 stale 9") == []
    assert moves("T1 good 9 draining", "T2 good 3 draining") == []
    assert moves("T1 good 9", "T2 good 0 draining") == []


def test_flows_leave_for_a_better_grade_only():
    assert moves("T1 degraded 4", "T2 good 0") == ["T1 -> T2: 4 degraded"]
    assert moves("T1 stale 4", "T2 degraded 0") == ["T1 -> T2: 4 stale"]
    assert moves("T1 degraded 1", "T2 degraded 1") == []
    assert moves("T1 good 4", "T2 degraded 0", "T3 stale 0") == []


def test_leaving_flows_go_where_the_fewest_are_for_the_cost():
    assert moves("T1 stale 10", "T2 good 0", "T3 good 6") == ["T1 -> T2: 8 stale", "T1 -> T3: 2 stale"]
    spread = moves("T1 stale 12", "T2 good 0 cost=0.05", "T3 good 0 cost=0.1")
    assert spread == ["T1 -> T2: 8 stale", "T1 -> T3: 4 stale"]


def test_several_channels_that_are_left_see_each_others_flows():
    after = carried_out(
        [channel(text) for text in ("T1 stale 9", "T2 degraded 7 draining", "T3 good 0", "T4 good 0")]
    )
    assert [each.flows for each in after] == [0, 0, 8, 8]


def test_leaving_flows_all_go_to_a_preferred_channel():
    assert moves("T1 stale 9", "T2 good 0", "T3 good 50 preferred") == ["T1 -> T3: 9 stale"]
    assert moves("T1 good 9", "T2 good 0", "T3 degraded 0 preferred") == ["T1 -> T2: 4 balance"]


# ---- balance ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["T1 good 2", "T2 good 0"], ["T1 -> T2: 1 balance"]),
        (["T1 good 1", "T2 good 0"], []),
        (["T1 good 3", "T2 good 2"], []),
        (["T1 good 100", "T2 good 0"], ["T1 -> T2: 50 balance"]),
        (["T1 good 105", "T2 good 95"], []),
        (["T1 good 130", "T2 good 70"], ["T1 -> T2: 30 balance"]),
        (["T1 good 50 cost=0.1", "T2 good 50 cost=0.05"], ["T1 -> T2: 16 balance"]),
        (["T1 good 33 cost=0.1", "T2 good 67 cost=0.05"], []),
        (["T1 good 9 preferred", "T2 good 0"], []),
        (["T1 good 9", "T2 good 0 preferred"], []),
    ],
)
def test_an_uneven_load_is_evened_out(texts, expected):
    assert moves(*texts) == expected


def test_a_new_channel_among_many_gets_its_share():
    loads = [channel(f"T{index} good 100") for index in range(12)] + [channel("T12 good 0")]
    for _ in range(20):
        loads = carried_out(loads)
    assert min(each.flows for each in loads) >= 70


@pytest.mark.parametrize("costs", [(0.05, 0.05, 0.05), (0.03, 0.06, 0.06)])
@pytest.mark.parametrize("flows", [10, 1000, 50_000])
def test_round_trips_that_wobble_do_not_make_flows_wander(costs, flows):
    rng = random.Random(flows)
    health = [ChannelHealth(0.0) for _ in costs]
    weight = sum(1 / cost for cost in costs)
    counts = [round(flows / cost / weight) for cost in costs]
    for each, cost in zip(health, costs, strict=True):
        each.sample_rtt(cost)
    moved = Counter()
    for _ in range(300):
        for each, cost in zip(health, costs, strict=True):
            each.sample_rtt(cost * rng.uniform(0.8, 1.2))
        loads = [
            ChannelLoad(f"T{i}", Grade.GOOD, each.cost, count)
            for i, (each, count) in enumerate(zip(health, counts, strict=True))
        ]
        moved.update({move.old: move.flows for move in plan_moves(loads)})
        counts = [each.flows for each in carried_out(loads)]
    assert not moved


# ---- any set of channels ------------------------------------------------------------------------------


@st.composite
def any_channels(draw):
    loads = draw(
        st.lists(
            st.builds(
                ChannelLoad,
                id=st.just(""),
                grade=st.sampled_from(Grade),
                cost=st.floats(0.005, 20.0),
                flows=st.integers(0, 300) | st.integers(0, 50_000),
                rate=st.floats(0, 1e5),
                draining=st.booleans(),
            ),
            max_size=6,
        )
    )
    chosen = draw(st.none() | st.integers(0, 5))
    return [load._replace(id=f"T{i}", preferred=i == chosen) for i, load in enumerate(loads)]


@settings(deadline=None)
@given(any_channels())
def test_plans_conserve_flows_and_empty_what_must_be_left(channels):
    after = carried_out(channels)
    assert sum(each.flows for each in after) == sum(each.flows for each in channels)
    usable = [each for each in after if not each.draining]
    best = min((each.grade for each in usable), default=None)
    for each in after:
        if usable and (each.draining or each.grade != best):
            assert each.flows == 0


@settings(deadline=None)
@given(any_channels())
def test_no_flow_comes_to_a_channel_that_is_worse_or_draining(channels):
    loads = {each.id: each for each in channels}
    for move in plan_moves(channels):
        old, new = loads[move.old], loads[move.new]
        assert not new.draining
        assert old.draining or new.grade <= old.grade
        assert (move.reason == "balance") == (not old.draining and new.grade == old.grade)


@settings(deadline=None)
@given(any_channels())
def test_repeated_plans_come_to_rest_and_no_channel_both_gives_and_takes(channels):
    gave, took = set(), set()
    for _ in range(40):
        plan = plan_moves(channels)
        if not plan:
            break
        balance = [move for move in plan if move.reason == "balance"]
        gave |= {move.old for move in balance}
        took |= {move.new for move in balance}
        channels = carried_out(channels)
    assert not plan_moves(channels)
    assert not gave & took, "ping-pong"


@settings(deadline=None)
@given(st.integers(1, 50_000), st.lists(st.floats(0.005, 1.0), min_size=1, max_size=5))
def test_flows_that_leave_land_in_proportion_to_the_inverse_of_the_cost(flows, costs):
    takers = [ChannelLoad(f"T{i}", Grade.GOOD, cost, 0) for i, cost in enumerate(costs)]
    after = carried_out([ChannelLoad("old", Grade.STALE, 0.05, flows), *takers])
    weight = sum(1 / cost for cost in costs)
    for each in after[1:]:
        assert each.flows == pytest.approx(flows / each.cost / weight, abs=1.001)


@settings(deadline=None)
@given(any_channels().filter(bool))
def test_the_best_channel_is_never_draining_or_worse_without_need(channels):
    best = best_channel(channels)
    assert best.draining == all(each.draining for each in channels)
    for each in channels:
        if each.draining == best.draining:
            assert best.grade <= each.grade
