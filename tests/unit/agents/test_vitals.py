"""What the watchdog is told of a worker, read off the objects that Faust and aiokafka keep."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from agents.batches import Batch
from agents.ledger import CommitLedger
from agents.vitals import REDIS_AWAY_MS, Vitals, taken_offset
from tapeline.clock import ManualClock

TOPIC = "events"


def batch(partition: int) -> Batch:
    return Batch(partition, 0, 0, 0, 1, {b"K": [(0, b"")]})


class Worker:
    """As much of one as is looked at: two partitions assigned, all of it well."""

    def __init__(self) -> None:
        self.ledger = CommitLedger()
        self.ledger.assign({0, 1})
        self.ledger.advance(0, 7)
        self.clock = ManualClock(1_000_000)
        self.beaten_ms: int = self.clock.now_ms()
        self.restored = True
        states = {
            TopicPartition(TOPIC, 0): SimpleNamespace(has_valid_position=True, position=9),
            TopicPartition(TOPIC, 1): SimpleNamespace(has_valid_position=False, position=None),
        }
        assignment = SimpleNamespace(state_value=states.get)
        self.fetch_task: Any = SimpleNamespace(done=lambda: False)
        self.client = SimpleNamespace(
            _subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment)),
            _fetcher=SimpleNamespace(_fetch_task=self.fetch_task),
        )
        self.thread = SimpleNamespace(
            _consumer=self.client,
            _thread=SimpleNamespace(is_alive=lambda: False),
            thread_loop=None,
        )
        self.consumer = SimpleNamespace(_thread=self.thread, busy_assigning=False, unacked=set())
        self.app: Any = SimpleNamespace(
            _consumer=self.consumer,
            _fetcher=SimpleNamespace(_stopped=asyncio.Event(), _shutdown=asyncio.Event()),
            should_stop=False,
            rebalancing=False,
            consumer_generation_id=1,
            tables=SimpleNamespace(
                recovery=SimpleNamespace(in_recovery=False, active_offsets={0: 4, 1: None})
            ),
        )
        self.dead_letters: Any = SimpleNamespace(refused="")
        self.vitals = Vitals(
            self.app,
            TOPIC,
            self.ledger,
            SimpleNamespace(last_heartbeat_ms=lambda: self.beaten_ms),  # type: ignore[arg-type]
            self.dead_letters,
            self.clock,
            lambda: self.restored,
            lambda _error: None,
        )


@pytest.fixture
async def worker() -> Worker:
    return Worker()


async def test_how_far_each_partition_is(worker: Worker) -> None:
    worker.vitals.committed(0, 5)
    pulse = worker.vitals.pulse()
    assert pulse.complete
    assert pulse.joined
    assert pulse.taken == {0: 9, 1: None}
    assert pulse.positions == {0: 7, 1: None}
    assert pulse.committed == {0: 5, 1: -1}
    assert pulse.committable[0] == worker.ledger.committable(0)


async def test_what_is_undone_is_every_partition_of_every_event(worker: Worker) -> None:
    """One event holds batches of several; other topics' messages are nothing to us."""
    worker.consumer.unacked = [  # type: ignore[assignment]
        SimpleNamespace(topic=TOPIC, value=[batch(0), batch(3)]),
        SimpleNamespace(topic="other", value=b"x"),
    ]
    assert worker.vitals.pulse().undone == {0, 3}


async def test_an_assignment_that_is_not_complete_has_no_partitions(worker: Worker) -> None:
    """And what was committed before means nothing behind it."""
    worker.vitals.committed(0, 5)
    worker.app.rebalancing = True
    pulse = worker.vitals.pulse()
    assert not pulse.complete
    assert not pulse.joined
    assert pulse.taken == pulse.committed == {}
    worker.app.rebalancing = False
    assert worker.vitals.pulse().committed == {0: -1, 1: -1}


async def test_before_there_is_a_consumer_and_at_a_stop_nothing_is_judged(worker: Worker) -> None:
    worker.app.should_stop = True
    assert worker.vitals.pulse().complete
    worker.app.should_stop = False
    worker.app._consumer = None
    assert not worker.vitals.pulse().complete


async def test_what_has_ended_is_named(worker: Worker) -> None:
    worker.thread._thread.is_alive = lambda: False
    assert set(worker.vitals.pulse().ended) == {"consumer_thread"}
    worker.app._fetcher._stopped.set()
    assert worker.vitals.pulse().ended["fetcher"] == "Faust's fetcher has ended"
    worker.fetch_task.done = lambda: True
    assert worker.vitals.pulse().ended["fetcher"] == "aiokafka's fetcher has ended"


async def test_progress_of_a_recovery_shows(worker: Worker) -> None:
    before = worker.vitals.pulse().recovery
    assert worker.vitals.pulse().recovery == before
    worker.app.tables.recovery.active_offsets[1] = 2
    assert worker.vitals.pulse().recovery != before


async def test_outages_beside_the_broker(worker: Worker) -> None:
    assert worker.vitals.outages() == {}
    worker.clock.advance(REDIS_AWAY_MS + 1)
    worker.dead_letters.refused = "TopicAuthorizationFailedError()"
    assert worker.vitals.outages() == {
        "redis": "no heartbeat was accepted lately",
        "dead_letters": "TopicAuthorizationFailedError()",
    }
    worker.beaten_ms = 0  # there never was a heartbeat: none is missed
    assert "redis" not in worker.vitals.outages()


def test_without_an_assignment_nothing_is_taken() -> None:
    for subscription in (None, SimpleNamespace(assignment=None)):
        client = SimpleNamespace(_subscription=SimpleNamespace(subscription=subscription))
        assert taken_offset(client, TOPIC, 0) is None
