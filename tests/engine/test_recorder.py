"""An engine that is recorded: from the start, by command, through trouble, to a clean end."""

import asyncio
import stat
import threading

import msgspec
import numpy as np
import pytest

from rtun_core.commands import ProbeAgent, StartRecording, StopRecording
from rtun_core.engine import recorder as recorder_module
from rtun_core.engine.recorder import Recorder, Recording, default_path, with_most_traffic
from rtun_core.engine.recording import RecordingWriter
from rtun_core.engine.recording_reader import RecordingReader
from rtun_core.errors import CommandRefused, RtunError, UsageError
from rtun_core.events import Notice
from rtun_core.model import Snapshot
from tests.view.random_rows import random_rows

FOR_EVER = 3600.0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.rec"


@pytest.fixture
async def recorder(engine):
    recorder = Recorder(engine)
    await recorder.start()
    yield recorder
    await recorder.stop()


@pytest.fixture
def make(path, bus):
    """A recording that takes pictures only when told to; `flows` is what the next one has."""

    def made(*, flows=(), interval=FOR_EVER, **options):
        numbers = iter(range(1, 10**6))

        def snapshot():
            ts = 1e9 + next(numbers)
            return Snapshot(seq=1, ts=ts, uptime_s=1, pid=1, version="0", services=("relay",), flows=flows)

        return Recording(path, snapshot, bus, interval=interval, **options)

    return made


def contents(path):
    reader = RecordingReader(path)
    try:
        return reader.count, [each.event for each in reader.events(0, float("inf"))]
    finally:
        reader.close()


# ---- one recording ---------------------------------------------------------------------------


