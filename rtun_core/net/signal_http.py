"""HTTP and WebSocket towards a signalling server, with every failure put in one sentence (wire spec 4)."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace

import aiohttp
import yarl

from rtun_core.errors import RemoteProtocolError, SignalingError, Unauthorized
from rtun_core.net.endpoint import SignalEndpoint
from rtun_core.net.tls import client_context
from rtun_core.net.ws_transport import WebSocketTransport, format_peer
from rtun_core.wire.signal_json import AgentEntry, decode_agents
from rtun_core.wire.switch_packet import MAX_PACKET

_MAX_TEXT = 1024


async def fetch_agents(endpoint: SignalEndpoint, timeout: float) -> list[AgentEntry]:
    """GET the list of agents. Raises SignalingError."""
    url = _as_written(endpoint.url.endpoint("/pub/sessions", {}))
    async with (
        bounded(endpoint, timeout),
        _sentences(endpoint),
        _session(endpoint) as session,
        session.get(url, allow_redirects=False) as response,
    ):
        body = await _read(response, MAX_PACKET)
    if response.status != 200:
        raise SignalingError(_status(endpoint, response.status, _text(body)))
    try:
        return decode_agents(body)
    except RemoteProtocolError as error:
        raise SignalingError(f"{endpoint.url} gives no list of agents: {error}") from None


async def connect(
    endpoint: SignalEndpoint, path: str, params: dict[str, str | None], timeout: float
) -> tuple[WebSocketTransport, Mapping[str, str]]:
    """Open the WebSocket at `path`; returns it and the headers of the handshake response.

    Raises SignalingError with the server's own text when it refuses, Unauthorized when it refuses the secret.
    """
    refusal = _Refusal()
    session = _session(endpoint, refusal.trace())
    try:
        async with bounded(endpoint, timeout), _sentences(endpoint, refusal):
            socket = await session.ws_connect(
                _as_written(endpoint.url.ws_endpoint(path, params)), max_msg_size=MAX_PACKET + 1, compress=0
            )
    except BaseException:
        await session.close()
        raise
    peer = format_peer(socket.get_extra_info("peername"))
    return WebSocketTransport(socket, peer, session), refusal.headers


@asynccontextmanager
async def bounded(endpoint: SignalEndpoint, timeout: float) -> AsyncIterator[None]:
    """Turn a time-out of the body into a SignalingError."""
    try:
        async with asyncio.timeout(timeout):
            yield
    except TimeoutError:
        raise SignalingError(f"no answer from {endpoint.url} within {timeout:g} s") from None


class _Refusal:
    """What the server said in its last response; the WebSocket client keeps neither text nor headers."""

    def __init__(self) -> None:
        self.text = ""
        self.headers: Mapping[str, str] = {}

    def trace(self) -> aiohttp.TraceConfig:
        """The hook that fills this in."""
        config = aiohttp.TraceConfig()
        config.on_request_end.append(self._on_request_end)
        return config

    async def _on_request_end(
        self,
        _session: aiohttp.ClientSession,
        _context: SimpleNamespace,
        params: aiohttp.TraceRequestEndParams,
    ) -> None:
        self.headers = params.response.headers
        if params.response.status >= 400:
            self.text = _text(await _read(params.response, _MAX_TEXT))


def _session(endpoint: SignalEndpoint, *traces: aiohttp.TraceConfig) -> aiohttp.ClientSession:
    """A session for one connection. Raises UsageError when the CA file cannot be used."""
    context: ssl.SSLContext | bool = True
    if endpoint.url.scheme == "https":
        context = client_context(ca=endpoint.ca, insecure=endpoint.insecure)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context, force_close=True),
        timeout=aiohttp.ClientTimeout(total=None),
        trace_configs=list(traces),
    )


@asynccontextmanager
async def _sentences(endpoint: SignalEndpoint, refusal: _Refusal | None = None) -> AsyncIterator[None]:
    """Turn what the HTTP library raises into a SignalingError."""
    try:
        yield
    except aiohttp.WSServerHandshakeError as error:
        text = refusal.text if refusal is not None else ""
        if error.status == 401:
            raise Unauthorized(f"{endpoint.url} refuses the secret; give its --secret") from None
        raise SignalingError(_status(endpoint, error.status, text)) from None
    except aiohttp.ClientConnectorCertificateError as error:
        detail = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
        raise SignalingError(
            f"the certificate of {endpoint.url} is not trusted: {detail}; use --ca FILE or --insecure"
        ) from None
    except aiohttp.ClientConnectorDNSError as error:
        reason = error.os_error.strerror or error.os_error
        raise SignalingError(f"the name {endpoint.url.host} is not resolved: {reason}") from None
    except aiohttp.ClientSSLError as error:
        reason = error.os_error.strerror or error.os_error
        raise SignalingError(f"no TLS with {endpoint.url}: {reason}; is it an http:// server?") from None
    except aiohttp.ClientConnectorError as error:
        reason = os.strerror(error.os_error.errno) if error.os_error.errno else error.os_error
        raise SignalingError(f"cannot connect to {endpoint.url}: {reason}") from None
    except aiohttp.ServerDisconnectedError:
        hint = "; is it an https:// server?" if endpoint.url.scheme == "http" else ""
        raise SignalingError(f"{endpoint.url} hung up without an answer{hint}") from None
    except (aiohttp.ClientError, OSError) as error:
        raise SignalingError(f"{endpoint.url} ended the request: {error or type(error).__name__}") from None


def _status(endpoint: SignalEndpoint, status: int, text: str) -> str:
    if status == 404 and text:
        return f"{endpoint.url} refuses: {text}"
    return f"{endpoint.url} answers with status {status}" + (f": {text}" if text else "")


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Up to `most` bytes of the body; a longer one is cut."""
    body = bytearray()
    while len(body) < most and (chunk := await response.content.read(most - len(body))):
        body += chunk
    return bytes(body)


def _text(body: bytes) -> str:
    """The printable first line of a body."""
    lines = body[:_MAX_TEXT].decode("utf-8", "replace").strip().splitlines()
    return "".join(filter(str.isprintable, lines[0])) if lines else ""


def _as_written(url: str) -> yarl.URL:
    """The URL with its escapes left alone: aiohttp would undo the `%2F` of tokens (wire spec 3.3)."""
    return yarl.URL(url, encoded=True)
