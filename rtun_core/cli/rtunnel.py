"""The executable `rtunnel`: the command line of the original RTunnel for the services of `rtun ws`.

Its arguments are read as Go's flag package would, with options anywhere. Exit statuses are the original's:
2 for an option that cannot be read, 1 for everything else that goes wrong (rtunnel spec 2).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from rtun_core import __version__
from rtun_core.cli.console import ConsoleOptions, console_options
from rtun_core.cli.main import rendered
from rtun_core.cli.options import UrlCommand
from rtun_core.cli.outputs import AUTO, OutputOptions, output_options
from rtun_core.cli.ws import (
    SessionOptions,
    TlsOptions,
    TrustOptions,
    bind_option,
    certificate_options,
    connect_config,
    debug_option,
    header_option,
    path_option,
    run_connect,
    run_serve,
    serve_config,
    session_options,
    told,
    trust_options,
)
from rtun_core.errors import RtunError, UsageError

if TYPE_CHECKING:
    from rtun_core.rtunnel.config import ConnectConfig

_URL_STARTS = ("ws://", "wss://", "http://", "https://")
_YES = {"1", "t", "T", "true", "TRUE", "True"}
_NO = {"0", "f", "F", "false", "FALSE", "False"}
_USAGE = "rtunnel TARGET LISTEN (server) or rtunnel URL LISTEN (client)"


class GoCommand(UrlCommand):
    """A command whose options may have one dash or two and, if they are switches, `=true` or `=false`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Spell the options as click expects them, then parse as ever."""
        return super().parse_args(ctx, list(self._spelt(args)))

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; whatever goes wrong from here on has the status 1."""
        try:
            return super().invoke(ctx)
        except RtunError as error:
            raise RtunError(str(error)) from error

    def _spelt(self, args: list[str]) -> Iterator[str]:
        options = {name: param for param in self.params for name in param.opts}
        for at, word in enumerate(args):
            if word == "--":
                yield from args[at:]
                return
            yield from _spelt_option(word, options)


def _spelt_option(word: str, options: dict[str, click.Parameter]) -> Iterator[str]:
    name, sign, value = word.partition("=")
    long = f"--{name.lstrip('-')}"
    known = name.startswith("-") and not name.startswith("---")
    if known and long in ("--help", "--version"):
        name = long
    elif known and (param := options.get(long) or options.get(name)) is not None:
        name = long if long in options else name
        if sign and isinstance(param, click.Option) and param.is_flag:
            yield from [name] if _is_true(name, value) else []
            return
    yield f"{name}{sign}{value}"


def _is_true(name: str, value: str) -> bool:
    if value not in _YES | _NO:
        raise UsageError(f"{name}: {value!r} is not accepted; accepted: true or false")
    return value in _YES


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """Everything on the command line, before it is known what it is for."""

    bind: str | None
    path: tuple[str, ...]
    tls: TlsOptions
    trust: TrustOptions
    header: tuple[tuple[str, str], ...]
    sessions: SessionOptions


@click.command(
    cls=GoCommand,
    bare={"--control": AUTO},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.argument("words", nargs=-1, metavar="TARGET|URL LISTEN")
@certificate_options
@trust_options("Check the server's certificate, as with --ca. [default: any is accepted]")
@debug_option
@path_option
@bind_option
@header_option
@session_options
@console_options
@output_options
@click.version_option(__version__, "--version", message="rtunnel of rtun version %(version)s")
def rtunnel(
    words: tuple[str, ...],
    *,
    debug: bool,
    console: ConsoleOptions,
    outputs: OutputOptions,
    **given: Any,
) -> int:
    """Carry TCP connections over WebSocket, with the command line of the original RTunnel.

    With a URL (ws://, wss://, http:// or https://) first this is the client: it listens at LISTEN and
    carries what comes to the server, which has to be there at the start. Otherwise it is the server: it
    accepts WebSockets at LISTEN and connects them to TARGET.

    TARGET is HOST:PORT, or PORT on this machine. LISTEN is PORT or IP:PORT; the client listens on
    127.0.0.1 and the server on 0.0.0.0 unless told otherwise. Options may stand anywhere. --cert, --key
    and --path are for the server; --ca, --secure, --insecure and --header for the client.

    Examples: rtunnel 127.0.0.1:22 8080, and rtunnel wss://gateway.example 2222 --secure
    """
    if len(words) != 2:
        count = f"{len(words)} argument{'' if len(words) == 1 else 's'}"
        raise UsageError(f"{count} given, not two; accepted: {_USAGE}; see 'rtunnel --help'")
    first, listen = words
    outputs = told(outputs, debug=debug)
    if first.startswith(_URL_STARTS):
        return _connect(first, listen, _Given(**given), outputs, console)
    return _serve(first, listen, _Given(**given), outputs, console)


def _serve(target: str, listen: str, given: _Given, outputs: OutputOptions, console: ConsoleOptions) -> int:
    _refuse(given.trust.ca, "--ca", "server")
    _refuse(given.trust.insecure, "--insecure", "server")
    _refuse(given.header, "--header", "server")
    config = serve_config(
        target, listen, path=given.path, bind=given.bind, tls=given.tls, sessions=given.sessions
    )
    return run_serve(config, outputs, console)


def _connect(url: str, listen: str, given: _Given, outputs: OutputOptions, console: ConsoleOptions) -> int:
    _refuse(given.path, "--path", "client")
    import asyncio

    trust = given.trust
    config = connect_config(
        url,
        listen,
        bind=given.bind,
        ca=trust.ca,
        insecure=not trust.secure and trust.ca is None,
        header=given.header,
        sessions=given.sessions,
    )
    asyncio.run(_test(config))
    return run_connect(config, outputs, console)


async def _test(config: ConnectConfig) -> None:
    """Ask the server for a sign of life; without one the original does not start. Raises RtunError."""
    from rtun_core.rtunnel.connect import TEST_TIME
    from rtun_core.rtunnel.dialer import Dialer

    dialer = Dialer(config)
    dialer.open()
    try:
        await dialer.test(TEST_TIME)
    finally:
        await dialer.close()


def _refuse(value: object, option: str, role: str) -> None:
    """Only for options that the original does not have; its own are without effect in the other role."""
    if value:
        raise UsageError(f"{option}: it has no meaning for a {role}; accepted: without it")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line of the original and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    return rendered(lambda: rtunnel.main(args=words, prog_name="rtunnel", standalone_mode=False))


if __name__ == "__main__":
    sys.exit(main())
