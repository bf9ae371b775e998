"""Ending tasks for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

AGAIN_S: Final = 0.1


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task until it has ended.

    Once is not enough for a task that talks to Redis: redis-py sends through `asyncio.wait_for`,
    and on Python 3.11 that drops a cancellation which arrives as the sending completes. Whoever
    then awaited the task would wait for ever.
    """
    await end_all([task])


async def end_all(tasks: Iterable[asyncio.Task[Any]], again_s: float = AGAIN_S) -> None:
    """Cancel tasks together until all have ended.

    Args:
        tasks: Of the running loop; some may have ended.
        again_s: Until those that are left are cancelled again: longer than what they do to end
            well takes, as a second cancellation interrupts that.
    """
    tasks = [*tasks]
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=again_s)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at; it was logged where it arose
