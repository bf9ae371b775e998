"""A process's copies of states and what feeds them: the group's flow, and the tail beside it.

A state is how far it has applied: by the real engine's rule, what was applied is skipped, and both
feeders are contiguous. Which feeder feeds what is decided by the product's `Standby`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from agents.shards import TOPIC_EPOCH_SHIFT
from agents.standby import Standby
from tests.simulation.kafka_model import KafkaModel
from tests.support.invariants import Applied, History


@dataclass(slots=True, eq=False)
class Engine:
    """One copy of one symbol's state.

    Attributes:
        applied: Newest offset in it.
    """

    copy: str
    symbol: str
    applied: int

    def apply(self, first: int, end: int, history: History, *, gated: bool) -> bool:
        """Take records ``first`` to ``end - 1``; whether any was new."""
        if gated:
            first = max(first, self.applied + 1)
        if first >= end:
            return False
        history.applied.append(Applied(self.copy, self.symbol, first, end - 1))
        self.applied = end - 1
        return True


@dataclass(slots=True)
class ModelShards:
    """Stands for `agents.shards.Shards`: a partition has one symbol."""

    name: str
    names: list[str]
    kafka: KafkaModel
    history: History
    gated: bool
    epoch: int = 0
    engines: dict[str, Engine] = field(default_factory=dict)
    own: set[int] = field(default_factory=set)
    warm_: set[int] = field(default_factory=set)
    partition_of: dict[str, int] = field(default_factory=dict)
    _copies: int = 0

    def __post_init__(self) -> None:
        self.partition_of = {symbol: p for p, symbol in enumerate(self.names)}

    # --- as the product asks -------------------------------------------------------------------

    def symbols(self) -> list[str]:
        """Symbols of the assigned partitions."""
        return self.symbols_of(self.own)

    def symbols_of(self, partitions: Collection[int]) -> list[str]:
        """Symbols of some partitions."""
        return [symbol for p, symbol in enumerate(self.names) if p in partitions]

    def warm_partitions(self) -> set[int]:
        """Partitions that are warm, and not assigned."""
        return set(self.warm_)

    def engine(self, symbol: str) -> Engine | None:
        """The copy of a symbol that is here."""
        return self.engines.get(symbol)

    def watermark(self, engine: Engine) -> int:
        """As the product makes it of what was applied."""
        return (self.epoch << TOPIC_EPOCH_SHIFT) + engine.applied + 1

    def cool(self, partitions: Collection[int]) -> None:
        """Forget warm copies."""
        gone = self.warm_.intersection(partitions)
        self.warm_ -= gone
        for symbol in self.symbols_of(gone):
            del self.engines[symbol]

    # --- as the simulated worker does ----------------------------------------------------------

    def assign(self, partitions: Collection[int]) -> set[int]:
        """Have these; partitions whose copy was given up for its checkpoint."""
        self.warm_ = (self.warm_ | self.own) - set(partitions)
        self.own = set(partitions)
        replaced = set()
        for partition in sorted(self.own):
            symbol = self.names[partition]
            live, saved = self.engines.get(symbol), self._saved(partition)
            if live is None or live.applied < saved:
                if live is not None:
                    replaced.add(partition)
                self._restore(partition)
        here = self.own | self.warm_
        self.engines = {s: e for s, e in self.engines.items() if self.partition_of[s] in here}
        return replaced

    def warm(self, partitions: Collection[int]) -> None:
        """Have copies of these, too."""
        new = set(partitions) - self.own - self.warm_
        self.warm_ |= new
        for partition in sorted(new):
            self._restore(partition)

    def _saved(self, partition: int) -> int:
        return self.kafka.saved(partition)[1]

    def _restore(self, partition: int) -> None:
        self._copies += 1
        symbol, applied = self.names[partition], self._saved(partition)
        copy = f"{self.name}/{self._copies}"
        self.engines[symbol] = Engine(copy, symbol, applied)
        self.history.applied.append(Applied(copy, symbol, applied + 1, applied))

    def apply(self, partition: int, first: int, end: int) -> bool:
        """Records of a partition, from one feeder or the other; whether any was new."""
        engine = self.engines.get(self.names[partition])
        return engine is not None and engine.apply(first, end, self.history, gated=self.gated)


@dataclass(slots=True)
class ModelTail:
    """Stands for `agents.tail.Tail`."""

    positions: dict[int, int] = field(default_factory=dict)
    current: set[int] = field(default_factory=set)

    def feed(self, starts: Mapping[int, int]) -> None:
        """Read these too."""
        for partition, offset in starts.items():
            self.positions.setdefault(partition, offset)

    def drop(self, partitions: Iterable[int]) -> None:
        """Read these no more."""
        for partition in partitions:
            self.positions.pop(partition, None)
            self.current.discard(partition)

    def fed(self) -> set[int]:
        """What is read."""
        return set(self.positions)

    def position(self, partition: int) -> int | None:
        """Next offset."""
        return self.positions.get(partition)

    def is_current(self, partition: int) -> bool:
        """Whether it has reached the end."""
        return partition in self.current


class ModelStandby(Standby):
    """The product's, but for what it reads from a broker."""

    def __init__(
        self,
        shards: ModelShards,
        tail: ModelTail,
        held: Callable[[int], bool],
        kafka: KafkaModel,
        rng: random.Random,
        reachable: Callable[[], bool],
    ) -> None:
        super().__init__([], None, "", "", shards, tail, held, None)  # type: ignore[arg-type]
        self._model, self._rng, self._reachable = kafka, rng, reachable

    async def _load_once(self, partitions: set[int]) -> None:
        committed = {p: self._model.committed.get(p, 0) for p in partitions}
        await asyncio.sleep(self._rng.uniform(0.1, 0.5))
        if not self._reachable():
            raise OSError("no broker")
        wanted = self._wanted & partitions
        self._shards.cool(wanted)
        self._shards.warm(wanted)  # type: ignore[call-arg]
        self._tail.feed({partition: committed[partition] for partition in sorted(wanted)})
