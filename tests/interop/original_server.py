"""The wire side of the original signalling server as a model: registry, bridging, kick (wire spec 4 to 6)."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from aioquic.asyncio.server import QuicServer
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from rtun_core.net.tasks import TaskOwner
from rtun_core.net.tls import self_signed
from rtun_core.wire.pb import rtun_pb2 as pb
from tests.interop import original_wire as wire
from tests.interop.original_signal import MAX_MESSAGE, Packets, QuicPackets

NEVER = 2**63 - 1
REPLACED = "replace by other session"


@dataclass(eq=False)
class Session:
    """A registered agent. `unsolicited` are packets on channel 0 that answer nothing."""

    name: str
    entry: dict[str, Any]
    packets: Packets
    unsolicited: list[bytes] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)
    _waiting: list[asyncio.Future[bytes]] = field(default_factory=list)

    async def request(self, payload: bytes) -> bytes:
        """Ask the agent, one request at a time."""
        async with self._one:
            return await self.request_now(payload)

    async def request_now(self, payload: bytes) -> bytes:
        """Ask without waiting for the answers of earlier requests."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await self.packets.send(wire.packet(0, payload))
        return await asyncio.wait_for(future, 15)

    async def read(self) -> None:
        """Take what the agent sends until it goes."""
        while (data := await self.packets.recv()) is not None:
            channel, payload = wire.read_packet(data)
            if channel:
                continue
            if not self._waiting or not payload:
                self.unsolicited.append(payload)
            else:
                self._waiting.pop(0).set_result(payload)
        self.closed.set()
        for future in self._waiting:
            future.cancel()


class _WsServerPackets:
    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def send(self, packet: bytes) -> None:
        await self._socket.send_bytes(packet)

    async def recv(self) -> bytes | None:
        message = await self._socket.receive()
        return message.data if message.type is aiohttp.WSMsgType.BINARY else None

    async def leave(self) -> None:
        await self._socket.close()


