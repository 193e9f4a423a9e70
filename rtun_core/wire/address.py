"""Socket addresses as text: `192.0.2.1:53`, `[2001:db8::1]:53`, `dns.example:53`."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*"
                        r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?")  # fmt: skip


class Address(NamedTuple):
    """An IP literal or host name, and a port in 0..65535."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_ip(self) -> bool:
        """Whether `host` is an IP literal rather than a name."""
        return is_ip(self.host)

    @property
    def is_ipv6(self) -> bool:
        """Whether `host` is an IPv6 literal."""
        return ":" in self.host


def is_ip(host: str) -> bool:
    """Whether `host` is an IPv4 or IPv6 literal (without brackets or zone)."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def parse_address(text: str, *, names: bool = True) -> Address:
    """Read `HOST:PORT`; an IPv6 literal stands in brackets, and is returned in its canonical form.

    With `names=False` only IP literals are accepted. Raises ValueError with a sentence that says
    what is accepted; callers put the option's name in front.
    """
    accepted = "IP:PORT, [IPV6]:PORT or NAME:PORT" if names else "IP:PORT or [IPV6]:PORT"
    host, colon, port_text = text.rpartition(":")
    if not colon:
        raise ValueError(f"{text!r} has no port; accepted: {accepted}")
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and int(port_text) < 65536):
        raise ValueError(f"{text!r} has the port {port_text!r}; accepted: a number from 0 to 65535")
    if not host:
        raise ValueError(f"{text!r} has no host; accepted: {accepted}")
    if host.startswith("[") and host.endswith("]"):
        return Address(_ip(host[1:-1], text, accepted, version=6), int(port_text))
    if ":" in host:
        raise ValueError(f"{text!r} has an IPv6 address without brackets; accepted: {accepted}")
    if is_ip(host) or not names or re.fullmatch(r"[0-9.]+", host):
        return Address(_ip(host, text, accepted, version=4), int(port_text))
    if not _HOST_NAME.fullmatch(host):
        raise ValueError(f"{text!r} has the host {host!r}; accepted: {accepted}")
    return Address(host, int(port_text))


def _ip(host: str, text: str, accepted: str, *, version: int) -> str:
    if not is_ip(host) or (address := ipaddress.ip_address(host)).version != version:
        raise ValueError(f"{text!r} has the host {host!r}; accepted: {accepted}")
    return str(address)
