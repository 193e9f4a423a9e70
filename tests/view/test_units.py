"""How numbers and addresses are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.view.units import (
    Look,
    address_text,
    bytes_text,
    count_text,
    masked_text,
    millis_text,
    narrow_count_text,
    rate_text,
    seconds_text,
    share_text,
)

BITS, BYTES, IEC, PRIVATE = Look(), Look(bits=False), Look(bits=False, iec=True), Look(private=True)
WRITERS = (rate_text, bytes_text, seconds_text, millis_text, share_text, count_text)
LOOKS = st.builds(Look, bits=st.booleans(), iec=st.booleans())


@pytest.mark.parametrize(
    ("value", "look", "text"),
    [
        (0.0, BITS, "0"),
        (0.05, BITS, "0"),
        (1, BITS, "8b"),
        (124.9, BITS, "999b"),
        (125, BITS, "1.0kb"),
        (1_225_000, BITS, "9.8Mb"),
        (1_243_000, BITS, "9.9Mb"),
        (1_250_000, BITS, "10.0Mb"),
        (12_275_000, BITS, "98.2Mb"),
        (26_575_000, BITS, "213Mb"),
        (124_999_999, BITS, "1.0Gb"),
        (1_200_000, BYTES, "1.2MB"),
        (999, BYTES, "999B"),
        (1023, IEC, "1023B"),
        (1024, IEC, "1.0KiB"),
        (-5, BITS, "0"),
        (None, BITS, "-"),
        (float("nan"), BITS, "-"),
    ],
)
def test_rates(value, look, text):
    assert rate_text(value, look) == text


@pytest.mark.parametrize(
    ("value", "look", "text"),
    [
        (0, BITS, "0"),
        (912, BITS, "912B"),
        (1_440_000_000, BITS, "1.44GB"),
        (88_100_000, BITS, "88.1MB"),
        (912_000_000, BITS, "912MB"),
        (999_600, BITS, "1.00MB"),
        (1_572_864, IEC, "1.50MiB"),
        (1023 * 1024, IEC, "1023KiB"),
        (5 * 10**21, BITS, "5000EB"),
        (None, BITS, "-"),
    ],
)
def test_bytes(value, look, text):
    assert bytes_text(value, look) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.0s"),
        (-3, "0.0s"),
        (0.42, "0.4s"),
        (97.5, "97.5s"),
        (99.94, "99.9s"),
        (99.96, "1m39s"),
        (2462, "41m02s"),
        (3599.9, "59m59s"),
        (3600 * 3 + 12 * 60, "3h12m"),
        (86400 * 12 + 3600 * 3, "12d03h"),
        (None, "-"),
        (float("nan"), "-"),
    ],
)
def test_seconds(value, text):
    assert seconds_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.42, "0.42ms"),
        (18.4, "18.4ms"),
        (99.96, "100ms"),
        (121.4, "121ms"),
        (1240, "1.2s"),
        (None, "-"),
    ],
)
def test_millis(value, text):
    assert millis_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0%"), (0.042, "4.2%"), (0.0002, "0.02%"), (0.9996, "100%"), (1.0, "100%"), (None, "-")],
)
def test_shares(value, text):
    assert share_text(value) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (1284, "1,284"), (None, "-")])
def test_counts(value, text):
    assert count_text(value) == text


@given(st.floats(0, 1e17), LOOKS)
def test_numbers_are_narrow(value, look):
    assert len(rate_text(value, look)) <= 8
    assert len(bytes_text(value, look)) <= 8


@given(st.floats(0, 86400 * 9999))
def test_times_are_narrow(value):
    assert len(seconds_text(value)) <= 8
    assert len(millis_text(min(value, 1e6))) <= 7


@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_not_known(writer):
    assert writer(None) == writer(float("nan")) == "-"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("10.0.4.17:51422", "10.0.*.*:51422"),
        ("[2001:db8:0:1:2:3:4:5]:53", "[2001:db8:0:1:*]:53"),
        ("[::1]:53", "[0:0:0:0:*]:53"),
        ("[fe80::1%eth0]:53", "[fe80:0:0:0:*]:53"),
        ("[::ffff:10.0.0.1]:53", "[::ffff:10.0.*.*]:53"),
        ("198.51.100.7:-", "198.51.*.*:-"),
        ("quic://a.ex:8888", "quic://*.ex:8888"),
        ("wss://eu.relay.example/path", "wss://*.relay.example/path"),
        ("localhost:53", "*:53"),
        ("-", "-"),
        ("", ""),
    ],
)
def test_private_addresses(text, masked):
    assert address_text(text, PRIVATE) == masked
    assert address_text(text, BITS) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("no answer from 203.0.113.9:41822, 3 tries", "no answer from 203.0.*.*:41822, 3 tries"),
        ("beta/2001:db8::7", "beta/2001:db8:0:0:*"),
        ("lost at 14:02:11", "lost at 14:02:11"),
        ("version 1.2.3", "version 1.2.3"),
        ("::", "0:0:0:0:*"),
    ],
)
def test_addresses_within_text(text, masked):
    assert masked_text(text) == masked


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_no_address_gets_through(address):
    text = str(address)
    written = f"[{text}]:53" if ":" in text else f"{text}:53"
    assert text not in address_text(written, PRIVATE)


@given(st.text(max_size=200))
def test_any_text_can_be_masked(text):
    assert isinstance(address_text(text, PRIVATE), str)


@pytest.mark.parametrize(
    ("count", "cells", "text"),
    [
        *((0, 4, "0"), (999, 4, "999"), (1284, 4, "1284"), (1284, 5, "1,284"), (9999, 4, "9999")),
        *((10_000, 4, "10k"), (17_708, 4, "18k"), (17_708, 5, "17708"), (999_499, 4, "999k")),
        *((999_999, 4, "1.0M"), (2_500_000, 4, "2.5M"), (10**13, 4, "10T"), (10**30, 4, "1000000000000E")),
    ],
)
def test_counts_in_few_cells(count, cells, text):
    assert narrow_count_text(count, cells) == text
