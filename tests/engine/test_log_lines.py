import asyncio
import json
import logging
import os
import re
import threading

import pytest

from rtun_core.engine.log_lines import MAX_LIBRARY_TEXT, LogWriter, text_line, visible, wants_colour
from rtun_core.errors import RtunError
from rtun_core.event import Level, Stamped
from rtun_core.events import AgentLost, FlowMoved, Notice


def stamped(event):
    return Stamped(1, 1_700_000_000.123456, 0.0, event)


LOST = AgentLost(agent="beta/7f3c", reason="gone")
MOVED = FlowMoved(flow=None, count=3, old="t1", new="t2", reason="degraded")


async def written(bus, path, *events, **settings):
    """What a log file holds after these events."""
    log = LogWriter(bus, stderr=None, file=path, **settings)
    await log.start()
    for event in events:
        bus.emit(event)
    await log.stop()
    return path.read_text()


def test_text_line():
    line = text_line(stamped(LOST)).decode()
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.123 WARN  agent beta/7f3c lost: gone\n", line)


def test_colour_is_only_around_the_level():
    line = text_line(stamped(LOST), colour=True).decode()
    assert line.endswith(" \x1b[33mWARN \x1b[0m agent beta/7f3c lost: gone\n")


def test_a_peer_cannot_write_its_own_lines_or_escapes():
    text = text_line(stamped(AgentLost(agent="x", reason="a\n12:00:00.000 INFO  fake\x1b[2J\x9b\r"))).decode()
    assert text.count("\n") == 2
    assert text.splitlines()[1] == "    | 12:00:00.000 INFO  fake\\x1b[2J\\x9b\\x0d"


def test_visible_keeps_other_letters():
    assert visible("ü 漢\t") == "ü 漢\\x09"


def test_no_text_turns_the_direction_of_a_line_or_ends_it():
    assert visible("a\u202eb\u2066c\u2028d") == r"a\u202eb\u2066c\u2028d"


def test_lone_surrogates_do_not_break_the_log():
    assert b"\\udc80" in text_line(stamped(Notice(topic="t", message="a\udc80")))


async def test_level_of_the_log(bus, tmp_path):
    text = await written(bus, tmp_path / "log", LOST, MOVED)
    assert "agent beta/7f3c lost" in text
    assert "moved" not in text


async def test_debug_shows_more(bus, tmp_path):
    text = await written(bus, tmp_path / "log", MOVED, level=Level.DEBUG)
    assert " DEBUG 3 flows moved t1 -> t2: degraded\n" in text


async def test_json_file(bus, tmp_path):
    text = await written(bus, tmp_path / "log", LOST, MOVED, file_format="json")
    assert [json.loads(line)["type"] for line in text.splitlines()] == ["agent.lost"]


async def test_stderr_and_file_at_once(bus, tmp_path):
    read, write = os.pipe()
    log = LogWriter(bus, stderr=write, file=tmp_path / "log")
    await log.start()
    assert log.has_file
    bus.emit(LOST)
    await log.stop()
    os.close(write)
    with os.fdopen(read) as file:
        assert file.read() == (tmp_path / "log").read_text() != ""


async def test_reopen_after_rotation(bus, tmp_path, until):
    path, old = tmp_path / "log", tmp_path / "log.1"
    log = LogWriter(bus, stderr=None, file=path)
    await log.start()
    bus.emit(LOST)
    await until(path.read_text)
    path.rename(old)
    log.reopen()
    await until(path.exists)
    bus.emit(AgentLost(agent="alpha", reason="gone"))
    await log.stop()
    assert "beta" in old.read_text()
    assert "alpha" in path.read_text()


async def test_a_reopen_that_fails_is_told_and_the_old_file_stays(bus, tmp_path, until):
    folder = tmp_path / "logs"
    folder.mkdir()
    moved = tmp_path / "moved"
    log = LogWriter(bus, stderr=None, file=folder / "log")
    await log.start()
    folder.rename(moved)
    log.reopen()
    await until(lambda: "cannot reopen the log file" in (moved / "log").read_text())
    await log.stop()


async def test_reopen_without_a_file_does_nothing(bus):
    log = LogWriter(bus, stderr=None)
    await log.start()
    log.reopen()
    await log.stop()
    assert not log.has_file


async def test_a_file_that_cannot_be_opened(bus, tmp_path):
    log = LogWriter(bus, stderr=None, file=tmp_path / "no" / "log")
    with pytest.raises(RtunError, match="--log-file: cannot write"):
        await log.start()
    assert not [one for one in logging.getLogger().handlers if type(one).__name__ == "LibraryLog"]


async def test_libraries_speak_through_the_same_log(bus, tmp_path):
    log = LogWriter(bus, stderr=None, file=tmp_path / "log")
    await log.start()
    logging.getLogger("aioquic").warning("strange %s", "packet")
    logging.getLogger("aiohttp.access").info("GET /")
    try:
        raise ValueError("inner")
    except ValueError:
        logging.getLogger("asyncio").exception("task failed")
    await log.stop()
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[0].endswith("WARN  aioquic: strange packet")
    assert lines[1].endswith("ERROR asyncio: task failed")
    assert lines[-1] == "    | ValueError: inner"
    assert "GET" not in "".join(lines)


async def test_a_failure_of_a_library_is_loud_but_has_the_form_of_a_notice(bus, tmp_path):
    log = LogWriter(bus, stderr=None, file=tmp_path / "log", level=Level.ERROR, file_format="json")
    await log.start()
    logging.getLogger("asyncio").error("x" * 100_000)
    await log.stop()
    line = json.loads((tmp_path / "log").read_text())
    assert (line["type"], line["topic"]) == ("notice", "asyncio")
    assert len(line["message"]) < MAX_LIBRARY_TEXT + 100


async def test_libraries_may_log_from_other_threads(bus, tmp_path, until):
    log = LogWriter(bus, stderr=None, file=tmp_path / "log")
    await log.start()
    thread = threading.Thread(target=logging.getLogger("other").warning, args=("from afar",))
    thread.start()
    await asyncio.to_thread(thread.join)
    await until(lambda: "from afar" in (tmp_path / "log").read_text())
    await log.stop()


def test_colour_only_on_a_terminal_that_may_have_it():
    main, sub = os.openpty()
    try:
        assert wants_colour(sub, {})
        assert wants_colour(sub, {"NO_COLOR": ""})
        assert not wants_colour(sub, {"NO_COLOR": "1"})
        assert not wants_colour(sub, {"TERM": "dumb"})
    finally:
        os.close(main)
        os.close(sub)
    read, write = os.pipe()
    assert not wants_colour(write, {})
    os.close(read)
    os.close(write)
