"""Addresses, URLs and headers of RTunnel command lines, read into checked values.

Everything here raises UsageError with one sentence; the value of a header is never repeated in it.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rtun_core.cli.options import named
from rtun_core.errors import RtunError, UsageError
from rtun_core.wire.address import Address, is_ip, parse_address

if TYPE_CHECKING:
    import yarl

LOCAL = "127.0.0.1"
NO_TARGET = "none"
MAX_HEADER_FILE = 64 * 1024  # bytes

SCHEMES = ("ws", "wss", "http", "https")
DEFAULT_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}

_URL = re.compile(r"([A-Za-z]+)://([^/?#]*)([^?#]*)(\?[^#]*)?")
_ACCEPTED_URL = "ws://, wss://, http:// or https://HOST[:PORT][/PATH][?QUERY]"
_PATH = re.compile(r"/|(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~!$&'()*+,;=:@-]+)+/?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_OWN_HEADERS = {
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "x-session-id",
}
_OWN_PREFIXES = ("sec-websocket-", "x-rtun-")


def parse_listen(text: str, host: str, bind: str | None = None) -> Address:
    """Read LISTEN: `PORT`, `:PORT` or `IP:PORT`; `host` is meant where none is named, unless by `bind`."""
    address = named("LISTEN", _local_address, _with_host(text, host if bind is None else bind))
    if bind is not None and address.host != bind:
        raise UsageError(
            f"--bind: {bind} is not the host of {text!r}; accepted: LISTEN as a port, or --bind left out"
        )
    return address


def parse_bind(text: str) -> str:
    """Read the value of --bind: an IP literal, IPv6 with or without brackets."""
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not is_ip(host):
        raise UsageError(f"--bind: {text!r} is no IP address; accepted: an IPv4 or IPv6 address")
    return parse_address(_joined(host, "0")).host


def parse_target(text: str, name: str = "TARGET") -> Address:
    """Read a target: `HOST:PORT`, `:PORT` or `PORT`, the latter two on this machine.

    The port may be a service name of this machine, as in `host:ssh`.
    """
    host, colon, port = _with_host(text, LOCAL).rpartition(":")
    if colon and port.isascii() and port and not port.isdigit():
        port = _service_port(port, f"{name}: {text!r}")
    address = named(name, parse_address, f"{host}{colon}{port}")
    if address.port == 0:
        raise UsageError(f"{name}: {text!r} has the port 0; accepted: a port from 1 to 65535")
    return address


def parse_targets(default: str, by_path: tuple[str, ...]) -> dict[str, Address]:
    """Read TARGET and the values of --path into a table; "" is for every path that has no target of its own.

    TARGET may be `none`: then other paths have none.
    """
    targets = {} if default == NO_TARGET else {"": parse_target(default)}
    for text in by_path:
        path, sign, target = text.partition("=")
        if not (sign and _PATH.fullmatch(path)):
            raise UsageError(f"--path: {text!r} is no path and target; accepted: /PATH=HOST:PORT")
        if path in targets:
            raise UsageError(f"--path: {path} has two targets; accepted: one for each path")
        targets[path] = parse_target(target, "--path")
    if not targets:
        raise UsageError(
            f"TARGET: {NO_TARGET!r} leaves nothing to serve; accepted: HOST:PORT, or at least one --path"
        )
    return targets


def parse_tunnel_url(text: str) -> yarl.URL:
    """Read the URL of a server; path and query stay as they are. A user or password is refused."""
    import yarl

    match = _URL.fullmatch(text) if text.isascii() and text.isprintable() and " " not in text else None
    if match is None or match[1].lower() not in SCHEMES:
        shown = "it contains a user or password" if "@" in text else f"{text!r} has another form"
        raise UsageError(f"URL: {shown}; accepted: {_ACCEPTED_URL}")
    if "@" in match[2]:
        raise UsageError(f"URL: it contains a user or password; accepted: {_ACCEPTED_URL}")
    scheme = match[1].lower()
    given = match[2] if ":" in match[2].rpartition("]")[2] else f"{match[2]}:{DEFAULT_PORTS[scheme]}"
    address = named("URL", parse_address, given)
    if address.port == 0:
        raise UsageError(f"URL: {text!r} has the port 0; accepted: a port from 1 to 65535")
    return yarl.URL(f"{scheme}://{match[2]}{match[3] or '/'}{match[4] or ''}", encoded=True)


def parse_headers(texts: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Read values of --header: `NAME:VALUE`, or `@FILE` with one of them per line."""
    return tuple(_header(line) for text in texts for line in _header_lines(text))


def _with_host(text: str, host: str) -> str:
    if text.isascii() and text.isdigit():
        return _joined(host, text)
    return _joined(host, text[1:]) if text.startswith(":") and text.count(":") == 1 else text


def _joined(host: str, port: str) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _local_address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    return parse_address(f"{LOCAL}:{port}" if host == "localhost" and colon else text, names=False)


def _service_port(name: str, where: str) -> str:
    try:
        return str(socket.getservbyname(name, "tcp"))
    except OSError:
        raise UsageError(
            f"{where} has the port {name!r}; accepted: a number from 1 to 65535 or a known service"
        ) from None


def _header_lines(text: str) -> Iterator[str]:
    if not text.startswith("@"):
        yield text
        return
    path = Path(text[1:])
    try:
        with path.open("rb") as file:
            data = file.read(MAX_HEADER_FILE + 1)
    except OSError as error:
        raise RtunError(f"--header: cannot read the file {path}: {error.strerror}") from None
    if len(data) > MAX_HEADER_FILE:
        raise UsageError(f"--header: {path} is too long; accepted: up to {MAX_HEADER_FILE} bytes")
    yield from (line for line in data.decode("latin-1").splitlines() if line.strip())


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    value = value.strip(" \t")
    if not colon or not _HEADER_NAME.fullmatch(name):
        shown = f"{name!r} is no name of a header" if colon else "a header has no colon"
        raise UsageError(f"--header: {shown}; accepted: NAME:VALUE or @FILE")
    if not (value.isascii() and value.replace("\t", " ").isprintable()):
        raise UsageError(f"--header: the value of {name} has special characters; accepted: printable ASCII")
    if name.lower() in _OWN_HEADERS or name.lower().startswith(_OWN_PREFIXES):
        raise UsageError(f"--header: {name} belongs to the tunnel itself; accepted: other headers")
    return name, value
