from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.engine.packing import pack, unpack


@given(st.binary(max_size=500), st.binary(max_size=500))
def test_round_trip(raw, dictionary):
    assert unpack(pack(raw, dictionary), len(raw), dictionary) == raw


def test_what_the_dictionary_has_costs_little():
    raw = bytes(range(256)) * 20
    assert len(pack(raw, raw)) < 100


def test_more_than_the_limit_is_never_made():
    with pytest.raises(ValueError, match="more than 10 bytes"):
        unpack(pack(bytes(11)), 10)


@given(st.binary(max_size=100))
def test_any_bytes_unpack_or_are_refused(data):
    with suppress(ValueError):
        unpack(data, 1000)


def test_cut_off_and_more_behind_the_end():
    packed = pack(b"something")
    for data in (packed[:-1], packed + b"x"):
        with pytest.raises(ValueError, match="cut off"):
            unpack(data, 100)


def test_without_its_dictionary():
    with pytest.raises(ValueError, match="cannot be unpacked"):
        unpack(pack(b"something", b"some"), 100)
