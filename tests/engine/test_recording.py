"""Recordings as files: exact, bounded by age and size, and never a traceback for a foreign one."""

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import suppress

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtun_core.engine.flow_delta import encode_flows
from rtun_core.engine.packing import pack
from rtun_core.engine.recording import APPLICATION, FORMAT, RecordingWriter
from rtun_core.engine.recording_reader import MAX_SNAPSHOT, RecordingReader
from rtun_core.engine.simulated import SimulatedWorld
from rtun_core.errors import RtunError, UsageError
from rtun_core.event import Stamped
from rtun_core.events import BusLagged, Notice
from rtun_core.flow_rows import FlowRows
from rtun_core.model import Rates, RuleState, RuleView, Snapshot, Traffic, TunnelState, TunnelView
from tests.engine.flow_sequences import assert_same, following, new_rows

START = 1.8e9


def picture(ts, flows=(), **fields):
    return Snapshot(
        seq=1, ts=ts, uptime_s=3.0, pid=4, version="0", services=("relay",), flows=flows, **fields
    )


def event(ts, text="x", seq=1):
    return Stamped(seq, ts, ts - START, Notice(topic="t", message=text))


def write(path, pictures=(), events=(), **limits):
    writer = RecordingWriter(path, **limits)
    for each in pictures:
        writer.append_picture(each)
    writer.append_events(events)
    writer.close()


def assert_equal(one, other):
    replace = msgspec.structs.replace
    assert replace(one, flows=()) == replace(other, flows=())
    assert_same(one.flows, other.flows)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a #?% file.rec"


@pytest.fixture
def read():
    """Open a recording and close it after the test."""
    readers = []

    def opened(path):
        readers.append(RecordingReader(path))
        return readers[-1]

    yield opened
    for reader in readers:
        reader.close()


@pytest.fixture
def edit(path):
    """Change the file behind the recording's back."""

    def changed(statement, *values):
        db = sqlite3.connect(path)
        with db:
            db.execute(statement, values)
        db.close()

    return changed


# ---- what is read is what was written --------------------------------------------------------

FLOATS = st.floats(0, 1e18)
RATES = st.builds(Rates, FLOATS, FLOATS, FLOATS, FLOATS)
TRAFFIC = st.builds(Traffic, *[st.integers(0, 2**63 - 1)] * 4)
COUNTS = st.dictionaries(st.text(max_size=5), st.integers(0, 2**63), max_size=3)
RULES = st.builds(
    RuleView,
    id=st.text(max_size=3),
    family=st.just("relay"),
    listen=st.text(max_size=9),
    target=st.text(max_size=9),
    state=st.sampled_from(RuleState),
    traffic=TRAFFIC,
    rates=RATES,
    drops=COUNTS,
)
TUNNELS = st.builds(
    TunnelView,
    id=st.text(max_size=3),
    rule=st.none() | st.just("r1"),
    agent=st.none() | st.just("a/1"),
    state=st.sampled_from(TunnelState),
    kind=st.just("p2p"),
    opened_at=FLOATS,
    rtt_ms=st.none() | FLOATS,
    loss_up=st.none() | FLOATS,
    rates=RATES,
)


