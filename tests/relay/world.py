"""What surrounds a relay, on loopback and in this process: agents, a signalling server, peers, events."""

import asyncio
import contextlib
import ipaddress
import socket
from dataclasses import dataclass, field

from rtun_core.agent.config import ExitConfig
from rtun_core.agent.control import AgentControl
from rtun_core.agent.echo import EchoService
from rtun_core.bus import EventBus
from rtun_core.errors import RtunError
from rtun_core.model import agent_id
from rtun_core.net.endpoint import SignalEndpoint
from rtun_core.net.ice import IceConfig, IceSession
from rtun_core.net.signal_client import open_pub
from rtun_core.net.tasks import TaskOwner
from rtun_core.net.udp import UdpSocket
from rtun_core.relay.config import RelayConfig
from rtun_core.relay.service import RelayService
from rtun_core.signaling.config import ServerConfig
from rtun_core.signaling.server import SignalingServer
from rtun_core.wire.address import Address
from rtun_core.wire.control import error_p2p
from rtun_core.wire.ice_params import ice_params_from_pb, ice_params_to_pb
from rtun_core.wire.pb import rtun_pb2 as pb
from rtun_core.wire.relay_frame import CodecKind, RelayCodec
from rtun_core.wire.relay_rule import RelayRule
from rtun_core.wire.signal_json import NEVER, AgentEntry
from rtun_core.wire.signal_url import parse_signal_url

LIMIT = 10.0
LOCAL = Address("127.0.0.1", 0)
ICE = IceConfig(stun_servers=(), candidate_cidrs=(ipaddress.ip_network("127.0.0.1/32"),))
OWN = "0.1.0.py"
SECRET = b"a secret of tests"


async def until(condition, what="the condition"):
    """Let the loop run until `condition()` holds, and return what it gave."""
    try:
        async with asyncio.timeout(LIMIT):
            while not (value := condition()):  # noqa: ASYNC110 - conditions are any state, not only events
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"{what} did not come true") from None
    return value


class Events:
    """Everything a bus was told."""

    def __init__(self, bus):
        self._subscription = bus.subscribe(10_000)
        self._seen = []

    def of(self, *kinds):
        """The events of these types so far."""
        self._seen += [stamped.event for stamped in self._subscription.drain()]
        return [event for event in self._seen if isinstance(event, kinds)]

    def forget(self):
        self.of()
        self._seen.clear()


class Peer:
    """A plain UDP socket."""

    def __init__(self, to=None):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind(("127.0.0.1", 0))
        self.address = Address(*self.sock.getsockname())
        self.to = to

    def send(self, data, to=None):
        self.sock.sendto(data, tuple(to or self.to))

    async def recv(self):
        """The next datagram and its source."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(LIMIT):
            data, source = await loop.sock_recvfrom(self.sock, 65536)
        return data, Address(*source)

    async def ask(self, data):
        """Send, and return the next datagram."""
        self.send(data)
        return (await self.recv())[0]

    def waiting(self):
        """What is here already."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.sock.recv(65536))
        return found

    def close(self):
        self.sock.close()


class FarEnd(Peer):
    """The agent's end of one channel, one frame at a time."""

    def __init__(self, kind=CodecKind.OBFS_V2, seed=77):
        super().__init__()
        self.codec = RelayCodec(kind, seed)

    def frame(self, flow, payload=b""):
        self.send(self.codec.encode(flow, payload, 5))

    async def next_frame(self):
        """The next frame that is no heartbeat: flow and payload."""
        while True:
            frame = self.codec.decode((await self.recv())[0])
            if frame[:2] != (0, b""):
                return frame.flow, frame.payload


@dataclass
class FakePath:
    """A path from a fresh socket to a far end."""

    socket: UdpSocket
    remote: Address
    rtt: float | None = 0.004
    early: list = field(default_factory=list)

    @staticmethod
    def to(far, **options):
        sock = UdpSocket.open(local=LOCAL)
        sock.connect(far.address)
        far.to = sock.local
        return FakePath(sock, far.address, **options)

    def responder(self, data, source):
        return None


def answered_by(args, ice):
    """The answer of an agent that agrees to everything."""
    relay = pb.UdpRelayArgs()
    relay.CopyFrom(args)
    relay.ice.CopyFrom(ice_params_to_pb(ice.local))
    return pb.OpenP2PResponse(args=pb.P2PArgs(udp_relay=relay))


