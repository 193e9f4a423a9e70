"""An original relay as a model: agent choice, the controlling ICE side, flows (wire spec 6.4, 8 to 10)."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Callable

from rtun_core.wire.pb import rtun_pb2 as pb
from tests.interop import original_wire as wire
from tests.interop.original_path import HEAD, Generation, OriginalIce, OriginalTunnel
from tests.interop.original_signal import Packets, Refused, connect_sub, list_agents

HEARTBEAT_OF_LATER_TUNNELS = 1.5  # "within 3 s"


class OriginalRelay:
    """One relay rule of an original. `answers` are the payloads per flow as they came.

    `seed` None draws one; 0 asks for the legacy form. `max_payload` None asks for the default of the
    generation. `ice` makes the socket of a tunnel.
    """

    def __init__(
        self,
        target: str,
        *,
        generation: Generation = HEAD,
        agent: str = ".*",
        seed: int | None = None,
        max_payload: int | None = None,
        ice: Callable[[], OriginalIce] = lambda: OriginalIce(controlling=True),
    ) -> None:
        self.generation, self.target = generation, target
        self.tunnels: list[OriginalTunnel] = []
        self.answers: dict[int, asyncio.Queue[bytes]] = {}
        self.unknown_flows: list[tuple[int, bytes]] = []
        self.last_answer: pb.OpenP2PResponse | None = None
        self._pattern, self._seed, self._make_ice = re.compile(agent), seed, ice
        self._max_payload = max_payload
        self._packets: Packets | None = None
        self._flows: dict[object, int] = {}

    async def start(self, url: str, secret: str) -> OriginalRelay:
        """Attach to the best agent and open the first tunnel. Raises Refused."""
        await self.attach(url, secret)
        await self.open_tunnel()
        return self

    async def attach(self, url: str, secret: str) -> None:
        """Attach to the best agent. Raises Refused."""
        usable = [
            each
            for each in await list_agents(url)
            if self._pattern.search(each["name"]) and each["expire_at"] > time.time() * 1000
        ]
        usable.sort(key=lambda each: (each["name"], each["addr"]))
        usable.sort(key=lambda each: (each["expire_at"], each.get("instance_id") or ""), reverse=True)
        if not usable:
            raise Refused("no agent")
        self._packets = await connect_sub(
            url, wire.token(secret), agent=usable[0]["name"], instance=usable[0].get("instance_id")
        )

    async def request(self, payload: bytes) -> bytes:
        """One request on channel 0 and its answer."""
        assert self._packets is not None
        await self._packets.send(wire.packet(0, payload))
        data = await asyncio.wait_for(self._packets.recv(), 15)
        assert data is not None, "the session ended instead of an answer"
        channel, answer = wire.read_packet(data)
        assert channel == 0
        assert answer, "an empty answer closes the control channel"
        return answer

    async def open_tunnel(self) -> OriginalTunnel:
        """One more tunnel. Raises Refused when the agent refuses, TimeoutError when ICE fails."""
        ice = self._make_ice()
        try:
            return await self._open(ice)
        except BaseException:
            ice.close()
            raise

    async def _open(self, ice: OriginalIce) -> OriginalTunnel:
        seed = 1 + secrets.randbelow(0xFFFFFFFF) if self._seed is None else self._seed
        args = self.relay_args(ice, seed)
        request = pb.C2ARequest(open_p2p=pb.P2PArgs(udp_relay=args))
        answer = pb.OpenP2PResponse.FromString(await self.request(request.SerializeToString()))
        self.last_answer = answer
        if answer.WhichOneof("open_p2p_rsp") != "args":
            raise Refused(answer.status.reason)
        theirs = answer.args.udp_relay
        ice.set_remote(theirs.ice.ufrag, theirs.ice.pwd, list(theirs.ice.candidates))
        first = not self.tunnels
        tunnel = OriginalTunnel(
            ice,
            self.generation,
            theirs.obfs_seed,
            first_heartbeat=0.0 if first else HEARTBEAT_OF_LATER_TUNNELS,
            on_frame=self._downlink,
        )
        await ice.connect(tunnel.receive)
        self.tunnels.append(tunnel)
        tunnel.start()
        return tunnel

    def relay_args(self, ice: OriginalIce, seed: int) -> pb.UdpRelayArgs:
        """What this relay asks of an agent."""
        return pb.UdpRelayArgs(
            ice=pb.P2PIceArgs(ufrag=ice.ufrag, pwd=ice.pwd, candidates=ice.candidates),
            target_addr=self.target,
            idle_timeout_secs=120,
            max_payload=self._max_payload or self.generation.payload_limit(seed),
            obfs_seed=seed,
        )

    def flow(self, source: object) -> int:
        """The flow id of a local source: 1, 2, ..."""
        flow = self._flows.setdefault(source, len(self._flows) + 1)
        self.answers.setdefault(flow, asyncio.Queue())
        return flow

    async def round_trip(
        self, payload: bytes, *, source: object = None, tunnel: int = 0, timeout: float = 5.0
    ) -> bytes:
        """Send a datagram of `source` and return the next answer to it. Raises TimeoutError."""
        flow = self.flow(source)
        self.tunnels[tunnel].send(flow, payload)
        return await asyncio.wait_for(self.answers[flow].get(), timeout)

    async def close(self) -> None:
        """Leave, and close everything."""
        for tunnel in self.tunnels:
            await tunnel.finish()
        if self._packets is not None:
            await self._packets.leave()

    def _downlink(self, _tunnel: OriginalTunnel, flow: int, payload: bytes) -> None:
        if flow in self.answers:
            self.answers[flow].put_nowait(payload)
        else:
            self.unknown_flows.append((flow, payload))
