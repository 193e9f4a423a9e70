"""Runs from start to end: signals, outputs, and the console beside an engine."""

import asyncio
import json
import os
import signal
import socket
import stat
import sys
import threading

import pytest

from rtun_core.cli.console import ConsoleEnd, ConsoleOptions, EndKind
from rtun_core.cli.control_options import ControlTcp
from rtun_core.cli.outputs import OutputOptions
from rtun_core.cli.run import SWITCH_INTERVAL, run_engine
from rtun_core.errors import BindError, RtunError, UsageError
from rtun_core.events import ServiceListening
from rtun_core.model import ServiceSnapshot
from rtun_core.view.page import ViewSpec
from rtun_core.wire.address import Address
from tests.cli.children import end, ready


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_drains_and_ends_cleanly(process, number):
    child = process("")
    ready(child)
    child.send_signal(number)
    status, out, err = end(child)
    assert (status, out) == (0, "")
    assert f"INFO  stopping: {number.name}" in err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_second_signal_ends_at_once(process, number, status):
    child = process("", stuck=True)
    ready(child)
    child.send_signal(number)
    assert "stopping" in child.stderr.readline()
    child.send_signal(number)
    assert end(child)[0] == status


def test_log_file_is_reopened_on_hangup(process, tmp_path):
    path = tmp_path / "log"
    child = process(f"log_file={'Path'}({str(path)!r})".replace("Path", "__import__('pathlib').Path"))
    ready(child)
    path.rename(tmp_path / "log.1")
    child.send_signal(signal.SIGHUP)
    while not path.exists():
        assert child.poll() is None
    child.terminate()
    assert end(child)[0] == 0
    assert "listening" in (tmp_path / "log.1").read_text()
    assert "stopping: SIGTERM" in path.read_text()


