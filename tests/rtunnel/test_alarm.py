import asyncio
from time import monotonic

from rtun_core.rtunnel.alarm import Alarm


async def test_it_goes_off_once_and_can_be_set_again():
    rung = asyncio.Event()
    alarm = Alarm(rung.set)
    for _ in range(2):
        alarm.set(monotonic() + 0.01)
        await asyncio.wait_for(rung.wait(), 5)
        rung.clear()


async def test_the_earliest_time_counts():
    rung = asyncio.Event()
    alarm = Alarm(rung.set)
    for delay in (60, 0.01, 60):
        alarm.set(monotonic() + delay)
    await asyncio.wait_for(rung.wait(), 5)


async def test_a_cancelled_alarm_keeps_quiet():
    rung, later = asyncio.Event(), asyncio.Event()
    alarm = Alarm(rung.set)
    alarm.set(monotonic() + 0.01)
    alarm.cancel()
    alarm.cancel()
    asyncio.get_running_loop().call_later(0.05, later.set)
    await asyncio.wait_for(later.wait(), 5)
    assert not rung.is_set()
