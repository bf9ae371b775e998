"""The producer's flush before each commit."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from agents.transport import BatchProducer


async def test_a_flush_does_not_wait_for_what_comes_meanwhile() -> None:
    """With a checkpoint always waiting to be sent, Faust's would never end, and nothing be committed."""
    flushed = []

    async def flush() -> None:
        flushed.append(True)

    async def never() -> None:
        await asyncio.Event().wait()

    producer: Any = object.__new__(BatchProducer)
    producer._producer = SimpleNamespace(flush=flush)
    producer.buffer = SimpleNamespace(size=1, flush=never)
    async with asyncio.timeout(1):
        await producer.flush()
    assert flushed == [True]


async def test_there_is_nothing_to_flush_before_the_start() -> None:
    producer: Any = object.__new__(BatchProducer)
    producer._producer = None
    await producer.flush()
    assert producer._producer is None
