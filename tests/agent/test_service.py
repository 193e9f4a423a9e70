"""The published agent: sessions come and go, the agent ends when its time or the server says so."""

import asyncio
from collections import Counter
from contextlib import suppress

import pytest

from rtun_core.agent import service as service_module
from rtun_core.agent.config import ExitConfig, PubConfig
from rtun_core.agent.service import EXPIRED, VERSION, AgentService
from rtun_core.bus import EventBus
from rtun_core.commands import CloseFlow, CloseTunnel, DrainTunnel, PinAgent
from rtun_core.errors import BindError, CommandRefused, SignalingError, Unauthorized
from rtun_core.events import Notice, ServiceListening, SignalConnected, SignalLost
from rtun_core.model import AgentState
from rtun_core.net.endpoint import SignalEndpoint
from rtun_core.net.ice import IceConfig
from rtun_core.wire.address import Address
from rtun_core.wire.pb import rtun_pb2 as pb
from rtun_core.wire.signal_url import parse_signal_url
from rtun_core.wire.token import PUBLIC_SECRET

URL = parse_signal_url("http://127.0.0.1:1")


class Session:
    """A signalling session that ends when the test says so."""

    def __init__(self):
        self.kicked = False
        self.faults = Counter()
        self.handler = None
        self._ended = asyncio.get_running_loop().create_future()

    async def run(self, handler):
        self.handler = handler
        return await self._ended

    def end(self, reason, *, kicked=False):
        self.kicked = kicked
        self._ended.set_result(reason)


class Server:
    """Stands for `open_pub`: what it was asked, and what it answers, in order."""

    def __init__(self, monkeypatch):
        self.asked = []
        self.sessions = []
        self.failures = []
        monkeypatch.setattr(service_module, "open_pub", self._open_pub)

    async def _open_pub(self, endpoint, *, agent, expire_in_ms, ver):
        self.asked.append((agent, expire_in_ms, ver))
        if self.failures:
            raise self.failures.pop(0)
        self.sessions.append(Session())
        return self.sessions[-1], agent or "given"


class Time:
    """A clock that sleeping moves."""

    def __init__(self):
        self.now = 100.0
        self.slept = []

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.slept.append(seconds)
        await asyncio.sleep(0)
        self.now += seconds


class Running:
    def __init__(self, server, clock, **config):
        self.server = server
        self.clock = clock
        self.bus = EventBus()
        self._events = self.bus.subscribe()
        self._seen = []
        endpoint = SignalEndpoint(url=URL, secret=config.pop("secret", b"secret"))
        exit_ = ExitConfig(ice=IceConfig(stun_servers=()))
        self.service = AgentService(
            PubConfig(endpoint=endpoint, exit=exit_, **config),
            self.bus,
            clock=clock,
            wall=lambda: 5000.0,
            jitter=lambda: 0.0,
            sleep=clock.sleep,
        )

    def told(self, *kinds):
        self._seen += [stamped.event for stamped in self._events.drain()]
        return [event for event in self._seen if isinstance(event, kinds)]


@pytest.fixture
async def run(monkeypatch):
    """Starts agents against a fake server, and stops them."""
    started = []

    async def start(*, failures=(), **config):
        server = Server(monkeypatch)
        server.failures = list(failures)
        running = Running(server, Time(), **config)
        started.append(running)
        await running.service.start()
        return running

    yield start
    for running in started:
        await running.service.stop(drain=False)


async def test_it_publishes_its_name_and_version(run, until):
    running = await run(name="beta")
    await until(lambda: running.told(SignalConnected))
    assert running.server.asked == [("beta", None, VERSION)]
    assert VERSION.endswith(".py")
    (connected,) = running.told(SignalConnected)
    assert (connected.url, connected.agent) == (str(URL), "beta")


async def test_the_session_is_answered_by_the_exit(run, until):
    running = await run()
    await until(lambda: running.server.sessions and running.server.sessions[0].handler)
    answer = await running.server.sessions[0].handler.handle(pb.C2ARequest(open_sell=pb.OpenShellArgs()))
    assert answer.status.code == -1
    assert running.service.counters()[1] == {"unsupported open_sell": 1}


async def test_a_lost_session_is_opened_again_under_the_same_name(run, until):
    running = await run()
    await until(lambda: running.told(SignalConnected))
    running.server.sessions[0].faults["garbage"] = 2
    running.server.sessions[0].end("connection reset")
    await until(lambda: len(running.told(SignalConnected)) == 2)
    assert [agent for agent, _, _ in running.server.asked] == [None, "given"]
    assert [event.reason for event in running.told(SignalLost)] == ["connection reset"]
    assert running.clock.slept == [0.5]
    assert running.service.counters()[1] == {"garbage": 2}


async def test_failures_back_off_are_told_once_and_success_starts_over(run, until):
    running = await run(failures=[SignalingError("no route")] * 4)
    await until(lambda: running.told(SignalConnected))
    assert running.clock.slept == [0.5, 1, 2, 4]
    assert [notice.message for notice in running.told(Notice)] == ["no route; trying again"]
    running.server.failures = [SignalingError("down")] * 2
    running.server.sessions[0].end("gone")
    await until(lambda: len(running.told(SignalConnected)) == 2)
    assert running.clock.slept[4:] == [0.5, 1, 2]
    assert len(running.told(Notice)) == 1


