"""A task that is to end does end."""

from __future__ import annotations

import asyncio
import contextlib

from tapeline.tasks import end


async def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    async def hard_of_hearing() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    task = asyncio.create_task(hard_of_hearing())
    await asyncio.sleep(0)
    await end(task)
    assert task.cancelled()


async def test_a_task_that_died_has_ended() -> None:
    async def broken() -> None:
        raise ValueError

    task = asyncio.create_task(broken())
    await asyncio.sleep(0)
    await end(task)
    assert task.done()
