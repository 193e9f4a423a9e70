import asyncio

import pytest

from rtun_core.net.tasks import TaskOwner


async def forever():
    await asyncio.Event().wait()


async def fail():
    raise ValueError("boom")


async def test_tasks_are_named_kept_and_forgotten():
    owner = TaskOwner("relay")
    done = asyncio.Event()
    task = owner.spawn(done.wait(), "reader")
    assert task.get_name() == "relay:reader"
    assert len(owner) == 1
    done.set()
    await task
    await asyncio.sleep(0)
    assert len(owner) == 0


async def test_close_cancels_and_waits():
    owner = TaskOwner("relay")
    cleaned = []

    async def careful():
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    task = owner.spawn(careful(), "careful")
    await asyncio.sleep(0)
    await owner.close()
    assert task.cancelled()
    assert cleaned == [True]


async def test_nothing_starts_after_close():
    owner = TaskOwner("relay")
    await owner.close()
    with pytest.raises(RuntimeError, match="relay is closed and cannot start late"):
        owner.spawn(forever(), "late")


async def test_a_failure_is_handed_on():
    failures = []
    owner = TaskOwner("relay", lambda name, error: failures.append((name, str(error))))
    await asyncio.wait([owner.spawn(fail(), "bad")])
    assert failures == [("relay:bad", "boom")]


async def test_a_failure_without_an_owner_reaches_the_loop():
    contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: contexts.append(context))
    await asyncio.wait([TaskOwner("relay").spawn(fail(), "bad")])
    assert contexts[0]["message"] == "task relay:bad failed"
    assert isinstance(contexts[0]["exception"], ValueError)


async def test_a_task_may_close_its_own_owner():
    owner = TaskOwner("relay")
    other = owner.spawn(forever(), "other")
    await owner.spawn(owner.close(), "closer")
    assert other.cancelled()
