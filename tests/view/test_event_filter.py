"""The filter grammar over events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.event import Stamped
from rtun_core.events import AgentLost, BusLagged, Drops, FlowMoved, TunnelClosed, TunnelDegraded, TunnelUp
from rtun_core.model import AgentId, FlowId, TunnelId
from rtun_core.view.event_filter import compile_event_filter, event_fields_known
from rtun_core.view.filter_text import FilterError

UP = TunnelUp(
    tunnel=TunnelId("t4"),
    rule=None,
    agent=AgentId("beta/7f3c"),
    source="rotate",
    remote="192.0.2.1:4",
    rtt_ms=9.5,
)
BAD = TunnelDegraded(tunnel=TunnelId("t4"), reason="loss 4 %")
GOOD = TunnelDegraded(tunnel=TunnelId("t5"), reason="loss 0 %", recovered=True)
MOVED = FlowMoved(flow=FlowId("00a1f3e1"), count=1, old=TunnelId("t4"), new=TunnelId("t5"), reason="degraded")
LOST = AgentLost(agent=AgentId("eu-1"), reason="expired")
DROPS = Drops(counts={"oversize": 3})
FAILED = TunnelClosed(tunnel=TunnelId("t6"), reason="no path", opened=False)
EVENTS = (UP, BAD, GOOD, MOVED, LOST, DROPS, FAILED, BusLagged(skipped=7))


def passing(text):
    passes = compile_event_filter(text)
    return [event for seq, event in enumerate(EVENTS, 1) if passes(Stamped(seq, 0.0, 0.0, event))]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("", list(EVENTS)),
        ("tunnel=t4", [UP, BAD]),
        ("tunnel=t4|t5 !type=tunnel.up", [BAD, GOOD]),
        ("type=flow.moved", [MOVED]),
        ("type~^agent", [LOST]),
        ("type:tunnel rtt_ms>9", [UP]),
        ("level>=warning", [BAD, GOOD, LOST, DROPS, FAILED, EVENTS[-1]]),
        ("level=debug", [MOVED]),
        ("oversize", [DROPS]),
        ("recovered=true", [GOOD]),
        ("skipped>5 or agent~^eu-", [LOST, EVENTS[-1]]),
        ("reason:LOSS", [BAD, GOOD]),
        ("count=1", [MOVED]),
        ("seq<=2", [UP, BAD]),
        ("tunnel!=t4 type:tunnel", [GOOD, FAILED]),
        ("-(level>=warning | level=debug)", [UP]),
    ],
)
def test_what_passes(text, events):
    assert passing(text) == events


@pytest.mark.parametrize(
    ("text", "column", "told"),
    [
        ("tunel=t4", 0, "accepted: "),
        ("x level>loud", 8, "debug, info, warning, error"),
        ("rtt_ms>fast", 0, "a number"),
        ("type~[", 5, "regular expression"),
        ("@marked", 0, "not for events"),
        ("level~x", 0, "~"),
        ("type=", 5, ""),
    ],
)
def test_a_mistake_is_told_with_its_place(text, column, told):
    with pytest.raises(FilterError, match=r".") as caught:
        compile_event_filter(text)
    assert told in str(caught.value)
    assert caught.value.column == column


def test_every_field_of_an_event_can_be_asked_for():
    assert event_fields_known() >= {
        "type",
        "level",
        "text",
        "seq",
        "tunnel",
        "agent",
        "flow",
        "reason",
        "counts",
    }


def places_of_mistakes(text):
    try:
        compile_event_filter(text)
    except FilterError as error:
        return [error.column]
    return []


@given(st.text(max_size=60))
def test_any_text_makes_a_filter_or_an_error(text):
    assert all(0 <= column <= len(text) for column in places_of_mistakes(text))


@given(st.sampled_from(["tunnel=t4", "!level>info", "seq<3 | x"]), st.sampled_from(EVENTS))
def test_a_filter_answers_yes_or_no(text, event):
    assert compile_event_filter(text)(Stamped(1, 0.0, 0.0, event)) in (True, False)
