"""What the watchdog reads off a worker: positions, commits, threads, and what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final

from aiokafka import TopicPartition

from agents.dead_letters import DeadLetters
from agents.kafka_app import TapelineApp
from agents.ledger import CommitLedger
from agents.ownership import Ownership
from agents.watchdog import Pulse, ThreadBeats
from tapeline.clock import Clock

REDIS_AWAY_MS: Final = 3000
"""Heartbeats come each second; three that were not accepted are no accident."""


class Vitals:
    """Reads one worker's state; changes nothing."""

    def __init__(
        self,
        app: TapelineApp,
        topic: str,
        ledger: CommitLedger,
        ownership: Ownership,
        dead_letters: DeadLetters,
        clock: Clock,
        restored: Callable[[], bool],
        fail: Callable[[BaseException | None], None],
    ) -> None:
        self._app, self._topic, self._ledger = app, topic, ledger
        self._ownership, self._dead_letters, self._clock = ownership, dead_letters, clock
        self._restored = restored
        self.fail = fail
        self._beats = ThreadBeats()
        self._joined = False
        self._committed: dict[int, int] = {}

    def committed(self, partition: int, offset: int) -> None:
        """The broker has accepted a commit."""
        self._committed[partition] = offset

    def outages(self) -> dict[str, str]:
        """What this worker waits for beside the broker."""
        away = {}
        beaten_ms = self._ownership.last_heartbeat_ms()
        if beaten_ms and self._clock.now_ms() - beaten_ms > REDIS_AWAY_MS:
            away["redis"] = "no heartbeat was accepted lately"
        if self._dead_letters.refused:
            away["dead_letters"] = self._dead_letters.refused
        return away

    def pulse(self) -> Pulse:
        """How far everything is."""
        app = self._app
        # Not `app.consumer`: asking for it makes it, before Faust would.
        consumer: Any = app._consumer
        thread: Any = consumer._thread if consumer is not None else None
        client = thread._consumer if thread is not None else None
        if client is None or app.should_stop:
            return self._nothing(starting=not app.should_stop)
        complete = self._restored() and not app.rebalancing
        self._joined = self._joined or complete
        partitions = self._ledger.partitions() if complete else set()
        alive = thread._thread is not None and thread._thread.is_alive()
        if not complete:
            self._committed.clear()
        return Pulse(
            complete=complete,
            recovering=consumer.busy_assigning,
            joined=self._joined,
            recovery=self._recovery(),
            taken={p: taken_offset(client, self._topic, p) for p in partitions},
            undone=frozenset(
                batch.partition
                for message in list(consumer.unacked)
                if message.topic == self._topic
                for batch in message.value
            ),
            positions={p: self._ledger.position(p) for p in partitions},
            committable={p: self._ledger.committable(p) for p in partitions},
            committed={p: self._committed.get(p, -1) for p in partitions},
            ended=self._ended(client, alive, complete),
            thread_beats=self._beats.ask(thread.thread_loop) if alive else None,
        )

    def _nothing(self, *, starting: bool) -> Pulse:
        """Before there is a consumer, and once everything ends."""
        return Pulse(
            complete=not starting,
            recovering=False,
            joined=False,
            recovery=None,
            taken={},
            undone=frozenset(),
            positions={},
            committable={},
            committed={},
            ended={},
            thread_beats=None,
        )

    def _recovery(self) -> Hashable:
        recovery = self._app.tables.recovery
        read = sum(offset for offset in recovery.active_offsets.values() if offset is not None)
        return (
            self._app.consumer_generation_id,
            recovery.in_recovery,
            read,
            self._ledger.generation,
            self._restored(),
        )

    def _ended(self, client: Any, alive: bool, complete: bool) -> dict[str, str]:
        ended = {}
        if not alive:
            ended["consumer_thread"] = "the consumer's thread has ended"
        fetcher = self._app._fetcher
        if complete and (fetcher._stopped.is_set() or fetcher._shutdown.is_set()):
            ended["fetcher"] = "Faust's fetcher has ended"
        if client._fetcher is not None and client._fetcher._fetch_task.done():
            ended["fetcher"] = "aiokafka's fetcher has ended"
        return ended


def taken_offset(client: Any, topic: str, partition: int) -> int | None:
    """Next offset that aiokafka will hand over; None without a position.

    It counts what Kafka keeps for itself (transaction markers), which no agent ever sees.
    """
    subscription = client._subscription.subscription
    assignment = subscription.assignment if subscription is not None else None
    state = assignment.state_value(TopicPartition(topic, partition)) if assignment else None
    if state is None or not state.has_valid_position:
        return None
    return int(state.position)
