"""The engines of the assigned partitions: apply, checkpoint, restore. No Kafka, no Redis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from agents.batches import Batch, Kept, RawRecord, Values
from agents.ledger import CommitLedger
from streams.symbols import Listing
from streams.topics import partition_of
from tables.applied import Applied
from tables.changelog import Checkpoint
from tables.engine import Engine
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


class Shards:
    """Engines by symbol, for the symbols whose partition is ours.

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
        self._listings = {listing.symbol: listing for listing in listings}
        self._parameters = parameters
        self._engines: dict[str, Engine] = {}
        self._withheld: set[str] = set()
        self._assigned: set[int] = set()
        self._partition_count = partitions
        self.partition_of = {symbol: partition_of(symbol, partitions) for symbol in self._listings}
        self.ledger = ledger
        self.epoch = 0

    # --- which -------------------------------------------------------------------------------

    def symbols(self) -> list[str]:
        """Listed symbols of the assigned partitions."""
        return [s for s, partition in self.partition_of.items() if partition in self._assigned]

    def engine(self, symbol: str) -> Engine | None:
        """The engine of a symbol that is ours."""
        return self._engines.get(symbol)

    def watermark(self, engine: Engine) -> int:
        """Rises with the records applied, also over a recreated topic."""
        return (self.epoch << TOPIC_EPOCH_SHIFT) + engine.applied + 1

    # --- assignment ----------------------------------------------------------------------------

    def assign(
        self, partitions: set[int], checkpoints: Iterable[Checkpoint]
    ) -> dict[str, SnapshotError]:
        """Keep the engines of these partitions, each as far on as anybody knows it.

        A live engine is kept where it has applied at least as much as its checkpoint: both are
        the same function of the same records. What it is ahead by is still to be saved. One
        that is withheld is given up for its checkpoint, so that its failed records come again.

        Returns:
            By symbol, why a checkpoint can't be used: it is to be rebuilt from the topic.
        """
        self._assigned = set(partitions)
        self.ledger.assign(partitions)
        refused: dict[str, SnapshotError] = {}
        restored: dict[str, Engine] = {}
        for checkpoint in checkpoints:
            if checkpoint.epoch != self.epoch or checkpoint.symbol not in self._listings:
                continue
            try:
                engine = Engine.restore(checkpoint.snapshot, self._parameters)
            except SnapshotError as error:
                refused[checkpoint.symbol] = error
                continue
            if engine.venue == self._listings[checkpoint.symbol].venue:
                restored[checkpoint.symbol] = engine
        engines: dict[str, Engine] = {}
        for symbol in self.symbols():
            live, stored = self._engines.get(symbol), restored.get(symbol)
            saved = stored.applied if stored is not None else -1
            if live is not None and live.applied >= 0:
                refused.pop(symbol, None)
            if live is None or live.applied < saved or symbol in self._withheld:
                live = stored or Engine(symbol, self._listings[symbol].venue, self._parameters)
            if live.applied > saved:
                self.ledger.dirty(self.partition_of[symbol], symbol, saved + 1)
            engines[symbol] = live
        self._engines = engines
        self._withheld.clear()
        return {symbol: error for symbol, error in refused.items() if symbol in engines}

    def discard(self, symbol: str) -> None:
        """Forget a symbol's state: its records are no longer what the topic holds."""
        self._engines[symbol] = Engine(symbol, self._listings[symbol].venue, self._parameters)

    # --- records -------------------------------------------------------------------------------

    def apply(self, batch: Batch) -> BatchOutcome:
        """Apply one partition's records, in their order within each symbol.

        When the failures are safe, the caller says so (`release`) and tells the ledger that it
        is through with the batch (`CommitLedger.advance`). Until then no checkpoint is taken of
        their symbols: it would cover records that are nowhere yet, and skip them after a
        restart.
        """
        outcome = BatchOutcome()
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

    def release(self) -> None:
        """All failures so far are in the dead-letter topic."""
        self._withheld.clear()

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
