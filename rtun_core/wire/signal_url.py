"""URLs of signalling servers (wire spec 4 and 5.1).

`https://host[:port][/prefix]`, `http://host[:port][/prefix]` or `quic://host:port`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import unquote_plus, urlencode

from rtun_core.errors import LocalProtocolError
from rtun_core.wire.address import Address, parse_address

Scheme = Literal["http", "https", "quic"]

_ACCEPTED = "http://HOST[:PORT][/PREFIX], https://HOST[:PORT][/PREFIX] or quic://HOST:PORT"
_PARTS = re.compile(r"([^:/?#]+)://([^/?]+)([^?]*)(?:\?(.*))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_WEBSOCKET = {"http": "ws", "https": "wss"}


@dataclass(frozen=True)
class SignalUrl:
    """Where a signalling server is. `host` has no brackets, `path` and `query` are as they were given."""

    scheme: Scheme
    host: str
    port: int
    path: str
    query: str

    @property
    def address(self) -> Address:
        """Host and port to connect to."""
        return Address(self.host, self.port)

    @property
    def is_quic(self) -> bool:
        """Whether signalling runs over QUIC rather than HTTP and WebSocket."""
        return self.scheme == "quic"

    def __str__(self) -> str:
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{self._authority}{self.path}{query}"

    def endpoint(self, path: str, params: dict[str, str | None]) -> str:
        """Build the http(s) URL of `path` (which starts with a slash) below our own path.

        Our query is kept, except keys that `params` sets anew; parameters that are None are left out.
        Raises LocalProtocolError for a quic URL, which has no endpoints.
        """
        return self._build(self.scheme, path, params)

    def ws_endpoint(self, path: str, params: dict[str, str | None]) -> str:
        """The same as `endpoint` with the scheme ws or wss."""
        return self._build(_WEBSOCKET.get(self.scheme, self.scheme), path, params)

    @property
    def _authority(self) -> str:
        text = str(self.address)
        return text.removesuffix(f":{self.port}") if _DEFAULT_PORTS.get(self.scheme) == self.port else text

    def _build(self, scheme: str, path: str, params: dict[str, str | None]) -> str:
        if self.is_quic:
            raise LocalProtocolError(f"{self} has no HTTP endpoint {path}")
        given = {key: value for key, value in params.items() if value is not None}
        kept = [field for field in self.query.split("&") if field and _key(field) not in given]
        query = "&".join([*kept, *([urlencode(given)] if given else [])])
        return f"{scheme}://{self._authority}{self.path.rstrip('/')}{path}{'?' if query else ''}{query}"


def parse_signal_url(text: str) -> SignalUrl:
    """Read the URL of a signalling server. Raises ValueError with one sentence that says what is accepted.

    The default ports are 80 and 443; a quic URL must name its port. A user, password or token in the
    URL is refused, and not repeated in the error.
    """
    if not text.isascii() or not text.isprintable() or " " in text or "#" in text:
        raise ValueError(f"the URL {text!r} has a space, '#' or special character; accepted: {_ACCEPTED}")
    match = _PARTS.fullmatch(text)
    if match is None or match[1].lower() not in ("http", "https", "quic"):
        raise ValueError(f"the URL {text!r} has another form; accepted: {_ACCEPTED}")
    query = match[4] or ""
    if "@" in match[2]:
        raise ValueError(f"the URL contains a user or password; accepted: {_ACCEPTED}")
    if any(_key(field) == "token" for field in query.split("&")):
        raise ValueError(
            "the URL contains a token; accepted: a URL without one, and the secret by its option"
        )
    scheme = cast(Scheme, match[1].lower())
    address = _address(text, scheme, match[2].lower())
    return SignalUrl(scheme, address.host, address.port, match[3], query)


def _address(text: str, scheme: Scheme, authority: str) -> Address:
    if ":" not in authority.rpartition("]")[2]:
        if scheme == "quic":
            raise ValueError(f"the URL {text!r} has no port; accepted: quic://HOST:PORT")
        authority = f"{authority}:{_DEFAULT_PORTS[scheme]}"
    try:
        address = parse_address(authority)
    except ValueError as error:
        raise ValueError(f"the URL {text!r}: {error}") from None
    if address.port == 0:
        raise ValueError(f"the URL {text!r} has the port 0; accepted: a number from 1 to 65535")
    return address


def _key(field: str) -> str:
    return unquote_plus(field.partition("=")[0])
