"""Ending tasks for certain."""

from __future__ import annotations

import asyncio
from typing import Any, Final

AGAIN_S: Final = 0.1


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task until it has ended.

    Once is not enough for a task that talks to Redis: redis-py sends through `asyncio.wait_for`,
    and on Python 3.11 that drops a cancellation which arrives as the sending completes. Whoever
    then awaited the task would wait for ever.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=AGAIN_S)
    if not task.cancelled():
        task.exception()  # looked at; it was logged where it arose
