"""The driver on real terminals: slow, stuck, gone, resized, signalled."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from rtun_tui.driver import ENDING_SIGNALS, install_signals
from tests.tui.screen_model import Screen
from tests.tui.terminal_harness import DEADLINE, Terminal

APP = str(Path(__file__).parent / "apps" / "ticker.py")
SHELL = {"echo": True, "canonical": True, "signals": True}
CPU_LIMIT = 0.02  # of one processor


class Ticker(Terminal):
    """The test app on a terminal, and its report."""

    def __init__(self, report: Path, *options: str, **terminal: Any) -> None:
        self._report = report
        super().__init__(sys.executable, APP, str(report), *options, **terminal)

    def seen(self) -> dict[str, Any]:
        try:
            return json.loads(self._report.read_bytes())
        except FileNotFoundError:
            return {}

    def wait_seen(self, condition: Callable[[dict[str, Any]], object], timeout: float = DEADLINE) -> dict:
        """The first report that satisfies the condition."""
        end = time.monotonic() + timeout
        while not ((seen := self.seen()) and condition(seen)):
            assert time.monotonic() < end, seen
            time.sleep(0.01)
        return seen


@pytest.fixture
def ticker(tmp_path):
    """Starts the test app; kills it at the end of the test."""
    started: list[Ticker] = []

    def start(*options: str, **terminal: Any) -> Ticker:
        started.append(Ticker(tmp_path / "report.json", *options, **terminal))
        return started[-1]

    yield start
    for terminal in started:
        terminal.close()


def showing(number: int, screen: Screen) -> bool:
    """Whether every line shows one number, that one or a later one."""
    numbers = set(re.findall(r"number (\d+) ", screen.text()))
    return len(numbers) == 1 and int(numbers.pop()) >= number


def assert_left_clean(terminal: Terminal) -> None:
    assert terminal.screen.left_behind() == []
    assert not terminal.screen.alternate
    assert terminal.attributes() == terminal.before
    assert terminal.before._asdict() == SHELL


def test_takes_the_terminal_and_gives_it_back(ticker):
    terminal = ticker()
    terminal.wait_for("mark 0")
    assert terminal.screen.alternate
    assert not any(terminal.attributes())
    terminal.send("q")
    assert terminal.wait_end() == 0
    assert_left_clean(terminal)


# --- a terminal that is not read ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.alone
def test_a_terminal_that_is_not_read_stops_nothing(ticker):
    terminal = ticker("--rate", "30", size=(160, 50))
    terminal.wait_for(partial(showing, 5))
    terminal.stop_reading()
    terminal.send("r")
    before = terminal.wait_seen(lambda seen: "r" in seen["keys"])
    terminal.send("utc")  # a frame that comes but once, and two sequences that must arrive
    blocked = terminal.wait_seen(lambda seen: seen["ticks"] > before["ticks"] + 90)
    assert blocked["stall"] < 0.05, blocked
    assert blocked["dropped"] > 60
    terminal.resume_reading()
    terminal.wait_for(partial(showing, blocked["ticks"]))
    terminal.wait_for("mark 1")
    assert terminal.screen.title == "ticker  at work"
    assert len(terminal.screen.copied) == 1
    terminal.send("q")
    assert terminal.wait_end() == 0
    assert_left_clean(terminal)


def test_a_stuck_terminal_is_left_in_time_and_clean_once_it_reads(ticker):
    terminal = ticker("--rate", "60", size=(160, 50))
    terminal.wait_for(partial(showing, 5))
    terminal.stop_reading()
    terminal.wait_seen(lambda seen: seen["dropped"] > 5)
    asked = time.monotonic()
    terminal.signal(signal.SIGTERM)
    assert terminal.wait_end() == 128 + signal.SIGTERM
    assert time.monotonic() - asked < 3
    assert terminal.attributes() == terminal.before
    terminal.resume_reading()
    terminal.wait_for(lambda screen: not screen.alternate)
    terminal.wait_end()
    assert_left_clean(terminal)


# --- a terminal that goes away -----------------------------------------------------------------------------


@pytest.mark.parametrize("ignore_hangup", [False, True])
def test_a_terminal_that_is_gone_ends_the_app(ticker, ignore_hangup):
    terminal = ticker("--rate", "30", ignore_hangup=ignore_hangup)
    terminal.wait_for(partial(showing, 5))
    terminal.hang_up()
    status = terminal.wait_end(5)
    seen = terminal.seen()
    if ignore_hangup:
        assert (status, seen["lost"], seen["signals"]) == (0, 1, [])
    else:
        # A second SIGHUP may end it while it leaves, before it has written what it saw.
        assert status in (0, 128 + signal.SIGHUP)
        assert not seen or seen["lost"] + len(seen["signals"]) >= 1


def test_an_idle_app_notices_by_its_input(ticker):
    terminal = ticker(ignore_hangup=True)
    terminal.wait_for("mark 0")
    terminal.hang_up()
    assert terminal.wait_end(5) == 0
    assert terminal.seen()["lost"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("then", ["stay", "headless"])
def test_without_its_terminal_it_costs_nothing(ticker, then):
    terminal = ticker("--on-lost", then, ignore_hangup=True)
    terminal.wait_for("mark 0")
    terminal.hang_up()
    terminal.wait_seen(lambda seen: seen["lost"])
    spent = terminal.cpu_seconds()
    with pytest.raises(AssertionError, match="still running"):
        terminal.wait_end(2)
    assert terminal.cpu_seconds() - spent < CPU_LIMIT * 2
    assert terminal.seen()["lost"] == 1
    terminal.signal(signal.SIGTERM)
    assert terminal.wait_end(5) == (128 + signal.SIGTERM if then == "stay" else -signal.SIGTERM)


def test_a_terminal_gone_before_the_start_is_lost_at_once(ticker):
    terminal = ticker("--wait-hangup", ignore_hangup=True)
    terminal.wait_seen(lambda seen: seen["ticks"] == 0)
    terminal.hang_up()
    assert terminal.wait_end(5) == 0
    assert terminal.seen()["lost"] == 1


# --- signals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ENDING_SIGNALS)
def test_a_signal_that_ends_leaves_the_terminal_clean(ticker, number):
    terminal = ticker("--rate", "30")
    terminal.wait_for(partial(showing, 5))
    terminal.signal(number)
    assert terminal.wait_end() == 128 + number
    assert terminal.seen()["signals"] == [number.name]
    assert_left_clean(terminal)


@pytest.mark.parametrize("number", [signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU])
def test_no_signal_stops_the_process(ticker, number):
    terminal = ticker()
    terminal.wait_for("mark 0")
    terminal.signal(number)
    terminal.send("n")
    terminal.wait_for("number 1 ")
    assert psutil.Process(terminal.pid).status() != psutil.STATUS_STOPPED


def test_ctrl_z_is_a_key_that_stops_nothing(ticker):
    terminal = ticker()
    terminal.wait_for("mark 0")
    terminal.send("\x1an")
    terminal.wait_for("number 1 ")
    assert terminal.seen()["keys"] == ["ctrl+z", "n"]
    assert terminal.screen.alternate


def test_going_on_takes_the_terminal_again_and_paints_it(ticker):
    terminal = ticker()
    terminal.wait_for("mark 0")
    terminal.signal(signal.SIGSTOP)
    terminal.write_over("\x1b[?1049l\x1b[?25hwhat the shell writes")
    terminal.wait_for("what the shell writes")
    terminal.signal(signal.SIGCONT)
    terminal.wait_for(lambda screen: screen.alternate and "mark 0" in screen.text())
    assert "shell" not in terminal.text()
    assert not any(terminal.attributes())
    assert terminal.screen.modes[25] is False
    terminal.send("q")
    assert terminal.wait_end() == 0
    assert_left_clean(terminal)


async def test_install_signals_puts_back_what_was_there():
    before = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    heard = asyncio.Queue()
    remove = install_signals(SimpleNamespace(_driver=None), heard.put_nowait)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(heard.get(), 5) is signal.SIGTERM
    remove()
    remove()
    assert {number: signal.getsignal(number) for number in ENDING_SIGNALS} == before


async def test_install_signals_leaves_an_ignored_hangup_alone():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        remove = install_signals(SimpleNamespace(_driver=None), lambda number: None)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        remove()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# --- the app, its size, its keys ---------------------------------------------------------------------------


def test_an_error_of_the_app_leaves_the_terminal_clean(ticker):
    terminal = ticker()
    terminal.wait_for("mark 0")
    terminal.send("f")
    assert terminal.wait_end() == 1
    assert "the app has failed" in terminal.text()
    assert_left_clean(terminal)


def test_the_size_follows_the_terminal(ticker, tmp_path):
    terminal = ticker(size=(100, 30), redirect={1: tmp_path / "out"}, env={"COLUMNS": "33", "LINES": "7"})
    terminal.wait_for("mark 0")
    terminal.send("n")
    terminal.wait_for(lambda screen: len(screen.line(28)) > 90 and screen.line(29) == "mark 0")
    terminal.resize(60, 15)
    terminal.wait_for(lambda screen: len(screen.line(13)) > 50 and screen.line(14) == "mark 0")
    assert (tmp_path / "out").read_bytes() == b""


def test_a_terminal_without_a_size_is_taken_for_80x24(ticker):
    terminal = ticker()
    terminal.resize(0, 0)
    terminal.wait_for(lambda screen: screen.line(23) == "mark 0")


def test_the_title_is_given_and_given_back(ticker):
    terminal = ticker()
    terminal.write_over("\x1b]2;a shell\x07")
    terminal.wait_for("mark 0")
    terminal.send("tt")
    terminal.wait_for(lambda screen: screen.title == "ticker  at work")
    terminal.send("q")
    assert terminal.wait_end() == 0
    assert terminal.screen.title == "a shell"
    assert_left_clean(terminal)


def test_a_frame_and_the_marks_around_it_are_one(ticker):
    terminal = ticker()
    terminal.wait_for("mark 0")
    terminal.send("\x1b[?2026;2$y")  # the terminal can hold a frame until it is whole
    terminal.send("n")
    terminal.wait_for(lambda screen: 2026 in screen.modes)
    terminal.send("q")
    terminal.wait_end()
    output = terminal.output()
    assert re.search(rb"\x1b\[\?2026h\x1b\[\d+;\d+H[^\x00]*number 1 [^\x00]*\x1b\[\?2026l", output)
    assert output.count(b"\x1b[?2026h") == output.count(b"\x1b[?2026l")
    assert_left_clean(terminal)


def test_bytes_that_are_no_text_and_characters_in_two_parts(ticker):
    terminal = ticker()
    terminal.wait_for("mark 0")
    terminal.send(b"\xff")
    terminal.wait_seen(lambda seen: len(seen["keys"]) == 1)
    terminal.send(b"\xc3")
    terminal.send(b"\xa9")
    terminal.send(b"n")
    seen = terminal.wait_seen(lambda seen: seen["ticks"])
    assert seen["keys"][-1] == "n"
    assert "latin_small_letter_e_with_acute" in " ".join(seen["keys"]) or "é" in seen["keys"]
