"""The signalling server as a service: listeners, certificates and upkeep around a switchboard."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from rtun_core.bus import EventBus
from rtun_core.commands import Command, CommandResult
from rtun_core.errors import BindError, CommandRefused, UsageError
from rtun_core.events import Notice, ServiceListening
from rtun_core.model import ServiceSnapshot, SignalView
from rtun_core.net import tls
from rtun_core.net.switch import ControlHandler
from rtun_core.net.tasks import TaskOwner
from rtun_core.signaling.config import ServerConfig
from rtun_core.signaling.http_listener import HttpListener
from rtun_core.signaling.quic_listener import QuicListener
from rtun_core.signaling.switchboard import Switchboard
from rtun_core.wire.address import Address
from rtun_core.wire.token import PUBLIC_SECRET

PURGE_INTERVAL = 5.0

_BIND_ATTEMPTS = 10
_DRAIN_S = 2.0


class SignalingServer:
    """`rtun agent listen`: keeps the registry of agents and bridges clients to them.

    HTTP(S) with WebSocket and, given a certificate, QUIC on the same port number. `local` answers clients
    that name no agent. The certificate files are looked at every `certificate_poll` seconds and loaded
    once they have been the same for `certificate_settle` seconds.
    """

    name = "server"

    def __init__(
        self,
        config: ServerConfig,
        bus: EventBus,
        *,
        local: ControlHandler | None,
        certificate_poll: float = tls.POLL_S,
        certificate_settle: float = tls.SETTLE_S,
    ) -> None:
        self._config = config
        self._bus = bus
        self._poll = certificate_poll
        self._settle = certificate_settle
        self._board = Switchboard(config, bus, local=local)
        self._context: ssl.SSLContext | None = None
        self._http: HttpListener | None = None
        self._quic: QuicListener | None = None
        self._signal: list[SignalView] = []
        self._tasks = TaskOwner("server")
        self._stopped = asyncio.Event()
        self._complaint = ""
        self.address = config.listen

    async def start(self) -> None:
        """Load the certificate and listen.

        Raises UsageError naming a bad file, or BindError; then nothing is left open. `address` is then
        where the server listens, with the port that was bound.
        """
        pair, digest = self._certificate()
        self._context = None if pair is None else tls.pair_context(pair)
        await self._bind(pair)
        self._announce(pair)
        self._tasks.spawn(self._every(PURGE_INTERVAL, self._board.purge), "purge")
        if digest is not None:
            watch = tls.CertificateWatch(digest, settle=self._settle)
            self._tasks.spawn(self._every(self._poll, lambda: self._look(watch)), "certificate watch")

    async def wait(self) -> str:
        """Return when the server was stopped; it never ends by itself."""
        await self._stopped.wait()
        return "stopped"

    async def stop(self, *, drain: bool) -> None:
        """End every session and close the port; with `drain`, wait up to 2 s for answers on their way."""
        if drain:
            with suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_S):
                    await self._board.settle()
        await self._tasks.close()
        await self._board.close()
        await self._close_listeners()
        self._stopped.set()

    def snapshot(self, *, flows: bool = True) -> ServiceSnapshot:
        """Listeners, registered agents, and attached clients."""
        return ServiceSnapshot(
            service=self.name,
            signal=tuple(self._signal),
            agents=self._board.agents(),
            tunnels=self._board.clients(),
            faults=dict(self._board.faults),
        )

    def counters(self) -> tuple[dict[str, int], dict[str, int]]:
        """No drops; faults by reason."""
        return {}, dict(self._board.faults)

    def handles(self, command: Command) -> bool:
        """The server knows no commands."""
        return False

    async def handle(self, command: Command) -> CommandResult:
        """Refuse. Raises CommandRefused."""
        raise CommandRefused("the signalling server takes no commands")

    def _certificate(self) -> tuple[tls.CertificatePair | None, bytes | None]:
        """The pair to begin with, and the digest of its files if it came from files."""
        cert, key = self._config.cert, self._config.key
        if cert is not None and key is not None:
            return tls.read_pair(cert, key), tls.file_digest(cert, key)
        if cert is not None or key is not None:
            raise UsageError("--https-cert and --https-key go together; only one of them was given")
        if self._config.self_signed:
            return tls.CertificatePair(*tls.self_signed(_own_names(self._config.listen))), None
        return None, None

    async def _bind(self, pair: tls.CertificatePair | None) -> None:
        """Listen on one port number for TCP and UDP; a free one that suits both, if port 0 is wanted."""
        attempts = _BIND_ATTEMPTS if self._config.listen.port == 0 and pair is not None else 1
        for left in reversed(range(attempts)):
            try:
                await self._bind_once(pair)
            except BindError:
                await self._close_listeners()
                if not left:
                    raise
            except BaseException:
                await self._close_listeners()
                raise
            else:
                return

    async def _bind_once(self, pair: tls.CertificatePair | None) -> None:
        self._http = HttpListener(self._board, self._config.limits, self._context)
        self.address = await self._http.start(self._config.listen)
        if pair is not None:
            self._quic = QuicListener(self._board, self._config.limits)
            self._quic.start(self.address, pair)

    async def _close_listeners(self) -> None:
        http, self._http = self._http, None
        quic, self._quic = self._quic, None
        if quic is not None:
            await quic.close()
        if http is not None:
            await http.close()
        self._signal.clear()

    def _announce(self, pair: tls.CertificatePair | None) -> None:
        schemes = ["http"] if pair is None else ["https", "quic"]
        for scheme in schemes:
            url = f"{scheme}://{self.address}"
            self._signal.append(SignalView(url=url, state="listening", since=time.time()))
            self._bus.emit(ServiceListening(service=self.name, address=url))
        if pair is None:
            self._notice("quic", "QUIC signalling is off: it needs --https-cert and --https-key")
        elif self._config.self_signed and self._config.cert is None:
            self._notice(
                "certificate", "the certificate is self-signed and of this run: clients need --insecure"
            )
        if self._config.secret == PUBLIC_SECRET:
            self._notice(
                "secret",
                "THE SECRET IS THE PUBLIC DEFAULT: anybody can use this server and its agents; give --secret",
            )

    def _notice(self, topic: str, message: str) -> None:
        self._bus.emit(Notice(topic=topic, message=message))

    async def _every(self, interval: float, work: Callable[[], None]) -> NoReturn:
        while True:
            await asyncio.sleep(interval)
            work()

    def _look(self, watch: tls.CertificateWatch) -> None:
        """Load the certificate files if they have changed; whatever is wrong with them, the old one stays."""
        cert, key = self._config.cert, self._config.key
        assert cert is not None
        assert key is not None
        try:
            digest = tls.file_digest(cert, key)
            if watch.observe(digest, time.monotonic()):
                self._install(tls.read_pair(cert, key))
                watch.loaded(digest)
                self._complaint = ""
                self._notice("certificate", f"certificate reloaded from {cert} and {key}")
        except UsageError as error:
            self._complain(f"certificate not reloaded, the old one stays: {error}")

    def _complain(self, message: str) -> None:
        """Tell what is wrong with the certificate files once, not at every look."""
        if message != self._complaint:
            self._complaint = message
            self._notice("certificate", message)

    def _install(self, pair: tls.CertificatePair) -> None:
        tls.pair_context(pair)  # refuses what the TLS library would refuse, before anything is changed
        assert self._context is not None
        tls.install(self._context, pair)
        if self._quic is not None:
            self._quic.install(pair)


def _own_names(listen: Address) -> list[str]:
    """Names under which clients may know this machine."""
    own = [] if listen.host in ("0.0.0.0", "::") else [listen.host]
    return list(dict.fromkeys([*own, "localhost", socket.gethostname() or "localhost", "127.0.0.1", "::1"]))
