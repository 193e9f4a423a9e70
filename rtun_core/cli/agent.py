"""`rtun agent listen` and `rtun agent pub`: the public server, and the exit behind it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rtun_core.cli.options import (
    SignalAccess,
    UrlCommand,
    address,
    egress_options,
    ice_options,
    number,
    secret_options,
    signal_options,
)
from rtun_core.cli.outputs import AUTO, OutputOptions, output_options
from rtun_core.cli.run import run_engine
from rtun_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtun_core.agent.egress import EgressPolicy
    from rtun_core.bus import EventBus
    from rtun_core.engine.service import Service
    from rtun_core.net.ice import IceConfig
    from rtun_core.wire.address import Address

DEFAULT_LISTEN = "0.0.0.0:19888"
DEFAULT_ECHO = "127.0.0.1:12345"
MAX_MINUTES = 9_999_999_999  # what a peer without a limit announces
MAX_NAME = 128  # characters

_EXIT_OPTIONS = ("stun", "candidate", "allow_target", "deny_target")


@click.group(no_args_is_help=False, short_help="Run the signalling server, or an exit agent.")
def agent() -> None:
    """Run the signalling server (listen), or an agent that is the exit of relays (pub)."""


@agent.command(cls=UrlCommand, bare={"--control": AUTO}, short_help="Run the signalling server.")
@click.option(
    "--addr",
    callback=address(names=False),
    default=DEFAULT_LISTEN,
    show_default=True,
    metavar="IP:PORT",
    help="Listen here: TCP for HTTP and WebSocket and, with a certificate, UDP for QUIC.",
)
@click.option("-b", "--bridge", is_flag=True, help="Only connect others: no built-in agent 'local'.")
@click.option(
    "--https-cert", "--cert", "https_cert", metavar="FILE", help="PEM certificate chain, for HTTPS and QUIC."
)
@click.option("--https-key", "--key", "https_key", metavar="FILE", help="PEM key of the certificate.")
@click.option("--self-signed", is_flag=True, help="Make a certificate at start; clients need --insecure.")
@secret_options
@click.option(
    "--disable-bridge-ch", is_flag=True, help="Refuse channels through the server; tunnels still work."
)
@ice_options
@egress_options
@output_options
def listen(
    *,
    addr: Address,
    bridge: bool,
    https_cert: str | None,
    https_key: str | None,
    self_signed: bool,
    secret: bytes,
    disable_bridge_ch: bool,
    ice: IceConfig,
    egress: EgressPolicy,
    outputs: OutputOptions,
) -> int:
    """Run the signalling server, at which agents register and which clients ask for them.

    Options from --stun to --deny-target are those of the built-in agent 'local'.
    """
    check_certificate(https_cert, https_key, self_signed=self_signed)
    if bridge:
        _refuse_exit_options()
    from rtun_core.agent.config import ExitConfig
    from rtun_core.agent.control import AgentControl
    from rtun_core.agent.exit_service import ExitService
    from rtun_core.signaling.config import ServerConfig
    from rtun_core.signaling.server import SignalingServer

    config = ServerConfig(
        listen=addr,
        secret=secret,
        cert=Path(https_cert) if https_cert else None,
        key=Path(https_key) if https_key else None,
        self_signed=self_signed,
        bridge_only=bridge,
        bridge_channels=not disable_bridge_ch,
    )

    def services(bus: EventBus) -> Sequence[Service]:
        if bridge:
            return [SignalingServer(config, bus, local=None)]
        local = AgentControl(ExitConfig(ice=ice, egress=egress), bus)
        return [ExitService(local), SignalingServer(config, bus, local=local)]

    return run_engine(services, outputs)


@agent.command(
    cls=UrlCommand,
    bare={"--control": AUTO, "--echo": DEFAULT_ECHO},
    short_help="Run an agent, the exit of relays.",
)
@click.argument("url")
@click.option("-a", "--agent", metavar="NAME", help="Name of this agent. [default: the server chooses]")
@click.option(
    "-d",
    "--expire-in",
    "--expire_in",
    "expire_in",
    type=str,
    callback=number(int, 1, MAX_MINUTES, "minutes"),
    metavar="MINUTES",
    help="End after this many minutes. [default: never]",
)
@signal_options
@click.option("--disable-shell", is_flag=True, help="Accepted for scripts; this agent offers no shell.")
@click.option(
    "--echo",
    callback=address(),
    envvar="RTUN_AGENT_DEFAULT_UDP_ECHO_ADDR",
    metavar="[HOST:PORT]",
    help=f"Run a UDP echo service for tests, at {DEFAULT_ECHO} when no address follows.",
)
@click.option(
    "--max-flows",
    type=str,
    callback=number(int, 1, 1_000_000),
    default="65536",
    show_default=True,
    metavar="N",
    help="Most flows at one time; each takes a file descriptor.",
)
@ice_options
@egress_options
@output_options
def pub(
    url: str,
    *,
    agent: str | None,
    expire_in: int | None,
    access: SignalAccess,
    disable_shell: bool,
    echo: Address | None,
    max_flows: int,
    ice: IceConfig,
    egress: EgressPolicy,
    outputs: OutputOptions,
) -> int:
    """Register at the signalling server at URL and be the exit of relays.

    URL is https://HOST[:PORT][/PREFIX], http://... or quic://HOST:PORT.
    """
    check_name(agent)
    endpoint = access.endpoint(url)
    from rtun_core.agent.config import ExitConfig, PubConfig
    from rtun_core.agent.service import AgentService

    config = PubConfig(
        endpoint=endpoint,
        exit=ExitConfig(ice=ice, egress=egress, max_flows=max_flows),
        name=agent,
        expire_in=None if expire_in is None else expire_in * 60.0,
        echo=echo,
    )
    return run_engine(lambda bus: [AgentService(config, bus)], outputs)


def check_name(name: str | None) -> None:
    """An agent's name travels in an HTTP header. Raises UsageError."""
    if name is None:
        return
    if not (name.isascii() and name.isprintable() and 0 < len(name) <= MAX_NAME and name == name.strip()):
        raise UsageError(
            f"--agent: {name!r} is no name; accepted: 1 to {MAX_NAME} printable ASCII characters"
        )


def check_certificate(cert: str | None, key: str | None, *, self_signed: bool) -> None:
    """Certificate and key come together, can be read, and belong together. Raises UsageError."""
    if self_signed and (cert or key):
        raise UsageError("--self-signed and --https-cert exclude each other; accepted: one of them")
    if (cert is None) != (key is None):
        missing, given = ("--https-key", "--https-cert") if key is None else ("--https-cert", "--https-key")
        raise UsageError(f"{missing} is missing: {given} was given; accepted: both or neither")
    if cert is None or key is None:
        return
    for option, file in (("--https-cert", cert), ("--https-key", key)):
        try:
            with open(file, "rb"):
                pass
        except OSError as error:
            raise UsageError(f"{option}: cannot read the file {file}: {error.strerror}") from None
    _load(cert, key)


def _load(cert: str, key: str) -> None:
    import ssl

    try:
        # An empty password keeps an encrypted key from asking at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except (ssl.SSLError, ValueError):
        raise UsageError(
            f"--https-cert: {cert} with the key {key} cannot be used; accepted: a PEM certificate and its "
            "PEM key without a password"
        ) from None


def _refuse_exit_options() -> None:
    given = click.get_current_context().params
    for name in _EXIT_OPTIONS:
        if given.get(name):
            raise UsageError(f"--{name.replace('_', '-')}: with --bridge there is no agent that it is for")
