import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from rtun_core.cli.main import main
from tests.cli.children import ready

SCRIPT = """
import asyncio, sys
from rtun_core.cli.outputs import OutputOptions
from rtun_core.cli.run import run_engine
from rtun_core.commands import CommandResult, PinAgent
from rtun_core.events import ServiceListening
from rtun_core.model import ServiceSnapshot

class Service:
    name = "fake"
    def __init__(self, bus):
        self.bus = bus
    async def start(self):
        self.bus.emit(ServiceListening(service="fake", address="127.0.0.1:1"))
    async def wait(self):
        await asyncio.Event().wait()
    async def stop(self, *, drain):
        if drain and {stuck}:
            await asyncio.Event().wait()
    def snapshot(self, *, flows=True):
        return ServiceSnapshot(service="fake")
    def counters(self):
        return {{}}, {{}}
    def handles(self, command):
        return isinstance(command, PinAgent)
    async def handle(self, command):
        return CommandResult(text="pinned")

sys.exit(run_engine(lambda bus: [Service(bus)], OutputOptions({options})))
"""


@pytest.fixture(autouse=True)
def _own_environment(tmp_path_factory, monkeypatch):
    for name in [name for name in os.environ if name.startswith("RTUN_") and name != "RTUN_UPDATE_GOLDEN"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("xdg")))
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def run(capsys):
    """Run a command line in this process: status, standard output, standard error."""

    def call(*words):
        status = main(words)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def refuse(run):
    """Run a command line that must end with one sentence on standard error, which is returned."""

    def call(*words, status=2):
        result, out, err = run(*words)
        assert (result, out) == (status, "")
        assert err.startswith("Error: ")
        assert err.count("\n") == 1
        return err.removeprefix("Error: ").removesuffix("\n")

    return call


@contextmanager
def processes():
    """Start processes that run an engine with a service that does nothing; they are killed at the end."""
    running = []

    def start(options, *, stuck=False, **env):
        child = subprocess.Popen(
            [sys.executable, "-c", SCRIPT.format(options=options, stuck=stuck)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | env,
        )
        running.append(child)
        return child

    yield start
    for child in running:
        child.kill()
        child.communicate()


@pytest.fixture
def process():
    """`process(options)` starts such a process; with stuck=True its service drains for ever."""
    with processes() as start:
        yield start


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One with a control socket for the tests of a module that leave it as it is, and where its socket is."""
    place = str(tmp_path_factory.mktemp("shared"))
    with processes() as start:
        child = start("control='auto'", XDG_RUNTIME_DIR=place)
        ready(child)
        yield child, place


@pytest.fixture
def bystander(shared, monkeypatch):
    """The shared process, which commands of this test find."""
    child, place = shared
    monkeypatch.setenv("XDG_RUNTIME_DIR", place)
    return child


@pytest.fixture
def child(process):
    """A process with a control socket for this test alone."""
    child = process("control='auto'")
    ready(child)
    return child


@pytest.fixture
def built(monkeypatch):
    """What a command would have run: the services factory and the outputs, kept instead of run."""
    kept = []

    def keep(factory, outputs, console=None):
        kept.append((factory, outputs))
        return 0

    for module in ("relay", "agent", "ws"):
        monkeypatch.setattr(f"rtun_core.cli.{module}.run_engine", keep)
    return kept
