"""`rtun ws serve` and `rtun ws connect`: TCP over WebSocket, and what `rtunnel` has in common with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rtun_core.cli.console import ConsoleOptions, console_options
from rtun_core.cli.options import UrlCommand, given_secret, number, packed, read_ca
from rtun_core.cli.outputs import AUTO, OutputOptions, output_options
from rtun_core.cli.run import run_engine
from rtun_core.cli.ws_values import (
    LOCAL,
    parse_bind,
    parse_headers,
    parse_listen,
    parse_targets,
    parse_tunnel_url,
)
from rtun_core.errors import UsageError
from rtun_core.event import Level
from rtun_core.net.allocator import keep_freed_memory

EVERYWHERE = "0.0.0.0"
MAX_SECONDS = 31_536_000  # a year
MAX_SESSIONS = 65536

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtun_core.bus import EventBus
    from rtun_core.engine.service import Service
    from rtun_core.rtunnel.config import ConnectConfig, ServeConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """The checked values of `session_options`; times in seconds."""

    token: bytes | None = field(repr=False)
    max_sessions: int
    idle_timeout: float | None
    connect_timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """The checked values of `certificate_options`: both or neither."""

    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustOptions:
    """How a client judges the server's certificate, as it was given."""

    ca: Path | None
    secure: bool
    insecure: bool


def build_sessions(
    *,
    token: str | None,
    token_file: str | None,
    max_sessions: int,
    idle_timeout: float | None,
    connect_timeout: float,
) -> SessionOptions:
    """Turn option values into SessionOptions. Raises UsageError."""
    return SessionOptions(
        token=given_secret("token", token, token_file),
        max_sessions=max_sessions,
        idle_timeout=idle_timeout,
        connect_timeout=connect_timeout,
    )


def build_tls(*, cert: str | None, key: str | None) -> TlsOptions:
    """Certificate and key come together, can be read, and belong together. Raises UsageError."""
    if not cert and not key:
        return TlsOptions()
    if not cert or not key:
        missing, given = ("--key", "--cert") if cert else ("--cert", "--key")
        raise UsageError(f"{missing} is missing: {given} was given; accepted: both or neither")
    from rtun_core.net.tls import read_pair

    try:
        read_pair(Path(cert), Path(key))
    except UsageError as error:
        raise UsageError(f"--cert and --key: {error}") from None
    return TlsOptions(cert=Path(cert), key=Path(key))


def build_trust(*, ca: str | None, secure: bool, insecure: bool) -> TrustOptions:
    """Turn option values into TrustOptions. Raises UsageError."""
    for given, option in ((ca is not None, "--ca"), (secure, "--secure")):
        if given and insecure:
            raise UsageError(f"{option} and --insecure exclude each other; accepted: one of them")
    return TrustOptions(ca=read_ca(ca), secure=secure, insecure=insecure)


