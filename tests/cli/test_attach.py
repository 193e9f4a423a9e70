import json
import signal
from pathlib import Path

import pytest
from aiohttp import web

from rtun_core.cli.console import ConsoleEnd, ConsoleOptions, EndKind
from rtun_core.engine.attached_source import AttachedSource
from rtun_core.engine.paths import control_socket
from rtun_core.errors import UsageError
from rtun_core.view.page import ViewSpec


class Shown:
    """A console that takes one look, and ends as a test wants."""

    def __init__(self):
        self.end = ConsoleEnd(EndKind.QUIT)
        self.no_terminal = False
        self.calls = []

    def check(self):
        if self.no_terminal:
            raise UsageError("there is no terminal")

    def show(self, source, options):
        self.calls.append((source, options))
        return self.end


@pytest.fixture
def console(monkeypatch):
    shown = Shown()
    monkeypatch.setattr("rtun_core.cli.attach.find_console", lambda: shown)
    return shown


@pytest.mark.parametrize("which", ["nothing", "pid", "path"])
def test_the_console_is_shown(run, bystander, console, which):
    words = {"nothing": (), "pid": (str(bystander.pid),), "path": (str(control_socket(bystander.pid)),)}[
        which
    ]
    assert run("attach", *words, "--read-only", "--theme", "mono") == (0, "", "")
    [(source, options)] = console.calls
    assert isinstance(source, AttachedSource)
    assert options == ConsoleOptions(show=True, read_only=True, theme="mono", ends_engine=False)
    assert bystander.poll() is None


def test_what_is_shown_is_the_other_process(run, bystander, console, monkeypatch):
    import asyncio

    seen = []

    async def look(source):
        came = asyncio.Event()
        source.on_picture = came.set
        await source.start()
        async with asyncio.timeout(20):
            while (picture := source.look((ViewSpec(table="agents"),))) is None:
                await came.wait()
                came.clear()
        seen.append((source.title, picture.snapshot.pid))
        await source.close()

    def show(source, options):
        asyncio.run(look(source))
        return ConsoleEnd(EndKind.DETACHED)

    monkeypatch.setattr(console, "show", show)
    assert run("attach") == (0, "", "")
    assert seen == [(f"attached {bystander.pid}", bystander.pid)]
    assert bystander.poll() is None


@pytest.mark.parametrize(
    ("end", "status", "err"),
    [
        (ConsoleEnd(EndKind.QUIT), 0, ""),
        (ConsoleEnd(EndKind.DETACHED), 0, ""),
        (ConsoleEnd(EndKind.LOST), 0, ""),
        (ConsoleEnd(EndKind.SIGNAL, signal.SIGTERM), 143, ""),
        (ConsoleEnd(EndKind.ENGINE_ENDED), 0, "the rtun that was looked at has ended\n"),
        (
            ConsoleEnd(EndKind.FAILED, detail="Traceback\nValueError: 7\n"),
            1,
            "Error: the console failed: ValueError: 7\n",
        ),
    ],
)
def test_exit_status(run, bystander, console, end, status, err):
    console.end = end
    assert run("attach") == (status, "", err)


def test_no_terminal(refuse, bystander, console):
    console.no_terminal = True
    assert refuse("attach", status=2) == "there is no terminal"
    assert not console.calls


def test_nobody_is_there(refuse, console, tmp_path):
    assert refuse("attach", status=1).startswith("no running rtun has a control socket in ")
    path = tmp_path / "c.sock"
    assert refuse("attach", str(path), status=1).startswith(f"there is no control socket at {path}")
    assert not console.calls


@pytest.fixture
def stranger(tmp_path):
    """Something else that answers HTTP on a Unix socket, on a thread of its own."""
    import asyncio
    import threading

    path, begun, over = tmp_path / "s.sock", threading.Event(), []

    async def serve(answer):
        async def hello(_request):
            return web.Response(text=answer)

        app = web.Application()
        app.router.add_get("/hello", hello)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.UnixSite(runner, str(path)).start()
        over.append((asyncio.get_running_loop(), end := asyncio.Event()))
        begun.set()
        await end.wait()
        await runner.cleanup()

    threads = []

    def start(answer) -> Path:
        threads.append(threading.Thread(target=lambda: asyncio.run(serve(answer))))
        threads[-1].start()
        begun.wait(20)
        return path

    yield start
    for loop, end in over:
        loop.call_soon_threadsafe(end.set)
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("hello yourself", "what answers on the control socket "),
        (
            json.dumps({"v": 99, "version": "9.9", "pid": 5, "seq": 0, "services": []}),
            "process 5 is rtun 9.9, which speaks version 99 of the control protocol; this one is ",
        ),
    ],
)
def test_a_stranger(refuse, stranger, console, answer, sentence):
    assert refuse("attach", str(stranger(answer)), status=1).startswith(sentence)
    assert not console.calls
