"""Local interface addresses."""

import ipaddress
from types import SimpleNamespace

import ifaddr
import pytest

from rtun_core.net.interfaces import local_addresses, offered_addresses, parse_candidate_cidr

ADDRESSES = [
    "127.0.0.1",
    ("::1", 0, 0),
    "192.168.1.7",
    "169.254.3.4",
    "10.8.0.2",
    "0.0.0.0",
    "224.0.0.9",
    "255.255.255.255",
    ("fe80::1%eth0", 0, 2),
    ("2001:db8::7", 0, 0),
    "192.168.1.7",
]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = [SimpleNamespace(ips=[SimpleNamespace(ip=ip) for ip in ADDRESSES])]
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: adapters)


def test_this_machine_has_a_loopback_address():
    assert ipaddress.ip_address("127.0.0.1") in local_addresses()
    assert "127.0.0.1" in offered_addresses(None)


@pytest.mark.usefixtures("machine")
def test_every_address_is_listed_once_without_zone():
    assert list(map(str, local_addresses())) == [
        "127.0.0.1",
        "::1",
        "192.168.1.7",
        "169.254.3.4",
        "10.8.0.2",
        "0.0.0.0",
        "224.0.0.9",
        "255.255.255.255",
        "fe80::1",
        "2001:db8::7",
    ]


@pytest.mark.usefixtures("machine")
def test_usable_ipv4_addresses_are_offered():
    assert offered_addresses(None) == ["127.0.0.1", "192.168.1.7", "10.8.0.2"]


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("cidrs", "expected"),
    [
        (["10.0.0.0/8"], ["10.8.0.2"]),
        (["192.168.1.7", "127.0.0.0/8"], ["127.0.0.1", "192.168.1.7"]),
        (["0.0.0.0/0"], ["127.0.0.1", "192.168.1.7", "10.8.0.2"]),
        (["169.254.0.0/16"], []),
        (["2001:db8::/32"], []),
        ([], []),
    ],
)
def test_networks_narrow_the_offer(cidrs, expected):
    assert offered_addresses([parse_candidate_cidr(cidr) for cidr in cidrs]) == expected


def test_bits_behind_the_prefix_are_ignored():
    assert parse_candidate_cidr(" 10.1.2.3/8 ") == ipaddress.ip_network("10.0.0.0/8")


@pytest.mark.parametrize("text", ["", "10.0.0.0/33", "eth0", "10.0.0.0/8/8"])
def test_what_is_not_a_network(text):
    with pytest.raises(ValueError, match="accepted: an address or ADDRESS/PREFIX"):
        parse_candidate_cidr(text)
