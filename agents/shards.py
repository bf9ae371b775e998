"""The engines of the partitions that are here: apply, checkpoint, restore. No Kafka, no Redis.

A partition is *assigned*, the group's and ours: its records are committed, its state is kept in
the changelog. Or it is *warm*: another's, or between two assignments ours; its engines are fed
all the same, so that its reports can go on here at any moment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from time import thread_time

from agents.batches import Batch, Kept, RawRecord
from agents.ledger import CommitLedger
from streams.symbols import Listing, venues_by_symbol
from streams.topics import partition_of
from tables.applied import Applied
from tables.changelog import Checkpoint
from tables.engine import Engine
from tables.lane import Values
from tables.parameters import Parameters
from tapeline.errors import MalformedRecord, SnapshotError

TOPIC_EPOCH_SHIFT = 40


class Misrouted(MalformedRecord):
    """The key does not belong in the partition the record is in."""

    code = "misrouted"


@dataclass(slots=True)
class BatchOutcome:
    """What became of a batch, or of several (`add`).

    Attributes:
        applied: Records that changed a state.
        skipped: Redelivered records.
        counts: Engine counts, and ``unlisted`` for keys no setting names.
        kinds: Applied records by kind.
        failures: Records for the dead-letter topic, each with its error.
        touched: Symbols whose state changed.
    """

    applied: int = 0
    skipped: int = 0
    counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    kinds: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    failures: list[tuple[RawRecord, Exception]] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)

    def add(self, other: Applied | BatchOutcome) -> None:
        """Take another's counts; failures and symbols are the caller's."""
        self.applied += other.applied
        self.skipped += other.skipped
        for what, count in other.counts.items():
            self.counts[what] += count
        for kind, count in other.kinds.items():
            self.kinds[kind] += count


@dataclass(slots=True)
class Assigned:
    """What an assignment came to.

    Attributes:
        refused: By symbol, why a checkpoint can't be used: it is to be rebuilt from the topic.
        replaced: Partitions of which a live engine was given up for its checkpoint: their
            records are to be read again from where that ends.
    """

    refused: dict[str, SnapshotError] = field(default_factory=dict)
    replaced: set[int] = field(default_factory=set)


class Shards:
    """Engines by symbol, for the symbols whose partition is here.

    Attributes:
        ledger: Told of every change; decides what may be committed.
        epoch: How often the topic has been recreated.
    """

    def __init__(
        self,
        listings: Iterable[Listing],
        partitions: int,
        parameters: Parameters,
        ledger: CommitLedger,
    ) -> None:
        self._venues: dict[str, tuple[str, ...]] = {}
        self.partition_of: dict[str, int] = {}
        self._parameters = parameters
        self._engines: dict[str, Engine] = {}
        self._withheld: set[str] = set()
        self._assigned: set[int] = set()
        self._warm: set[int] = set()
        self._partition_count = partitions
        self.ledger = ledger
        self.epoch = 0
        self.relist(listings)

    # --- which are listed ----------------------------------------------------------------------

    def relist(self, listings: Iterable[Listing]) -> None:
        """Know these, and no others. Only before anything is assigned."""
        self._venues = venues_by_symbol(listings)
        count = self._partition_count
        self.partition_of = {symbol: partition_of(symbol, count) for symbol in self._venues}

    def follow(self, listings: Iterable[Listing]) -> list[str]:
        """Know these, too.

        Those that are here have engines from the next `assign` or `warm` on. A symbol that is no
        more among them stays, and so does a venue: the report says itself that nothing comes any
        more. Another venue of a symbol is told of from now on.

        Returns:
            Symbols that were not known.
        """
        found = venues_by_symbol(listings)
        new = [symbol for symbol in found if symbol not in self._venues]
        for symbol, venues in found.items():
            known = self._venues.get(symbol, ())
            self._venues[symbol] = (*known, *(venue for venue in venues if venue not in known))
            self.partition_of[symbol] = partition_of(symbol, self._partition_count)
            if (engine := self._engines.get(symbol)) is not None:
                engine.listed = self._others(symbol)
        return new

    # --- which -------------------------------------------------------------------------------

    def symbols(self) -> list[str]:
        """Listed symbols of the assigned partitions."""
        return [s for s, partition in self.partition_of.items() if partition in self._assigned]

    def symbols_of(self, partitions: Collection[int]) -> list[str]:
        """Listed symbols of some partitions, whosever they are."""
        return [s for s, partition in self.partition_of.items() if partition in partitions]

    def warm_partitions(self) -> set[int]:
        """Partitions that are warm, and not assigned."""
        return set(self._warm)

    def engine(self, symbol: str) -> Engine | None:
        """The engine of a symbol that is here."""
        return self._engines.get(symbol)

    def watermark(self, engine: Engine) -> int:
        """Rises with the records applied, also over a recreated topic."""
        return (self.epoch << TOPIC_EPOCH_SHIFT) + engine.applied + 1

    # --- assignment ----------------------------------------------------------------------------

    def assign(self, partitions: set[int], checkpoints: Iterable[Checkpoint]) -> Assigned:
        """Keep the engines of these partitions, each as far on as anybody knows it.

        A live engine is kept where it has applied at least as much as its checkpoint: both are
        the same function of the same records. What it is ahead by is still to be saved. One
        that is withheld is given up for its checkpoint, so that its failed records come again.

        Partitions that were assigned and are not any more stay warm, until `cool`.
        """
        self._warm = (self._warm | self._assigned) - partitions
        self._assigned = set(partitions)
        self.ledger.assign(partitions)
        outcome = Assigned()
        restored = self._restored(checkpoints, outcome.refused)
        engines = {
            symbol: engine
            for symbol, engine in self._engines.items()
            if self.partition_of[symbol] in self._warm
        }
        for symbol in self.symbols():
            partition = self.partition_of[symbol]
            live, stored = self._engines.get(symbol), restored.get(symbol)
            saved = stored.applied if stored is not None else -1
            if live is not None and live.applied >= 0:
                outcome.refused.pop(symbol, None)
            if live is None or live.applied < saved or symbol in self._withheld:
                if live is not None:
                    outcome.replaced.add(partition)
                live = stored or self._empty(symbol)
            if live.applied > saved:
                self.ledger.dirty(partition, symbol, saved + 1)
            engines[symbol] = live
        self._engines = engines
        self._withheld &= set(self.symbols_of(self._warm))
        outcome.refused = {s: e for s, e in outcome.refused.items() if s in engines}
        return outcome

    def warm(
        self, partitions: Collection[int], checkpoints: Iterable[Checkpoint]
    ) -> dict[str, SnapshotError]:
        """Have engines of these partitions, too; those that are here already stay as they are.

        Returns:
            By symbol, why a checkpoint can't be used.
        """
        refused: dict[str, SnapshotError] = {}
        restored = self._restored(checkpoints, refused)
        new = set(partitions) - self._assigned - self._warm
        self._warm |= new
        for symbol in self.symbols_of(new):
            self._engines[symbol] = restored.get(symbol) or self._empty(symbol)
        return {symbol: error for symbol, error in refused.items() if symbol in self._engines}

    def cool(self, partitions: Collection[int]) -> None:
        """Forget the engines of warm partitions."""
        gone = self._warm.intersection(partitions)
        self._warm -= gone
        for symbol in self.symbols_of(gone):
            self._engines.pop(symbol, None)
            self._withheld.discard(symbol)

    def _restored(
        self, checkpoints: Iterable[Checkpoint], refused: dict[str, SnapshotError]
    ) -> dict[str, Engine]:
        restored: dict[str, Engine] = {}
        for checkpoint in checkpoints:
            if checkpoint.epoch != self.epoch or checkpoint.symbol not in self._venues:
                continue
            try:
                engine = Engine.restore(
                    checkpoint.snapshot, self._parameters, self._others(checkpoint.symbol)
                )
            except SnapshotError as error:
                refused[checkpoint.symbol] = error
                continue
            if engine.venue == self._venues[checkpoint.symbol][0]:
                restored[checkpoint.symbol] = engine
        return restored

    def _empty(self, symbol: str) -> Engine:
        return Engine(symbol, self._venues[symbol][0], self._parameters, self._others(symbol))

    def _others(self, symbol: str) -> tuple[str, ...]:
        """Venues of a symbol beside its primary one."""
        return self._venues.get(symbol, ())[1:]

    def discard(self, symbol: str) -> None:
        """Forget a symbol's state: its records are no longer what the topic holds."""
        self._engines[symbol] = self._empty(symbol)

    # --- records -------------------------------------------------------------------------------

    def apply(self, batch: Batch) -> BatchOutcome:
        """Apply one partition's records, in their order within each symbol.

        When the failures are safe, the caller says so (`release`) and tells the ledger that it
        is through with the batch (`CommitLedger.advance`). Until then no checkpoint is taken of
        their symbols: it would cover records that are nowhere yet, and skip them after a
        restart.
        """
        outcome = BatchOutcome()
        began_s = thread_time()
        for key, values in batch.by_key.items():
            refused: list[tuple[int, Exception]]
            try:
                refused = self._apply_symbol(batch.partition, key, values, outcome)
            except MalformedRecord as error:
                refused = [(offset, error) for offset, _ in values]
            if refused:
                by_offset = dict(values)
                outcome.failures += [
                    (Kept(offset, key, by_offset[offset]), error) for offset, error in refused
                ]
        # Processor time: on a busy machine the wall's would make short batches of quick records.
        self.ledger.pace.took(len(batch), thread_time() - began_s)
        return outcome

    def _apply_symbol(
        self,
        partition: int,
        key: bytes | None,
        values: Values,
        outcome: BatchOutcome,
    ) -> list[tuple[int, Exception]]:
        """Apply one symbol's records.

        Returns:
            (offset, error) of those that are refused.

        Raises:
            MalformedRecord: None of them belongs here.
        """
        try:
            symbol = (key or b"").decode("ascii")
        except UnicodeDecodeError:
            symbol = ""
        if not symbol:
            raise MalformedRecord("a record needs a symbol as its key")
        engine = self._engines.get(symbol)
        listed = self.partition_of.get(symbol)
        if engine is None or listed != partition:
            home = partition_of(symbol, self._partition_count) if listed is None else listed
            if home != partition:
                raise Misrouted(f"{symbol} belongs in partition {home}, not {partition}")
            outcome.counts["unlisted"] += len(values)
            return []
        before = engine.applied
        applied = engine.apply(values)
        outcome.add(applied)
        if applied.failures:
            self._withheld.add(symbol)
        if engine.applied > before:
            outcome.touched.add(symbol)
            first = next(offset for offset, _ in values if offset > before)
            self.ledger.dirty(partition, symbol, first)
        return applied.failures

    def release(self, partition: int) -> None:
        """All failures so far of an assigned partition are in the dead-letter topic."""
        self._withheld.difference_update(self.symbols_of((partition,)))

    # --- checkpoints ---------------------------------------------------------------------------

    def checkpoint(self, symbol: str, token: int) -> Checkpoint:
        """The symbol's state as it is now; the ledger counts it as on its way."""
        engine = self._engines[symbol]
        self.ledger.saving(self.partition_of[symbol], symbol)
        return Checkpoint(symbol, token, self.epoch, engine.applied, engine.snapshot())

    def saved(self, symbol: str, *, acknowledged: bool) -> None:
        """The checkpoint has arrived, or has not."""
        self.ledger.saved(self.partition_of[symbol], symbol, acknowledged=acknowledged)

    def is_dirty(self, symbol: str) -> bool:
        """Whether a symbol has changed since its last acknowledged checkpoint."""
        return self.ledger.is_dirty(self.partition_of[symbol], symbol)

    def may_save(self, symbol: str) -> bool:
        """Whether it is dirty, and a checkpoint of it would cover nothing that is nowhere else."""
        return symbol not in self._withheld and self.is_dirty(symbol)