@st.composite
def sequences(draw):
    """Pictures that follow each other, at times that are mostly a second apart."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    ts, flows, pictures = START, new_rows(rng, draw(st.integers(0, 20)), first_id=1, now=START), []
    for _ in range(draw(st.integers(1, 5))):
        fields = {
            "rules": tuple(draw(st.lists(RULES, max_size=2))),
            "tunnels": tuple(draw(st.lists(TUNNELS, max_size=2))),
            "drops": draw(COUNTS),
            "rates": draw(RATES),
            "traffic": draw(TRAFFIC),
            "flows_total": draw(st.none() | st.integers(0, 2**40)),
            "recording": draw(st.text(max_size=5)),
        }
        pictures.append(picture(ts, flows, **fields))
        ts += draw(st.sampled_from([1.0, 1.0, 0.25, 61.0]))
        flows = following(rng, flows, now=ts)
    return pictures


@given(sequences())
@settings(max_examples=30, deadline=None)
def test_any_pictures_are_read_back_equal(tmp_path_factory, pictures):
    path = tmp_path_factory.mktemp("rec") / "x.rec"
    write(path, pictures)
    reader = RecordingReader(path)
    place = reader.first()
    for each in pictures:
        assert_equal(reader.read(place), each)
        place = reader.next(place)
    assert place is None
    for each in reversed(pictures):  # from the key frame each time, where none is kept
        reader._flows.clear()
        assert_equal(reader.at(each.ts), each)
    reader.close()


def test_a_simulated_relay_over_several_groups(path, read):
    world = SimulatedWorld(flows=50, start=START)
    pictures = []
    for _ in range(130):
        world.advance(1.0)
        pictures.append(world.picture())
    write(path, pictures)
    reader = read(path)
    assert reader.count == 130
    assert (reader.start, reader.end) == (pictures[0].ts, pictures[-1].ts)
    for each in (*pictures[100:], *pictures[70::-7], pictures[0]):
        assert_equal(reader.at(each.ts), each)
    light = list(reader.without_flows(pictures[9].ts, pictures[100].ts))
    assert light == [msgspec.structs.replace(each, flows=()) for each in pictures[10:101]]
    assert len({row[0] for row in sqlite3.connect(path).execute("SELECT key FROM picture")}) == 3


def test_between_pictures_and_beyond_them(path, read):
    write(path, [picture(START + second) for second in (0, 1, 1, 5)])
    reader = read(path)
    assert reader.at(START - 100).ts == START
    assert reader.at(START + 4.9).ts == START + 1
    assert reader.at(float("inf")).ts == START + 5
    first = reader.first()
    assert reader.previous(first) is None
    second = reader.next(first)
    third = reader.next(second)
    assert (second.ts, third.ts) == (START + 1, START + 1)
    assert reader.previous(third) == second
    assert reader.next(third) == reader.last()
    assert reader.next(reader.last()) is None


def test_a_clock_that_is_set_back_begins_a_group(path, read):
    rng = np.random.default_rng(1)
    pictures = [picture(START + ts, new_rows(rng, 3, first_id=1, now=START)) for ts in (0, 1, -50, -49)]
    write(path, pictures)
    reader = read(path)
    for each in pictures:
        assert_equal(reader.at(each.ts), each)


def test_flows_as_rows_are_recorded_too(path, read, flow):
    write(path, [picture(START, (flow(1, 5, 6), flow(2)))])
    assert [each.id for each in read(path).at(START).flows] == ["00000001", "00000002"]


def test_flows_in_a_foreign_form_are_an_error(path, flow):
    writer = RecordingWriter(path)
    with pytest.raises(RtunError, match="cannot write the recording"):
        writer.append_picture(picture(START, (msgspec.structs.replace(flow(1), source="there"),)))
    writer.close()


def test_events_keep_their_envelope(path, read):
    events = [event(START + second, str(second), seq=second + 7) for second in range(10)]
    write(path, [picture(START)], events)
    reader = read(path)
    assert reader.events(0, float("inf")) == events
    assert reader.events(START + 2, START + 4) == events[3:5]
    assert reader.last_moment == START + 9


def test_of_many_events_the_newest_are_given(path, read):
    write(path, [picture(START)], [event(START, str(n), seq=n) for n in range(1, 11)])
    lagged, *rest = read(path).events(0, START, limit=4)
    assert lagged == Stamped(6, START, 0.0, BusLagged(skipped=6))
    assert [each.seq for each in rest] == [7, 8, 9, 10]
    assert len(read(path).events(0, START, limit=10)) == 10


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_events_are_found_forward_and_back(path, read, batch, monkeypatch):
    monkeypatch.setattr("rtun_core.engine.recording_reader.MAX_EVENTS", batch)
    write(path, [picture(START)], [event(START + n // 2, str(n), seq=n) for n in range(10)])
    reader = read(path)

    def found(ts, by, *wanted):
        stamped = reader.find_event(START + ts, lambda each: each.event.message in wanted, by=by)
        return stamped and stamped.event.message

    assert found(0, 1, "3", "5") == "3"
    assert found(1, 1, "3", "5") == "5"
    assert found(3, -1, "3", "5") == "5"
    assert found(2, -1, "3", "5", "4") == "3"
    assert found(4, 1, "9") is found(0, -1, "0") is None


def test_events_of_a_newer_version_are_left_out(path, read, edit):
    write(path, [picture(START)], [event(START, "known")])
    edit("INSERT INTO event (seq, ts, mono, event) VALUES (2, ?, 0, ?)", START, '{"type":"moon.rose"}')
    assert [each.event.message for each in read(path).events(0, START)] == ["known"]


# ---- the file --------------------------------------------------------------------------------


def test_the_file_is_its_owners_and_stands_alone(path):
    writer = RecordingWriter(path)
    writer.append_picture(picture(START))
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}
    writer.close()
    assert list(path.parent.iterdir()) == [path]


def test_a_recording_goes_on(path, read):
    rng = np.random.default_rng(1)
    pictures = [picture(START + n, new_rows(rng, 5, first_id=n, now=START)) for n in range(4)]
    write(path, pictures[:2])
    write(path, pictures[2:])
    reader = read(path)
    assert reader.count == 4
    for each in pictures:
        assert_equal(reader.at(each.ts), each)


def test_it_can_be_read_while_it_is_written(path, read):
    writer = RecordingWriter(path)
    writer.append_picture(picture(START))
    reader = read(path)
    writer.append_picture(picture(START + 1))
    assert reader.end == START + 1
    writer.close()
    assert reader.at(START + 1).ts == START + 1


def test_what_was_written_survives_a_kill(path, read):
    script = (
        "import sys, os; sys.path.insert(0, '.'); from pathlib import Path;"
        "from rtun_core.engine.recording import RecordingWriter; from rtun_core.model import Snapshot;"
        f"w = RecordingWriter(Path({str(path)!r}));"
        "w.append_picture(Snapshot(seq=1, ts=5.0, uptime_s=0, pid=1, version='', services=()));"
        "os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 9
    assert read(path).at(5.0).ts == 5.0
    write(path, [picture(6.0)])
    assert read(path).count == 2


def test_only_one_writes(path):
    writer = RecordingWriter(path)
    with pytest.raises(UsageError, match="somebody is recording into it"):
        RecordingWriter(path)
    writer.close()
    write(path)


def test_an_empty_file_is_taken(path, read):
    path.touch()
    write(path, [picture(START)])
    assert read(path).count == 1


def test_a_place_that_cannot_be_written(tmp_path):
    for place, why in (
        (tmp_path / "no" / "x", "No such file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "a\0b", "null byte"),
        (tmp_path.with_name("x" * 300), "too long"),
    ):
        with pytest.raises(UsageError, match=f"cannot record into .*{why}"):
            RecordingWriter(place)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match="it is not a file"):
        RecordingWriter(tmp_path / "fifo")


def test_after_a_failed_picture_comes_a_key_frame(path, read, edit):
    rng = np.random.default_rng(1)
    pictures = [picture(START + n, new_rows(rng, 5, first_id=n, now=START)) for n in range(3)]
    writer = RecordingWriter(path)
    writer.append_picture(pictures[0])
    edit("CREATE TRIGGER full BEFORE INSERT ON picture BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
    with pytest.raises(RtunError, match="disk is full"):
        writer.append_picture(pictures[1])
    edit("DROP TRIGGER full")
    writer.append_picture(pictures[2])
    writer.close()
    reader = read(path)
    assert_equal(reader.at(START + 2), pictures[2])
    assert reader.count == 2


# ---- how much is kept ------------------------------------------------------------------------


def test_groups_that_are_too_old_go(path, read):
    pictures = [picture(START + second) for second in range(0, 600, 20)]
    write(path, pictures, max_age=130.0)
    kept = read(path)
    # The last group begins at 540; that of 360 to 400 ends more than 130 s before.
    assert (kept.start, kept.end) == (START + 420, START + 580)
    assert_equal(kept.at(START + 440), picture(START + 440))


def test_old_events_go_with_their_pictures(path, read):
    writer = RecordingWriter(path, max_age=100.0)
    for second in range(0, 400, 10):
        writer.append_events([event(START + second)])
        writer.append_picture(picture(START + second))
    writer.close()
    reader = read(path)
    assert reader.start > START + 200
    assert reader.events(0, float("inf"))[0].ts == reader.start


def test_the_oldest_groups_go_when_there_is_no_room(path, read):
    rng = np.random.default_rng(1)
    limit = 1 << 20
    writer = RecordingWriter(path, max_bytes=limit)
    for second in range(0, 3600, 20):
        writer.append_picture(picture(START + second, new_rows(rng, 500, first_id=1, now=START)))
    group = 3 * 60_000
    assert writer._used() <= limit + group
    writer.close()
    assert path.stat().st_size <= limit + 2 * group
    reader = read(path)
    assert 6 < reader.count < 100
    assert len(reader.at(reader.start).flows) == 500


def test_one_group_is_always_kept(path, read):
    rng = np.random.default_rng(1)
    flows = new_rows(rng, 500, first_id=1, now=START)
    write(path, [picture(START + second, flows) for second in range(0, 200, 20)], max_bytes=1)
    assert read(path).count == 1


# ---- files that are no recordings, broken or newer -------------------------------------------


def refused(path):
    with pytest.raises(UsageError) as caught:
        RecordingReader(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_file(tmp_path):
    assert (
        refused(tmp_path / "none")
        == f"cannot read the recording {tmp_path / 'none'}: No such file or directory"
    )
    assert "it is not a file" in refused(tmp_path)
    assert "null byte" in refused(tmp_path / "\0")


@pytest.mark.parametrize("content", [b"", b"x", b"#!/bin/sh\n" * 1000, b"SQLite format 3\0", bytes(5000)])
def test_garbage(path, content):
    path.write_bytes(content)
    assert "is not a recording of rtun" in refused(path)
    if content:
        with pytest.raises(UsageError, match="it is left as it is"):
            RecordingWriter(path)
        assert path.read_bytes() == content


def test_a_database_of_somebody_else(path, edit):
    edit("CREATE TABLE picture (id)")
    before = path.read_bytes()
    assert refused(path) == f"{path} is not a recording of rtun"
    with pytest.raises(UsageError, match="is not a recording of rtun; it is left as it is"):
        RecordingWriter(path)
    assert path.read_bytes() == before


def test_a_newer_one(path, edit):
    write(path, [picture(START)])
    edit(f"PRAGMA user_version = {FORMAT + 1}")
    assert refused(path) == f"{path} was recorded by a newer rtun, format 2; accepted: 1"
    with pytest.raises(UsageError, match="newer"):
        RecordingWriter(path)


def test_other_tables(path, edit):
    edit(f"PRAGMA application_id = {APPLICATION}")
    edit("PRAGMA user_version = 1")
    edit("CREATE TABLE picture (id)")
    assert "no such column" in refused(path)


def test_no_pictures(path):
    write(path)
    assert refused(path) == f"the recording {path} has no pictures"


def test_cut_off_files_never_end_in_a_traceback(path):
    rng = np.random.default_rng(1)
    flows = new_rows(rng, 300, first_id=1, now=START)
    write(path, [picture(START + n, flows) for n in range(20)])
    whole = path.read_bytes()
    for size in (10, 100, 4096, len(whole) // 2, len(whole) - 4096):
        path.write_bytes(whole[:size])
        assert str(path) in refused(path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_files_never_end_in_a_traceback(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("rec") / "x.rec"
    rng = np.random.default_rng(1)
    pictures = [picture(START + n, new_rows(rng, 20, first_id=1, now=START)) for n in range(3)]
    write(path, pictures, [event(START + n) for n in range(3)])
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        reader = RecordingReader(path)
    except UsageError:
        return
    with suppress(RtunError):
        reader.events(0, float("inf"))
        list(reader.without_flows(0, float("inf")))
        list(reader.at(START + 2).flows)
    reader.close()


@pytest.mark.parametrize(
    ("change", "values", "problem"),
    [
        ("UPDATE picture SET snapshot = ? WHERE id = 2", (b"x",), "damaged at picture 2: is cut off"),
        ("UPDATE picture SET snapshot = ? WHERE id = 1", (pack(b"x"),), "damaged at picture 1"),
        ("UPDATE picture SET flows = ? WHERE id = 2", (pack(b"x"),), "damaged at picture 2: not a picture"),
        (
            "UPDATE picture SET flows = ? WHERE id = 1",
            (encode_flows(FlowRows.empty(), new_rows(np.random.default_rng(3), 4, first_id=1, now=1.0)),),
            "damaged at picture 2: 2 flows out of 4",
        ),
        ("UPDATE picture SET key = 2 WHERE id = 3", (), "damaged"),
        ("UPDATE picture SET key = 7 WHERE id = 3", (), "damaged: a picture is missing"),
        ("DELETE FROM picture WHERE id = 2", (), "damaged at picture 3: pictures before it are missing"),
        ("UPDATE picture SET ts = ts + 0.5 WHERE id = 3", (), "damaged at picture 3: its times differ"),
        ("UPDATE picture SET ts = 'soon' WHERE id = 3", (), "damaged"),
        ("UPDATE picture SET snapshot = 'text' WHERE id = 3", (), "damaged"),
    ],
)
def test_damage_is_told_where_it_is(path, read, edit, change, values, problem):
    rng = np.random.default_rng(1)
    flows = new_rows(rng, 2, first_id=1, now=START)
    write(path, [picture(START + n, flows) for n in range(3)])
    edit(change, *values)
    with pytest.raises(RtunError, match=problem):
        read_all(read, path)


def read_all(read, path):
    reader = read(path)
    place = reader.first()
    while place is not None:
        reader.read(place)
        place = reader.next(place)


def test_a_time_that_no_calendar_has_is_damage(path, edit):
    write(path, [picture(START)])
    edit("UPDATE picture SET ts = 1e300")
    assert "damaged" in refused(path)


def test_what_unpacks_to_too_much_is_damage(path, edit, read):
    write(path, [picture(START)])
    edit("UPDATE picture SET snapshot = ?", pack(bytes(MAX_SNAPSHOT + 1)))
    with pytest.raises(RtunError, match="unpacks to more than"):
        read(path).at(START)


def test_an_event_that_cannot_be_read(path, read, edit):
    write(path, [picture(START)], [event(START)])
    edit("UPDATE event SET event = '{'")
    with pytest.raises(RtunError, match="has an event that cannot be read"):
        read(path).events(0, START)
