from rtun_core.wire.rtunnel_close import Closing
from rtun_core.wire.rtunnel_packet import DATA, EOF
from rtun_core.wire.rtunnel_receive import ReceiveQueue
from rtun_core.wire.rtunnel_send_window import SendWindow
from rtun_core.wire.rtunnel_terms import OWN_SHAPE, Counters


class Ends:
    """Both halves and what watches them."""

    def __init__(self, *, half_close: bool = False) -> None:
        self.send = SendWindow(1_000_000, Counters())
        self.receive = ReceiveQueue()
        self.closing = Closing(self.send, self.receive, grace=2.0, flush_timeout=30.0)
        if half_close:
            self.closing.half_close = True
            self.send.adopt(OWN_SHAPE, numbered_eof=True)

    def end(self, now: float) -> None:
        self.send.finish()
        self.closing.ended(now)


def test_nothing_is_due_before_the_end_of_the_stream() -> None:
    ends = Ends()
    assert ends.closing.due() is None
    assert ends.closing.verdict(1e9) is None


def test_fin_waits_for_acknowledgement_and_silence() -> None:
    ends = Ends()
    ends.send.write(b"x")
    ends.send.take(100)
    ends.end(10.0)
    assert ends.closing.due() == 40.0
    ends.closing.progress(15.0)
    assert ends.closing.due() == 45.0
    ends.send.acknowledge(1)
    ends.closing.heard(16.0)
    assert ends.closing.due() == 18.0
    assert ends.closing.verdict(17.9) is None
    assert ends.closing.verdict(18.0) == ("done", False)


def test_fin_waits_for_the_local_tcp() -> None:
    ends = Ends()
    ends.end(10.0)
    ends.receive.push(DATA, 1, memoryview(b"x"))
    assert ends.closing.due() is None
    ends.receive.read(10)
    ends.receive.delivered()
    assert ends.closing.due() == 12.0


def test_a_peer_that_takes_nothing_is_given_up() -> None:
    ends = Ends()
    ends.send.write(b"x")
    ends.end(10.0)
    assert ends.closing.verdict(40.0) == ("flush", True)


def test_a_hole_is_no_clean_end() -> None:
    ends = Ends()
    ends.receive.push(DATA, 2, memoryview(b"x"))
    ends.end(10.0)
    assert ends.closing.verdict(12.0) == ("truncated", True)


def test_between_our_own_ends_both_directions_must_have_ended() -> None:
    ends = Ends(half_close=True)
    ends.end(10.0)
    assert ends.closing.due() is None
    ends.send.take(100)
    ends.send.acknowledge(1)
    assert ends.closing.verdict(1e9) is None
    ends.receive.push(EOF, 1, memoryview(b""))
    assert ends.closing.verdict(10.0) == ("done", False)
