"""Local interface addresses, and which of them are offered to peers (wire spec 8.3)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

import ifaddr

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def local_addresses() -> list[IpAddress]:
    """Every address of every local interface, in the system's order, each once, without zones."""
    return list(dict.fromkeys(_addresses()))


def offered_addresses(cidrs: Sequence[IpNetwork] | None) -> list[str]:
    """The addresses that become host candidates: IPv4, loopback included, or only those inside `cidrs`.

    Link-local, broadcast, multicast and unspecified addresses are never offered. IPv6 is not either,
    as the dialect knows only IPv4.
    """
    usable = [address for address in local_addresses() if _is_offerable(address)]
    return [str(address) for address in usable if cidrs is None or any(address in cidr for cidr in cidrs)]


def parse_candidate_cidr(text: str) -> IpNetwork:
    """Read `ADDRESS/PREFIX` or a single address; bits behind the prefix are ignored.

    Raises ValueError with a sentence that says what is accepted; callers put the option's name in front.
    """
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a network; accepted: an address or ADDRESS/PREFIX, as in 192.168.0.0/16"
        ) from None


def _addresses() -> Iterator[IpAddress]:
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            host = entry.ip if isinstance(entry.ip, str) else entry.ip[0]
            yield ipaddress.ip_address(host.partition("%")[0])


def _is_offerable(address: IpAddress) -> bool:
    broadcast = address == ipaddress.IPv4Address("255.255.255.255")
    unusable = address.is_link_local or address.is_multicast or address.is_unspecified or broadcast
    return address.version == 4 and not unusable
