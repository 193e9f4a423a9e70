import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.errors import UsageError
from rtun_core.view.column import NUMBERS, Kind
from rtun_core.view.filter_values import (
    V4_MAPPED,
    host_of,
    read_endpoint,
    read_flag,
    read_network,
    read_number,
)


@pytest.mark.parametrize(
    ("kind", "text", "number"),
    [
        (Kind.RATE, "800", 100),
        (Kind.RATE, "8k", 1_000),
        (Kind.RATE, "1M", 125_000),
        (Kind.RATE, "9.6Mb", 1_200_000),
        (Kind.RATE, "2G/s", 250_000_000),
        (Kind.RATE, "8kB", 8_000),
        (Kind.RATE, "1.2MB/s", 1_200_000),
        (Kind.RATE, "1 GB", 10**9),
        (Kind.RATE, "1MiB", 2**20),
        (Kind.RATE, "8Kib", 1024),
        (Kind.BYTES, "512", 512),
        (Kind.BYTES, "64k", 64_000),
        (Kind.BYTES, "1.44GB", 1_440_000_000),
        (Kind.BYTES, "4MiB", 4 * 2**20),
        (Kind.BYTES, "7B", 7),
        (Kind.COUNT, "1,284", 1284),
        (Kind.COUNT, "1.5M", 1_500_000),
        (Kind.COUNT, "-1", -1),
        (Kind.SECONDS, "30", 30),
        (Kind.SECONDS, "250ms", 0.25),
        (Kind.SECONDS, "2m", 120),
        (Kind.SECONDS, "3h12m", 11_520),
        (Kind.SECONDS, "41m02s", 2_462),
        (Kind.SECONDS, "1d", 86_400),
        (Kind.SECONDS, "-5s", -5),
        (Kind.MILLIS, "18.4", 18.4),
        (Kind.MILLIS, "18.4ms", 18.4),
        (Kind.MILLIS, "0.5s", 500),
        (Kind.MILLIS, "250us", 0.25),
        (Kind.SHARE, "4%", 0.04),
        (Kind.SHARE, "7%", 0.07),
        (Kind.SHARE, "0.04", 0.04),
        (Kind.SHARE, ".5", 0.5),
        (Kind.SHARE, "100%", 1),
    ],
)
def test_numbers_with_units(kind, text, number):
    assert read_number(text, kind) == number


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Kind.RATE, "1m"),
        (Kind.RATE, "10s"),
        (Kind.BYTES, "8Mb"),
        (Kind.BYTES, "8MB/s"),
        (Kind.COUNT, "3B"),
        (Kind.COUNT, "1e9"),
        (Kind.COUNT, "1,28"),
        (Kind.COUNT, "٣"),
        (Kind.COUNT, "9" * 19),
        (Kind.SECONDS, "3w"),
        (Kind.SECONDS, "3M"),
        (Kind.SECONDS, "3s5"),
        (Kind.MILLIS, "fast"),
        (Kind.SHARE, "4"),
        (Kind.SHARE, "101%"),
        *((kind, text) for kind in sorted(NUMBERS) for text in ("", "nan", "inf", "--1", "1..2", ".")),
    ],
)
def test_bad_numbers_tell_what_is_accepted(kind, text):
    with pytest.raises(UsageError, match=r"such as") as caught:
        read_number(text, kind)
    assert str(caught.value).startswith(f'"{text}" is not a')


@given(
    st.sampled_from(sorted(NUMBERS)),
    st.text(st.sampled_from("0123456789.,-+kMGiBbsmhd%/ x"), max_size=12),
)
def test_any_text_is_a_finite_number_or_refused(kind, text):
    try:
        number = read_number(text, kind)
    except UsageError:
        return
    assert abs(number) < 10**40


def test_flags():
    assert all(read_flag(text) for text in ("yes", "True", "on", "1"))
    assert not any(read_flag(text) for text in ("no", "false", "OFF", "0"))
    with pytest.raises(UsageError, match='"maybe" is neither yes nor no'):
        read_flag("maybe")


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        (
            "10.0.0.0/8",
            ["10.0.0.0:1", "10.255.255.255:2", "[::ffff:10.1.2.3]:3"],
            ["11.0.0.0:1", "[::a00:1]:1", "-"],
        ),
        ("10.0.4.17/8", ["10.9.9.9:1"], ["11.0.0.0:1"]),
        ("10.0.4.17", ["10.0.4.17:53", "10.0.4.17", "10.0.4.17:-"], ["10.0.4.18:53"]),
        ("10.0.4.17:53", ["10.0.4.17:53"], ["10.0.4.17:54", "10.0.4.17", "10.0.4.17:-"]),
        ("10.0.4.17:-", ["10.0.4.17:53", "10.0.4.17"], ["10.0.4.1:53"]),
        ("0.0.0.0/0", ["1.2.3.4:5"], ["[::1]:5"]),
        ("::/0", ["[::1]:5", "[fd00::1%eth0]:5", "fd00::1"], ["1.2.3.4:5"]),
        ("fd00::/8", ["[fd12::1]:5"], ["[fe80::1]:5"]),
        ("::1", ["[::1]:53", "::1"], ["[::2]:53", "0.0.0.1:53"]),
        ("[::1]", ["[::1]:53"], ["[::2]:53"]),
        ("[::1]:53", ["[::1]:53"], ["[::1]:54"]),
        ("::ffff:10.0.4.17", ["10.0.4.17:53"], ["[::1]:53"]),
        ("::ffff:0:0/96", ["10.0.4.17:53"], ["[::1]:53"]),
    ],
)
def test_networks_and_addresses(network, inside, outside):
    found = read_network(network)
    assert found is not None
    for text, expected in [*((text, True) for text in inside), *((text, False) for text in outside)]:
        endpoint = read_endpoint(text)
        assert (endpoint is not None and found.holds(*endpoint)) is expected, text


@pytest.mark.parametrize("text", ["localhost", "a.example:53", ":15354", "-", "quic://a.ex", "cafe.be", ""])
def test_names_are_no_networks(text):
    assert read_network(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *("10.0", "10", "10.0.0.0/33", "10.0.0.300", "10.0.0.1:99999", "10.0.0.1:x", "10.0.0.0/8:53"),
        *("10.0.0.0/", "fd00::/129", "[::1", "::1::", "[::1]:x", "[10.0.0.1", "1:2:3", "[]", "."),
    ],
)
def test_what_looks_like_an_address_must_be_one(text):
    with pytest.raises(UsageError, match="is no address or network such as"):
        read_network(text)


@given(st.text(st.sampled_from("0123456789af.:/[]%-"), max_size=20))
def test_any_text_is_a_network_a_name_or_refused(text):
    read_endpoint(text)
    with contextlib.suppress(UsageError):
        read_network(text)


own_addresses = st.ip_addresses().filter(lambda address: getattr(address, "ipv4_mapped", None) is None)


@given(own_addresses, st.integers(0, 65535))
def test_every_address_is_in_its_own_network(address, port):
    text = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    endpoint = read_endpoint(text)
    mapped = int(address) | (V4_MAPPED if isinstance(address, ipaddress.IPv4Address) else 0)
    assert endpoint == (mapped, port)
    for spelling in (text, str(address), f"{address}/{address.max_prefixlen // 2}"):
        network = read_network(spelling)
        assert network is not None
        assert network.holds(*endpoint)


def test_host_part():
    assert [host_of(text) for text in ("a.example:53", "[::1]:53", "alone")] == ["a.example", "::1", ""]
