"""Opening WebSockets to the server of an RTunnel (rtunnel spec 3.1 and 10)."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import ssl
from time import monotonic
from types import SimpleNamespace
from typing import Final, cast

import aiohttp

from rtun_core.errors import SignalingError
from rtun_core.net.sockaddr import from_socket_address
from rtun_core.net.tls import client_context
from rtun_core.rtunnel import handshake
from rtun_core.rtunnel.config import ConnectConfig
from rtun_core.rtunnel.link import CLOSE_TIMEOUT, Link
from rtun_core.wire.rtunnel_packet import MAX_MESSAGE

_FORGOTTEN: Final = 410
_UNAUTHORIZED: Final = (401, 403)


class DialError(SignalingError):
    """No WebSocket could be opened. `reason` is the word that sessions end with if this was the last try.

    `lost`: the server has no memory of a session that was open before. `hopeless`: trying again would not
    help.
    """

    def __init__(self, text: str, reason: str, *, lost: bool = False, hopeless: bool = False) -> None:
        super().__init__(text)
        self.reason = reason
        self.lost = lost
        self.hopeless = hopeless


class Dialer:
    """Opens WebSockets to one URL; `close` when none is needed any more."""

    def __init__(self, config: ConnectConfig) -> None:
        self._config = config
        self._responses: dict[asyncio.Task[object], aiohttp.ClientResponse] = {}
        self._http: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Prepare. Raises UsageError when the CA file cannot be used."""
        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(self._on_response)
        trace.on_request_redirect.append(_on_redirect)
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._context(), force_close=True, limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            trace_configs=[trace],
            # The usual variables name a proxy, which is never meant for this machine itself.
            trust_env=not _is_loopback(self._config.url.host),
        )

    def _context(self) -> ssl.SSLContext | bool:
        if self._config.url.scheme not in ("wss", "https"):
            return True
        return client_context(ca=self._config.ca, insecure=self._config.insecure)

    async def close(self) -> None:
        """Close every connection."""
        if self._http is not None:
            await self._http.close()

    async def dial(self, session_id: str, *, resume: bool, timeout: float | None = None) -> tuple[Link, bool]:
        """A WebSocket for a session, and whether the server agreed to half-close. Raises DialError.

        `timeout` (seconds) is for a dial that has less time than usual.
        """
        assert self._http is not None, "opened before used"
        task = asyncio.current_task()
        assert task is not None, "runs in a task"
        limit = min(timeout or self._config.connect_timeout, self._config.connect_timeout)
        try:
            async with asyncio.timeout(limit):
                socket = await self._http.ws_connect(
                    self._config.url,
                    headers=self._headers(session_id, resume=resume),
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT),
                    autoping=False,
                    compress=0,
                    max_msg_size=MAX_MESSAGE + 1,
                )
        except (aiohttp.ClientError, OSError) as error:
            self._responses.pop(task, None)
            raise self._explain(error, limit) from None
        except BaseException:
            self._responses.pop(task, None)
            raise
        response = self._responses.pop(task)
        return _link(socket, response), handshake.half_close(response.headers)

    def _headers(self, session_id: str, *, resume: bool) -> list[tuple[str, str]]:
        own = handshake.request_headers(session_id, token=self._config.token, resume=resume)
        return [*self._config.headers, *own.items()]

    async def test(self, timeout: float) -> float:
        """Seconds of a round trip to the server. Raises DialError."""
        try:
            async with asyncio.timeout(timeout):
                link, _ = await self.dial(handshake.TEST_ID, resume=False)
                try:
                    return await _round_trip(link)
                finally:
                    link.abort()
        except TimeoutError:
            raise DialError(f"no answer from {self._name} within {timeout:g} s", "timeout") from None

    @property
    def _name(self) -> str:
        return str(self._config.url.origin())

    async def _on_response(
        self,
        _session: aiohttp.ClientSession,
        _context: SimpleNamespace,
        params: aiohttp.TraceRequestEndParams,
    ) -> None:
        """The WebSocket client keeps the response, with headers and transport, to itself."""
        task = asyncio.current_task()
        if task is not None:
            self._responses[task] = params.response

    def _explain(self, error: Exception, limit: float) -> DialError:
        name = self._name
        if isinstance(error, aiohttp.WSServerHandshakeError):
            return _refusal(name, error.status)
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            detail = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
            text = f"the certificate of {name} is not trusted: {detail}; use --ca FILE or --insecure"
            return DialError(text, "certificate", hopeless=True)
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            reason = error.os_error.strerror or error.os_error
            return DialError(f"the name {self._config.url.host} is not resolved: {reason}", "name")
        if isinstance(error, aiohttp.ClientSSLError):
            reason = error.os_error.strerror or error.os_error
            return DialError(f"no TLS with {name}: {reason}; is it a ws:// server?", "tls")
        if isinstance(error, aiohttp.ClientConnectorError):
            number = error.os_error.errno
            text = os.strerror(number) if number else str(error.os_error)
            lost = number == errno.ECONNREFUSED
            return DialError(f"cannot connect to {name}: {text}", "unreachable", lost=lost)
        if isinstance(error, TimeoutError):
            return DialError(f"no answer from {name} within {limit:.3g} s", "timeout")
        return DialError(f"{name} ended the handshake: {error or type(error).__name__}", "unreachable")


def _refusal(name: str, status: int) -> DialError:
    if status == _FORGOTTEN:
        return DialError(f"{name} does not know the session any more", "lost", lost=True, hopeless=True)
    if status in _UNAUTHORIZED:
        text = f"{name} refuses the token (status {status}); give the --token of the server"
        return DialError(text, "unauthorized", hopeless=True)
    return DialError(f"{name} answers with status {status} instead of a WebSocket", f"status-{status}")


async def _on_redirect(
    _session: aiohttp.ClientSession, _context: SimpleNamespace, params: aiohttp.TraceRequestRedirectParams
) -> None:
    raise aiohttp.ClientError(f"it redirects to {params.response.headers.get('Location', 'another place')}")


def _link(socket: aiohttp.ClientWebSocketResponse, response: aiohttp.ClientResponse) -> Link:
    connection = response.connection
    transport = connection.transport if connection is not None else None
    names = (
        (transport.get_extra_info("sockname"), transport.get_extra_info("peername"))
        if transport
        else (None, None)
    )
    if transport is None or None in names:
        raise DialError("the server hung up at once", "unreachable")
    local, remote = (str(from_socket_address(cast("tuple[object, ...]", name))) for name in names)
    return Link(socket, transport, local=local, remote=remote, on_abort=response.close)


async def _round_trip(link: Link) -> float:
    begin = monotonic()
    await link.socket.ping(b"")
    while True:
        message = await link.socket.receive()
        if message.type is aiohttp.WSMsgType.PONG:
            return monotonic() - begin
        if message.type is aiohttp.WSMsgType.PING:
            await link.socket.pong(bytes(message.data))
        elif message.type not in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
            raise DialError("the server hung up in the middle of the test", "unreachable")


def _is_loopback(host: str | None) -> bool:
    if host is None or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
