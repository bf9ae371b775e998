"""A worker with a fault built in: ``faust -A tests.support.faults worker``.

``WORKER_FAULT`` names some of the functions below, with commas between; those that begin later wait for the file that
``WORKER_FAULT_FILE`` names. What they imitate is known of Faust and aiokafka, or is a safeguard
taken away, so that a test can show what it guards against.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher
from faust.tables.recovery import Recovery
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from agents import transport
from agents import worker as workers
from agents.ledger import CommitLedger
from agents.main import faust_app
from agents.transport import BatchConsumer
from streams.chunks import Chunk
from tables.changelog import Checkpoint
from tables.engine import Engine

_FILE = Path(os.environ.get("WORKER_FAULT_FILE", "/nonexistent"))


def begun() -> bool:
    """Whether the fault is on by now."""
    return _FILE.exists()


async def for_ever() -> None:
    await asyncio.Event().wait()


def silent_consumer() -> None:
    """Its fetcher runs on and asks for nothing more."""
    actions = Fetcher._get_actions_per_node

    def nothing(self: Fetcher, assignment: Any) -> Any:
        fetches, *rest = actions(self, assignment)
        return ([] if begun() else fetches, *rest)

    Fetcher._get_actions_per_node = nothing


def dead_fetcher() -> None:
    """aiokafka's fetching task has ended, and nobody says so."""
    actions = Fetcher._get_actions_per_node

    def end(self: Fetcher, assignment: Any) -> Any:
        if begun():
            raise asyncio.CancelledError
        return actions(self, assignment)

    Fetcher._get_actions_per_node = end


def stopped_fetcher() -> None:
    """Faust's fetcher is stopped, as in a rebalance, and never started again."""

    async def stop(app: Any) -> None:
        await app._fetcher.stop()

    _later(stop)


def stuck_commit() -> None:
    """A commit that never returns; those that come after wait for it."""
    commit = AIOKafkaConsumer.commit

    async def stuck(self: AIOKafkaConsumer, offsets: Any = None) -> None:
        if begun():
            await for_ever()
        await commit(self, offsets)

    AIOKafkaConsumer.commit = stuck


def hung_agent() -> None:
    """The agent never comes back from a batch."""
    ingest = workers.Shards.apply

    def hang(self: Any, batch: Any) -> Any:
        outcome = ingest(self, batch)
        if begun():
            outcome.failures.append((next(iter(batch.records())), ValueError("never kept")))
        return outcome

    async def keep(self: Any, partition: int, failures: Any) -> None:
        await for_ever()

    workers.Shards.apply = hang  # type: ignore[method-assign]
    workers.DeadLetters.keep = keep  # type: ignore[method-assign]


def hung_recovery() -> None:
    """From the start on, recovery waits for something that does not come."""

    async def hang(*_args: Any, **_kwargs: Any) -> None:
        await for_ever()

    Recovery._build_highwaters = hang


def hung_thread() -> None:
    """The consumer's thread does something for ever, and its loop with it."""

    async def hang(app: Any) -> None:
        app.consumer._thread.thread_loop.call_soon_threadsafe(time.sleep, 60)

    _later(hang)


def blocked_loop() -> None:
    """Something in the event loop does not give it back."""

    async def block(_app: Any) -> None:
        time.sleep(60)  # noqa: ASYNC251

    _later(block)


def late_acknowledgement() -> None:
    """The broker has a checkpoint for some time before the worker hears of it."""
    send = workers.Worker._send_changelog

    async def later(sent: Any) -> Any:
        answer = await sent
        await asyncio.sleep(0.3)
        return answer

    def late(self: Any, partition: int, key: bytes, value: bytes | None) -> Any:
        sent = send(self, partition, key, value)
        return sent if value is None else later(sent)

    workers.Worker._send_changelog = late  # type: ignore[method-assign]


