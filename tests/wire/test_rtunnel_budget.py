from rtun_core.wire.rtunnel_budget import FLOOR, Budget
from rtun_core.wire.rtunnel_send_window import SendWindow
from rtun_core.wire.rtunnel_terms import OWN_SHAPE, Counters

MIB = 1024 * 1024


def started(budget: Budget, buffer: int = 256 * MIB) -> SendWindow:
    send = SendWindow(buffer, Counters(), budget)
    send.adopt(OWN_SHAPE, numbered_eof=True)
    send.take(1)
    return send


def test_one_session_has_its_whole_window() -> None:
    budget = Budget()
    send = started(budget)
    send.write(bytes(16 * MIB))
    assert OWN_SHAPE.window <= budget.used < OWN_SHAPE.window + 70_000


def test_many_busy_sessions_share_and_none_is_left_out() -> None:
    budget = Budget()
    sessions = [started(budget, 262_144) for _ in range(200)]
    block = bytes(262_144)
    for _ in range(30):
        for send in sessions:
            send.write(block)
            send.take(MIB)
            send.acknowledge(min(send.sent, send.acked + 2))
    held = [send.in_flight_bytes for send in sessions]
    assert budget.used <= budget.total
    assert max(held) <= 2 * min(held)


def test_when_all_is_used_every_session_may_still_send() -> None:
    budget = Budget(total=0)
    send = started(budget)
    send.write(bytes(MIB))
    assert FLOOR <= send.in_flight_bytes < FLOOR + 65_536
    send.take(MIB)
    assert send.acknowledge(1)
    assert send.take(MIB)


def test_what_is_acknowledged_or_let_go_comes_back() -> None:
    budget = Budget()
    one, other = started(budget), started(budget)
    for send in (one, other):
        send.write(bytes(MIB))
        send.take(2 * MIB)
    one.acknowledge(one.sent)
    assert 0 < budget.used == MIB + 21 * 16
    other.discard()
    assert budget.used == 0