async def test_a_refused_secret_is_told_once_and_tried_rarely(run, until):
    running = await run(failures=[Unauthorized("wrong secret")] * 3)
    await until(lambda: running.told(SignalConnected))
    assert running.clock.slept == [15, 15, 15]
    assert [(notice.topic, notice.message) for notice in running.told(Notice)] == [
        ("unauthorized", "wrong secret; trying again")
    ]


async def test_each_connection_announces_the_time_that_is_left(monkeypatch, until):
    server = Server(monkeypatch)
    clock = Time()
    forever = asyncio.Event()

    async def sleep(seconds):
        if seconds > 15:
            await forever.wait()
        await Time.sleep(clock, seconds)

    clock.sleep = sleep
    server.failures = [SignalingError("down")] * 3
    running = Running(server, clock, expire_in=60.0)
    await running.service.start()
    await until(lambda: running.told(SignalConnected))
    assert [left for _, left, _ in server.asked] == [60_000, 59_500, 58_500, 56_500]
    assert running.service.snapshot().agents[0].expires_at == 5060.0
    await running.service.stop(drain=True)


async def test_the_time_being_over_ends_it(run):
    running = await run(expire_in=30.0)
    assert await running.service.wait() == EXPIRED


async def test_it_does_not_publish_after_its_time(run, until):
    running = await run(failures=[SignalingError("down")] * 1000, expire_in=20.0)
    assert await running.service.wait() == EXPIRED
    assert all(left > 0 for _, left, _ in running.server.asked)


async def test_a_kick_ends_it(run, until):
    running = await run()
    await until(lambda: running.server.sessions)
    running.server.sessions[0].end("kicked down by the peer: replaced", kicked=True)
    assert await running.service.wait() == "kicked down by the peer: replaced"
    assert len(running.server.asked) == 1


async def test_a_bug_in_the_signalling_task_ends_it_loudly(run, monkeypatch):
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
    running = await run(failures=[ZeroDivisionError("bug")])
    assert "signalling failed: bug" in await running.service.wait()
    assert isinstance(reported[0]["exception"], ZeroDivisionError)


async def test_the_public_secret_is_warned_of(run):
    running = await run(secret=PUBLIC_SECRET)
    (notice,) = [event for event in running.told(Notice) if event.topic == "secret"]
    assert "ANYONE" in notice.message
    assert "--secret" in notice.message


async def test_a_secret_of_ones_own_is_not(run):
    assert (await run()).told(Notice) == []


async def test_the_echo_service_comes_with_it(run, peer_type):
    running = await run(echo=Address("127.0.0.1", 0))
    (listening,) = running.told(ServiceListening)
    peer = peer_type()
    host, _, port = listening.address.rpartition(":")
    peer.send(b"hello", Address(host, int(port)))
    assert (await peer.recv())[0] == b"hello"
    peer.close()
    await running.service.stop(drain=False)


async def test_an_echo_address_in_use_is_a_bind_error(run, peer_type):
    peer = peer_type()
    with pytest.raises(BindError):
        await run(echo=peer.address)
    peer.close()


async def test_the_snapshot_shows_agent_and_signalling(run, until):
    running = await run(failures=[SignalingError("down")])
    snapshot = running.service.snapshot()
    assert snapshot.signal[0].state == "connecting"
    assert snapshot.agents[0].name == "agent"
    await until(lambda: running.told(SignalConnected))
    snapshot = running.service.snapshot()
    assert snapshot.signal[0].state == "connected"
    (row,) = snapshot.agents
    assert (row.id, row.state, row.tunnels, row.version) == ("given", AgentState.IN_USE, 0, VERSION)
    assert (list(snapshot.flows), snapshot.tunnels) == ([], ())


async def test_the_snapshot_shows_a_lost_session(run, until):
    running = await run()
    await until(lambda: running.told(SignalConnected))
    running.server.failures = [SignalingError("still down")] * 10**6
    running.server.sessions[0].end("gone")
    await until(lambda: running.service.snapshot().signal[0].reason == "still down")
    assert running.service.snapshot().signal[0].state == "lost"
    assert running.service.snapshot().agents[0].state is AgentState.LOST


async def test_before_the_start_there_is_little_to_see():
    config = PubConfig(
        endpoint=SignalEndpoint(url=URL, secret=b"x"), exit=ExitConfig(ice=IceConfig(stun_servers=()))
    )
    service = AgentService(config, EventBus())
    assert service.snapshot().agents == ()
    assert service.counters() == ({}, {})
    with pytest.raises(CommandRefused, match="not started"):
        await service.handle(CloseTunnel(tunnel="t1"))
    await service.stop(drain=True)


async def test_commands_reach_the_exit(run):
    running = await run()
    assert running.service.handles(CloseFlow(flows=("@all",)))
    assert running.service.handles(DrainTunnel(tunnel="t1"))
    assert not running.service.handles(PinAgent())
    assert (await running.service.handle(CloseFlow(flows=("@all",)))).text == "0 flows closed"
    with pytest.raises(CommandRefused):
        await running.service.handle(CloseTunnel(tunnel="t1"))


async def test_stopping_ends_a_waiting_session(run, until):
    running = await run()
    await until(lambda: running.told(SignalConnected))
    waiting = asyncio.get_running_loop().create_task(running.service.wait())
    await asyncio.sleep(0)
    await running.service.stop(drain=True)
    with suppress(asyncio.CancelledError):
        await waiting
    assert waiting.done()
