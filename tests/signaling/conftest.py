"""A signalling server in this process, agents and clients of it, over real loopback sockets."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rtun_core.bus import EventBus, Subscription
from rtun_core.net import tls
from rtun_core.net.endpoint import SignalEndpoint
from rtun_core.net.signal_client import open_pub, open_sub
from rtun_core.net.tasks import TaskOwner
from rtun_core.signaling.config import ServerConfig
from rtun_core.signaling.server import SignalingServer
from rtun_core.wire.address import Address
from rtun_core.wire.control import error_p2p
from rtun_core.wire.pb import rtun_pb2 as pb
from rtun_core.wire.signal_url import parse_signal_url

SECRET = b"sec123"


@dataclass
class Running:
    """A server that runs, and how it is reached."""

    server: SignalingServer
    endpoint: SignalEndpoint
    events: Subscription

    @property
    def port(self):
        return self.server.address.port

    @property
    def faults(self):
        return self.server.counters()[1]

    def as_stranger(self, secret=b"wrong"):
        return replace(self.endpoint, secret=secret)

    async def event(self, kind, matching=""):
        """Wait for an event of this type whose text contains `matching`."""
        while True:
            for stamped in await asyncio.wait_for(self.events.get(), 10):
                if isinstance(stamped.event, kind) and matching in stamped.event.text():
                    return stamped.event

    async def until(self, condition):
        """Wait until `condition()` holds; a bounded poll, for what no event tells."""
        async with asyncio.timeout(10):
            while not (value := condition()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return value


class Agent:
    """Answers `open_p2p` with what it got; the target `wait` waits for `release`."""

    def __init__(self, name):
        self.name = name
        self.seen = asyncio.Queue()
        self.release = asyncio.Event()
        self.session = None
        self.running = None

    async def handle(self, request):
        self.seen.put_nowait(request)
        variant = request.WhichOneof("c2a_req_args")
        if variant == "exec_agent_script":
            return pb.ExecAgentScriptResult(stdout=request.exec_agent_script.content, exit_code=3)
        if variant in ("open_sell", "open_socks"):
            args = getattr(request, variant)
            self.channel = self.session.channel(args.ch_id)
            return pb.OpenChannelResponse(ch_id=args.ch_id)
        if request.open_p2p.udp_relay.target_addr == "wait":
            await self.release.wait()
        if request.open_p2p.udp_relay.target_addr == "boom":
            return error_p2p("boom")
        return pb.OpenP2PResponse(args=request.open_p2p)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """Paths of a certificate and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    cert, key = tls.self_signed(["localhost", "127.0.0.1"])
    (folder / "cert.pem").write_bytes(cert)
    (folder / "key.pem").write_bytes(key)
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
async def serve(certificate):
    """`await serve(scheme, **ServerConfig fields)` starts a server."""
    started = []

    async def start(scheme="http", *, local=None, timing=None, **fields):
        if scheme != "http" and not fields.get("self_signed"):
            fields = {"cert": certificate[0], "key": certificate[1]} | fields
        config = ServerConfig(**({"listen": Address("127.0.0.1", 0), "secret": SECRET} | fields))
        bus = EventBus()
        events = bus.subscribe()
        server = SignalingServer(config, bus, local=local, **(timing or {}))
        await server.start()
        started.append(server)
        url = parse_signal_url(f"{scheme}://127.0.0.1:{server.address.port}")
        ca: Path | None = None if scheme == "http" else fields.get("cert")
        return Running(server, SignalEndpoint(url=url, secret=config.secret, ca=ca), events)

    yield start
    for server in started:
        await server.stop(drain=False)


@pytest.fixture
async def register():
    """`await register(running, name)` starts an agent and returns it."""
    tasks = TaskOwner("agents")

    async def start(running, name="beta", *, ver="0.1.0.py", expire_in_ms=None, handler=None):
        agent = handler or Agent(name)
        session, agent.name = await open_pub(running.endpoint, agent=name, expire_in_ms=expire_in_ms, ver=ver)
        agent.session = session
        agent.running = tasks.spawn(session.run(agent), name or "nameless")
        return agent

    yield start
    await tasks.close()


@pytest.fixture
async def attach():
    """`await attach(running, agent)` opens a client session."""
    sessions = []

    async def start(running, agent="beta", instance=None):
        session = await open_sub(running.endpoint, agent=agent, instance=instance)
        sessions.append(session)
        return session

    yield start
    for session in sessions:
        await session.close("the test is over")


@pytest.fixture
def p2p():
    """Build an `open_p2p` request for a target."""

    def build(target):
        return pb.C2ARequest(open_p2p=pb.P2PArgs(udp_relay=pb.UdpRelayArgs(target_addr=target)))

    return build
