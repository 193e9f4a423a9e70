import pytest

from rtun_core.cli import replay as replay_module
from rtun_core.cli.console import ConsoleEnd, EndKind
from rtun_core.engine.recording import RecordingWriter
from rtun_core.errors import UsageError
from rtun_core.model import Snapshot


class FakeConsole:
    """Shows nothing; keeps what it was asked to show, and how it was looked at."""

    def __init__(self):
        self.end = ConsoleEnd(EndKind.QUIT)
        self.terminal = True
        self.shown = None

    def check(self):
        if not self.terminal:
            raise UsageError("no terminal")

    def show(self, source, options):
        self.shown = source.look(()), source.status, options
        return self.end


@pytest.fixture
def console(monkeypatch):
    console = FakeConsole()
    monkeypatch.setattr(replay_module, "find_console", lambda: console)
    return console


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "x.rec"
    writer = RecordingWriter(path)
    for second in range(10):
        ts = 1.8e9 + second
        writer.append_picture(Snapshot(seq=1, ts=ts, uptime_s=second, pid=1, version="0", services=()))
    writer.close()
    return str(path)


def test_from_the_start(run, console, path):
    assert run("replay", path) == (0, "", "")
    picture, status, options = console.shown
    assert picture.snapshot.uptime_s == 0
    assert (status.word, status.detail.split()[-1]) == ("REPLAY", "x1")
    assert (options.show, options.read_only, options.ends_engine, options.theme) == (True, True, False, None)


def test_where_how_fast_and_how_it_looks(run, console, path):
    assert run("replay", path, "--from", "+7", "--speed", "2.5", "--theme", "mono")[0] == 0
    picture, status, options = console.shown
    assert (picture.snapshot.uptime_s, status.detail.split()[-1], options.theme) == (7, "x2.5", "mono")


def test_the_environment(run, console, path, monkeypatch):
    monkeypatch.setenv("RTUN_REPLAY_FROM", "end")
    run("replay", path)
    assert console.shown[0].snapshot.uptime_s == 9


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (ConsoleEnd(EndKind.DETACHED), 0),
        (ConsoleEnd(EndKind.LOST), 0),
        (ConsoleEnd(EndKind.SIGNAL, 15), 143),
    ],
)
def test_how_it_ends(run, console, path, end, status):
    console.end = end
    assert run("replay", path) == (status, "", "")


def test_a_console_that_failed(refuse, console, path):
    console.end = ConsoleEnd(EndKind.FAILED, detail="Traceback\n  x\nZeroDivisionError: y\n")
    assert refuse("replay", path, status=1) == "the console failed: ZeroDivisionError: y"


def test_no_terminal(refuse, console, path):
    console.terminal = False
    assert refuse("replay", path) == "no terminal"
    assert console.shown is None


def test_misuse(refuse, console, path, tmp_path):
    assert refuse("replay", str(tmp_path / "no")).endswith("no: No such file or directory")
    assert "accepted: a number of times as fast from 0.1 to 100" in refuse("replay", path, "--speed", "0")
    assert "was not recorded" in refuse("replay", path, "--from", "2020-01-01T00:00:00")
    (tmp_path / "text").write_text("text")
    assert "is not a recording of rtun" in refuse("replay", str(tmp_path / "text"))
    assert console.shown is None
