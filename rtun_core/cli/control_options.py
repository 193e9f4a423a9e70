"""The options about control over TCP: of what serves it, and of what comes to it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import click

from rtun_core.cli.options import address, given_secret
from rtun_core.errors import UsageError

if TYPE_CHECKING:
    from rtun_core.wire.address import Address

TOKEN_VARIABLE: Final = "RTUN_CONTROL_TOKEN"  # noqa: S105 - the name, not the token
MIN_TOKEN: Final = 16  # characters

_TOKEN: Final = re.compile(rb"[\x21-\x7e]+")  # what fits behind "Bearer " in a header


@dataclass(frozen=True, slots=True)
class ControlTcp:
    """Where to serve, and the token that is wanted there."""

    address: Address
    token: bytes = field(repr=False)


control_tcp_option = click.option(
    "--control-tcp",
    callback=address(local=True),
    metavar="[HOST]:PORT",
    help="Serve the same over TCP to those who have the token; without HOST on 127.0.0.1.",
)
control_token_option = click.option(
    "--control-token-file",
    metavar="FILE",
    help=f"File with the token of --control-tcp. [default: the variable {TOKEN_VARIABLE}]",
)


def build_control_tcp(address: Address | None, token_file: str | None) -> ControlTcp | None:
    """The checked values of both options. Raises UsageError when there is no good token."""
    if address is None:
        return None
    token = read_control_token(token_file)
    if token is None:
        raise UsageError(
            f"--control-tcp: it needs a token; accepted: --control-token-file FILE, or {TOKEN_VARIABLE} in "
            "the environment"
        )
    return ControlTcp(address, token)


def read_control_token(file: str | None) -> bytes | None:
    """The token in the file, else in the environment, never on the command line: that is seen by everybody.

    Raises UsageError for one that is too short or does not fit a header, RtunError for an unreadable file.
    """
    text = os.environ.get(TOKEN_VARIABLE) if file is None else None
    if text == "":
        return None
    token = given_secret("control-token", text, file)
    if token is None:
        return None
    source = TOKEN_VARIABLE if file is None else "--control-token-file"
    if len(token) < MIN_TOKEN:
        raise UsageError(
            f"{source}: the token has {len(token)} characters; accepted: {MIN_TOKEN} and more, e.g. of "
            "'head -c 24 /dev/urandom | base64'"
        )
    if not _TOKEN.fullmatch(token):
        raise UsageError(f"{source}: the token has a space or a foreign character; accepted: visible ASCII")
    return token
