"""What is printed or logged while the screen belongs to the console."""

from __future__ import annotations

import io
import logging
import threading

import pytest
from textual.events import Mount, Print

from rtun_tui import strays
from rtun_tui.strays import MAX_TEXT, Strays, caught_handlers


@pytest.fixture
def told():
    return []


@pytest.fixture
def target(told):
    return Strays(told.append)


class TestStrays:
    def test_a_line_is_told_once_it_has_ended(self, target, told):
        target.write("half")
        assert told == []
        target.write(" and half\n")
        target.write("\n")
        assert told == ["half and half"]

    def test_a_message_of_several_lines_is_one(self, target, told):
        target.write("one\ntwo\n")
        assert told == ["one\ntwo"]

    def test_threads_do_not_mix_their_lines(self, target, told):
        target.write("mine ")
        other = threading.Thread(target=target.write, args=("other\n",))
        other.start()
        other.join()
        target.write("too\n")
        target.flush()
        assert told == ["other", "mine too"]

    def test_a_line_without_end_is_bounded(self, target, told):
        target.write("x" * (MAX_TEXT + 5))
        assert told == ["x" * MAX_TEXT]

    async def test_it_takes_what_the_app_catches(self, target, told):
        assert target.post_message(Print("printed\n"))
        assert await target._post_message(Print("and again\n"))
        assert target.post_message(Mount())
        assert told == ["printed", "and again"]


@pytest.fixture
def handler(monkeypatch):
    """A handler of a logger of its own, taken for one that writes to a terminal."""
    handler = logging.StreamHandler(io.StringIO())
    monkeypatch.setattr(strays, "stream_handlers_to_terminal", lambda: [handler])
    return handler


@pytest.mark.parametrize("propagate", [True, False])
def test_handlers_of_the_terminal_are_caught_and_given_back(handler, target, told, propagate):
    logger = logging.getLogger("tests.strays.child")
    logger.propagate = propagate
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    before = handler.stream
    try:
        with caught_handlers(target):
            logger.info("by the way")
            logger.warning("a warning")
        logger.warning("after it")
    finally:
        logger.removeHandler(handler)
    # What reaches the root logger as a warning is in the log of the engine already.
    assert told == (["by the way"] if propagate else ["by the way", "a warning"])
    assert handler.stream is before
    assert before.getvalue() == "after it\n"
