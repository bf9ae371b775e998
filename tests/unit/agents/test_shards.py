"""Engines by partition: what is applied, refused, kept and restored."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from agents.ledger import CommitLedger
from agents.shards import TOPIC_EPOCH_SHIFT, Misrouted, Shards
from streams.symbols import Listing, parse_symbols
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
    assert other.assign(set(range(PARTITIONS)), [decode_checkpoint(value)]).refused == {}
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
    assert one.warm_partitions() == set(range(PARTITIONS)) - {HOME + 1}
    assert one.engine("BTCUSDT") is live  # until whoever gets it has taken over
    one.cool({HOME})
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
    errors = other.assign({HOME}, [damaged]).refused
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


# --- warm ----------------------------------------------------------------------------------------


def cold(symbols: str = "binance:BTCUSDT,binance:ETHUSDT") -> Shards:
    return Shards(parse_symbols(symbols), PARTITIONS, Parameters(), CommitLedger())


def kept_after(count: int, records: list[Raw]) -> Checkpoint:
    """The checkpoint of an engine that has applied so many of these records."""
    one = shards()
    one.apply(batch(HOME, records[:count]))
    return one.checkpoint("BTCUSDT", 9)


def test_a_warm_engine_is_fed_and_nothing_of_it_is_ours_to_commit() -> None:
    """It goes on from its checkpoint, as its owner does."""
    records = raws(random_tape(4, 100))
    one = cold()
    assert one.warm({HOME}, [kept_after(30, records)]) == {}
    assert one.warm_partitions() == {HOME}
    assert one.symbols() == []
    assert one.symbols_of({HOME}) == ["BTCUSDT"]
    assert one.engine("BTCUSDT").applied == 29  # type: ignore[union-attr]
    outcome = one.apply(batch(HOME, records[20:60]))
    assert (outcome.skipped, outcome.touched) == (10, {"BTCUSDT"})
    assert not one.is_dirty("BTCUSDT")
    assert not one.may_save("BTCUSDT")
    assert one.ledger.committable(HOME) is None
    assert one.engine("ETHUSDT") is None


def test_what_is_here_is_not_warmed_anew() -> None:
    """It is further on than any checkpoint."""
    records = raws(random_tape(4, 100))
    checkpoint = kept_after(30, records)
    one = cold()
    one.warm({HOME}, [checkpoint])
    one.apply(batch(HOME, records[30:60]))
    live = one.engine("BTCUSDT")
    one.warm({HOME}, [checkpoint])
    assert one.engine("BTCUSDT") is live
    one.assign({HOME}, [])
    one.warm({HOME}, [checkpoint])
    assert one.engine("BTCUSDT") is live
    assert one.warm_partitions() == set()


def test_a_warm_engine_begins_empty_where_its_checkpoint_is_of_no_use() -> None:
    """The caller is told, and reads from further back."""
    one = cold()
    refused = one.warm({HOME}, [Checkpoint("BTCUSDT", 9, 0, 1, b"junk")])
    assert [*refused] == ["BTCUSDT"]
    assert one.engine("BTCUSDT").applied == -1  # type: ignore[union-attr]
    # Of a partition that is not here, nobody needs to know.
    assert cold().warm({HOME + 1}, [Checkpoint("BTCUSDT", 9, 0, 1, b"junk")]) == {}


def test_cooling_forgets_warm_engines_only() -> None:
    one = cold()
    one.assign({HOME}, [])
    live = one.engine("BTCUSDT")
    one.cool({HOME})
    assert one.engine("BTCUSDT") is live
    one.assign(set(), [])
    assert one.warm_partitions() == {HOME}
    one.cool({HOME + 1})
    assert one.engine("BTCUSDT") is live
    one.cool({HOME})
    assert one.engine("BTCUSDT") is None
    assert one.warm_partitions() == set()


def test_a_warm_engine_is_what_its_assignment_goes_on_with() -> None:
    """Nothing is read again; what it is ahead by is still to be saved, from there on."""
    records = raws(random_tape(4, 100))
    checkpoint = kept_after(30, records)
    one = cold()
    one.warm({HOME}, [checkpoint])
    one.apply(batch(HOME, records[30:60]))
    live = one.engine("BTCUSDT")
    outcome = one.assign({HOME}, [checkpoint])
    assert one.engine("BTCUSDT") is live
    assert outcome.replaced == set()
    assert one.may_save("BTCUSDT")
    one.ledger.advance(HOME, 60)
    assert one.ledger.committable(HOME) == 30
    one.checkpoint("BTCUSDT", 10)
    one.saved("BTCUSDT", acknowledged=True)
    assert one.ledger.committable(HOME) == 60


def test_a_warm_engine_behind_its_checkpoint_is_given_up_for_it() -> None:
    """Its partition is named: whatever feeds it must not go on where the old one was."""
    records = raws(random_tape(4, 100))
    one = cold()
    one.warm({HOME}, [kept_after(30, records)])
    outcome = one.assign({HOME}, [kept_after(60, records)])
    assert outcome.replaced == {HOME}
    assert one.engine("BTCUSDT").applied == 59  # type: ignore[union-attr]
    assert not one.is_dirty("BTCUSDT")


def test_a_live_engine_makes_a_checkpoint_that_can_t_be_used_good() -> None:
    """It holds all that was in it; it is saved anew."""
    records = raws(random_tape(4, 100))
    one = cold()
    one.warm({HOME}, [kept_after(30, records)])
    outcome = one.assign({HOME}, [Checkpoint("BTCUSDT", 9, 0, 29, b"junk")])
    assert outcome.refused == {}
    assert outcome.replaced == set()
    one.ledger.advance(HOME, 30)
    assert one.ledger.committable(HOME) == 0
    assert one.may_save("BTCUSDT")


def refusing(records: list[Raw], at: int) -> list[Raw]:
    """The same, with one that no engine takes."""
    return [r._replace(value=b"garbage") if r.offset == at else r for r in records]


def test_what_a_warm_engine_refuses_comes_again_when_it_is_assigned() -> None:
    """Beside the group's flow nothing is kept for the dead-letter topic: it would be lost."""
    records = refusing(raws(random_tape(4, 100)), 40)
    checkpoint = kept_after(30, records)
    one = cold()
    one.warm({HOME}, [checkpoint])
    assert one.apply(batch(HOME, records[30:60])).failures
    outcome = one.assign({HOME}, [checkpoint])
    assert outcome.replaced == {HOME}
    assert one.engine("BTCUSDT").applied == 29  # type: ignore[union-attr]
    again = one.apply(batch(HOME, records[30:60]))
    assert [record.offset for record, _ in again.failures] == [40]
    assert not one.may_save("BTCUSDT")
    one.release(HOME)
    assert one.may_save("BTCUSDT")


