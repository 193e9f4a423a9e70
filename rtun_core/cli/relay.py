"""`rtun relay`: local UDP ports to targets behind an agent."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from rtun_core.cli.console import ConsoleOptions, console_options
from rtun_core.cli.options import (
    SignalAccess,
    UrlCommand,
    ice_options,
    named,
    number,
    option_name,
    signal_options,
)
from rtun_core.cli.outputs import AUTO, OutputOptions, output_options
from rtun_core.cli.run import run_engine
from rtun_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtun_core.bus import EventBus
    from rtun_core.engine.service import Service
    from rtun_core.net.ice import IceConfig
    from rtun_core.wire.relay_rule import RelayRule

MAX_PAYLOAD = 1442  # bytes that obfs-v2 leaves of a datagram
MAX_SECONDS = 0xFFFFFFFF  # times travel in 32 bits
MAX_CHANNELS = 64
DEFAULT_SECONDS = 120.0  # what 0 means for the idle time and the lifetime

_CODECS = ["auto", "legacy", "obfs-v1", "tagged-9", "obfs-v2"]
_SCRIPT = (
    "--agent-script",
    "--agent-script-file",
    "--agent-script-arg",
    "--agent-script-args",
    "--agent-script-timeout",
    "--agent-script-fail-policy",
)
_HARDNAT = (
    "--p2p-hardnat",
    "--p2p-hardnat-role",
    "--p2p-hardnat-socket-count",
    "--p2p-hardnat-scan-count",
    "--p2p-hardnat-interval",
    "--p2p-hardnat-batch-interval",
    "--p2p-hardnat-assist-delay",
    "--p2p-hardnat-ttl",
)


def _refuse(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    harmless = ("off",) if param.name == "p2p_hardnat" else ()
    if any(one not in harmless for one in value):
        accepted = "; accepted: off" if harmless else ""
        raise UsageError(f"{option_name(param)}: this is not offered by this version{accepted}")


def _refused_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of other programs of the family, so that a refusal can say what is the matter."""
    for name in (*_SCRIPT, *_HARDNAT):
        option = click.option(name, multiple=True, hidden=True, expose_value=False, callback=_refuse)
        function = option(function)
    flag = click.option(
        "--p2p-hardnat-no-ttl", count=True, hidden=True, expose_value=False, callback=_refuse_flag
    )
    return flag(function)


def _refuse_flag(ctx: click.Context, param: click.Parameter, value: int) -> None:
    if value:
        raise UsageError(f"{option_name(param)}: this is not offered by this version")


def _regex(ctx: click.Context, param: click.Parameter, value: str) -> re.Pattern[str]:
    try:
        return re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"--agent: {value!r} is not a regular expression: {error}") from None


