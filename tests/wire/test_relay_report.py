import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.errors import RemoteProtocolError
from rtun_core.wire.relay_report import Ping, Pong, decode_report, encode_report

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)


def test_layout():
    assert encode_report(Ping(1, 2, 3)).hex() == "01" + "00000001" + "00" * 7 + "02" + "00" * 7 + "03"
    assert encode_report(Pong(1, 2, 3, 4)).hex() == (
        "02" + "00000001" + "00" * 7 + "02" + "00" * 7 + "03" + "00" * 7 + "04"
    )


@given(
    report=st.builds(Ping, U32, U64, U64) | st.builds(Pong, U32, U64, U64, U64), rest=st.binary(max_size=4)
)
def test_round_trip_ignores_what_follows(report, rest):
    decoded = decode_report(encode_report(report) + rest)
    assert decoded == report
    assert type(decoded) is type(report)


def test_counters_wrap():
    assert decode_report(encode_report(Ping(2**32 + 5, 2**64 + 6, 2**64 + 7))) == Ping(5, 6, 7)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x03" + bytes(40),
        encode_report(Ping(1, 2, 3))[:-1],
        encode_report(Pong(1, 2, 3, 4))[:-1],
    ],
)
def test_bad_reports(data):
    with pytest.raises(RemoteProtocolError) as caught:
        decode_report(data)
    assert caught.value.reason == "report"


@given(data=st.binary(max_size=40))
def test_garbage_is_the_peers_fault(data):
    assert outcome(data) in {"read", "report"}


def outcome(data):
    try:
        decode_report(memoryview(data))
    except RemoteProtocolError as error:
        return error.reason
    return "read"
