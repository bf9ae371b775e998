"""A short form of ``python -m tests.feeds``: one round, faults that are over at once."""

from __future__ import annotations

import argparse

import pytest

from tapeline.stack.kafka_jars import unavailable
from tests.feeds.run import run

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.slow(limit_s=150)]


@pytest.mark.skipif(unavailable() is not None, reason="no Apache Kafka on this machine's Java")
async def test_books_are_the_venues_own_after_a_round_of_faults() -> None:
    found = await run(
        argparse.Namespace(
            minutes=0.0,
            rate=20.0,
            rules=[
                "drop%0.005",
                "duplicate%0.005",
                "malform%0.003",
                "checksum%0.01",
                "reorder%0.003",
            ],
            faults_s=12.0,
            quiet_s=4.0,
            seed=11,
        )
    )
    assert found["well"], found
    assert found["books"]["equal"] + found["books"]["deeper"] == 15
    assert found["records"] == found["applied"] + sum(found["passed_over"].values())
    told = {event for events in found["telemetry"].values() for event in events}
    assert {"book.resync", "book.synced", "checksum.failed", "frame.refused"} <= told
