"""A fake relay and targets on real loopback sockets, around a real flow table and real tunnels."""

import asyncio
import contextlib
import socket
from collections import Counter
from dataclasses import dataclass, field

import pytest

from rtun_core.agent import exit_flows
from rtun_core.agent.codec_terms import CodecTerms
from rtun_core.agent.exit_flows import ExitFlows
from rtun_core.agent.exit_tunnel import ExitTunnel, TunnelTerms
from rtun_core.model import TunnelId
from rtun_core.net import frame_socket
from rtun_core.net.udp import UdpSocket
from rtun_core.wire.address import Address
from rtun_core.wire.relay_frame import CodecKind, RelayCodec

SEED = 0x12345678
LIMIT = 5.0


async def until(condition, what="the condition"):
    """Let the loop run until `condition()` holds."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError(f"{what} did not come true")


class Clock:
    """A clock that moves only when told."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Peer:
    """A plain UDP socket of a test."""

    def __init__(self, host="127.0.0.1"):
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind((host, 0))
        self.address = Address(*self.sock.getsockname()[:2])

    async def recv(self):
        """The next datagram and its source."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(LIMIT):
            data, source = await loop.sock_recvfrom(self.sock, 4096)
        return data, Address(*source[:2])

    def waiting(self):
        """Every datagram that is already here."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.sock.recv(4096))
        return found

    def send(self, data, to):
        self.sock.sendto(data, tuple(to))

    def close(self):
        self.sock.close()


class FakeRelay(Peer):
    """The other end of one tunnel, one frame at a time with the scalar codec."""

    def __init__(self, kind, seed):
        super().__init__()
        self.codec = RelayCodec(kind, seed)
        self.exit = Address("127.0.0.1", 0)
        self._nonce = 0

    def frame(self, flow, payload=b"", seq=None):
        self._nonce += 1
        return self.codec.encode(flow, payload, self._nonce, seq)

    def uplink(self, flow, payload=b"", seq=None):
        self.raw(self.frame(flow, payload, seq))

    def raw(self, data):
        self.send(data, self.exit)

    async def downlink(self):
        """The next frame that is not a heartbeat."""
        while True:
            data, _ = await self.recv()
            frame = self.codec.decode(data)
            if frame[:2] != (0, b""):
                return frame.flow, frame.payload

    async def heartbeat(self):
        """Wait for a heartbeat in our form."""
        data, _ = await self.recv()
        assert self.codec.decode(data)[:2] == (0, b"")
        return data


@dataclass
class FakePath:
    socket: UdpSocket
    remote: Address
    rtt: float = 0.001
    early: list = field(default_factory=list)
    stun: list = field(default_factory=list)

    def responder(self, data, source):
        """Answers STUN whose transaction id starts with `y`."""
        self.stun.append((data, source))
        return b"answer" if data[8:9] == b"y" else None


class Exit:
    """A flow table with tunnels, under a clock of the test."""

    def __init__(self, *, max_flows=100):
        self.clock = Clock()
        self.events = []
        self.closed = []
        self.peers = []
        self.tunnels = []
        self.flows = ExitFlows(max_flows=max_flows, clock=self.clock, emit=self.events.append)

    def target(self, host="127.0.0.1"):
        self.peers.append(Peer(host))
        return self.peers[-1]

    def relay(self, kind=None, seed=SEED):
        self.peers.append(FakeRelay(kind or (CodecKind.OBFS_V2 if seed else CodecKind.LEGACY), seed))
        return self.peers[-1]

    def tunnel(
        self,
        target,
        *,
        kind=None,
        seed=SEED,
        session="s",
        idle=10.0,
        max_payload=0,
        agreed=True,
        reports=False,
        early=(),
    ):
        """A started tunnel towards `target` and the relay at its other end."""
        relay = self.relay(kind, seed)
        sock = UdpSocket.open(local=Address("127.0.0.1", 0))
        sock.connect(relay.address)
        relay.exit = sock.local
        terms = TunnelTerms(
            session=session,
            target=getattr(target, "address", target),
            idle_timeout=idle,
            codec=CodecTerms(seed, max_payload, agreed),
            reports=reports,
        )
        path = FakePath(sock, relay.address, early=[relay.frame(*frame) for frame in early])
        tunnel = ExitTunnel(
            TunnelId(f"t{len(self.tunnels) + 1}"),
            path,
            terms,
            self.flows,
            clock=self.clock,
            on_closed=lambda tunnel, reason: self.closed.append((tunnel.id, reason)),
        )
        self.tunnels.append(tunnel)
        tunnel.start()
        return tunnel, relay

    def drops(self):
        total = Counter(self.flows.counters()[0])
        for tunnel in self.tunnels:
            total += tunnel.counters()[0]
        return dict(total)

    def faults(self):
        total = Counter(self.flows.counters()[1])
        for tunnel in self.tunnels:
            total += tunnel.counters()[1]
        return dict(total)

    def tick(self, seconds):
        """Move the clock and tick everything once."""
        self.clock.now += seconds
        self.flows.tick()
        for tunnel in self.tunnels:
            tunnel.tick()

    def close(self):
        for tunnel in self.tunnels:
            tunnel.close()
        self.flows.close()
        for peer in self.peers:
            peer.close()


@pytest.fixture(params=[10, 0], ids=["one by one", "in batches"])
def both_ways(request, monkeypatch):
    """Run a test with both forms of the packet path: few datagrams go one by one, or none do."""
    for module in (exit_flows, frame_socket):
        monkeypatch.setattr(module, "SCALAR_ROWS", request.param)


@pytest.fixture
async def make_exit():
    """Builds exits and closes them."""
    made = []

    def make(**options):
        made.append(Exit(**options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
async def exit_(make_exit):
    return make_exit()


@pytest.fixture
def peer_type():
    return Peer


@pytest.fixture(name="until")
def _until():
    return until


@pytest.fixture(params=list(CodecKind), ids=lambda kind: kind.value)
def kind(request):
    return request.param
