"""A service that does what a test tells it, and small things around an engine."""

import asyncio
from collections.abc import Callable

import aiohttp
import msgspec
import pytest

from rtun_core.bus import EventBus
from rtun_core.commands import Command, CommandResult, ProbeAgent, SwitchAgent
from rtun_core.engine.control import ControlServer
from rtun_core.engine.control_routes import ControlRoutes
from rtun_core.engine.engine import Engine
from rtun_core.errors import CommandRefused
from rtun_core.model import FlowState, FlowView, ServiceSnapshot, Traffic


class FakeService:
    """Records its calls; `gates` are events that a call waits for, `errors` what a call raises."""

    def __init__(self, name="fake", **snapshot):
        self.name = name
        self.calls: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.errors: dict[str, BaseException] = {}
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.drops: dict[str, int] = {}
        self.faults: dict[str, int] = {}
        self.view = ServiceSnapshot(service=name, **snapshot)
        self.snapshots = 0

    async def _do(self, call):
        self.calls.append(call)
        if call in self.gates:
            await self.gates[call].wait()
        if call in self.errors:
            raise self.errors[call]

    async def start(self):
        await self._do("start")

    async def wait(self):
        return await asyncio.shield(self.ended)

    async def stop(self, *, drain):
        await self._do("drain" if drain else "close")

    def snapshot(self, *, flows=True):
        self.snapshots += 1
        return self.view if flows else msgspec.structs.replace(self.view, flows=())

    def counters(self):
        return self.drops, self.faults

    def handles(self, command: Command):
        return isinstance(command, SwitchAgent | ProbeAgent)

    async def handle(self, command):
        if isinstance(command, ProbeAgent):
            raise CommandRefused(f"agent {command.name} is not known")
        return CommandResult(text=f"using {command.name}", data={"name": command.name})


@pytest.fixture
def fake() -> type[FakeService]:
    return FakeService


@pytest.fixture
def bus() -> EventBus:
    return EventBus()


@pytest.fixture
async def engine(bus, fake):
    engine = Engine([fake()], bus)
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
async def server(engine, tmp_path):
    server = ControlServer(tmp_path / "c.sock", ControlRoutes(engine))
    await server.start()
    yield server
    engine.bus.close()
    await server.stop()


@pytest.fixture
async def http(server):
    connector = aiohttp.UnixConnector(str(server.path))
    async with aiohttp.ClientSession("http://rtun", connector=connector) as session:
        yield session


@pytest.fixture
def until() -> Callable:
    """Wait for a condition, looking again whenever the loop had something to do."""

    async def wait(condition, limit=10.0):
        async with asyncio.timeout(limit):
            while not condition():  # noqa: ASYNC110 - conditions are any state, not only events
                await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def flow() -> Callable[..., FlowView]:
    def make(number, up=0, down=0):
        return FlowView(
            id=f"{number:08x}",
            rule="r1",
            source=f"127.0.0.1:{number}",
            target="192.0.2.1:53",
            tunnel="t1",
            state=FlowState.ACTIVE,
            opened_at=0.0,
            idle_s=0.0,
            up_bytes=up,
            down_bytes=down,
        )

    return make


@pytest.fixture
def some_traffic() -> Traffic:
    return Traffic(1, 10, 2, 20)


@pytest.fixture
def names() -> Callable:
    """The types of the events that a subscription has."""

    def types(subscription):
        return [str(stamped.event.__struct_config__.tag) for stamped in subscription.drain()]

    return types


@pytest.fixture(autouse=True)
def _own_runtime_dir(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("xdg")))
