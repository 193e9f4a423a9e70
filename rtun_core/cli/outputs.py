"""What every long-running command can write and serve."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import click

from rtun_core.cli.control_options import (
    ControlTcp,
    build_control_tcp,
    control_tcp_option,
    control_token_option,
)
from rtun_core.cli.options import address, number, packed
from rtun_core.errors import UsageError
from rtun_core.event import Level

if TYPE_CHECKING:
    from rtun_core.bus import EventBus
    from rtun_core.engine.engine import Engine
    from rtun_core.engine.log_lines import LogWriter
    from rtun_core.wire.address import Address

AUTO = "auto"  # `--control` without a path


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """The checked values of `output_options`. `control` is `auto` for the default place."""

    json: bool = False
    filter: str = ""
    log_file: Path | None = None
    log_format: Literal["text", "json"] = "text"
    log_level: Level = Level.INFO
    status_file: Path | None = None
    status_interval: float = 2.0
    metrics: Address | None = None
    control: str | None = None
    control_tcp: ControlTcp | None = None
    record: Path | None = None
    quiet: bool = False


class Output(Protocol):
    """Something that runs beside the services for as long as the engine does."""

    async def start(self) -> None:
        """Open; raises RtunError, and then nothing is left open."""

    async def stop(self) -> None:
        """Finish and close."""


def build_outputs(
    *,
    json: bool,
    filter: str | None,  # noqa: A002 - the name of the option
    log_file: str | None,
    log_format: Literal["text", "json"],
    log_level: str,
    status_file: str | None,
    status_interval: float,
    metrics: Address | None,
    control: str | None,
    control_tcp: Address | None,
    control_token_file: str | None,
    record: str | None,
    quiet: bool,
) -> OutputOptions:
    """Turn option values into OutputOptions."""
    return OutputOptions(
        json=json,
        filter=filter or "",
        log_file=Path(log_file) if log_file else None,
        log_format=log_format,
        log_level=Level[log_level.upper()],
        status_file=Path(status_file) if status_file else None,
        status_interval=status_interval,
        metrics=metrics,
        control=control,
        control_tcp=build_control_tcp(control_tcp, control_token_file),
        record=Path(record) if record else None,
        quiet=quiet,
    )


def _event_filter(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        from rtun_core.view.event_filter import compile_event_filter
        from rtun_core.view.filter_text import FilterError

        try:
            compile_event_filter(value)
        except FilterError as error:
            raise UsageError(f"--filter: {error} (at character {error.column + 1})") from None
    return value


event_filter_option = click.option(
    "--filter",
    callback=_event_filter,
    metavar="EXPR",
    help="Of the events written as JSON, only those that pass, e.g. 'level>=warning | type~^agent'.",
)

output_options = packed(
    "outputs",
    (
        click.option("--json", is_flag=True, help="Write every event as one JSON line to standard output."),
        event_filter_option,
        click.option("--log-file", metavar="PATH", help="Append the log to a file; SIGHUP reopens it."),
        click.option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            help="Form of the lines in the log file.",
        ),
        click.option(
            "--log-level",
            type=click.Choice([level.name.lower() for level in Level]),
            default="info",
            show_default=True,
            help="The least level that is logged.",
        ),
        click.option("--quiet", is_flag=True, help="Write no log to standard error."),
        click.option("--status-file", metavar="PATH", help="Keep the state as JSON in a file of mode 0600."),
        click.option(
            "--status-interval",
            type=str,
            callback=number(float, 0.1, 86400, "seconds"),
            default="2",
            show_default=True,
            metavar="S",
            help="Seconds between two writes of the status file.",
        ),
        click.option(
            "--metrics",
            callback=address(local=True),
            metavar="[HOST]:PORT",
            help="Serve Prometheus metrics under /metrics; without HOST on 127.0.0.1.",
        ),
        click.option(
            "--control",
            metavar="[PATH]",
            help="Serve `rtun attach`, `status`, `events` and `ctl` on a Unix socket. [default path: see "
            "`rtun paths`]",
        ),
        control_tcp_option,
        control_token_option,
        click.option("--record", metavar="PATH", help="Record what happens for `rtun replay`."),
    ),
    build_outputs,
)


def build_log(bus: EventBus, options: OutputOptions) -> LogWriter:
    """The log as the options want it."""
    from rtun_core.engine.log_lines import LogWriter

    return LogWriter(
        bus,
        level=options.log_level,
        stderr=None if options.quiet else _descriptor(sys.stderr),
        file=options.log_file,
        file_format=options.log_format,
    )


def build_running(engine: Engine, options: OutputOptions) -> Iterator[Output]:
    """What runs beside the services of an engine, apart from its log."""
    if options.json and (stdout := _descriptor(sys.stdout)) is not None:
        from rtun_core.engine.json_lines import JsonLines
        from rtun_core.view.event_filter import compile_event_filter

        yield JsonLines(engine.bus, descriptor=stdout, passes=compile_event_filter(options.filter))
    if options.status_file is not None:
        from rtun_core.engine.status_file import StatusFile

        yield StatusFile(options.status_file, engine.snapshot, engine.bus, interval=options.status_interval)
    if options.metrics is not None:
        from rtun_core.engine.metrics import Metrics

        yield Metrics(options.metrics, engine.snapshot, engine.bus)
    if options.control is not None or options.control_tcp is not None:
        yield from _control(engine, options)
    from rtun_core.engine.recorder import Recorder

    yield Recorder(engine, options.record)


def _control(engine: Engine, options: OutputOptions) -> Iterator[Output]:
    from rtun_core.engine.control_routes import ControlRoutes

    routes = ControlRoutes(engine)
    if options.control is not None:
        from rtun_core.engine.control import ControlServer
        from rtun_core.engine.paths import control_socket

        yield ControlServer(control_socket() if options.control == AUTO else Path(options.control), routes)
    if options.control_tcp is not None:
        from rtun_core.engine.control_tcp import ControlTcpServer

        yield ControlTcpServer(options.control_tcp.address, options.control_tcp.token, routes)


def _descriptor(stream: object) -> int | None:
    """The descriptor of a standard stream; None when it was closed or replaced."""
    with suppress(AttributeError, OSError, ValueError):
        return int(stream.fileno())  # type: ignore[attr-defined]
    return None
