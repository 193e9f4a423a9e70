import asyncio
import errno
import os
import threading

import pytest

from rtun_core.engine.json_lines import json_line
from rtun_core.engine.line_output import DescriptorSink, EventLines, FileSink, OutputThread, write_all
from rtun_core.errors import RtunError
from rtun_core.events import BusLagged, Notice


def notice(number):
    return Notice(topic="t", message=str(number))


class ListSink:
    name = "list"
    recovers = True

    def __init__(self):
        self.written = []
        self.error = None
        self.closed = False
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def write(self, data):
        self.entered.set()
        self.gate.wait()
        if self.error:
            raise self.error
        self.written.append(data)

    def close(self):
        self.closed = True


def render(stamped):
    event = stamped.event
    return f"{event.message}\n".encode() if isinstance(event, Notice) else b"lag\n"


async def test_every_event_in_order(bus):
    sink = ListSink()
    lines = EventLines(bus, sink, render)
    for number in range(5):
        bus.emit(notice(number))
    await lines.stop()
    assert b"".join(sink.written) == b"0\n1\n2\n3\n4\n"
    assert sink.closed


async def test_nothing_is_written_for_events_without_a_line(bus):
    sink = ListSink()
    lines = EventLines(bus, sink, lambda stamped: b"")
    bus.emit(notice(1))
    await lines.stop()
    assert sink.written == []


async def test_a_blocked_reader_holds_nobody_up_and_learns_what_it_missed(bus, until, monkeypatch):
    monkeypatch.setattr("rtun_core.engine.line_output.HISTORY", 4)
    sink = ListSink()
    sink.gate.clear()
    lines = EventLines(bus, sink, json_line)
    bus.emit(notice("first"))
    await until(sink.entered.is_set)
    for number in range(10):
        bus.emit(notice(number))
    sink.gate.set()
    await lines.stop()
    assert str(BusLagged(skipped=6).skipped).encode() in sink.written[1]
    assert b"".join(sink.written).count(b"\n") == 1 + 1 + 4


async def test_a_stuck_write_does_not_hold_the_stop(bus, until, monkeypatch):
    monkeypatch.setattr("rtun_core.engine.line_output.FINISH_LIMIT", 0.01)
    sink = ListSink()
    sink.gate.clear()
    lines = EventLines(bus, sink, render)
    bus.emit(notice(1))
    await until(sink.entered.is_set)
    async with asyncio.timeout(5):
        await lines.stop()
    assert not sink.closed
    sink.gate.set()


async def test_a_full_disk_is_told_once_and_tried_again(bus, until):
    watcher = bus.subscribe()
    sink = ListSink()
    sink.error = OSError(errno.ENOSPC, "No space left")
    lines = EventLines(bus, sink, render)
    bus.emit(notice("lost"))
    await until(lambda: len(watcher._queue) >= 2)
    texts = [stamped.event.text() for stamped in watcher.drain()]
    assert texts == ["lost", "cannot write list: No space left"]
    sink.error = None
    bus.emit(notice("kept"))
    await until(lambda: b"kept" in b"".join(sink.written))
    await lines.stop()


async def test_a_reader_that_went_away_ends_the_output_quietly(bus, until):
    read, write = os.pipe()
    os.close(read)
    watcher = bus.subscribe()
    lines = EventLines(bus, DescriptorSink(write, "standard output"), json_line)
    bus.emit(notice(1))
    await until(lambda: lines._subscription.closed)
    bus.emit(notice(2))
    assert len(watcher._queue) == 2
    await lines.stop()
    os.close(write)


async def test_thread_runs_calls_in_order_and_reports_errors():
    thread = OutputThread("test")
    done = []
    first = thread.submit(lambda: done.append(1))
    second = thread.submit(lambda: os.stat("/does/not/exist"))
    await first
    with pytest.raises(FileNotFoundError):
        await second
    assert done == [1]
    assert thread.close()


def test_file_sink_says_what_cannot_be_opened(tmp_path):
    with pytest.raises(RtunError, match=r"--log-file: cannot write the file .*: No such file") as caught:
        FileSink(tmp_path / "no" / "log", "--log-file")
    assert caught.value.exit_status == 1


def test_file_sink_appends_and_reopens(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"old\n")
    sink = FileSink(path, "--log-file")
    sink.write(b"one\n")
    path.rename(tmp_path / "log.1")
    sink.write(b"two\n")
    sink.reopen()
    sink.write(b"three\n")
    sink.close()
    assert (tmp_path / "log.1").read_bytes() == b"old\none\ntwo\n"
    assert path.read_bytes() == b"three\n"


def test_write_all_to_a_pipe_that_does_not_block():
    read, write = os.pipe()
    os.set_blocking(write, False)
    data = bytes(range(256)) * 2048
    got = bytearray()

    def drain():
        while len(got) < len(data):
            got.extend(os.read(read, 65536))

    reader = threading.Thread(target=drain)
    reader.start()
    write_all(write, data)
    reader.join()
    os.close(read)
    os.close(write)
    assert bytes(got) == data
