"""What is asked of a terminal before the console starts."""

from __future__ import annotations

import io
import logging
import os
import sys

import pytest

from rtun_tui.terminal import (
    LEAVE_SCREEN,
    MAX_TITLE,
    ascii_only,
    check_terminal,
    in_foreground,
    stream_handlers_to_terminal,
    title_sequence,
    wants_colour,
)
from tests.tui.screen_model import Screen
from tests.tui.terminal_harness import Terminal

XTERM = {"TERM": "xterm-256color"}


@pytest.fixture
def tty_file():
    """A file that is a terminal."""
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as file:
        yield file
    os.close(master)


def test_a_terminal_will_do(tty_file):
    assert check_terminal(tty_file, tty_file, XTERM) is None


def test_files_that_are_no_terminal(tty_file):
    with open(os.devnull) as null:
        assert "standard input is not one" in check_terminal(null, tty_file, XTERM)
        assert "standard error is not one" in check_terminal(tty_file, null, XTERM)


def test_files_that_are_closed(tty_file):
    closed = io.StringIO()
    closed.close()
    assert "standard input is closed" in check_terminal(None, tty_file, XTERM)
    assert "standard error is closed" in check_terminal(tty_file, closed, XTERM)


@pytest.mark.parametrize(
    ("environ", "word"), [({}, "not set"), ({"TERM": ""}, "not set"), ({"TERM": "dumb"}, "dumb")]
)
def test_terminals_that_are_too_simple(tty_file, environ, word):
    assert word in check_terminal(tty_file, tty_file, environ)


def test_another_system(tty_file, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert "Unix" in check_terminal(tty_file, tty_file, XTERM)


def test_a_background_job(tty_file, monkeypatch):
    monkeypatch.setattr(os, "tcgetpgrp", lambda fileno: os.getpgrp() + 1)
    assert not in_foreground(tty_file.fileno())
    assert "background" in check_terminal(tty_file, tty_file, XTERM)


def test_a_terminal_of_somebody_else_counts_as_foreground(tty_file):
    assert in_foreground(tty_file.fileno())


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": "0"}, False)],
)
def test_wants_colour(environ, wanted):
    assert wants_colour(environ) is wanted


@pytest.mark.parametrize(
    ("environ", "encoding", "ascii_wanted"),
    [
        ({}, "utf-8", False),
        ({}, "UTF-8", False),
        ({}, "ascii", True),
        ({}, None, True),
        ({"LANG": "en_GB.UTF-8"}, "utf-8", False),
        ({"LANG": "en_GB.utf8"}, "utf-8", False),
        ({"LANG": "C"}, "utf-8", True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, "utf-8", True),  # Python's own doing
        ({"LANG": "C", "LC_CTYPE": "de_DE.UTF-8"}, "utf-8", False),
        ({"LC_CTYPE": "C.UTF-8"}, "utf-8", False),
        ({"LANG": "en_GB.UTF-8", "LC_ALL": "POSIX"}, "utf-8", True),
        ({"LANG": "C", "LC_ALL": "C.UTF-8"}, "utf-8", False),
        ({"LANG": "en_GB.UTF-8", "LC_ALL": ""}, "utf-8", False),
        ({"LANG": "en_GB.UTF-8", "RTUN_ASCII": "1"}, "utf-8", True),
        ({"LANG": "C", "RTUN_ASCII": "0"}, "ascii", False),
        ({"LANG": "C", "RTUN_ASCII": ""}, "utf-8", True),
    ],
)
def test_ascii_only(environ, encoding, ascii_wanted):
    assert ascii_only(environ, encoding) is ascii_wanted


def test_handlers_that_write_to_a_terminal_are_found(tty_file, tmp_path):
    root, named = logging.getLogger(), logging.getLogger("rtun.test.terminal")
    logging.getLogger("rtun.test.terminal.below")  # makes a placeholder of nothing, and is no trouble
    noisy, quiet = logging.StreamHandler(tty_file), logging.StreamHandler(io.StringIO())
    to_file = logging.FileHandler(tmp_path / "log", delay=True)
    closed = logging.StreamHandler(io.StringIO())
    closed.stream.close()
    before = stream_handlers_to_terminal()
    try:
        for handler in (noisy, quiet, to_file, closed):
            root.addHandler(handler)
            named.addHandler(handler)
        assert [handler for handler in stream_handlers_to_terminal() if handler not in before] == [noisy]
    finally:
        for handler in (noisy, quiet, to_file, closed):
            root.removeHandler(handler)
            named.removeHandler(handler)
        to_file.close()


def test_a_title_is_one_harmless_line():
    assert title_sequence("rtun relay") == "\x1b]2;rtun relay\x07"
    assert title_sequence("a\x1b\x07\nb") == "\x1b]2;ab\x07"
    assert len(title_sequence("x" * 1000)) == MAX_TITLE + 5


def test_leaving_undoes_everything_even_after_half_a_sequence():
    screen = Screen(20, 3)
    screen.feed(
        b"\x1b[?1049h\x1b[?1000h\x1b[?1003h\x1b[?1015h\x1b[?1006h\x1b[?1016h\x1b[?25l\x1b[?1004h\x1b[>1u"
    )
    screen.feed(b"\x1b[?2004h\x1b[?7l\x1b[?2048h\x1b[?2026h\x1b[1;31mtext\x1b[38;5;1")
    assert screen.left_behind()
    screen.feed(LEAVE_SCREEN.encode())
    assert screen.left_behind() == []
    assert not screen.alternate


def test_a_refusal_writes_nothing_to_the_terminal(tmp_path):
    program = (
        "import os, sys; from rtun_tui.terminal import check_terminal;"
        "sys.stdout.write(str(check_terminal(sys.stdin, sys.stderr, os.environ)))"
    )
    for redirect, reason in (
        ({0: tmp_path / "in"}, "standard input is not one"),
        ({2: tmp_path / "err"}, "standard error is not one"),
        ({0: None}, "standard input is closed"),
        ({}, "None"),
    ):
        with Terminal(sys.executable, "-c", program, redirect=redirect) as terminal:
            assert terminal.wait_end() == 0
            assert reason in terminal.text()
            assert b"\x1b" not in terminal.output()
