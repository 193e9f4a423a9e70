"""An engine on its own thread, driven from this one, which has no loop of its own here."""

import asyncio
import threading
from concurrent.futures import CancelledError

import pytest

from rtun_core.bus import EventBus
from rtun_core.commands import PinAgent, SwitchAgent
from rtun_core.engine.engine import Engine
from rtun_core.engine.engine_thread import EngineThread
from rtun_core.errors import BindError, CommandRefused, NoAgentError
from rtun_core.events import Notice

LIMIT = 10  # seconds that anything may take


class Stage:
    """A thread with an engine around a fake service."""

    def __init__(self, fake, **errors):
        self.fake, self.errors = fake, errors
        self.service = None
        self.thread_name = ""
        self.thread = EngineThread(self.body, asyncio.new_event_loop)

    async def body(self, made):
        self.thread_name = threading.current_thread().name
        if "build" in self.errors:
            raise self.errors["build"]
        self.service = self.fake()
        engine = Engine([self.service], EventBus())
        made(engine)
        if "start" in self.errors:
            self.service.errors["start"] = self.errors["start"]
        await engine.start()
        try:
            await engine.run_until_stopped()
        finally:
            await engine.stop()
        return engine.status


@pytest.fixture
def stage(fake):
    stages = []

    def start(**errors):
        stage = Stage(fake, **errors)
        stages.append(stage)
        stage.thread.start()
        assert stage.thread.engine is stage.thread.made
        return stage

    yield start
    for stage in stages:
        stage.thread.hurry(0)
        stage.thread.wait()


def test_a_life(stage):
    running = stage()
    thread = running.thread
    assert running.thread_name == "engine"
    assert not thread.stopping
    thread.request_stop("enough", 7)
    assert thread.result() == 7
    assert thread.stopping
    assert running.service.calls == ["start", "drain"]


def test_events_are_there_from_the_first_on(stage, names):
    thread = stage().thread
    thread.emit(Notice(topic="console", message="hello"))
    thread.request_stop("enough")
    thread.wait()
    assert names(thread.events) == ["engine.started", "notice", "engine.stopping"]


def test_a_command_is_carried_out_over_there(stage):
    running = stage()
    future = running.thread.execute(SwitchAgent(name="beta"), "console")
    assert future.result(LIMIT).text == "using beta"
    refused = running.thread.execute(PinAgent(), "console")
    with pytest.raises(CommandRefused, match="not a command of this process"):
        refused.result(LIMIT)


def test_calls_run_on_the_engines_thread(stage):
    thread, seen = stage().thread, threading.Event()
    names = []
    assert thread.call(lambda word: (names.append((word, threading.current_thread().name)), seen.set()), "hi")
    assert seen.wait(LIMIT)
    assert names == [("hi", "engine")]


def test_a_hurry_ends_what_drains_for_ever(stage):
    running = stage()
    running.service.gates["drain"] = asyncio.Event()
    running.thread.request_stop("SIGTERM")
    running.thread.hurry(143)
    assert running.thread.result() == 143
    assert running.service.calls[-1] == "close"


def test_what_ended_the_engine_is_raised_at_the_end(stage):
    running = stage(start=BindError("in use"))
    with pytest.raises(BindError, match="in use"):
        running.thread.result()
    assert running.thread.done.done()


def test_a_service_that_fails_later(stage):
    running = stage()
    running.thread.call(running.service.ended.set_exception, NoAgentError("nobody"))
    with pytest.raises(NoAgentError):
        running.thread.result()


def test_an_engine_that_cannot_be_made(fake):
    bad = Stage(fake, build=BindError("no log"))
    bad.thread.request_stop("enough")
    bad.thread.start()
    with pytest.raises(BindError, match="no log"):
        bad.thread.result()
    with pytest.raises(BindError):
        _ = bad.thread.engine
    assert bad.thread.made is None
    assert bad.thread.events is None
    assert not bad.thread.call(print, "never")
    assert bad.thread.execute(SwitchAgent(name="beta"), "console") is None


def test_what_is_asked_for_before_there_is_an_engine_is_done_then(fake, names):
    early = Stage(fake)
    thread = early.thread
    thread.wait()  # for nothing, as it was not started
    assert thread.made is None
    assert not thread.stopping
    assert thread.execute(SwitchAgent(name="beta"), "console") is None
    thread.emit(Notice(topic="console", message="hello"))
    thread.request_stop("enough", 7)
    assert thread.stopping
    thread.start()
    thread.start()
    assert thread.result() == 7
    assert "notice" in names(thread.events)


def test_after_the_end_nothing_is_taken(stage):
    thread = stage().thread
    thread.request_stop("enough")
    thread.wait()
    assert thread.execute(SwitchAgent(name="beta"), "console") is None
    assert not thread.call(print, "never")
    thread.emit(Notice(topic="console", message="never"))
    thread.request_stop("again", 9)
    assert thread.result() == 0


def test_a_command_under_way_at_the_end_is_not_left_hanging(stage):
    running = stage()
    gate = threading.Event()

    async def slow(command):
        gate.set()
        await asyncio.Event().wait()

    running.service.handle = slow
    future = running.thread.execute(SwitchAgent(name="beta"), "console")
    assert gate.wait(LIMIT)
    running.thread.request_stop("enough")
    running.thread.wait()
    with pytest.raises(CancelledError):
        future.result(LIMIT)
