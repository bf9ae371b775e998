"""Keeping state: what is sent when, under which token, and what it lets be committed."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple

import pytest

from agents.checkpoints import Checkpointer
from agents.ledger import CommitLedger
from agents.metrics import Metrics
from agents.shards import Shards
from streams.symbols import parse_symbols
from streams.topics import partition_of
from tables.changelog import Checkpoint, decode_checkpoint
from tables.parameters import Parameters
from tapeline.clock import ManualClock
from tests.support.batches import batch
from tests.support.logs import Logged
from tests.support.tape import Tape, opened

PARTITIONS = 64
SYMBOL = "BTCUSDT"
HOME = partition_of(SYMBOL, PARTITIONS)


class Raw(NamedTuple):
    offset: int
    value: bytes | None
    partition: int = HOME
    key: bytes | None = SYMBOL.encode()


class Changelog:
    """Takes records; acknowledges when told, or at once."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.records: list[tuple[bytes, bytes | None]] = []
        self.waiting: list[asyncio.Future[None]] = []
        self.written = asyncio.Event()
        self._at_once = at_once

    def send(self, partition: int, key: bytes, value: bytes | None) -> Any:
        assert partition == HOME
        self.records.append((key, value))
        self.written.set()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._at_once or value is None:
            future.set_result(None)
        else:
            self.waiting.append(future)
        return future

    def checkpoints(self) -> list[Checkpoint]:
        return [decode_checkpoint(value) for _, value in self.records if value]


