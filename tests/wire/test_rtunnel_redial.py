from rtun_core.wire.rtunnel_redial import Redial


def test_the_delays_grow_to_a_limit() -> None:
    redial = Redial()
    assert [redial.failed(0.0, 0.0) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_jitter_adds_at_most_a_half() -> None:
    assert Redial().failed(10.0, 1.0) == 11.5


def test_after_a_useful_websocket_the_next_comes_at_once_but_not_too_soon() -> None:
    redial = Redial()
    redial.opened(10.0)
    redial.useful()
    assert redial.lost(10.2, 0.5) == 11.0
    assert redial.lost(50.0, 0.5) == 50.0


def test_a_websocket_on_which_nobody_spoke_counts_as_a_failure() -> None:
    redial = Redial()
    redial.opened(10.0)
    assert redial.lost(10.5, 0.0) == 11.5
    redial.opened(12.0)
    assert redial.lost(12.0, 0.0) == 14.0
