import socket
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.net.sockaddr import (
    NAME_SIZE,
    from_socket_address,
    pack_sockaddr,
    pack_socket_address,
    socket_address,
    unpack_sockaddr,
)
from rtun_core.wire.address import Address
from tests.net.name_key import name_key

PORT = st.integers(0, 65535)
V4 = st.builds(Address, st.ip_addresses(v=4).map(str), PORT)
V6 = st.builds(
    Address, st.binary(min_size=16, max_size=16).map(lambda b: socket.inet_ntop(socket.AF_INET6, b)), PORT
)
ZONED = st.builds(lambda a, zone: Address(f"{a.host}%{zone}", a.port), V6, st.integers(1, 999_999_999))


@given(address=V4 | V6 | ZONED)
def test_round_trip(address):
    raw = pack_sockaddr(address)
    assert len(raw) == NAME_SIZE
    assert unpack_sockaddr(raw) == address
    assert from_socket_address(socket_address(address)) == address
    assert pack_socket_address(socket_address(address)) == raw


@given(first=V4 | V6, second=V4 | V6)
def test_keys_tell_addresses_apart(first, second):
    keys = name_key(pack_sockaddr(first)), name_key(pack_sockaddr(second))
    assert (keys[0] == keys[1]) == (first == second)
    assert isinstance(keys[0], bytes) == first.is_ipv6


@pytest.mark.skipif(sys.platform != "linux" or sys.byteorder != "little", reason="layout of this system")
def test_layout():
    assert pack_sockaddr(Address("192.0.2.1", 53)).hex() == "02000035c0000201" + "00" * 20
    v6 = pack_sockaddr(Address("2001:db8::1%3", 0x1234)).hex()
    assert v6 == "0a001234" + "00000000" + "20010db8000000000000000000000001" + "03000000"


def test_mapped_addresses_stay_ipv6():
    mapped = Address("::ffff:192.0.2.1", 9)
    assert unpack_sockaddr(pack_sockaddr(mapped)) == mapped
    assert isinstance(name_key(pack_sockaddr(mapped)), bytes)


@pytest.mark.parametrize(
    "host", ["", "localhost", "192.0.2", "192.0.2.1.5", "fe80::1%no-such-interface", "::g"]
)
def test_names_are_refused(host):
    with pytest.raises(ValueError, match="is not a"):
        pack_sockaddr(Address(host, 1))


def test_an_interface_name_is_a_zone():
    index, name = socket.if_nameindex()[0]
    assert unpack_sockaddr(pack_sockaddr(Address(f"fe80::1%{name}", 1))) == Address(f"fe80::1%{index}", 1)


@pytest.mark.parametrize("raw", [b"", bytes(28), b"\x02\x00", pack_sockaddr(Address("::1", 1))[:27]])
def test_other_bytes_are_refused(raw):
    with pytest.raises(ValueError, match="socket address"):
        unpack_sockaddr(raw)
