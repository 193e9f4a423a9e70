import asyncio

from hypothesis import given
from hypothesis import strategies as st

from rtun_core.bus import HISTORY, EventBus
from rtun_core.events import BusLagged, Notice


def notice(number=0):
    return Notice(topic="t", message=str(number))


def filled(count):
    bus = EventBus()
    for number in range(1, count + 1):
        bus.emit(notice(number))
    return bus


def seqs(events):
    return [stamped.seq for stamped in events]


def skipped(events):
    return [stamped.event.skipped for stamped in events if isinstance(stamped.event, BusLagged)]


def test_order_and_envelope():
    now = iter(range(100))
    bus = EventBus(wall=lambda: 1000.0, mono=lambda: float(next(now)))
    subscription = bus.subscribe()
    bus.emit(notice(1))
    bus.emit(notice(2))
    first, second = subscription.drain()
    assert (first.seq, first.ts, first.mono, first.event) == (1, 1000.0, 1.0, notice(1))
    assert (second.seq, second.mono) == (2, 2.0)
    assert subscription.drain() == []


def test_every_subscriber_gets_everything():
    bus = EventBus()
    one, two = bus.subscribe(), bus.subscribe()
    bus.emit(notice())
    assert one.drain() == two.drain() != []


def test_a_slow_reader_loses_the_oldest_and_is_told_first():
    bus = EventBus()
    slow, quick = bus.subscribe(2), bus.subscribe(10)
    for number in range(5):
        bus.emit(notice(number))
    assert len(slow._queue) == 2
    events = slow.drain()
    assert skipped(events) == [3]
    assert seqs(events) == [3, 4, 5]
    assert len(quick.drain()) == 5
    bus.emit(notice())
    assert seqs(slow.drain()) == [6]


@given(st.lists(st.integers(0, 12), max_size=8), st.integers(1, 10))
def test_nothing_is_missing_without_being_counted(bursts, capacity):
    bus = EventBus()
    subscription = bus.subscribe(capacity)
    seen = 0
    for burst in bursts:
        for number in range(burst):
            bus.emit(notice(number))
        events = subscription.drain()
        assert seqs(events) == sorted(seqs(events))
        seen += sum(skipped(events)) + sum(isinstance(one.event, Notice) for one in events)
    assert seen == sum(bursts)


def test_since_gives_what_history_holds():
    bus = filled(5)
    subscription = bus.subscribe(since=3)
    bus.emit(notice())
    assert seqs(subscription.drain()) == [4, 5, 6]
    assert seqs(bus.after(0)) == [1, 2, 3, 4, 5, 6]
    assert bus.after(6) == bus.after(99) == []


def test_since_before_history_is_told():
    bus = filled(HISTORY + 10)
    events = bus.after(4)
    assert skipped(events) == [6]
    assert len(events) == HISTORY + 1
    assert bus.after(10)[0].seq == 11


async def test_get_waits_for_an_event():
    bus = EventBus()
    subscription = bus.subscribe()
    asyncio.get_running_loop().call_soon(bus.emit, notice())
    assert seqs(await subscription.get()) == [1]


async def test_close_of_the_bus_lets_readers_finish():
    bus = EventBus()
    subscription = bus.subscribe()
    bus.emit(notice())
    bus.close()
    bus.emit(notice())
    assert seqs(await subscription.get()) == [1]
    assert await subscription.get() == []


async def test_close_wakes_a_waiting_reader():
    bus = EventBus()
    subscription = bus.subscribe()
    asyncio.get_running_loop().call_soon(subscription.close)
    assert await subscription.get() == []
    assert subscription.closed
    bus.unsubscribe(subscription)


async def test_a_cancelled_reader_does_not_disturb_the_bus():
    bus = EventBus()
    subscription = bus.subscribe()
    reader = asyncio.get_running_loop().create_task(subscription.get())
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    bus.emit(notice())
    assert seqs(await subscription.get()) == [1]


def test_a_full_ring_still_tells_what_it_lost():
    bus = EventBus()
    for number in range(HISTORY + 10):
        bus.emit(Notice(topic="t", message=str(number)))
    first, *others = bus.subscribe(HISTORY, since=0).drain()
    assert first.event == BusLagged(skipped=10)
    assert len(others) == HISTORY
