import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.engine.hello import hello_of
from rtun_core.engine.simulated import SimulatedWorld
from rtun_core.engine.view_messages import (
    MAX_ASKS,
    MAX_EVENTS,
    MAX_SPECS,
    Ask,
    SpecError,
    ViewRequest,
    answer_message,
    error_message,
    events_message,
    hello_message,
    history_message,
    read_message,
    read_request,
    write_request,
)
from rtun_core.errors import RemoteProtocolError
from rtun_core.event import Stamped
from rtun_core.events import Notice
from rtun_core.view.history import History
from rtun_core.view.history_packed import unpack_history
from rtun_core.view.page import MAX_FILTER, Sort, ViewSpec
from rtun_core.view.project import project

SPEC = ViewSpec(table="flows", filter="dn>1k", sort=(Sort("dn", True),), offset=3, marks=("1",), follow="2")


@pytest.mark.parametrize(
    "request_",
    [
        ViewRequest(since=0),
        ViewRequest(look=()),
        ViewRequest(look=(SPEC, ViewSpec(table="agents")), turn=3, interval=0.1),
        ViewRequest(hold=False),
        ViewRequest(ask=(Ask(1, SPEC),)),
        ViewRequest(form="changes", key=True),
    ],
)
def test_requests_round_trip(request_):
    assert read_request(write_request(request_)) == request_
    assert read_request(write_request(request_).encode()) == request_


def test_a_request_as_a_script_writes_it():
    assert read_request('{"since": 3, "look": [{"table": "flows"}], "interval": 1}') == ViewRequest(
        since=3, look=(ViewSpec(table="flows"),), interval=1.0
    )


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        5,
        None,
        {"fly": True},
        {"form": "round"},
        {"since": -1},
        {"since": 2**63},
        {"since": "1"},
        {"look": [{"table": "birds"}]},
        {"look": [{}]},
        {"look": [{"table": "flows"}] * (MAX_SPECS + 1)},
        {"look": [{"table": "flows", "limit": 2001}]},
        {"look": [{"table": "flows", "limit": 0}]},
        {"look": [{"table": "flows", "offset": -1}]},
        {"look": [{"table": "flows", "filter": "x" * (MAX_FILTER + 1)}]},
        {"look": [{"table": "flows", "sort": [{"column": "dn"}] * 9}]},
        {"look": [{"table": "flows", "marks": ["1"] * 10_001}]},
        {"interval": 0.05},
        {"interval": 6},
        {"interval": None, "hold": 1},
        {"ask": [{"number": 1}]},
        {"ask": [{"number": 1, "spec": {"table": "flows"}}] * (MAX_ASKS + 1)},
    ],
)
def test_requests_that_are_none(value):
    with pytest.raises(RemoteProtocolError) as caught:
        read_request(json.dumps(value))
    assert caught.value.reason == "view"


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", "{", b"[" * 100_000, "nan", b"\x00"])
def test_garbage(data):
    for read in (read_request, read_message):
        with pytest.raises(RemoteProtocolError):
            read(data)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_any_bytes_are_read_or_refused(data):
    for read in (read_request, read_message):
        with contextlib.suppress(RemoteProtocolError):
            read(data)


def test_other_messages_round_trip(engine):
    hello = hello_of(engine)
    assert read_message(hello_message(hello)).hello == hello
    history = read_message(history_message(History().picture())).history
    assert unpack_history(history).count == 0
    error = SpecError(table="flows", text="what", column=3)
    assert read_message(error_message(error)).error == error
    assert read_message(answer_message(4, error)).answer.error == error
    page = project(SimulatedWorld(flows=9, start=1.7e9).picture(), ViewSpec(table="flows"))
    answer = read_message(answer_message(5, page)).answer
    [found] = answer.pages.all()
    assert (answer.number, answer.error, found.rows, found.shown) == (5, None, page.rows, page.shown)


def test_events_are_written_as_everywhere():
    events = [Stamped(seq, 1.5e9, 2.0, Notice(topic="t", message="m")) for seq in range(1, MAX_EVENTS + 1)]
    message = events_message(events)
    assert [json.loads(bytes(raw))["seq"] for raw in read_message(message).events] == [
        each.seq for each in events
    ]
    with pytest.raises(RemoteProtocolError):
        read_message(events_message([*events, events[0]]))
