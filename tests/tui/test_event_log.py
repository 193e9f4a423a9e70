"""Events as lines: what folds, what is hidden, and where the window stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.event import Level, Stamped
from rtun_core.events import (
    AgentSeen,
    Drops,
    FlowClosed,
    FlowMoved,
    FlowOpened,
    Notice,
    TunnelDegraded,
    TunnelUp,
)
from rtun_tui.event_log import FLOW_SPAN, FOLD_GAP, FOLD_SPAN, EventLog, _shape, told, topic_of


def stamped(event, ts=1000.0):
    return Stamped(1, ts, ts, event)


def degraded(loss=4.2, tunnel="t4", *, recovered=False):
    return TunnelDegraded(tunnel=tunnel, reason=f"loss {loss}%", recovered=recovered)


def opened(number, rule="r1", tunnel="t1"):
    return FlowOpened(flow=f"{number:08x}", rule=rule, source=f"10.0.0.1:{number}", target="x", tunnel=tunnel)


def moved(number=1, new="t5"):
    return FlowMoved(flow=f"{number:08x}", count=1, old="t4", new=new, reason="degraded")


def log_of(*events, step=0.5, limit=100, rows=4):
    log = EventLog(limit)
    log.rows = rows
    log.add(stamped(event, 1000.0 + number * step) for number, event in enumerate(events))
    return log


def told_by(log):
    return [(entry.text, entry.count) for entry in log.shown()]


def many(count, *, limit=100, rows=4):
    return log_of(*(degraded(tunnel=f"t{number}") for number in range(count)), limit=limit, rows=rows)


def names(log):
    return [entry.text.split()[0] for entry in log.window()]


# -- folding -----------------------------------------------------------------------------------


def test_similar_neighbours_fold_and_the_newest_is_told():
    log = log_of(degraded(4.2), degraded(9.9), degraded(12))
    assert told_by(log) == [("t4 degraded: loss 12%", 3)]
    [entry] = log.shown()
    assert entry.span == 1.0
    assert entry.level is Level.WARNING


def test_another_tunnel_reason_or_end_does_not_fold():
    log = log_of(degraded(), degraded(tunnel="t5"), degraded(recovered=True), degraded())
    assert [count for _, count in told_by(log)] == [1, 1, 1, 1]


def test_the_order_of_states_is_kept():
    log = log_of(degraded(), degraded(recovered=True), degraded())
    assert [text.split(":")[0] for text, _ in told_by(log)] == [
        "t4 degraded",
        "t4 recovered",
        "t4 degraded",
    ]


def test_events_of_flows_fold_whatever_came_between():
    closed = FlowClosed(flow=None, count=3, reason="idle")
    log = log_of(opened(1), closed, moved(1), opened(2, tunnel="t2"), degraded(), closed, moved(2), step=0.1)
    assert [count for _, count in told_by(log)] == [2, 2, 2, 1]


def test_flows_of_another_rule_or_tunnel_do_not_fold():
    assert len(log_of(opened(1), opened(2, rule="r2"), moved(), moved(new="t6"))) == 4


def test_neighbours_fold_across_events_of_flows():
    assert [count for _, count in told_by(log_of(degraded(), opened(1), degraded()))] == [2, 1]


@pytest.mark.parametrize(("step", "lines"), [(FOLD_GAP, 1), (FOLD_GAP + 1, 3)])
def test_events_long_apart_do_not_fold(step, lines):
    assert len(log_of(degraded(), degraded(), degraded(), step=step)) == lines


def test_a_line_does_not_grow_for_ever():
    assert len(log_of(*[degraded()] * 100, step=FOLD_SPAN / 50)) == 2
    assert len(log_of(*[moved()] * 100, step=FLOW_SPAN / 50)) == 2


def test_an_entry_that_is_gone_takes_no_more():
    log = EventLog(3)
    log.add([stamped(moved()), *(stamped(degraded(tunnel=f"t{number}")) for number in range(3))])
    log.add([stamped(moved())])
    assert told_by(log)[-1] == ("flow 00000001 moved t4 -> t5: degraded"[5:], 1)


def test_kinds_of_flow_events_are_bounded():
    log = log_of(*(opened(1, rule=f"r{number}") for number in range(200)), opened(2, rule="r199"), step=0.01)
    assert log.shown()[-1].count == 2
    log.add([stamped(opened(3, rule="r0"))])
    assert log.shown()[-1].count == 1


def test_a_flood_stays_readable():
    log = EventLog()
    log.add(stamped(degraded(tunnel=f"warn{number}"), 1000) for number in range(20))
    flood = [opened(number) if number % 2 else moved(number) for number in range(10_000)]
    log.add(stamped(event, 1000 + number / 10_000) for number, event in enumerate(flood))
    assert len(log) == 22
    assert {entry.count for entry in log.shown()} == {1, 5000}


# -- what is told ------------------------------------------------------------------------------


def test_a_topic_is_not_told_twice():
    event = AgentSeen(agent="beta/7f3c")
    assert (topic_of(event), told(event)) == ("agent", "beta/7f3c seen")
    assert topic_of(Drops(counts={"full": 1})) == "drops"
    assert told(Drops(counts={"full": 1})) == "dropped 1 full"
    assert topic_of(Notice(topic="engine", message="slow")) == "engine"


def test_text_from_elsewhere_is_one_visible_line():
    event = Notice(topic="a\x1b]0;x\x07", message="bad \x1b[31m name\nand \u202emore")
    assert told(event) == "bad [31m name and more"
    assert topic_of(event) == "a]0;x"
    assert len(told(Notice(topic="x", message="y" * 99_999))) == 2_000


def test_numbers_are_not_part_of_a_shape_but_names_are():
    assert _shape("rule r1 wants 3 tunnels") == _shape("rule r1 wants 12 tunnels")
    assert _shape("agent a/7f3c lost: 3 s") != _shape("agent a/8f3c lost: 3 s")
    assert _shape("at 10.0.0.1:80") != _shape("at 10.0.0.1:81")


# -- level and search --------------------------------------------------------------------------


def test_a_level_hides_what_is_not_as_loud():
    log = log_of(opened(1), degraded(), AgentSeen(agent="a"))
    log.narrow(level=Level.INFO, search="")
    assert len(log) == 2
    log.narrow(level=Level.WARNING, search="")
    log.add([stamped(opened(2)), stamped(degraded(tunnel="t9"), 1001)])
    assert [entry.topic for entry in log.shown()] == ["tunnel", "tunnel"]
    assert log.total == 4
    log.narrow(level=Level.DEBUG, search="")
    assert len(log) == 4


def test_a_search_looks_at_the_whole_line():
    log = log_of(
        degraded(),
        AgentSeen(agent="Beta/1"),
        TunnelUp(tunnel="t7", rule=None, agent=None, source="x", remote="y"),
    )
    for text, count in (("BETA", 1), ("warn", 1), ("tunnel", 2), ("nothing", 0), ("", 3)):
        log.narrow(level=Level.DEBUG, search=text)
        assert len(log) == count


def test_a_match_is_not_folded_into_what_is_hidden():
    log = log_of(opened(1))
    log.narrow(level=Level.DEBUG, search="0000000f")
    log.add([stamped(opened(15), 1001), stamped(opened(16), 1001)])
    assert [text for text, _ in told_by(log)] == ["0000000f opened: 10.0.0.1:15 -> x on t1"]


def test_single_events_pass_one_by_one():
    log = log_of(opened(1), opened(2), degraded())
    assert len(log.stamped) == 3
    log.narrow(level=Level.INFO, search="")
    assert [each.event for each in log.passing()] == [degraded()]


# -- the window --------------------------------------------------------------------------------


def test_the_window_follows_the_newest():
    log = many(10)
    assert names(log) == ["t6", "t7", "t8", "t9"]
    log.add([stamped(degraded(tunnel="new"))])
    assert names(log)[-1] == "new"
    assert log.newer == 0


def test_scrolling_up_stops_following_and_counts_what_is_newer():
    log = many(10)
    log.move(-2)
    assert names(log) == ["t4", "t5", "t6", "t7"]
    log.add([stamped(degraded(tunnel="new"))])
    assert names(log) == ["t4", "t5", "t6", "t7"]
    assert (log.tailing, log.newer) == (False, 3)
    log.move(3)
    assert (log.tailing, log.newer) == (True, 0)
    assert names(log)[-1] == "new"


def test_the_ends_are_ends():
    log = many(10)
    log.home()
    assert names(log) == ["t0", "t1", "t2", "t3"]
    log.move(-5)
    log.move(1)
    assert names(log) == ["t1", "t2", "t3", "t4"]
    log.end()
    log.move(99)
    assert names(log)[-1] == "t9"
    assert log.tailing


def test_where_all_is_seen_nothing_scrolls():
    log = many(3)
    log.move(-1)
    assert log.tailing
    assert names(log) == ["t0", "t1", "t2"]


def test_what_leaves_at_the_old_end_moves_no_line_in_sight():
    log = many(10, limit=10)
    log.move(-3)
    before = names(log)
    log.add(stamped(degraded(tunnel=f"n{number}")) for number in range(3))
    assert names(log) == before == ["t3", "t4", "t5", "t6"]
    log.add(stamped(degraded(tunnel=f"m{number}")) for number in range(3))
    assert names(log) == ["t6", "t7", "t8", "t9"]


def test_the_window_stays_in_its_place_when_something_is_hidden():
    events = [
        opened(number, rule=f"r{number}") if number % 2 else degraded(tunnel=f"t{number}")
        for number in range(20)
    ]
    log = log_of(*events)
    log.move(-6)
    last = [entry for entry in log.window() if entry.level is Level.WARNING][-1]
    log.narrow(level=Level.WARNING, search="")
    assert log.window()[-1] is last
    log.narrow(level=Level.DEBUG, search="")
    assert last in log.window()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 9)),
            st.tuples(st.just("move"), st.integers(-9, 9)),
            st.tuples(st.just("rows"), st.integers(0, 6)),
            st.tuples(st.just("level"), st.sampled_from(Level)),
        ),
        max_size=40,
    )
)
def test_the_window_is_always_a_part_of_what_is_shown(steps):
    log, number = EventLog(12), 0
    for what, value in steps:
        if what == "add":
            for _ in range(value):
                number += 1
                event = degraded(tunnel=f"t{number}") if number % 3 else opened(number, rule=f"r{number}")
                log.add([stamped(event, 1000 + number)])
        elif what == "move":
            log.move(value)
        elif what == "rows":
            log.rows = value
        else:
            log.narrow(level=value, search="")
        shown, window = list(log.shown()), log.window()
        assert len(window) == min(log.rows, len(shown))
        assert log.total <= 12
        if window:
            at = shown.index(window[0])
            assert shown[at : at + len(window)] == window
            assert log.newer == len(shown) - at - len(window)