class Agent:
    """An agent's way to answer, and what bends it.

    `refusal`: a text or an exception instead of a channel; `gate`: requests wait for it; `foreign`: an
    original program, which knows nothing of extensions; `mute`: takes the path and never says a word.
    """

    def __init__(self, bus):
        self.control = AgentControl(ExitConfig(ice=ICE), bus)
        self.asked = []
        self.refusal = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.foreign = self.mute = False
        self._tasks = TaskOwner("agent")
        self._sessions = []
        self._paths = []

    async def handle(self, request):
        args = request.open_p2p.udp_relay
        self.asked.append(args)
        await self.gate.wait()
        if isinstance(self.refusal, Exception):
            raise self.refusal
        if self.refusal is not None:
            return error_p2p(self.refusal)
        if self.foreign or self.mute:
            args.ClearField("ext")
        return await (self._mute_answer(args) if self.mute else self.control.handle(request))

    async def _mute_answer(self, args):
        ice = await IceSession.gather(ICE, controlling=False)
        self._sessions.append(ice)
        remote = ice_params_from_pb(args.ice)
        ice.prime(remote)
        self._tasks.spawn(self._connect(ice, remote), "path")
        return answered_by(args, ice)

    async def _connect(self, ice, remote):
        with contextlib.suppress(RtunError):
            path = await ice.connect(remote)
            self._paths.append(path)
            path.socket.start(lambda batch: None, lambda error: None)

    def close_tunnels(self):
        """Close this end of every channel; the relay's next datagrams find the port closed."""
        for tunnel in self.control.tunnels():
            self.control.close_tunnel(tunnel.id)

    async def close(self):
        await self._tasks.close()
        for session in self._sessions:
            session.close()
        for path in self._paths:
            path.socket.close()
        await self.control.close()


class Link:
    """Stands for `AgentLink`: an agent without a server between."""

    def __init__(self, agent, name="alpha", ver=OWN):
        self.agent = agent
        self.entry = AgentEntry(name, "127.0.0.1:1", NEVER, "1", ver)
        self.id = agent_id(name, "1")
        self.connected = True

    async def request(self, request, *, timeout):
        copy = pb.C2ARequest()
        copy.CopyFrom(request)
        return await self.agent.handle(copy)


def count_looks(director):
    """Count the calls of `_refresh`."""
    refresh = director._refresh
    director.looks = 0

    async def counted():
        director.looks += 1
        return await refresh()

    director._refresh = counted


@dataclass
class Published:
    """An agent that is registered at the stage's server."""

    agent: Agent
    session: object
    task: asyncio.Task


class Stage:
    """A signalling server with agents, an echo target, and relays that use them."""

    def __init__(self):
        self.backstage = EventBus()
        self.bus = EventBus()
        self.events = Events(self.bus)
        self.echo = EchoService(LOCAL)
        self.server = None
        self.endpoint = None
        self.published = {}
        self.services = []
        self._agents = []
        self._peers = []
        self._tasks = TaskOwner("stage")

    async def start_server(self):
        """Start the server, again at the same port the second time."""
        listen = LOCAL if self.server is None else self.server.address
        self.server = SignalingServer(
            ServerConfig(listen=listen, secret=SECRET, bridge_only=True), self.backstage, local=None
        )
        await self.server.start()
        url = parse_signal_url(f"http://{self.server.address}")
        self.endpoint = SignalEndpoint(url=url, secret=SECRET)

    async def agent(self, name, *, expire_in=None, refusal=None):
        """Register an agent; again under the same name, it is another instance that takes its place."""
        agent = Agent(self.backstage)
        agent.refusal = refusal
        self._agents.append(agent)
        await self.publish(name, agent, expire_in)
        return agent

    async def publish(self, name, agent, expire_in=None):
        expire_in_ms = None if expire_in is None else int(expire_in * 1000)
        session, _ = await open_pub(self.endpoint, agent=name, expire_in_ms=expire_in_ms, ver=OWN)
        task = self._tasks.spawn(session.run(agent), name)
        self.published[name] = Published(agent, session, task)

    async def withdraw(self, name):
        """Take an agent out of the registry; its channels live on."""
        published = self.published.pop(name)
        await published.session.close("the test says so")

    def config(self, **options):
        options.setdefault("rules", (RelayRule(LOCAL, self.echo.address),))
        return RelayConfig(endpoint=self.endpoint, ice=ICE, open_retry_min_interval=0.05, **options)

    async def relay(self, **options):
        """A started relay; `director.looks` counts how often it looked at the registry."""
        service = RelayService(self.config(**options), self.bus)
        count_looks(service.director)
        self.services.append(service)
        await service.start()
        return service

    def peer(self, to=None):
        self._peers.append(Peer(to))
        return self._peers[-1]

    def client(self, relay, rule=0):
        """A client of a rule of a relay."""
        return self.peer(relay.rules[rule].port.local)

    async def close(self):
        for service in self.services:
            await service.stop(drain=False)
        await self._tasks.close()
        for agent in self._agents:
            await agent.close()
        if self.server is not None:
            await self.server.stop(drain=False)
        self.echo.close()
        for peer in self._peers:
            peer.close()