def _bind(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    return None if value is None else parse_bind(value)


def _headers(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[Any, ...]:
    return parse_headers(value)


bind_option = click.option(
    "--bind", callback=_bind, metavar="IP", help="Listen at this address, when LISTEN is only a port."
)
path_option = click.option(
    "--path",
    multiple=True,
    metavar="/PATH=TARGET",
    help="Requests for this path get this target; repeatable.",
)
header_option = click.option(
    "--header",
    multiple=True,
    callback=_headers,
    metavar="NAME:VALUE",
    help="Add a header to each request; repeatable. @FILE: one per line of that file.",
)
debug_option = click.option("-d", "--debug", is_flag=True, help="The same as --log-level debug.")
certificate_options = packed(
    "tls",
    (
        click.option("--cert", metavar="FILE", help="PEM certificate chain, for wss."),
        click.option("--key", metavar="FILE", help="PEM key of the certificate."),
    ),
    build_tls,
)


def trust_options(secure: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Options about the server's certificate; `secure` is the help of --secure, as defaults differ."""
    return packed(
        "trust",
        (
            click.option(
                "--ca", metavar="FILE", help="Trust these PEM certificates, instead of the system's."
            ),
            click.option("-s", "--secure", is_flag=True, help=secure),
            click.option("--insecure", is_flag=True, help="Accept any certificate of the server."),
        ),
        build_trust,
    )


session_options = packed(
    "sessions",
    (
        click.option(
            "--token",
            envvar="RTUN_TOKEN",
            metavar="TEXT",
            help="Shared with the other end: the client shows it, the server asks for it.",
        ),
        click.option(
            "--token-file", metavar="FILE", help="File with the token; one line end at its end is left out."
        ),
        click.option(
            "--max-sessions",
            type=str,
            callback=number(int, 1, MAX_SESSIONS),
            default="1024",
            show_default=True,
            metavar="N",
            help="Most sessions, that is TCP connections, at one time.",
        ),
        click.option(
            "--idle-timeout",
            type=str,
            callback=number(float, 0.1, MAX_SECONDS, "seconds"),
            metavar="S",
            help="End a session that carried nothing for S seconds. [default: never]",
        ),
        click.option(
            "--connect-timeout",
            type=str,
            callback=number(float, 0.1, 3600, "seconds"),
            default="10",
            show_default=True,
            metavar="S",
            help="Seconds that a connection to the other end or to the target may take.",
        ),
    ),
    build_sessions,
)


@click.group(no_args_is_help=False, short_help="Carry TCP over WebSocket (RTunnel).")
def ws() -> None:
    """Carry TCP connections over WebSocket, to get through HTTP gateways (RTunnel).

    Both ends also work with the original rtunnel. The executable `rtunnel` is the same with the command
    line of the original.
    """


@ws.command(cls=UrlCommand, bare={"--control": AUTO}, short_help="The server: WebSocket in, TCP out.")
@click.argument("target")
@click.argument("listen")
@path_option
@bind_option
@certificate_options
@session_options
@debug_option
@console_options
@output_options
def serve(
    target: str,
    listen: str,
    *,
    path: tuple[str, ...],
    bind: str | None,
    tls: TlsOptions,
    sessions: SessionOptions,
    debug: bool,
    console: ConsoleOptions,
    outputs: OutputOptions,
) -> int:
    """Accept WebSockets at LISTEN and connect each session to TARGET.

    TARGET is HOST:PORT, or PORT on this machine, or 'none' when only the targets of --path are wanted.
    LISTEN is PORT, for all IPv4 addresses of this machine, or IP:PORT.

    Example: rtun ws serve 127.0.0.1:22 8080 --token-file token
    """
    config = serve_config(target, listen, path=path, bind=bind, tls=tls, sessions=sessions)
    return run_serve(config, told(outputs, debug=debug), console)


@ws.command(cls=UrlCommand, bare={"--control": AUTO}, short_help="The client: TCP in, WebSocket out.")
@click.argument("url")
@click.argument("listen")
@bind_option
@trust_options("Check the server's certificate; this is the default.")
@header_option
@session_options
@debug_option
@console_options
@output_options
def connect(
    url: str,
    listen: str,
    *,
    bind: str | None,
    trust: TrustOptions,
    header: tuple[tuple[str, str], ...],
    sessions: SessionOptions,
    debug: bool,
    console: ConsoleOptions,
    outputs: OutputOptions,
) -> int:
    """Accept TCP connections at LISTEN and carry each to the server at URL.

    URL is wss://HOST[:PORT][/PATH], ws://..., https://... or http://... LISTEN is PORT, on 127.0.0.1, or
    IP:PORT.

    Example: rtun ws connect wss://gateway.example/ssh 2222 --token-file token
    """
    config = connect_config(
        url, listen, bind=bind, ca=trust.ca, insecure=trust.insecure, header=header, sessions=sessions
    )
    return run_connect(config, told(outputs, debug=debug), console)


def serve_config(
    target: str,
    listen: str,
    *,
    path: tuple[str, ...],
    bind: str | None,
    tls: TlsOptions,
    sessions: SessionOptions,
) -> ServeConfig:
    """Check the rest of a server's command line. Raises UsageError."""
    from rtun_core.rtunnel.config import ServeConfig

    return ServeConfig(
        listen=parse_listen(listen, EVERYWHERE, bind),
        targets=parse_targets(target, path),
        cert=tls.cert,
        key=tls.key,
        token=sessions.token,
        max_sessions=sessions.max_sessions,
        idle_timeout=sessions.idle_timeout,
        connect_timeout=sessions.connect_timeout,
    )


def connect_config(
    url: str,
    listen: str,
    *,
    bind: str | None,
    ca: Path | None,
    insecure: bool,
    header: tuple[tuple[str, str], ...],
    sessions: SessionOptions,
) -> ConnectConfig:
    """Check the rest of a client's command line. Raises UsageError."""
    from rtun_core.rtunnel.config import ConnectConfig

    return ConnectConfig(
        url=parse_tunnel_url(url),
        listen=parse_listen(listen, LOCAL, bind),
        ca=ca,
        insecure=insecure,
        headers=header,
        token=sessions.token,
        max_sessions=sessions.max_sessions,
        idle_timeout=sessions.idle_timeout,
        connect_timeout=sessions.connect_timeout,
    )


def told(outputs: OutputOptions, *, debug: bool) -> OutputOptions:
    """The outputs with what --debug adds to them."""
    return replace(outputs, log_level=Level.DEBUG) if debug else outputs


def run_serve(config: ServeConfig, outputs: OutputOptions, console: ConsoleOptions) -> int:
    """Run the server until it is told to stop."""

    def services(bus: EventBus) -> Sequence[Service]:
        from rtun_core.rtunnel.serve import ServeService

        return [ServeService(config, bus)]

    keep_freed_memory()
    return run_engine(services, outputs, console)


def run_connect(config: ConnectConfig, outputs: OutputOptions, console: ConsoleOptions) -> int:
    """Run the client until it is told to stop."""

    def services(bus: EventBus) -> Sequence[Service]:
        from rtun_core.rtunnel.connect import ConnectService

        return [ConnectService(config, bus)]

    keep_freed_memory()
    return run_engine(services, outputs, console)