class OriginalServer:
    """HTTP and QUIC on ports of their own. `json_requests` and `queries` are what clients sent, verbatim.

    `bare_entries` leaves out `instance_id` and `ver` in the list, as early builds did.
    """

    def __init__(self, secret: str, *, bare_entries: bool = False) -> None:
        self.json_requests: list[bytes] = []
        self.queries: list[tuple[str, str]] = []  # path, raw query
        self.sessions: dict[str, Session] = {}
        self.history: list[Session] = []
        self._secret, self._bare = secret, bare_entries
        self._changed = asyncio.Event()
        self._tasks = TaskOwner("original-server")
        self._runner: web.AppRunner | None = None
        self._quic: QuicServer | None = None
        self.http_url = self.quic_url = ""

    async def start(self) -> OriginalServer:
        """Listen."""
        app = web.Application()
        app.router.add_get("/pub/ws", self._pub_ws)
        app.router.add_get("/sub/ws", self._sub_ws)
        app.router.add_get("/pub/sessions", self._list)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.http_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        await self._start_quic()
        return self

    async def close(self) -> None:
        """End everything."""
        for session in self.history:
            await session.packets.leave()
        await self._tasks.close()
        if self._quic is not None:
            self._quic.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def agent(self, number: int = 1) -> Session:
        """The session of the `number`-th registration; waits for it."""
        async with asyncio.timeout(10):
            while len(self.history) < number:
                self._changed.clear()
                await self._changed.wait()
        return self.history[number - 1]

    async def kick(self, session: Session) -> bytes:
        """Tell an agent that it was replaced; returns its answer."""
        args = pb.KickDownArgs(code=-1, reason=REPLACED)
        return await session.request(pb.C2ARequest(kick_down=args).SerializeToString())

    # ---- listeners -------------------------------------------------------------------------------

    async def _start_quic(self) -> None:
        cert_pem, key_pem = self_signed(["localhost", "127.0.0.1"])
        configuration = QuicConfiguration(is_client=False, idle_timeout=30.0)
        configuration.certificate = x509.load_pem_x509_certificate(cert_pem)
        configuration.private_key = load_pem_private_key(key_pem, None)
        loop = asyncio.get_running_loop()
        transport, self._quic = await loop.create_datagram_endpoint(
            lambda: QuicServer(configuration=configuration, create_protocol=self._accept),
            local_addr=("127.0.0.1", 0),
        )
        self.quic_url = f"quic://127.0.0.1:{transport.get_extra_info('sockname')[1]}"

    def _accept(self, *args: Any, **kwargs: Any) -> QuicPackets:
        packets = QuicPackets(*args, **kwargs)
        self._tasks.spawn(self._serve_quic(packets), "quic")
        return packets

    async def _serve_quic(self, packets: QuicPackets) -> None:
        frame = await packets.recv()
        if frame is None:
            return
        self.json_requests.append(frame)
        request = json.loads(frame)
        if request["kind"] == "sessions":
            self._finish(packets, {"kind": "sessions", "code": 0, "reason": "", "sessions": self._entries()})
        elif fault := wire.token_fault(self._secret, request["token"]):
            reason = f"unauthorized: {fault}"
            self._finish(packets, {"kind": request["kind"], "code": -1, "reason": reason})
        elif request["kind"] == "pub":
            name = request["agent"] or wire.random_id()
            await self._say(packets, {"kind": "pub", "code": 0, "reason": "", "agent_name": name})
            await self._serve_agent(packets, name, request["expire_in"], request["ver"])
        else:
            await self._sub_quic(packets, self._find(request["agent"], request["instance_id"]))

    async def _sub_quic(self, packets: QuicPackets, session: Session | str) -> None:
        if isinstance(session, str):
            self._finish(packets, {"kind": "sub", "code": -1, "reason": session})
            return
        await self._say(packets, {"kind": "sub", "code": 0, "reason": ""})
        await self._bridge(packets, session)

    async def _say(self, packets: QuicPackets, answer: dict[str, Any]) -> None:
        await packets.send(json.dumps(answer, separators=(",", ":")).encode())

    def _finish(self, packets: QuicPackets, answer: dict[str, Any]) -> None:
        packets.send_raw(wire.framed(json.dumps(answer, separators=(",", ":")).encode()), end=True)

    async def _list(self, request: web.Request) -> web.Response:
        self.queries.append((request.path, request.rel_url.raw_query_string))
        return web.json_response(self._entries())

    async def _pub_ws(self, request: web.Request) -> web.StreamResponse:
        self.queries.append((request.path, request.rel_url.raw_query_string))
        if wire.token_fault(self._secret, request.query["token"]):
            return web.Response(status=401)
        name = request.query.get("agent") or wire.random_id()
        packets, response = await self._upgrade(request, {"agent_name": name})
        expire_in = request.query.get("expire_in")
        await self._serve_agent(
            packets, name, None if expire_in is None else int(expire_in), request.query.get("ver")
        )
        return response

    async def _sub_ws(self, request: web.Request) -> web.StreamResponse:
        self.queries.append((request.path, request.rel_url.raw_query_string))
        if wire.token_fault(self._secret, request.query["token"]):
            return web.Response(status=401)
        session = self._find(request.query.get("agent"), request.query.get("instance_id"))
        if isinstance(session, str):
            return web.Response(status=404, text=session)
        packets, response = await self._upgrade(request, {})
        await self._bridge(packets, session)
        return response

    async def _upgrade(
        self, request: web.Request, headers: dict[str, str]
    ) -> tuple[_WsServerPackets, web.WebSocketResponse]:
        response = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, timeout=1.0)
        response.headers.update(headers)
        await response.prepare(request)
        return _WsServerPackets(response), response

    # ---- registry and bridge ---------------------------------------------------------------------

    def _entries(self) -> list[dict[str, Any]]:
        left_out = ("instance_id", "ver") if self._bare else ()
        return [
            {key: value for key, value in each.entry.items() if value is not None and key not in left_out}
            for each in self.sessions.values()
        ]

    def _find(self, name: str | None, instance: str | None) -> Session | str:
        name = name or "local"
        session = self.sessions.get(name)
        if session is None:
            return f"not found agent [{name}]"
        actual = session.entry["instance_id"]
        if instance is not None and instance != actual:
            return f"instance mismatch for agent [{name}], want [{instance}], actual [{actual}]"
        return session

    async def _serve_agent(self, packets: Packets, name: str, expire_in: int | None, ver: str | None) -> None:
        now = time.time_ns() // 1_000_000
        entry = {
            "name": name,
            "addr": "127.0.0.1:1",
            "expire_at": NEVER if expire_in is None else now + expire_in,
            "instance_id": wire.random_id(),
            "ver": ver,
        }
        session = Session(name, entry, packets)
        old, self.sessions[name] = self.sessions.get(name), session
        self.history.append(session)
        self._changed.set()
        if old is not None:
            self._tasks.spawn(self.kick(old), "kick")
        await session.read()
        if self.sessions.get(name) is session:
            del self.sessions[name]

    async def _bridge(self, packets: Packets, agent: Session) -> None:
        """Answer pings, forward the rest, one request at a time."""
        while (data := await packets.recv()) is not None:
            channel, payload = wire.read_packet(data)
            if channel:
                continue
            if not payload:
                return
            request = pb.C2ARequest.FromString(payload)
            if request.WhichOneof("c2a_req_args") == "ping":
                answer = pb.Pong(timestamp=request.ping.timestamp).SerializeToString()
            else:
                answer = await agent.request(payload)
            await packets.send(wire.packet(0, answer))
