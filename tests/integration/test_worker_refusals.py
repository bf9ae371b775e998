"""What a worker can't do without: said on an ERROR line that names it, with exit status 2."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from streams.topics import changelog_of, dead_letters_of
from tests.support.worker import Installation, WorkerProcess

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NOWHERE = "kafka://127.0.0.1:1"


@pytest.fixture
async def unserved() -> AsyncIterator[Installation]:
    """Settings only; what they name need not answer, as it is never asked."""
    one = Installation(NOWHERE, "redis://127.0.0.1:1/0")
    yield one
    await one.close()


def errors(worker: WorkerProcess) -> list[str]:
    """Its lines of level ERROR."""
    return [line for line in worker.lines if '"level": "error"' in line or line[:5] == "ERROR"]


async def refused(one: Installation, *words: str, **env: str) -> None:
    """It leaves with 2, and every word is on one of its ERROR lines, without a traceback."""
    worker = await one.worker(**env)
    assert await worker.ended() == 2, worker.tail()
    assert any(all(word in line for word in words) for line in errors(worker)), worker.tail()
    assert not any("Traceback" in line for line in worker.lines), worker.tail()


async def test_a_missing_or_wrong_setting_is_named(unserved: Installation) -> None:
    """With what would have been accepted, and before anything else is tried."""
    period = ("ERROR: NT_REPORT_PERIOD_MS is '99'", "an integer from 100 to 1000")
    async with asyncio.TaskGroup() as group:
        group.create_task(refused(unserved, "ERROR: REDIS_URL is not set", REDIS_URL=""))
        group.create_task(refused(unserved, "ERROR: SYMBOLS is not set", SYMBOLS=""))
        group.create_task(refused(unserved, *period, NT_REPORT_PERIOD_MS="99"))


async def test_a_port_in_use_is_named(unserved: Installation) -> None:
    """A second worker on one machine meets this first. The one that has it waits for the broker:
    without reports and streams no Redis is missed.
    """
    off = {"NT_ENABLE_KV_REPORTS": "false", "REDIS_URL": ""}
    first = await unserved.worker(**off)
    assert "127.0.0.1:1" in (await first.says("broker.unavailable"))["error"]
    await refused(
        unserved, "NT_METRICS_PORT", str(first.port), **off, NT_METRICS_PORT=str(first.port)
    )
    assert first.child.running
    await first.killed()


@pytest.mark.kafka
async def test_topics_of_another_shape_are_refused(kafka_url: str) -> None:
    """Missing ones with the command that makes them, others with both numbers."""

    async def without(missing: str) -> None:
        one = Installation(kafka_url, env={"NT_ENABLE_KV_REPORTS": "false"})
        names = {"dlq": dead_letters_of(one.topic), "changelog": changelog_of(one.name)}
        await one.apply_topics()
        topic = names.get(missing, one.topic)
        try:
            if missing == "partitions":
                numbers = ("has 4 partitions", "asks for 8", "NT_PARTITIONS")
                await refused(one, f"topic {topic} ", *numbers, NT_PARTITIONS="8")
            else:
                await one.delete_topic(topic)
                await refused(one, f"topic {topic} does not exist", "tapeline topics apply")
        finally:
            await one.close()

    async with asyncio.TaskGroup() as group:
        for what in ("events", "dlq", "changelog", "partitions"):
            group.create_task(without(what))
