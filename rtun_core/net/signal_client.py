"""The client's side of a signalling server: list agents, attach to one, register as one (wire spec 4, 5).

Each call opens a connection of its own with a fresh token. What fails is a `SignalingError` with one
sentence, or its child `Unauthorized`.
"""

from __future__ import annotations

import time
from typing import TypeVar

from rtun_core.errors import RemoteProtocolError, SignalingError, Unauthorized
from rtun_core.net import signal_http
from rtun_core.net.endpoint import SignalEndpoint
from rtun_core.net.packet_transport import PacketTransport
from rtun_core.net.quic_transport import ClientQuicStream, connect_quic
from rtun_core.net.switch import ClientSession, ServiceSession
from rtun_core.wire.signal_json import (
    AgentEntry,
    PubRequest,
    PubResponse,
    Request,
    Response,
    SessionsRequest,
    SessionsResponse,
    SubRequest,
    SubResponse,
    decode_response,
    encode_request,
)
from rtun_core.wire.token import make_token

TIMEOUT = 10.0

_Expected = TypeVar("_Expected", PubResponse, SubResponse, SessionsResponse)


async def list_agents(endpoint: SignalEndpoint, *, timeout: float = TIMEOUT) -> list[AgentEntry]:
    """Fetch the agents that are registered now, in no particular order. Raises SignalingError."""
    if not endpoint.url.is_quic:
        return await signal_http.fetch_agents(endpoint, timeout)
    stream, answer = await _ask(endpoint, SessionsRequest(), SessionsResponse, timeout)
    await stream.close()
    return answer.sessions


async def open_sub(
    endpoint: SignalEndpoint, *, agent: str | None, instance: str | None, timeout: float = TIMEOUT
) -> ClientSession:
    """Attach to an agent (None: the server's own, `local`), to this instance of it if one is given.

    The session has been started. Raises SignalingError; its text tells an unknown agent or another instance.
    """
    transport: PacketTransport
    if endpoint.url.is_quic:
        request = SubRequest(agent=agent, token=_token(endpoint), instance_id=instance)
        transport, _ = await _ask(endpoint, request, SubResponse, timeout)
    else:
        params = {"agent": agent, "token": _token(endpoint), "instance_id": instance}
        transport, _ = await signal_http.connect(endpoint, "/sub/ws", params, timeout)
    session = ClientSession(transport, name="sub")
    session.start()
    return session


async def open_pub(
    endpoint: SignalEndpoint,
    *,
    agent: str | None,
    expire_in_ms: int | None,
    ver: str,
    timeout: float = TIMEOUT,
) -> tuple[ServiceSession, str]:
    """Register as `agent` (None: the server chooses) for `expire_in_ms` (None: for ever).

    Returns the session, whose `run` begins to answer, and the agent's name. Raises SignalingError.
    """
    transport: PacketTransport
    if endpoint.url.is_quic:
        request = PubRequest(agent=agent, token=_token(endpoint), expire_in=expire_in_ms, ver=ver)
        transport, answer = await _ask(endpoint, request, PubResponse, timeout)
        name = answer.agent_name or agent
    else:
        expire_in = None if expire_in_ms is None else str(expire_in_ms)
        params = {"agent": agent, "token": _token(endpoint), "ver": ver, "expire_in": expire_in}
        transport, headers = await signal_http.connect(endpoint, "/pub/ws", params, timeout)
        name = headers.get("agent_name")
    if name is None:
        await transport.close()
        raise SignalingError(f"{endpoint.url} did not say the agent's name; is it a signalling server?")
    return ServiceSession(transport, name="pub"), name


def _token(endpoint: SignalEndpoint) -> str:
    return make_token(endpoint.secret, time.time_ns() // 1_000_000)


async def _ask(
    endpoint: SignalEndpoint, request: Request, expected: type[_Expected], timeout: float
) -> tuple[ClientQuicStream, _Expected]:
    """Connect, send the request frame, and check the answer frame."""
    started = time.monotonic()
    stream = await connect_quic(endpoint, timeout=timeout)
    try:
        rest = max(0.1, timeout - (time.monotonic() - started))
        answer = await _exchange(endpoint, stream, request, rest)
        return stream, _checked(endpoint, answer, expected)
    except BaseException:
        await stream.close()
        raise


async def _exchange(
    endpoint: SignalEndpoint, stream: ClientQuicStream, request: Request, timeout: float
) -> Response:
    try:
        async with signal_http.bounded(endpoint, timeout):
            await stream.send(encode_request(request))
            return decode_response(await stream.recv())
    except RemoteProtocolError as error:
        raise SignalingError(f"{endpoint.url} answers something else: {error}") from None


def _checked(endpoint: SignalEndpoint, answer: Response, expected: type[_Expected]) -> _Expected:
    if not isinstance(answer, expected):
        raise SignalingError(f"{endpoint.url} answers another request than ours")
    if answer.code == 0:
        return answer
    if answer.reason.startswith("unauthorized"):
        raise Unauthorized(f"{endpoint.url} refuses the secret ({answer.reason}); give its --secret")
    raise SignalingError(f"{endpoint.url} refuses: {answer.reason or f'code {answer.code}'}")
