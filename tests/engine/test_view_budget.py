import asyncio
import itertools
import time

import pytest

from rtun_core.engine.view_budget import REST, ViewBudget


async def spend(budget, seconds, turns):
    async with budget:
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            pass
        turns.append((begin, time.perf_counter()))


async def test_turns_are_apart_as_long_as_they_cost():
    budget, turns = ViewBudget(), []
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(spend(budget, 0.002, turns))
    assert len(turns) == 4
    assert all(begin - end >= REST * 0.002 for (_, end), (begin, _) in itertools.pairwise(turns))


async def test_turns_come_in_order():
    budget, order = ViewBudget(0.0), []

    async def turn(number):
        async with budget:
            order.append(number)
            await asyncio.sleep(0)
            assert order[-1] == number

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(turn(number))
    assert order == [0, 1, 2, 3, 4]


async def test_one_that_gives_up_blocks_nobody():
    budget, turns = ViewBudget(1000.0), []
    await spend(budget, 0.01, turns)  # ten seconds of rest
    waiting = asyncio.get_running_loop().create_task(spend(budget, 0.0, turns))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not budget._turn.locked()


async def test_a_failing_turn_is_over():
    budget = ViewBudget(0.0)
    with pytest.raises(ZeroDivisionError):
        async with budget:
            raise ZeroDivisionError
    async with asyncio.timeout(5), budget:
        pass
