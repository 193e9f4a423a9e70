"""An original agent as a model: signalling, the controlled ICE side, relay exits (wire spec 2.2, 6, 8, 9)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rtun_core.net.tasks import TaskOwner
from rtun_core.wire.pb import rtun_pb2 as pb
from tests.interop import original_wire as wire
from tests.interop.original_path import HEAD, Generation, OriginalIce, OriginalTunnel, RawUdp
from tests.interop.original_signal import Packets, connect_pub
from tests.interop.original_wire import Address

VER = "0.2.0.8af2851"
PAUSE_BEFORE_ANSWER = 0.1

FlowKey = tuple[object, int, Address]


class Exit:
    """A target socket of one flow, and the tunnel that its answers take."""

    def __init__(self, flow: int, target: Address, tunnel: OriginalTunnel) -> None:
        self.tunnel = tunnel
        self._flow = flow
        self.udp = RawUdp(self._on_answer)
        self.udp.connect(target)
        self.udp.start()

    def _on_answer(self, data: bytes, _source: Address) -> None:
        if data and self.tunnel.closed is None:
            self.tunnel.send(self._flow, data)


class OriginalAgent:
    """Registers, and answers requests strictly in order, one at a time.

    `requests` are the payloads of channel 0 as they came, `violations` what no original server or relay
    does. `override_seed` is answered instead of the seed that the relay asked for. `first_heartbeat` is
    when a new tunnel beats first (s). `ice` makes the socket of a tunnel, for losses and delays.
    """

    def __init__(
        self,
        *,
        generation: Generation = HEAD,
        name: str = "original",
        ver: str | None = VER,
        expire_in: int | None = None,
        override_seed: int | None = None,
        first_heartbeat: float = 0.0,
        ice: Callable[[], OriginalIce] = lambda: OriginalIce(controlling=False),
    ) -> None:
        self.generation, self.name = generation, name
        self.requests: list[bytes] = []
        self.asked: list[pb.UdpRelayArgs] = []
        self.tunnels: list[OriginalTunnel] = []
        self.violations: list[str] = []
        self.kicked: bytes | None = None
        self.ended = asyncio.Event()
        self.hold = asyncio.Event()  # cleared: open_p2p waits
        self.hold.set()
        self._ver, self._expire_in = ver, expire_in
        self._override_seed, self._first_heartbeat = override_seed, first_heartbeat
        self._make_ice = ice
        self._packets: Packets | None = None
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._busy = False
        self._exits: dict[FlowKey, Exit] = {}
        self._pending: list[OriginalIce] = []
        self._tasks = TaskOwner("original-agent")

    async def start(self, url: str, secret: str) -> OriginalAgent:
        """Register. Raises Refused."""
        self._packets, self.name = await connect_pub(
            url, wire.token(secret), agent=self.name, expire_in=self._expire_in, ver=self._ver
        )
        self._tasks.spawn(self._read(self._packets), "reader")
        self._tasks.spawn(self._work(self._packets), "worker")
        return self

    async def close(self) -> None:
        """Leave, and close everything."""
        await self._tasks.close()
        for tunnel in self.tunnels:
            await tunnel.finish()
        for each in self._exits.values():
            each.udp.close()
        for ice in self._pending:
            ice.close()
        if self._packets is not None:
            await self._packets.leave()

    async def _read(self, packets: Packets) -> None:
        while (data := await packets.recv()) is not None:
            channel, payload = wire.read_packet(data)
            if channel:
                continue
            if not payload:
                break
            if self._busy:
                self.violations.append("a request came while another one was unanswered")
            self._busy = True
            self.requests.append(payload)
            self._queue.put_nowait(payload)
        self.ended.set()

    async def _work(self, packets: Packets) -> None:
        while True:
            payload = await self._queue.get()
            answer = await self._answer(payload)
            if answer is None:
                self.violations.append("an unknown request")
                await packets.send(wire.packet(0, b""))
                return
            self._busy = False
            await packets.send(wire.packet(0, answer))
            if self.kicked is not None:
                self.ended.set()
                return

    async def _answer(self, payload: bytes) -> bytes | None:
        request = pb.C2ARequest.FromString(payload)
        match request.WhichOneof("c2a_req_args"):
            case "ping":
                return pb.Pong(timestamp=request.ping.timestamp).SerializeToString()
            case "kick_down":
                self.kicked = payload
                return pb.ResponseStatus(code=0, reason="ok").SerializeToString()
            case "close_channel":
                return pb.ResponseStatus(code=0, reason="ok").SerializeToString()
            case "open_p2p":
                return (await self._open_p2p(request.open_p2p)).SerializeToString()
            case "open_sell" | "open_socks":
                status = pb.ResponseStatus(code=-1, reason="disabled")
                return pb.OpenChannelResponse(status=status).SerializeToString()
        return None

    async def _open_p2p(self, args: pb.P2PArgs) -> pb.OpenP2PResponse:
        await self.hold.wait()
        if args.WhichOneof("p2p_args") != "udp_relay":
            return _refusal("unsupported")
        self.asked.append(args.udp_relay)
        try:
            return await self._open_relay(args.udp_relay)
        except ValueError as error:
            return _refusal(str(error))

    async def _open_relay(self, args: pb.UdpRelayArgs) -> pb.OpenP2PResponse:
        target = _socket_address(args.target_addr)
        seed = args.obfs_seed if self._override_seed is None else self._override_seed
        limit = self.generation.payload_limit(seed)
        if args.max_payload > limit:
            raise ValueError(
                f"udp max payload [{args.max_payload}] exceed p2p limit [{limit}], please set <= {limit}"
            )
        ice = self._make_ice()
        self._pending.append(ice)
        ice.set_remote(args.ice.ufrag, args.ice.pwd, list(args.ice.candidates))
        ice.burst()
        await asyncio.sleep(PAUSE_BEFORE_ANSWER)
        self._tasks.spawn(self._establish(ice, seed, target, args.max_payload or limit), "ice")
        answer = pb.UdpRelayArgs(
            ice=pb.P2PIceArgs(ufrag=ice.ufrag, pwd=ice.pwd, candidates=ice.candidates),
            target_addr=args.target_addr,
            idle_timeout_secs=args.idle_timeout_secs or 120,
            max_payload=args.max_payload or limit,
            obfs_seed=seed,
        )
        return pb.OpenP2PResponse(args=pb.P2PArgs(udp_relay=answer))

    async def _establish(self, ice: OriginalIce, seed: int, target: Address, max_payload: int) -> None:
        tunnel = OriginalTunnel(
            ice,
            self.generation,
            seed,
            first_heartbeat=self._first_heartbeat,
            on_frame=lambda tunnel, flow, payload: self._uplink(tunnel, target, flow, payload),
        )
        tunnel.max_payload = max_payload
        try:
            await ice.connect(tunnel.receive)
        except TimeoutError:
            ice.close()
            return
        self.tunnels.append(tunnel)
        tunnel.start()

    def _uplink(self, tunnel: OriginalTunnel, target: Address, flow: int, payload: bytes) -> None:
        if flow == 0:
            self.violations.append(f"payload on flow 0: {payload.hex()}")
        scope = None if self.generation.shared_flows else id(tunnel)
        each = self._exits.get((scope, flow, target))
        if each is None:
            each = self._exits[scope, flow, target] = Exit(flow, target, tunnel)
        each.tunnel = tunnel
        each.udp.send(payload)


def _refusal(reason: str) -> pb.OpenP2PResponse:
    return pb.OpenP2PResponse(status=pb.ResponseStatus(code=-1, reason=reason))


def _socket_address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if host.count(".") != 3 or not host.replace(".", "").isdigit():
        raise ValueError("invalid socket address syntax")
    return host, int(port)