def no_commits() -> None:
    """A commit that is said to be done, and is not: as if killed just before it."""

    async def nothing(self: AIOKafkaConsumer, offsets: Any = None) -> None: ...

    AIOKafkaConsumer.commit = nothing


def queued_checkpoint() -> None:
    """The process is stopped with a checkpoint taken, and about to be sent."""
    send = workers.Worker._send_changelog
    stopped = False

    def stop_first(self: Any, partition: int, key: bytes, value: bytes | None) -> Any:
        nonlocal stopped
        if value is not None and begun() and not stopped:
            stopped = True
            os.kill(os.getpid(), signal.SIGSTOP)
        return send(self, partition, key, value)

    workers.Worker._send_changelog = stop_first  # type: ignore[method-assign]


def lost_reading() -> None:
    """What one fetch brought is given to nobody, and reading goes on behind it."""
    fetched, lost = transport.fetched_chunks, False

    async def lose_one(fetcher: Any, partitions: Any, *rest: Any) -> Any:
        nonlocal lost
        found = await fetched(fetcher, partitions, *rest)
        if not lost and begun() and any(isinstance(chunk, Chunk) for chunk in found.values()):
            lost = True
            return {}
        return found

    transport.fetched_chunks = lose_one


# --- safeguards taken away -----------------------------------------------------------------------


def no_offset_gate() -> None:
    """What comes again is applied again."""
    apply = Engine.apply

    def ungated(self: Engine, records: Any) -> Any:
        records = list(records)
        if records:
            self.applied = min(self.applied, records[0][0] - 1)
        return apply(self, records)

    Engine.apply = ungated  # type: ignore[method-assign]


def quick_to_complain() -> None:
    """Faust has the patience of a second, where it would take minutes to complain."""
    start = AIOKafkaConsumerThread.on_thread_started

    async def started(self: Any) -> None:
        await start(self)
        self.tp_fetch_request_timeout_secs = self.tp_fetch_response_timeout_secs = 1.0
        self.tp_stream_timeout_secs = self.tp_commit_timeout_secs = 1.0

    AIOKafkaConsumerThread.on_thread_started = started


def commit_before_the_checkpoint() -> None:
    """What was applied is committed, whether or not a checkpoint of it has been acknowledged."""
    CommitLedger.committable = CommitLedger.position  # type: ignore[method-assign]


def no_batch_bookkeeping() -> None:
    """Offsets are acknowledged as Faust does: a batch's last one, of all that are in it."""
    del BatchConsumer._new_offset
    del BatchConsumer._filter_tps_with_pending_acks


def key_without_token() -> None:
    """A symbol's checkpoints all have one key."""
    Checkpoint.key = property(lambda self: self.symbol.encode())  # type: ignore[assignment]


def _later(fault: Any) -> None:
    """``fault(app)`` in the event loop, once it has begun."""
    start = AIOKafkaConsumerThread.on_thread_started

    async def wait(app: Any) -> None:
        while not begun():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await fault(app)

    async def started(self: Any) -> None:
        await start(self)
        app = self.app
        app.loop.call_soon_threadsafe(lambda: _tasks.append(app.loop.create_task(wait(app))))

    AIOKafkaConsumerThread.on_thread_started = started


_tasks: list[Any] = []

FAULTS = {
    fault.__name__: fault
    for fault in (
        silent_consumer,
        dead_fetcher,
        stopped_fetcher,
        stuck_commit,
        hung_agent,
        hung_recovery,
        hung_thread,
        blocked_loop,
        late_acknowledgement,
        queued_checkpoint,
        no_commits,
        lost_reading,
        no_offset_gate,
        quick_to_complain,
        commit_before_the_checkpoint,
        no_batch_bookkeeping,
        key_without_token,
    )
}


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    for fault in filter(None, os.environ.get("WORKER_FAULT", "").split(",")):
        FAULTS[fault]()
    globals()["app"] = faust_app()
    return globals()["app"]