def test_all_outputs_are_gone_after_the_end(process, tmp_path):
    place = "__import__('pathlib').Path"
    child = process(
        f"status_file={place}({str(tmp_path / 'status')!r}), control={str(tmp_path / 'c.sock')!r},"
        "metrics=__import__('rtun_core.wire.address', fromlist=['Address']).Address('127.0.0.1', 0)"
    )
    ready(child)
    assert stat.S_ISSOCK((tmp_path / "c.sock").stat().st_mode)
    assert json.loads((tmp_path / "status").read_bytes())["services"] == ["fake"]
    child.terminate()
    assert end(child)[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_a_failed_output_leaves_nothing_behind(process, tmp_path):
    place = "__import__('pathlib').Path"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        child = process(
            f"status_file={place}({str(tmp_path / 'status')!r}), "
            f"metrics=__import__('rtun_core.wire.address', fromlist=['Address']).Address('127.0.0.1', {port})"
        )
        status, out, err = end(child)
    assert (status, out) == (1, "")  # the script has no main that knows exit statuses
    assert f"BindError: --metrics: cannot listen on 127.0.0.1:{port}" in err
    assert "started" not in err
    assert os.listdir(tmp_path) == []


# -- beside a console ------------------------------------------------------------------------------


class Service:
    """Does what the stage says."""

    name = "fake"

    def __init__(self, bus, stage):
        self.bus, self.stage = bus, stage

    async def start(self):
        if self.stage.start_error is not None:
            raise self.stage.start_error
        self.stage.thread_name = threading.current_thread().name
        self.bus.emit(ServiceListening(service="fake", address="127.0.0.1:1"))

    async def wait(self):
        subscription = self.bus.subscribe(since=0)
        reason = None
        while reason is None:
            for stamped in await subscription.get():
                self.stage.events.append(stamped.event)
                if stamped.event.__struct_config__.tag in ("console.detached", "console.lost"):
                    reason = self.stage.after()
        return reason

    async def stop(self, *, drain):
        self.stage.stops.append(drain)
        if drain and self.stage.stuck:
            await asyncio.Event().wait()

    def snapshot(self, *, flows=True):
        return ServiceSnapshot(service="fake")

    def counters(self):
        return {}, {}

    def handles(self, command):
        return False


class Stage:
    """An engine with a console that does what the test says."""

    def __init__(self):
        self.end = ConsoleEnd(EndKind.QUIT)
        self.acts = lambda source: None
        self.frame = True  # whether the console came as far as its first frame
        self.after = lambda: None  # called when the console has gone; a reason ends the service
        self.stuck = False
        self.start_error = None
        self.check_error = None
        self.events, self.stops, self.seen = [], [], {}
        self.thread_name = ""

    def check(self):
        if self.check_error is not None:
            raise self.check_error

    def show(self, source, options):
        if self.frame:
            options.shown()
        while self.frame and not source.title and source.status.word == "LIVE":
            pass
        self.seen = {
            "interval": sys.getswitchinterval(),
            "thread": threading.current_thread(),
            "options": options,
            "title": source.title,
        }
        self.acts(source)
        return self.end

    def run(self, *, on_hangup=None, **outputs):
        options = ConsoleOptions(show=True, theme="night", on_hangup=on_hangup)
        return run_engine(lambda bus: [Service(bus, self)], OutputOptions(**outputs), options)

    def told(self, tag):
        return [event for event in self.events if event.__struct_config__.tag == tag]


@pytest.fixture
def stage(monkeypatch):
    stage = Stage()
    monkeypatch.setattr("rtun_core.cli.run.find_console", lambda: stage)
    return stage


@pytest.fixture(autouse=True)
def _signals_are_as_before():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    interval = sys.getswitchinterval()
    yield
    assert {number: signal.getsignal(number) for number in before} == before
    assert sys.getswitchinterval() == interval


def test_a_console_that_is_quit_ends_the_engine(stage, capfd):
    assert stage.run() == 0
    assert stage.thread_name == "engine"
    assert stage.seen["thread"] is threading.main_thread()
    assert stage.seen["interval"] == pytest.approx(SWITCH_INTERVAL)
    assert (stage.seen["title"], stage.seen["options"].theme) == ("fake", "night")
    assert stage.stops == [True]
    assert capfd.readouterr() == ("", "")


def test_without_show_there_is_no_console(stage, monkeypatch):
    monkeypatch.setattr("rtun_core.cli.run.find_console", None)
    stage.start_error = BindError("in use")
    with pytest.raises(BindError):
        run_engine(lambda bus: [Service(bus, stage)], OutputOptions(quiet=True), ConsoleOptions())
    assert stage.thread_name == ""


def test_the_console_sees_the_engine(stage):
    def looks(source):
        picture = None
        while picture is None:
            picture = source.look((ViewSpec(table="flows"),))
        stage.events.append(picture.snapshot)

    stage.acts = looks
    assert stage.run() == 0
    assert any(getattr(each, "services", None) == ("fake",) for each in stage.events)


@pytest.mark.parametrize(
    ("kind", "words", "event"),
    [
        (EndKind.DETACHED, "the console is closed, rtun goes on as process", "console.detached"),
        (EndKind.FAILED, "goes on without it: boom", "console.lost"),
    ],
)
def test_a_closed_or_failed_console_leaves_the_engine_running(stage, capfd, kind, words, event):
    stage.end = ConsoleEnd(kind, detail="Traceback\n  ...\nboom\n")
    stage.after = lambda: "done by itself"
    assert stage.run() == 0
    assert words in capfd.readouterr().err
    assert len(stage.told("console.attached")) == 1
    (gone,) = stage.told("console.detached") + stage.told("console.lost")
    assert gone.__struct_config__.tag == event
    assert getattr(gone, "failed", False) == (kind is EndKind.FAILED)
    assert any(notice.message.endswith("boom") for notice in stage.told("notice"))


@pytest.mark.parametrize(
    ("outputs", "on_hangup", "goes_on"),
    [
        ({}, None, False),
        ({}, "headless", True),
        ({"control": "auto"}, None, True),
        ({"control": "auto"}, "exit", False),
        ({"control_tcp": ControlTcp(Address("127.0.0.1", 0), b"0123456789abcdef")}, None, True),
    ],
    ids=["exit", "headless", "headless with control", "exit with control", "headless with TCP"],
)
def test_a_terminal_that_is_gone(stage, outputs, on_hangup, goes_on, tmp_path):
    stage.end = ConsoleEnd(EndKind.LOST)
    lived_on = []
    stage.after = lambda: lived_on.append(1) or "done by itself"
    outputs = outputs | ({"control": str(tmp_path / "c.sock")} if "control" in outputs else {})
    status = tmp_path / "log"
    assert stage.run(on_hangup=on_hangup, log_file=status, log_format="json", **outputs) == 0
    stopping = next(
        record
        for record in map(json.loads, status.read_text().splitlines())
        if record["type"] == "engine.stopping"
    )
    assert stopping["reason"] == ("done by itself" if goes_on else "the terminal is gone")
    assert [lost.text() for lost in stage.told("console.lost")] == ["console lost: the terminal is gone"]
    assert stage.told("console.detached") == []
    assert not (tmp_path / "c.sock").exists()


def test_a_signal_to_the_console_ends_the_engine_with_its_name(stage, tmp_path):
    stage.end = ConsoleEnd(EndKind.SIGNAL, signum=signal.SIGTERM)
    assert stage.run(log_file=tmp_path / "log") == 0
    assert "stopping: SIGTERM" in (tmp_path / "log").read_text()


def send(number):
    """Send a signal to this process, which handles it: never the default action."""
    assert callable(signal.getsignal(number))
    os.kill(os.getpid(), number)


def test_signals_after_the_console_has_gone(stage, tmp_path):
    stage.end = ConsoleEnd(EndKind.DETACHED)
    stage.after = lambda: send(signal.SIGTERM)
    assert stage.run(log_file=tmp_path / "log") == 0
    assert "stopping: SIGTERM" in (tmp_path / "log").read_text()


def test_the_second_signal_hurries(stage):
    stage.stuck = True
    stage.acts = lambda source: send(signal.SIGINT)
    stage.end = ConsoleEnd(EndKind.SIGNAL, signum=signal.SIGINT)

    async def drains(*, drain):
        stage.stops.append(drain)
        if drain:
            send(signal.SIGINT)
            await asyncio.Event().wait()

    original = Service.stop
    try:
        Service.stop = lambda self, *, drain: drains(drain=drain)
        assert stage.run() == 130
    finally:
        Service.stop = original
    assert stage.stops == [True, False]


def test_a_hangup_reopens_the_log_file_beside_a_console_too(stage, tmp_path):
    log = tmp_path / "log"

    def rotates(source):
        exists(source)
        log.rename(tmp_path / "log.1")
        send(signal.SIGHUP)
        exists(source)

    def exists(source):
        while not log.exists():
            source.look(())

    stage.acts = rotates
    assert stage.run(log_file=log) == 0
    assert "stopping: the console asked to quit" in log.read_text()
    assert stage.seen["options"].reopen is not None


def test_an_error_of_the_console_module_closes_the_engine_at_once(stage):
    def breaks(source):
        raise RuntimeError("not a thing a user can cause")

    stage.acts = breaks
    with pytest.raises(RuntimeError):
        stage.run()
    assert stage.stops == [False]


def test_a_service_that_cannot_start_ends_the_run_after_the_console(stage):
    stage.start_error = BindError("127.0.0.1:1 is in use")

    def waits(source):
        while source.status.word == "LIVE":
            source.events()

    stage.acts = waits
    stage.end = ConsoleEnd(EndKind.ENGINE_ENDED)
    with pytest.raises(BindError, match="is in use"):
        stage.run()


@pytest.mark.parametrize("kind", [EndKind.QUIT, EndKind.LOST, EndKind.SIGNAL])
def test_a_console_that_closes_before_its_first_frame(stage, kind):
    stage.frame = False
    stage.end = ConsoleEnd(kind, signal.SIGTERM)
    assert stage.run() == 0


def test_a_console_closed_before_its_first_frame_leaves_the_engine_running(stage):
    stage.frame, stage.end = False, ConsoleEnd(EndKind.DETACHED)
    stage.after = lambda: "enough"
    assert stage.run() == 0
    assert stage.thread_name == "engine"


def test_an_engine_that_cannot_be_built_is_told_after_the_console(stage, tmp_path):
    stage.end = ConsoleEnd(EndKind.ENGINE_ENDED)
    with pytest.raises(RtunError, match="log"):
        stage.run(log_file=tmp_path / "no such folder" / "log")


def test_json_and_a_console_do_not_share_a_terminal(stage):
    with pytest.raises(UsageError, match=r"--json: not together with --tui"):
        stage.run(json=True)
    assert stage.thread_name == ""


def test_without_a_terminal_nothing_is_started(stage):
    stage.check_error = UsageError("--tui: standard error is not a terminal")
    with pytest.raises(UsageError, match="not a terminal"):
        stage.run()
    assert stage.thread_name == ""
