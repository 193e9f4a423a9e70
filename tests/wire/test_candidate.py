"""ICE candidates as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.errors import RemoteProtocolError
from rtun_core.wire.address import Address
from rtun_core.wire.candidate import (
    MAX_LENGTH,
    Candidate,
    candidate_priority,
    format_candidate,
    host_candidate,
    parse_candidate,
    srflx_candidate,
)

HOST_TEXT = "candidate:1 1 udp 2130706175 192.0.2.10 40000 typ host"
HOST = Candidate("1", 1, 2130706175, Address("192.0.2.10", 40000), "host")

addresses = st.builds(
    Address,
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str),
    st.integers(0, 65535),
)
candidates = st.builds(
    Candidate,
    foundation=st.text("0123456789abcXYZ+/", min_size=1, max_size=32),
    component=st.integers(0, 65535),
    priority=st.integers(0, 2**32 - 1),
    address=addresses,
    kind=st.sampled_from(["host", "srflx", "prflx", "relay"]),
    related=st.none() | addresses,
)


def test_the_candidate_of_the_control_vectors():
    assert parse_candidate(HOST_TEXT) == HOST
    assert format_candidate(HOST) == HOST_TEXT


def test_srflx_has_its_base_as_related_address():
    candidate = srflx_candidate(Address("203.0.113.5", 6000), Address("0.0.0.0", 40000))
    text = format_candidate(candidate)
    assert text == (
        f"candidate:{candidate.foundation} 1 udp 1694498559 203.0.113.5 6000 "
        "typ srflx raddr 0.0.0.0 rport 40000"
    )
    assert parse_candidate(text) == candidate


def test_host_candidate():
    candidate = host_candidate(Address("192.0.2.10", 40000))
    assert candidate.priority == 2130706175
    assert candidate.foundation.isdigit()
    assert candidate.foundation != host_candidate(Address("127.0.0.1", 40000)).foundation
    assert format_candidate(candidate).endswith(" 1 udp 2130706175 192.0.2.10 40000 typ host")


@pytest.mark.parametrize(
    ("kind", "host", "expected"),
    [
        ("host", "192.0.2.1", 2130706175),
        ("srflx", "192.0.2.1", 1694498559),
        ("prflx", "192.0.2.1", 110 << 24 | 65534 << 8 | 255),
        ("host", "2001:db8::1", 2130706431),
    ],
)
def test_priorities(kind, host, expected):
    assert candidate_priority(kind, host) == expected


@pytest.mark.parametrize(
    "text",
    [
        "1 1 udp 2130706175 192.0.2.10 40000 typ host",
        "1 1 UDP 2130706175 192.0.2.10 40000 typ host generation 0",
        HOST_TEXT + " ufrag AbCd",
        HOST_TEXT + " ufrag AbCd network-cost 999",
        HOST_TEXT + " raddr",
        HOST_TEXT + " raddr name.example rport 9",
        HOST_TEXT + " rport 9 raddr 192.0.2.1",
        "candidate:1  1 udp 2130706175 192.0.2.10 40000 typ host\r\n",
    ],
)
def test_what_else_reads_as_the_same_candidate(text):
    assert parse_candidate(text) == HOST


def test_related_address_and_rest():
    text = HOST_TEXT.replace("host", "srflx") + " raddr 10.0.0.1 rport 5 ufrag X generation 0"
    assert parse_candidate(text).related == Address("10.0.0.1", 5)


def test_ipv6_is_read_in_canonical_form():
    text = "candidate:1 1 udp 1 2001:DB8:0:0::1 9 typ host"
    assert parse_candidate(text).address == Address("2001:db8::1", 9)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "form"),
        ("candidate:1 1 udp 2130706175 192.0.2.10 40000 typ", "form"),
        ("candidate:1 1 udp 2130706175 192.0.2.10 40000 typ magic", "form"),
        ("candidate:1 1 udp 2130706175 192.0.2.10 40000 type host", "form"),
        ("candidate:1 1 tcp 2130706175 192.0.2.10 9 typ host tcptype active", "'tcp'"),
        ("candidate:1 65536 udp 1 192.0.2.10 9 typ host", "'65536'"),
        ("candidate:1 1 udp 4294967296 192.0.2.10 9 typ host", "'4294967296'"),
        ("candidate:1 1 udp -1 192.0.2.10 9 typ host", "'-1'"),
        ("candidate:1 1 udp 1 192.0.2.10 65536 typ host", "'65536'"),
        ("candidate:1 1 udp 1 192.0.2.10 ٣ typ host", "number"),
        ("candidate:1 1 udp 1 0c5e.local 9 typ host", "'0c5e.local'"),
        ("candidate:1 1 udp 1 fe80::1%eth0 9 typ host", "'fe80::1%eth0'"),
        (HOST_TEXT + " " * MAX_LENGTH, "form"),
    ],
)
def test_what_is_refused(text, named):
    with pytest.raises(RemoteProtocolError, match=named) as caught:
        parse_candidate(text)
    assert caught.value.reason == "candidate"
    assert len(str(caught.value)) < 1200


@given(candidates)
def test_print_and_parse(candidate):
    assert parse_candidate(format_candidate(candidate)) == candidate


@given(st.text(max_size=80) | st.lists(st.sampled_from([*HOST_TEXT.split(), "raddr", "rport"])).map(" ".join))
def test_any_text_parses_or_is_refused(text):
    try:
        candidate = parse_candidate(text)
    except RemoteProtocolError:
        return
    assert parse_candidate(format_candidate(candidate)) == candidate