def test_what_is_withheld_stays_so_while_it_is_warm() -> None:
    """Given up and given back before its failures were kept: they are still nowhere."""
    records = refusing(raws(random_tape(4, 100)), 40)
    one = shards()
    one.apply(batch(HOME, records[:60]))
    assert not one.may_save("BTCUSDT")
    one.assign(set(), [])
    assert one.assign({HOME}, []).replaced == {HOME}
    assert one.engine("BTCUSDT").applied == -1  # type: ignore[union-attr]
    one.apply(batch(HOME, records[:60]))
    one.assign(set(), [])
    one.cool({HOME})
    one.warm({HOME}, [])
    one.apply(batch(HOME, records[:30]))
    assert one.assign({HOME}, []).replaced == set()  # a new engine has refused nothing
    assert one.may_save("BTCUSDT")


def test_an_engine_that_is_at_work_is_not_replaced() -> None:
    """Whatever else is assigned; only its own symbol's checkpoint could be ahead of it."""
    one = shards()
    records = raws(random_tape(4, 100))
    one.apply(batch(HOME, records[:60]))
    assert one.assign({HOME, HOME + 1}, [kept_after(60, records)]).replaced == set()
    assert shards().assign({HOME}, []).replaced == set()


def test_symbols_that_come_to_be_followed_have_engines_from_the_next_assignment_on() -> None:
    made = shards("binance:BTCUSDT")
    made.assign({*range(PARTITIONS)}, [])
    assert made.follow(parse_symbols("binance:BTCUSDT,binance:SOLUSDT")) == ["SOLUSDT"]
    assert made.symbols() == ["BTCUSDT", "SOLUSDT"]
    assert made.engine("SOLUSDT") is None
    before = made.engine("BTCUSDT")
    made.assign({*range(PARTITIONS)}, [])
    assert made.engine("SOLUSDT") is not None
    assert (made.engine("BTCUSDT") is None) == (before is None)
    assert made.follow(parse_symbols("binance:SOLUSDT")) == [], "one that is gone stays"
    assert made.symbols() == ["BTCUSDT", "SOLUSDT"]


