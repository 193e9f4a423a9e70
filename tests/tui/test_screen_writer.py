"""The writer on a pseudo-terminal that the test reads, or does not."""

from __future__ import annotations

import os
import select
import termios
import threading
import time
import tty
from types import SimpleNamespace

import pytest

from rtun_tui.screen_writer import MAX_WAITING_FRAMES, ScreenWriter

FRAME = b"f" * 20_000  # more than the kernel keeps for a terminal


@pytest.fixture
def place():
    """A terminal, a writer on it, and what the writer told."""
    master, slave = os.openpty()
    tty.setraw(slave)
    place = SimpleNamespace(master=master, slave=slave, drained=threading.Event(), lost=[])
    place.writer = ScreenWriter(slave, on_drained=place.drained.set, on_lost=lambda: place.lost.append(1))
    yield place
    place.writer.stop(0, b"")
    for fileno in (place.master, place.slave):
        if fileno >= 0:
            os.close(fileno)


def read(master: int, until: bytes, timeout: float = 5.0) -> bytes:
    """Read until the output ends with some bytes."""
    taken = b""
    end = time.monotonic() + timeout
    while not taken.endswith(until):
        assert select.select([master], [], [], max(end - time.monotonic(), 0))[0], taken[-100:]
        taken += os.read(master, 65536)
    return taken


def test_writes_in_order(place):
    place.writer.control(b"first ")
    place.writer.frame(b"second ")
    place.writer.control(b"third")
    place.writer.start()
    assert read(place.master, b"third") == b"first second third"
    assert place.writer.frames_dropped == 0
    assert not place.drained.is_set()


def test_frames_that_pile_up_are_dropped_and_the_rest_is_kept(place):
    for number in range(MAX_WAITING_FRAMES + 3):
        place.writer.control(b"<%d>" % number)
        place.writer.frame(FRAME)
    assert place.writer.frames_dropped == MAX_WAITING_FRAMES + 3
    place.writer.start()
    assert read(place.master, b"<6>") == b"<0><1><2><3><4><5><6>"
    assert place.drained.wait(5)
    place.writer.frame(b"all of it")
    assert read(place.master, b"all of it") == b"all of it"


def test_a_terminal_that_is_not_read_makes_nobody_wait(place):
    place.writer.start()
    place.writer.control(b"x" * 50_000)
    assert select.select([place.master], [], [], 5)[0], "it is under way, and more than there is room for"
    started = time.monotonic()
    for _ in range(1000):
        place.writer.frame(FRAME)
    assert time.monotonic() - started < 0.5
    assert place.writer.frames_dropped == 1000
    assert not place.drained.is_set()
    place.writer.control(b"end")
    assert read(place.master, b"end") == b"x" * 50_000 + b"end"
    assert place.drained.wait(5)


def test_stop_writes_what_waits(place):
    place.writer.start()
    place.writer.control(b"x" * 50_000)
    taker = threading.Thread(target=read, args=(place.master, b"end"))
    taker.start()
    place.writer.control(b"end")
    place.writer.stop(5, b"never written")
    taker.join()


def test_stop_of_a_stuck_terminal_takes_back_and_writes_the_last(place):
    place.writer.start()
    for _ in range(3):
        place.writer.control(b"x" * 50_000)
    started = time.monotonic()
    place.writer.stop(0.1, b"last")
    assert time.monotonic() - started < 1
    assert len(read(place.master, b"last")) < 20_000


def test_a_terminal_that_is_gone_is_told_once(place):
    place.writer.start()
    os.close(place.master)
    place.master = -1
    place.writer.control(b"into the void")
    place.writer.stop(5, b"")
    place.writer.frame(FRAME)
    place.writer.control(b"again")
    assert place.lost == [1]
    assert place.writer.frames_dropped == 0


def test_a_stuck_terminal_that_goes_away_is_told(place):
    place.writer.start()
    place.writer.control(b"x" * 50_000)
    assert select.select([place.master], [], [], 5)[0]
    os.close(place.master)
    place.master = -1
    place.writer.stop(5, b"")
    assert place.lost == [1]


def test_a_terminal_that_may_not_be_opened_is_shared(place, monkeypatch):
    monkeypatch.setattr(os, "ttyname", lambda fileno: "/nowhere/at/all")
    writer = ScreenWriter(place.slave, on_drained=place.drained.set, on_lost=lambda: None)
    place.writer.start()
    writer.start()
    assert os.get_blocking(place.slave)
    writer.control(b"x" * 50_000)  # hangs in the kernel
    assert select.select([place.master], [], [], 5)[0]
    started = time.monotonic()
    writer.stop(0.1, b"never")
    assert time.monotonic() - started < 1
    assert b"never" not in read(place.master, b"x")
    termios.tcflush(place.slave, termios.TCOFLUSH)


def test_the_shared_terminal_stays_blocking(place):
    place.writer.start()
    assert os.get_blocking(place.slave)