class Bench:
    """Shards, ledger and checkpointer of one symbol."""

    def __init__(self, *, at_once: bool = True, token: int = 5) -> None:
        self.ledger = CommitLedger()
        self.shards = Shards(
            parse_symbols(f"binance:{SYMBOL}"), PARTITIONS, Parameters(), self.ledger
        )
        self.shards.assign({HOME}, [])
        self.changelog = Changelog(at_once=at_once)
        self.token = token
        self.seated = self.leases = True
        self.metrics = Metrics()
        self.clock = ManualClock(1_000_000)
        self.checkpointer = Checkpointer(
            self.shards,
            self.changelog.send,
            lambda _symbol: self.token,
            self.metrics,
            self.clock,
            1000,
            lambda: self.seated,
            lambda _symbol, stored: not self.leases or self.token >= stored,
        )
        self.checkpointer.set_symbols({})

    def feed(self, tape: Tape, start: int = 0, *, safe: bool = True) -> None:
        """Apply the tape's records from ``start`` on, as the ingest agent does."""
        records = [Raw(offset, value) for offset, value in tape.records[start:]]
        self.shards.apply(batch(HOME, records))
        if safe:
            self.shards.release(HOME)
            self.ledger.advance(HOME, records[-1].offset + 1)

    async def sent(self) -> None:
        """Until a checkpoint is on its way."""
        async with asyncio.timeout(2):
            await self.changelog.written.wait()

    def count(self, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value(
            "tapeline_checkpoints_total", {"outcome": outcome}
        )


def not_kept(logged: Logged) -> list[list[str]]:
    """The symbols of each line that says so."""
    lines = [json.loads(line) for line in logged.take().splitlines()]
    return [line["symbols"] for line in lines if line["event"] == "checkpoint.not_kept"]


async def test_offsets_are_committed_behind_the_acknowledgement() -> None:
    """Not behind the sending."""
    bench = Bench(at_once=False)
    tape = opened()
    bench.feed(tape)
    saving = asyncio.create_task(bench.checkpointer.save_all())
    await bench.sent()
    assert bench.ledger.committable(HOME) == 0
    tape.trade(6_000_000, 5)
    bench.feed(tape, 2)
    bench.changelog.waiting[0].set_result(None)
    await saving
    assert bench.ledger.committable(HOME) == 2  # the trade is in memory only
    assert [c.applied for c in bench.changelog.checkpoints()] == [1]
    assert bench.checkpointer.tokens == {SYMBOL: 5}


async def test_nothing_new_nothing_written() -> None:
    """A quiet symbol costs the changelog nothing."""
    bench = Bench()
    await bench.checkpointer.save_all()
    bench.feed(opened())
    await bench.checkpointer.save_all()
    await bench.checkpointer.save_all()
    assert len(bench.changelog.records) == 1
    assert bench.count("acknowledged") == 1


@pytest.mark.parametrize("error", [ConnectionError("away"), asyncio.CancelledError()])
async def test_a_checkpoint_that_did_not_arrive_is_taken_anew(
    error: BaseException, logged: Logged
) -> None:
    """And nothing is committed meanwhile; at a stop, that it was not kept is told."""
    bench = Bench(at_once=False)
    bench.feed(opened())
    saving = asyncio.create_task(bench.checkpointer.save_all())
    await bench.sent()
    if isinstance(error, asyncio.CancelledError):
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
    else:
        bench.changelog.waiting[0].set_exception(error)
        await saving
        assert bench.count("failed") == 1
    assert bench.ledger.committable(HOME) == 0
    assert bench.shards.may_save(SYMBOL)
    assert not_kept(logged) == [[SYMBOL]]


async def test_lower_tokens_are_tombstoned_once_the_own_record_is_there() -> None:
    """Before, theirs may be the newest."""
    bench = Bench(at_once=False)
    bench.checkpointer.set_symbols({SYMBOL: {3, 4}})
    bench.feed(opened())
    saving = asyncio.create_task(bench.checkpointer.save_all())
    await bench.sent()
    assert [key for key, _ in bench.changelog.records] == [b"BTCUSDT@5"]
    bench.changelog.waiting[0].set_result(None)
    await saving
    assert sorted(bench.changelog.records[1:]) == [(b"BTCUSDT@3", None), (b"BTCUSDT@4", None)]


async def test_the_token_is_never_below_what_is_stored() -> None:
    """Without leases there is none, and a lower one would be ignored when restoring."""
    bench = Bench(token=0)
    bench.leases = False
    bench.checkpointer.set_symbols({SYMBOL: {9}})
    bench.feed(opened())
    await bench.checkpointer.save_all()
    assert [key for key, _ in bench.changelog.records] == [b"BTCUSDT@9"]


async def test_dirty_symbols_are_saved_as_they_fall_due() -> None:
    """Each at its place in the period."""
    bench = Bench()
    bench.feed(opened())
    running = asyncio.create_task(bench.checkpointer.run())
    bench.clock.advance(1000)
    await bench.sent()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert bench.ledger.committable(HOME) == 2


async def test_nothing_is_kept_while_the_group_assigns_anew(logged: Logged) -> None:
    """The next owner may have read the changelog already: ours would count, and end too early.

    Whoever stops then has been told so: it may be that no broker is there to ask.
    """
    bench = Bench()
    bench.feed(opened())
    bench.seated = False
    running = asyncio.create_task(bench.checkpointer.run())
    for _ in range(3):
        bench.clock.advance(1000)
        await asyncio.sleep(0.12)
    await bench.checkpointer.save_all()
    assert bench.changelog.records == []
    assert not_kept(logged) == [[SYMBOL]]
    bench.seated = True
    bench.clock.advance(1000)
    await bench.sent()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(bench.changelog.records) == 1


async def test_a_state_is_not_kept_under_another_writers_token(logged: Logged) -> None:
    """That writer may be paused over a checkpoint of its own, which would replace ours.

    It keeps the state, so nobody need be told.
    """
    bench = Bench(token=5)
    bench.checkpointer.set_symbols({SYMBOL: {9}})
    bench.feed(opened())
    await bench.checkpointer.save_all()
    assert bench.changelog.records == []
    assert bench.shards.may_save(SYMBOL)
    bench.token = 10
    await bench.checkpointer.save_all()
    # And what was kept under the other goes, when ours is acknowledged.
    assert [key for key, _ in bench.changelog.records] == [b"BTCUSDT@10", b"BTCUSDT@9"]
    assert not_kept(logged) == []


async def test_no_checkpoint_covers_a_record_that_is_nowhere_yet() -> None:
    """Killed then, the worker would skip it after the restart: in no state, in no topic."""
    bench = Bench()
    tape = opened()
    tape.raw(b"{")
    bench.feed(tape, safe=False)
    await bench.checkpointer.save_all()
    assert bench.changelog.records == []
    assert bench.ledger.committable(HOME) is None
    bench.shards.release(HOME)
    await bench.checkpointer.save_all()
    assert [c.applied for c in bench.changelog.checkpoints()] == [2]


async def test_a_rebalance_gives_up_a_state_whose_failures_are_nowhere_yet() -> None:
    """From the checkpoint on, the failed record comes again."""
    bench = Bench()
    tape = opened()
    bench.feed(tape)
    await bench.checkpointer.save_all()
    tape.raw(b"{")
    bench.feed(tape, 2, safe=False)
    bench.shards.assign({HOME}, bench.changelog.checkpoints())
    assert bench.shards.engine(SYMBOL).applied == 1  # type: ignore[union-attr]
    outcome = bench.shards.apply(batch(HOME, [Raw(*tape.records[2])]))
    assert [record.offset for record, _ in outcome.failures] == [2]


async def test_a_state_kept_through_a_rebalance_is_still_to_be_saved() -> None:
    """Its records are skipped when they come again; without a checkpoint of it they would be
    committed and, with the process, gone.
    """
    bench = Bench()
    tape = opened()
    bench.feed(tape)
    await bench.checkpointer.save_all()
    tape.trade(6_000_000, 5)
    bench.feed(tape, 2)
    bench.shards.assign({HOME}, bench.changelog.checkpoints())
    assert bench.shards.engine(SYMBOL).applied == 2  # type: ignore[union-attr]
    bench.feed(tape, 2)
    assert bench.ledger.committable(HOME) == 2
    await bench.checkpointer.save_all()
    assert bench.ledger.committable(HOME) == 3


async def test_a_batch_of_an_earlier_assignment_is_told_by_the_ledger() -> None:
    """Its position is not this assignment's."""
    bench = Bench()
    before = bench.ledger.generation
    bench.shards.assign({HOME}, [])
    assert bench.ledger.generation > before