def test_a_list_before_any_assignment_is_the_whole_list() -> None:
    made = Shards(parse_symbols("binance:BTCUSDT"), PARTITIONS, Parameters(), CommitLedger())
    made.relist(parse_symbols("binance:SOLUSDT"))
    made.assign({*range(PARTITIONS)}, [])
    assert made.symbols() == ["SOLUSDT"]


def test_another_venue_of_a_symbol_that_is_here_is_told_of_at_once() -> None:
    made = of_two_venues("binance")
    made.assign({HOME}, [])
    assert made.follow([Listing("kraken", "BTCUSDT", "BTCUSDT")]) == []
    engine = made.engine("BTCUSDT")
    assert engine is not None
    assert list(engine.fast_report(0).venues.by_venue) == ["binance", "kraken"]


def of_two_venues(*venues: str) -> Shards:
    listings = [Listing(venue, "BTCUSDT", "BTCUSDT") for venue in venues]
    return Shards(listings, PARTITIONS, Parameters(), CommitLedger())


def test_the_first_venue_listed_is_the_primary_one_and_the_report_tells_of_all() -> None:
    one = of_two_venues("binance", "kraken")
    one.assign({HOME}, [])
    one.apply(batch(HOME, raws(opened())))
    engine = one.engine("BTCUSDT")
    assert engine is not None
    assert engine.fast_report(0).venue == "binance"
    assert list(engine.fast_report(0).venues.by_venue) == ["binance", "kraken"]


def test_which_other_venues_are_listed_is_no_part_of_a_checkpoint() -> None:
    """They come and go without a rebuild; another primary venue is another market."""
    one = of_two_venues("binance", "kraken")
    one.assign({HOME}, [])
    one.apply(batch(HOME, raws(opened())))
    one.apply(batch(HOME, raws(later(Tape(venue="kraken"), 2))))
    kept = one.checkpoint("BTCUSDT", 3)
    for venues, offset in (
        (("binance", "kraken"), 3),
        (("binance",), 3),
        (("binance", "coinbase", "kraken"), 3),
        (("kraken", "binance"), -1),
    ):
        other = of_two_venues(*venues)
        other.assign({HOME}, [kept])
        engine = other.engine("BTCUSDT")
        assert engine is not None
        assert engine.applied == offset
        assert list(engine.fast_report(0).venues.by_venue) == list(venues)
    other = of_two_venues("binance", "coinbase", "kraken")
    other.assign({HOME}, [kept])
    shown = other.engine("BTCUSDT").fast_report(0).venues.by_venue  # type: ignore[union-attr]
    assert {name: each.state for name, each in shown.items()} == {
        "binance": "ok", "coinbase": "none", "kraken": "ok",
    }  # fmt: skip


def later(tape: Tape, offset: int) -> Tape:
    """A book of that venue, at offsets from this one on."""
    tape.instrument()
    tape.snapshot([(10, 1)], [(12, 1)])
    tape.records = [(offset + n, raw) for n, (_, raw) in enumerate(tape.records)]
    return tape