def _rules(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[RelayRule, ...]:
    from rtun_core.wire.relay_rule import parse_relay_rule

    rules = tuple(named("--local", parse_relay_rule, text) for text in value)
    for listen, count in Counter(rule.listen for rule in rules).items():
        if count > 1 and listen.port != 0:
            raise UsageError(f"--local: {count} rules listen on {listen}; accepted: one rule per address")
    return rules


@click.command(cls=UrlCommand, bare={"--control": AUTO}, short_help="Relay local UDP ports through an agent.")
@click.argument("url")
@click.option(
    "-L",
    "--local",
    multiple=True,
    required=True,
    callback=_rules,
    metavar="RULE",
    help="[udp://]IP:PORT?to=HOST:PORT: listen there, send to that target; repeatable.",
)
@click.option(
    "-a",
    "--agent",
    default=".*",
    show_default=True,
    callback=_regex,
    metavar="REGEX",
    help="Use agents in whose name this is found.",
)
@signal_options
@click.option(
    "--udp-idle-timeout",
    type=str,
    callback=number(int, 0, MAX_SECONDS, "seconds"),
    default="120",
    show_default=True,
    metavar="S",
    help="Seconds of silence after which a flow ends; 0: 120.",
)
@click.option(
    "--udp-max-payload",
    type=str,
    callback=number(int, 1, MAX_PAYLOAD, "bytes"),
    metavar="N",
    help="Largest datagram carried, in bytes. [default: 1442, what fits]",
)
@click.option(
    "--p2p-min-channels",
    type=str,
    callback=number(int, 0, MAX_CHANNELS),
    default="1",
    show_default=True,
    metavar="N",
    help="Tunnels kept per rule; 0: open on demand.",
)
@click.option(
    "--p2p-max-channels",
    type=str,
    callback=number(int, 1, MAX_CHANNELS),
    default="1",
    show_default=True,
    metavar="N",
    help="Most tunnels per rule.",
)
@click.option(
    "--p2p-channel-lifetime",
    type=str,
    callback=number(int, 0, MAX_SECONDS, "seconds"),
    default="120",
    show_default=True,
    metavar="S",
    help="Seconds after which a tunnel is replaced by a new one; 0: 120.",
)
@click.option(
    "--p2p-open-retry-min-interval",
    type=str,
    callback=number(float, 0, 3600, "seconds"),
    default="2",
    show_default=True,
    metavar="S",
    help="Seconds between two attempts to open a tunnel.",
)
@click.option(
    "--codec",
    type=click.Choice(_CODECS),
    default="auto",
    show_default=True,
    help="Form of the frames; auto: obfs-v2, or what the agent speaks.",
)
@click.option(
    "--wait-agent",
    type=str,
    callback=number(float, 0.1, 86400 * 365, "seconds"),
    metavar="S",
    help="End with status 4 when no tunnel is up after S seconds. [default: wait for ever]",
)
@click.option(
    "--max-flows",
    type=str,
    callback=number(int, 1, 1_000_000),
    default="65536",
    show_default=True,
    metavar="N",
    help="Most flows at one time.",
)
@ice_options
@console_options
@_refused_options
@output_options
def relay(
    url: str,
    *,
    local: tuple[RelayRule, ...],
    agent: re.Pattern[str],
    access: SignalAccess,
    udp_idle_timeout: int,
    udp_max_payload: int | None,
    p2p_min_channels: int,
    p2p_max_channels: int,
    p2p_channel_lifetime: int,
    p2p_open_retry_min_interval: float,
    codec: str,
    wait_agent: float | None,
    max_flows: int,
    ice: IceConfig,
    console: ConsoleOptions,
    outputs: OutputOptions,
) -> int:
    """Relay local UDP ports to targets behind an agent that is registered at URL.

    URL is that of the signalling server: https://HOST[:PORT][/PREFIX], http://... or quic://HOST:PORT.

    Example: rtun relay -L '127.0.0.1:5353?to=8.8.8.8:53' -a beta https://signal.example
    """
    if p2p_min_channels > p2p_max_channels:
        raise UsageError(
            f"--p2p-min-channels: {p2p_min_channels} is more than --p2p-max-channels, which is "
            f"{p2p_max_channels}; accepted: at most that many"
        )
    endpoint = access.endpoint(url)
    from rtun_core.relay.config import RelayConfig
    from rtun_core.wire.relay_frame import CodecKind

    config = RelayConfig(
        endpoint=endpoint,
        rules=local,
        ice=ice,
        agent=agent,
        idle_timeout=udp_idle_timeout or DEFAULT_SECONDS,
        max_payload=udp_max_payload,
        min_channels=p2p_min_channels,
        max_channels=p2p_max_channels,
        channel_lifetime=p2p_channel_lifetime or DEFAULT_SECONDS,
        open_retry_min_interval=p2p_open_retry_min_interval,
        codec=None if codec == "auto" else CodecKind(codec),
        max_flows=max_flows,
        wait_agent=wait_agent,
    )

    def services(bus: EventBus) -> Sequence[Service]:
        # Half a second's imports: behind the first frame, where there is a console.
        from rtun_core.relay.service import RelayService

        return [RelayService(config, bus)]

    return run_engine(services, outputs, console)
