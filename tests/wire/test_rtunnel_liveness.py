import pytest

from rtun_core.wire.rtunnel_liveness import Liveness


def live(now: float = 100.0) -> Liveness:
    liveness = Liveness(interval=15.0, dead_after=150.0)
    liveness.attached(now)
    return liveness


def test_the_first_ping_is_due_at_once_and_the_next_after_a_while() -> None:
    liveness = live()
    assert liveness.ping(100.0) == (100_000_000_000).to_bytes(8, "big")
    assert liveness.ping(114.9) is None
    assert liveness.next_ping == 115.0
    assert liveness.ping(115.0) is not None


def test_only_the_answer_to_the_latest_ping_is_a_round_trip() -> None:
    liveness = live()
    payload = liveness.ping(100.0)
    assert payload is not None
    assert liveness.srtt is None
    liveness.pong(b"12345678", 100.1)
    liveness.pong(b"", 100.1)
    assert liveness.rtt is None
    liveness.pong(payload, 100.25)
    assert liveness.rtt == 0.25
    assert liveness.srtt == pytest.approx(0.11875)
    liveness.pong(payload, 107.0)
    assert liveness.rtt == 0.25


def test_an_answer_on_a_later_websocket_is_none() -> None:
    liveness = live()
    payload = liveness.ping(100.0)
    assert payload is not None
    liveness.attached(101.0)
    liveness.pong(payload, 102.0)
    assert liveness.rtt is None


def test_silence_ends_with_any_pong() -> None:
    liveness = live()
    assert liveness.dead_at == 250.0
    liveness.pong(b"x", 120.0)
    assert liveness.dead_at == 270.0
