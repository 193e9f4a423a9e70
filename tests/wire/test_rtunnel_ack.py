from rtun_core.wire.rtunnel_ack import AckPolicy


def policy() -> AckPolicy:
    acks = AckPolicy(delay=0.02, every=4)
    acks.attach(0)
    return acks


def test_one_packet_waits_for_company() -> None:
    acks = policy()
    acks.update(1, 10.0)
    acks.update(2, 10.01)
    assert acks.timer == 10.02
    assert not acks.take(10.019)
    assert acks.take(10.02)
    assert acks.timer is None


def test_enough_packets_do_not_wait() -> None:
    acks = policy()
    acks.update(4, 10.0)
    assert acks.take(10.0)


def test_an_urgent_one_does_not_wait() -> None:
    acks = policy()
    acks.update(1, 10.0, urgent=True)
    assert acks.take(10.0)


def test_no_value_is_told_twice_on_one_websocket() -> None:
    acks = policy()
    acks.update(4, 10.0)
    assert acks.take(10.0)
    acks.update(4, 11.0, urgent=True)
    assert not acks.take(99.0)


def test_a_new_websocket_has_its_own_baseline_and_a_nudge_ignores_it() -> None:
    acks = policy()
    acks.update(3, 10.0)
    acks.attach(3)
    acks.update(3, 11.0)
    assert not acks.take(99.0)
    acks.nudge()
    assert acks.take(11.0)
    assert not acks.take(11.0)
