"""`rtun doctor`: what this machine offers rtun, and what would help."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import click

from rtun_core.cli.options import SignalAccess, build_ice, signal_options

if TYPE_CHECKING:
    from rtun_core.engine.doctor import Finding
    from rtun_core.net.endpoint import SignalEndpoint
    from rtun_core.wire.address import Address

WIDTH = 80
NAME_WIDTH = 15
GRADE_WIDTH = 7

_WORDS = {"ok": "ok", "hint": "hint", "problem": "PROBLEM"}
_COLOURS = {"ok": "green", "hint": "yellow", "problem": "red"}
_TEXT_AT = NAME_WIDTH + 1 + GRADE_WIDTH + 1
_REMEDY_LEAD = "    -> "


@click.command(short_help="Check what this machine offers rtun.")
@click.argument("url", required=False, metavar="[URL]")
@click.option("--json", is_flag=True, help="Print each finding as one JSON line.")
@click.option(
    "--stun",
    multiple=True,
    metavar="HOST:PORT",
    help="STUN server to ask; repeatable; 'none': ask none. [default: six public servers]",
)
@signal_options
def doctor(url: str | None, *, json: bool, stun: tuple[str, ...], access: SignalAccess) -> int:
    """Check what this machine and its network offer rtun, and say in a line each what would help.

    With the URL of a signalling server, ask that too. Exit status: 0 no problem (hints are fine), 1 a
    problem, 2 usage.
    """
    servers = build_ice(stun, ()).stun_servers
    endpoint = None if url is None else access.endpoint(url)
    import asyncio

    return asyncio.run(_examine(access.secret, servers, endpoint, as_json=json))


async def _examine(
    secret: bytes, servers: tuple[Address, ...], endpoint: SignalEndpoint | None, *, as_json: bool
) -> int:
    grades: list[str] = []
    colour = may_colour()
    async for finding in _findings(secret, servers, endpoint):
        grades.append(finding.grade)
        click.echo(_json(finding) if as_json else finding_text(finding, colour=colour))
    if not as_json:
        click.echo(_summary(grades.count("hint"), grades.count("problem")))
    return 1 if "problem" in grades else 0


async def _findings(
    secret: bytes, servers: tuple[Address, ...], endpoint: SignalEndpoint | None
) -> AsyncIterator[Finding]:
    """This machine first, at once; then the network, all of which is asked at the same time."""
    import asyncio

    from rtun_core.engine.doctor import machine_findings
    from rtun_core.engine.doctor_network import check_server, check_stun

    for finding in machine_findings(secret):
        yield finding
    asked = [check_stun(servers), *([] if endpoint is None else [check_server(endpoint)])]
    for findings in await asyncio.gather(*asked):
        for finding in findings:
            yield finding


def finding_text(finding: Finding, *, colour: bool = False) -> str:
    """The finding in columns, no line longer than `WIDTH` unless a single word is; the remedy below it."""
    word = _WORDS[finding.grade].ljust(GRADE_WIDTH)
    if colour:
        word = click.style(word, fg=_COLOURS[finding.grade])
    first, *rest = _wrapped(finding.text, WIDTH - _TEXT_AT) or [""]
    lines = [f"{finding.name:<{NAME_WIDTH}} {word} {first}", *(" " * _TEXT_AT + line for line in rest)]
    remedy = _wrapped(finding.remedy, WIDTH - len(_REMEDY_LEAD))
    lines += [f"{lead}{line}" for lead, line in zip(_leads(), remedy, strict=False)]
    return "\n".join(lines)


def may_colour() -> bool:
    """Whether standard output is a terminal that wants colours."""
    from rtun_core.engine.log_lines import wants_colour

    return sys.stdout.isatty() and wants_colour(sys.stdout.fileno(), os.environ)


def _leads() -> Iterator[str]:
    yield _REMEDY_LEAD
    while True:
        yield " " * len(_REMEDY_LEAD)


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of whole words: what is there to be copied is not cut."""
    printable = "".join(char if char.isprintable() else "?" for char in text)
    return textwrap.wrap(printable, width, break_long_words=False, break_on_hyphens=False)


def _json(finding: Finding) -> bytes:
    import msgspec

    return msgspec.json.encode(finding)


def _summary(hints: int, problems: int) -> str:
    counts = ((problems, "problem"), (hints, "hint"))
    return ", ".join(f"{count or 'no'} {word}{'' if count == 1 else 's'}" for count, word in counts)