async def test_pictures_and_events(make, path, bus):
    recording = make()
    bus.emit(Notice(topic="t", message="before"))
    await recording.start()
    bus.emit(Notice(topic="t", message="one"))
    await recording.take()
    bus.emit(Notice(topic="t", message="last"))
    await recording.stop()
    count, events = contents(path)
    assert (count, recording.pictures) == (2, 2)
    assert [each.message for each in events] == ["one", "last"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


async def test_a_picture_each_interval(make, path, until):
    recording = make(interval=0.001)
    await recording.start()
    await until(lambda: recording.pictures > 3)
    await recording.stop()
    assert contents(path)[0] == recording.pictures


async def test_a_bus_that_was_closed_first(make, path, bus):
    recording = make()
    await recording.start()
    bus.emit(Notice(topic="t", message="last"))
    bus.close()
    await recording.stop()
    assert [each.message for each in contents(path)[1]] == ["last"]


async def test_a_slow_disk_costs_pictures(make, bus, until, monkeypatch):
    now = 0.0
    write = RecordingWriter.append_picture

    def slow(self, snapshot):
        nonlocal now
        now += 5.0
        write(self, snapshot)

    monkeypatch.setattr(RecordingWriter, "append_picture", slow)
    events = bus.subscribe()
    recording = make(interval=0.001, mono=lambda: now)
    await recording.start()
    await until(lambda: recording.pictures > 3)
    await recording.stop()
    assert recording.skipped >= 2 * 4998
    assert ["slow" in each.event.message for each in events.drain()] == [True]


async def test_the_loop_goes_on_while_a_picture_is_written(make, monkeypatch):
    loop, begun, gate = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    recording = make()
    await recording.start()

    def slow(self, snapshot):
        loop.call_soon_threadsafe(begun.set)
        gate.wait(20)

    monkeypatch.setattr(RecordingWriter, "append_picture", slow)
    taking = asyncio.gather(recording.take())
    await asyncio.wait_for(begun.wait(), 10)
    assert recording.pictures == 1
    gate.set()
    await taking
    assert recording.pictures == 2
    await recording.stop()


async def test_a_failure_is_told_once_and_tried_again(make, path, bus, monkeypatch):
    recording = make()
    await recording.start()
    events = bus.subscribe()
    write = RecordingWriter.append_picture

    def full(self, snapshot):
        raise RtunError("the disk is full")

    monkeypatch.setattr(RecordingWriter, "append_picture", full)
    await recording.take()
    await recording.take()
    monkeypatch.setattr(RecordingWriter, "append_picture", write)
    await recording.take()
    monkeypatch.setattr(RecordingWriter, "append_picture", full)
    await recording.take()
    await recording.stop()
    assert [each.event.message for each in events.drain()] == ["the disk is full"] * 2
    assert contents(path)[0] == recording.pictures == 2


async def test_a_disk_that_is_stuck_does_not_hold_the_end(make, bus, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(RecordingWriter, "append_events", lambda *_: gate.wait(20))
    monkeypatch.setattr(recorder_module, "FINISH_LIMIT", 0.01)
    recording = make()
    await recording.start()
    bus.emit(Notice(topic="t", message="last"))
    events = bus.subscribe()
    await recording.stop()
    gate.set()
    assert "was not closed within 0.01 s" in events.drain()[0].event.message


async def test_an_error_at_the_end_is_told(make, bus, monkeypatch):
    recording = make()
    await recording.start()
    bus.emit(Notice(topic="t", message="last"))

    def full(self, events):
        raise RtunError("the disk is full")

    monkeypatch.setattr(RecordingWriter, "append_events", full)
    events = bus.subscribe()
    await recording.stop()
    assert [each.event.message for each in events.drain()] == ["the disk is full"]


async def test_a_bug_is_told(make, bus, monkeypatch, until):
    recording = make(interval=0.001)
    await recording.start()
    events = bus.subscribe()
    monkeypatch.setattr(recording, "take", None)
    await until(lambda: len(events._queue))
    await recording.stop()
    assert "ended: TypeError" in events.drain()[0].event.message


# ---- many flows ------------------------------------------------------------------------------


async def test_of_very_many_flows_the_busiest_are_recorded(make, path, bus):
    events = bus.subscribe()
    rows = random_rows(50)
    recording = make(flows=rows, max_flows=10)
    await recording.start()
    await recording.take()
    await recording.stop()
    reader = RecordingReader(path)
    snapshot = reader.at(reader.end)
    reader.close()
    assert (len(snapshot.flows), snapshot.flows_total) == (10, 50)
    assert [each.event.message for each in events.drain()] == [
        "of 50 flows the 10 with the most traffic are recorded"
    ]


def test_the_busiest_keep_their_order():
    rows = random_rows(100)
    snapshot = Snapshot(seq=1, ts=1, uptime_s=1, pid=1, version="0", services=(), flows=rows)
    kept = with_most_traffic(snapshot, 20).flows
    rates = rows.up_rate + rows.down_rate
    assert np.array_equal(kept.ids, rows.ids[rates >= np.sort(rates)[-20]])
    assert with_most_traffic(snapshot, 100) is snapshot


# ---- an engine with a recorder ---------------------------------------------------------------


async def test_from_the_start_on(engine, path):
    recorder = Recorder(engine, path)
    await recorder.start()
    assert engine.snapshot(fresh=True).recording == str(path)
    await recorder.stop()
    assert engine.snapshot(fresh=True).recording == ""
    assert contents(path)[0] == 1


async def test_a_relative_path_is_told_in_full(engine, path, monkeypatch):
    monkeypatch.chdir(path.parent)
    recorder = Recorder(engine, path.relative_to(path.parent))
    await recorder.start()
    assert engine.recording == str(path)
    await recorder.stop()


async def test_by_command(engine, recorder, path):
    result = await engine.execute(StartRecording(path=str(path)), "ctl")
    assert (result.text, result.data) == (f"recording into {path}", {"path": str(path)})
    assert engine.recording == str(path)
    with pytest.raises(CommandRefused, match="is being recorded into already"):
        await engine.execute(StartRecording(), "ctl")
    result = await engine.execute(StopRecording(), "ctl")
    assert result.text == f"1 picture recorded into {path}"
    assert engine.recording == ""
    with pytest.raises(CommandRefused, match="nothing is being recorded"):
        await engine.execute(StopRecording(), "ctl")
    count, events = contents(path)
    assert count == 1
    assert events[0].command == f"record start --path {path}"


async def test_services_still_get_their_commands(engine, recorder):
    with pytest.raises(CommandRefused, match="is not known"):
        await engine.execute(ProbeAgent(name="beta"), "ctl")


async def test_without_a_path_into_the_log_directory(engine, recorder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    result = await engine.execute(StartRecording(), "ctl")
    (file,) = (tmp_path / "rtun" / "log" / "recordings").glob("rtun-*.rec")
    assert result.data["path"] == str(file)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


async def test_no_room_for_the_log_directory(engine, recorder, tmp_path, monkeypatch):
    (tmp_path / "rtun").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="cannot make the directory"):
        await engine.execute(StartRecording(), "ctl")


def test_the_home_directory_and_dates(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert recorder_module._absolute("~/x").parts[:2] == ("/", "somewhere")
    assert default_path(0).name.startswith(("rtun-19700101-", "rtun-19691231-"))


async def test_what_is_no_recording_is_left_alone(engine, recorder, path):
    path.write_bytes(b"something else")
    with pytest.raises(UsageError, match="is not a recording of rtun, or a broken one"):
        await engine.execute(StartRecording(path=str(path)), "ctl")
    assert path.read_bytes() == b"something else"
    other = Recorder(engine, path)
    with pytest.raises(UsageError, match=r"--record: .* is not a recording of rtun"):
        await other.start()
    assert engine.handlers == [recorder]


async def test_two_commands_at_once(engine, recorder, path):
    both = await asyncio.gather(
        engine.execute(StartRecording(path=str(path)), "ctl"),
        engine.execute(StartRecording(path=str(path)), "console"),
        return_exceptions=True,
    )
    assert [type(each).__name__ for each in both] == ["CommandResult", "CommandRefused"]


async def test_stopping_the_run_closes_the_recording(engine, path):
    recorder = Recorder(engine)
    await recorder.start()
    await engine.execute(StartRecording(path=str(path)), "ctl")
    await engine.stop()
    engine.bus.close()
    await recorder.stop()
    _, events = contents(path)
    assert type(events[-1]).__name__ == "EngineStopping"
    assert list(path.parent.iterdir()) == [path]


async def test_a_recording_goes_on_in_the_same_file(engine, recorder, path):
    for _ in range(2):
        await engine.execute(StartRecording(path=str(path)), "ctl")
        await engine.execute(StopRecording(), "ctl")
    assert contents(path)[0] == 2


async def test_the_pictures_are_the_engines(engine, recorder, path):
    await engine.execute(StartRecording(path=str(path)), "ctl")
    await engine.execute(StopRecording(), "ctl")
    reader = RecordingReader(path)
    snapshot = reader.at(reader.start)
    reader.close()
    now = engine.snapshot(fresh=True)
    same = {"seq": now.seq, "ts": now.ts, "uptime_s": now.uptime_s}
    assert msgspec.structs.replace(snapshot, **same) == now
