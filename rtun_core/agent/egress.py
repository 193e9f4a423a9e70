"""What relays may reach through this agent: allow and deny rules over target addresses.

A rule is `CIDR[:PORTS]`: `10.0.0.0/8`, `8.8.8.8:53`, `10.0.0.0/8:53,1000-2000`, `[2001:db8::/32]:53`,
`[2001:db8::]/32:53`, or `*` for every address of both families, as in `*:53`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from rtun_core.wire.address import Address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
PortRange = tuple[int, int]

_ACCEPTED = "CIDR[:PORTS] such as 10.0.0.0/8, 8.8.8.8:53,1000-2000, [2001:db8::/32]:53 or *:53"
_BRACKETED = re.compile(r"\[(?P<net>[^\[\]]*)\](?P<prefix>/[0-9]+)?(?::(?P<ports>.*))?")
_PLAIN_IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/[0-9]+")
_MAPPED_PREFIX = 96  # of ::ffff:0:0/96
_PORTS = re.compile(r"(?P<first>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class EgressRule:
    """Addresses of one network (None: every address), and the ports there (none given: every port).

    Each port range is inclusive on both ends.
    """

    network: Network | None
    ports: tuple[PortRange, ...] = ()

    def __str__(self) -> str:
        if self.network is None:
            net = "*"
        else:
            net = f"[{self.network}]" if self.network.version == 6 else str(self.network)
        ports = ",".join(str(low) if low == high else f"{low}-{high}" for low, high in self.ports)
        return f"{net}:{ports}" if ports else net

    def matches(self, ip: IpAddress, port: int) -> bool:
        """Whether this rule speaks about port `port` of `ip`."""
        if self.network is not None and (ip.version != self.network.version or ip not in self.network):
            return False
        return not self.ports or any(low <= port <= high for low, high in self.ports)


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """Deny wins over allow; without any allow rule, everything that is not denied may be reached."""

    allow: tuple[EgressRule, ...] = ()
    deny: tuple[EgressRule, ...] = ()

    def permits(self, address: Address) -> str | None:
        """None when `address` (an IP literal) may be reached, else one sentence that says why not."""
        if not address.is_ip:
            return f"target {address} is refused: only an IP address can be checked against the rules"
        forms = _forms(address.host)
        for rule in self.deny:
            if any(rule.matches(ip, address.port) for ip in forms):
                return f"target {address} is denied by the egress rule {rule} of this agent"
        if not self.allow or any(rule.matches(forms[0], address.port) for rule in self.allow):
            return None
        return f"target {address} is not among the targets that this agent allows"


def parse_egress_rule(text: str) -> EgressRule:
    """Read one rule. Raises ValueError with a sentence; callers put the option's name in front."""
    net, ports = _split(text)
    return EgressRule(_network(text, net), _ports(text, ports))


def _forms(host: str) -> tuple[IpAddress, ...]:
    """The addresses that a datagram to `host` reaches, the canonical one first.

    A mapped IPv4 address is the IPv4 address itself, and the unspecified address is this host: neither
    may be a way around a rule.
    """
    ip = ipaddress.ip_address(host)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_unspecified:
        return ip, ipaddress.ip_address("127.0.0.1" if ip.version == 4 else "::1")
    return (ip,)


def _split(text: str) -> tuple[str, str | None]:
    """The network part and the port part, None where no port is given."""
    if bracketed := _BRACKETED.fullmatch(text):
        return bracketed["net"] + (bracketed["prefix"] or ""), bracketed["ports"]
    if _PLAIN_IPV6.fullmatch(text):
        return text, None
    net, colon, ports = text.partition(":")
    if ":" in ports:
        raise ValueError(f"{text!r} has an IPv6 address without brackets; accepted: {_ACCEPTED}")
    return net, ports if colon else None


def _network(text: str, net: str) -> Network | None:
    if net == "*":
        return None
    try:
        network = ipaddress.ip_network(net, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} has the network {net!r}; accepted: {_ACCEPTED}") from None
    host = net.partition("/")[0]
    if ipaddress.ip_address(host) != network.network_address:
        raise ValueError(f"{text!r} has the host address {host} in a network; did you mean {network}?")
    return _unmapped(network)


def _unmapped(network: Network) -> Network:
    """A network of mapped IPv4 addresses as what it is; targets are compared in that form too."""
    first = network.network_address
    if isinstance(first, ipaddress.IPv6Address) and first.ipv4_mapped and network.prefixlen >= _MAPPED_PREFIX:
        return ipaddress.IPv4Network((first.ipv4_mapped, network.prefixlen - _MAPPED_PREFIX))
    return network


def _ports(text: str, ports: str | None) -> tuple[PortRange, ...]:
    if ports is None:
        return ()
    return tuple(_port_range(text, part) for part in ports.split(","))


def _port_range(text: str, part: str) -> PortRange:
    match = _PORTS.fullmatch(part)
    if match is not None:
        low, high = int(match["first"]), int(match["last"] or match["first"])
        if 1 <= low <= high <= 65535:
            return low, high
    raise ValueError(f"{text!r} has the ports {part!r}; accepted: numbers or ranges from 1 to 65535")
