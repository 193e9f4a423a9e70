from time import monotonic

from rtun_core.rtunnel.round_trip import RoundTrip


async def test_a_pong_answers_all_who_ask():
    trip = RoundTrip()
    answer = trip.ask()
    assert trip.ask() is answer
    payload = trip.take()
    assert trip.take() is None
    trip.pong(b"another", monotonic())
    assert not answer.done()
    trip.pong(payload, monotonic())
    assert 0 <= await answer < 5


async def test_nothing_is_sent_unasked():
    trip = RoundTrip()
    assert trip.take() is None
    trip.pong(b"", monotonic())


async def test_a_late_pong_is_no_answer_to_the_next_question():
    trip = RoundTrip()
    trip.ask()
    late = trip.take()
    trip.forget()
    answer = trip.ask()
    trip.pong(late, monotonic())
    assert not answer.done()
    trip.pong(trip.take(), monotonic())
    assert answer.done()
