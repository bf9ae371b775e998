"""Engines by partition: what is applied, refused, kept and restored."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from agents.ledger import CommitLedger
from agents.shards import TOPIC_EPOCH_SHIFT, Misrouted, Shards
from streams.symbols import parse_symbols
from streams.topics import partition_of
from tables.changelog import Checkpoint, decode_checkpoint, encode_checkpoint
from tables.parameters import Parameters
from tapeline.errors import MalformedRecord
from tests.support.batches import batch
from tests.support.tape import Tape, opened, random_tape

PARTITIONS = 64
HOME = partition_of("BTCUSDT", PARTITIONS)


class Raw(NamedTuple):
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


def shards(symbols: str = "binance:BTCUSDT,binance:ETHUSDT") -> Shards:
    made = Shards(parse_symbols(symbols), PARTITIONS, Parameters(), CommitLedger())
    made.assign(set(range(PARTITIONS)), [])
    return made


def raws(tape: Tape, partition: int = HOME, key: bytes | None = b"BTCUSDT") -> list[Raw]:
    return [Raw(partition, offset, key, value) for offset, value in tape.records]


def test_records_reach_the_engine_of_their_key() -> None:
    """And only that one."""
    one = shards()
    outcome = one.apply(batch(HOME, raws(opened())))
    assert outcome.applied == 2
    assert outcome.touched == {"BTCUSDT"}
    assert one.engine("BTCUSDT").applied == 1  # type: ignore[union-attr]
    assert one.engine("ETHUSDT").applied == -1  # type: ignore[union-attr]
    assert one.is_dirty("BTCUSDT")
    assert not one.is_dirty("ETHUSDT")


def test_a_record_in_the_wrong_partition_is_refused() -> None:
    """Another node's engine may be the right one's."""
    one = shards()
    outcome = one.apply(batch(HOME + 1, raws(opened(), HOME + 1)))
    assert [type(error) for _, error in outcome.failures] == [Misrouted, Misrouted]
    assert f"belongs in partition {HOME}, not {HOME + 1}" in str(outcome.failures[0][1])
    assert one.engine("BTCUSDT").applied == -1  # type: ignore[union-attr]
    stranger = Raw(HOME, 0, b"SOLUSDT", b"{}")
    assert partition_of("SOLUSDT", PARTITIONS) != HOME
    assert type(one.apply(batch(HOME, [stranger])).failures[0][1]) is Misrouted


def test_a_key_that_no_setting_names_is_counted_and_left() -> None:
    """Removed symbols' records are still in the topic."""
    one = shards("binance:ETHUSDT")
    outcome = one.apply(batch(HOME, raws(opened())))
    assert outcome.counts["unlisted"] == 2
    assert not outcome.failures


@pytest.mark.parametrize(
    ("key", "value"), [(None, b"{}"), (b"", b"{}"), (b"\xff", b"{}"), (b"BTCUSDT", None)]
)
def test_a_record_without_key_or_value_is_refused(key: bytes | None, value: bytes | None) -> None:
    """The rest of the batch is applied."""
    one = shards()
    good = raws(opened())
    outcome = one.apply(batch(HOME, [*good[:1], Raw(HOME, 1, key, value)]))
    assert [type(error) for _, error in outcome.failures] == [MalformedRecord]
    assert outcome.applied == 1


def test_failures_carry_the_very_record() -> None:
    """For the dead-letter topic."""
    tape = opened()
    tape.raw(b"garbage")
    tape.trade(6_000_000, 1)
    outcome = shards().apply(batch(HOME, raws(tape)))
    assert [record.value for record, _ in outcome.failures] == [b"garbage"]
    assert outcome.applied == 3


def test_a_checkpoint_restores_to_the_same_engine() -> None:
    """Through bytes, in another process's shards."""
    tape = random_tape(4, 100)
    one = shards()
    one.apply(batch(HOME, raws(tape)[:60]))
    value = encode_checkpoint(one.checkpoint("BTCUSDT", 9))
    one.saved("BTCUSDT", acknowledged=True)
    one.ledger.advance(HOME, 60)
    assert not one.is_dirty("BTCUSDT")
    assert one.ledger.committable(HOME) == 60
    other = shards()
    assert other.assign(set(range(PARTITIONS)), [decode_checkpoint(value)]) == {}
    outcome = other.apply(batch(HOME, raws(tape)[40:]))
    one.apply(batch(HOME, raws(tape)[60:]))
    assert outcome.skipped == 20
    assert other.engine("BTCUSDT").snapshot() == one.engine("BTCUSDT").snapshot()  # type: ignore[union-attr]


def test_a_live_engine_ahead_of_its_checkpoint_is_kept() -> None:
    """A rebalance that gives the partition back costs nothing."""
    one = shards()
    records = raws(random_tape(4, 100))
    one.apply(batch(HOME, records[:30]))
    checkpoint = one.checkpoint("BTCUSDT", 9)
    one.apply(batch(HOME, records[30:60]))
    live = one.engine("BTCUSDT")
    one.assign(set(range(PARTITIONS)), [checkpoint])
    assert one.engine("BTCUSDT") is live
    one.assign({HOME + 1}, [])
    assert one.engine("BTCUSDT") is None
    assert one.symbols() == []
    one.assign({HOME}, [checkpoint])
    assert one.engine("BTCUSDT").applied == 29  # type: ignore[union-attr]


def test_unusable_checkpoints_are_named_and_left() -> None:
    """Damaged, of another epoch, venue or symbol: the engine starts empty."""
    one = shards()
    one.apply(batch(HOME, raws(opened())))
    good = one.checkpoint("BTCUSDT", 9)
    other = shards()
    damaged = Checkpoint("BTCUSDT", 9, 0, 1, b"junk")
    errors = other.assign({HOME}, [damaged])
    assert len(errors) == 1
    assert other.engine("BTCUSDT").applied == -1
    other.assign({HOME}, [Checkpoint("BTCUSDT", 9, 3, 1, good.snapshot)])
    assert other.engine("BTCUSDT").applied == -1  # type: ignore[union-attr]
    other.assign({HOME}, [Checkpoint("XRPUSDT", 9, 0, 1, good.snapshot)])
    assert other.engine("BTCUSDT").applied == -1  # type: ignore[union-attr]
    other.assign({HOME}, [good])
    assert other.engine("BTCUSDT").applied == 1  # type: ignore[union-attr]


def test_the_watermark_rises_over_a_recreated_topic() -> None:
    """Offsets start over, the epoch does not."""
    one = shards()
    one.apply(batch(HOME, raws(opened())))
    before = one.watermark(one.engine("BTCUSDT"))  # type: ignore[arg-type]
    assert before == 2
    one.epoch += 1
    one.discard("BTCUSDT")
    assert one.watermark(one.engine("BTCUSDT")) == 1 << TOPIC_EPOCH_SHIFT > before  # type: ignore[arg-type]
