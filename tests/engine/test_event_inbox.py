from rtun_core.engine.event_inbox import EventInbox
from rtun_core.event import Stamped
from rtun_core.events import BusLagged, EngineStopping, Notice


def stamped(seq, event=None):
    return Stamped(seq, 1000.0 + seq, float(seq), event or Notice(topic="t", message=str(seq)))


def test_in_order_and_once():
    inbox = EventInbox()
    assert (inbox.seq, inbox.drain()) == (None, [])
    for seq in (4, 5):
        inbox.put(stamped(seq))
    assert [each.seq for each in inbox.drain()] == [4, 5]
    assert (inbox.seq, inbox.drain()) == (5, [])


def test_what_nobody_fetches_is_counted():
    inbox = EventInbox(3)
    for seq in range(1, 8):
        inbox.put(stamped(seq))
    lag, *rest = inbox.drain()
    assert lag == Stamped(4, 1005.0, 5.0, BusLagged(skipped=4))
    assert [each.seq for each in rest] == [5, 6, 7]
    inbox.put(stamped(8))
    assert [each.seq for each in inbox.drain()] == [8]


def test_bit_by_bit():
    inbox = EventInbox(4)
    for seq in range(1, 7):
        inbox.put(stamped(seq))
    assert len(inbox) == 4
    assert [each.seq for each in inbox.drain(3)] == [2, 3, 4]
    assert [each.seq for each in inbox.drain(3)] == [5, 6]
    assert (inbox.drain(3), len(inbox)) == ([], 0)


def test_a_lag_that_is_lost_still_counts():
    inbox = EventInbox(2)
    inbox.put(stamped(9, BusLagged(skipped=9)))
    for seq in (10, 11):
        inbox.put(stamped(seq))
    assert inbox.drain()[0].event == BusLagged(skipped=9)


def test_the_end_is_remembered():
    inbox = EventInbox()
    inbox.put(stamped(1))
    assert not inbox.stopping
    inbox.put(stamped(2, EngineStopping(reason="x")))
    inbox.drain()
    assert inbox.stopping
