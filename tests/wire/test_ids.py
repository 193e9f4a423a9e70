import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.wire.ids import decode_id, encode_id, snowflake

LIMIT = 62**8


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "AAAAAAAA"),
        (1, "AAAAAAAB"),
        (61, "AAAAAAA9"),
        (62, "AAAAAABA"),
        (LIMIT - 1, "99999999"),
        (LIMIT, "AAAAAAAA"),
    ],
)
def test_vectors(number: int, text: str) -> None:
    assert encode_id(number) == text
    assert decode_id(text) == number % LIMIT


@given(st.integers(min_value=0, max_value=2**64 - 1))
def test_round_trip(number: int) -> None:
    assert decode_id(encode_id(number)) == number % LIMIT


@pytest.mark.parametrize("text", ["", "AAAAAAA", "AAAAAAAAA", "AAAA-AAA", "AAAAAAA\n", "ÄAAAAAAA"])
def test_rejects(text: str) -> None:
    with pytest.raises(ValueError, match="accepted"):
        decode_id(text)


@given(st.text())
def test_any_text_is_an_id_or_a_value_error(text: str) -> None:
    try:
        number = decode_id(text)
    except ValueError:
        return
    assert encode_id(number) == text


def test_snowflake_joins_time_and_sequence() -> None:
    assert snowflake(1_609_430_400_000, 5) == 5
    assert snowflake(1_609_430_400_001, 5) == (1 << 24) + 5
    assert snowflake(1_609_430_400_001, (1 << 24) + 5) == (1 << 24) + 5


@given(st.integers(min_value=-(2**63), max_value=2**63), st.integers(min_value=0))
def test_snowflake_fits_64_bits(unix_ms: int, sequence: int) -> None:
    assert 0 <= snowflake(unix_ms, sequence) < 2**64
