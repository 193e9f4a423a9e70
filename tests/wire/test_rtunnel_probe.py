from rtun_core.wire.rtunnel_probe import Probe


def asked(probe: Probe, *, once: bool = False) -> int:
    probe.start(1.0, once=once)
    return probe.take()


def test_two_equal_answers_are_the_position() -> None:
    probe = Probe()
    assert asked(probe) == 2
    assert probe.take() == 0
    assert not probe.answer(5, sent=9, advanced=True)
    assert not probe.answer(6, sent=9, advanced=True)
    assert probe.answer(6, sent=9, advanced=False)


def test_an_answer_that_leaves_nothing_open_needs_no_second() -> None:
    probe = Probe()
    asked(probe)
    assert probe.answer(9, sent=9, advanced=True)


def test_late_answers_are_outnumbered() -> None:
    """Four probes on two WebSockets, two answers heard: two more may come late, of the same position."""
    probe = Probe()
    asked(probe)
    probe.stop()
    assert asked(probe) == 4
    assert not probe.answer(5, sent=9, advanced=False)
    assert probe.answer(5, sent=9, advanced=False)
    probe.stop()
    assert asked(probe) == 2 + 4
    for _ in range(5):
        assert not probe.answer(5, sent=12, advanced=False)
    assert probe.answer(5, sent=12, advanced=False)


def test_behind_an_advancing_ack_nothing_is_late() -> None:
    probe = Probe()
    asked(probe)
    probe.stop()
    probe.passed(advanced=True)
    assert asked(probe) == 2


def test_an_answer_after_the_fact_is_one_less_to_come() -> None:
    probe = Probe()
    asked(probe)
    assert probe.answer(4, sent=4, advanced=False)
    probe.stop()
    probe.passed(advanced=False)
    assert asked(probe) == 2


def test_once_and_stop() -> None:
    probe = Probe()
    assert asked(probe, once=True) == 1
    probe.start(3.0, once=True)
    assert (probe.active, probe.asked_at) == (True, 3.0)
    probe.stop()
    assert (probe.active, probe.take()) == (False, 0)
