"""Merged windows of the symbols that this node writes: from its partitions to ``md.merged.v1``.

The holder of a symbol's lease merges, nobody else; what is open when the lease moves is given up.
Whoever has just come by it begins with what is not on the topic yet: what is there already is the
one before's, who may have written it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from agents.batches import Batch
from streams.merged import Merge, encode
from streams.telemetry import Telemetry
from tables.merge_windows import Complete, Late, Outcome, Suppressed, SymbolMerges
from tapeline.clock import Clock
from tapeline.logging import get_logger

TICK_S: Final = 0.05

log = get_logger("merging")


class Writer(Protocol):
    """Who may write a symbol."""

    def holds(self, symbol: str) -> bool:
        """Whether this node may, now."""
        ...

    def token(self, symbol: str) -> int:
        """Of its lease; 0 where there never was one."""
        ...


class Merging:
    """All windows of this node.

    Attributes:
        counts: By (symbol, what): ``windows`` written, ``suppressed_partial``, ``late`` events,
            ``discarded`` events.
    """

    def __init__(
        self,
        writer: Writer,
        write: Callable[[bytes, bytes], None],
        telemetry: Telemetry,
        clock: Clock,
        epoch: Callable[[], int],
        end: Callable[[int], int],
        copy: Callable[[str, int, bytes], object] | None = None,
    ) -> None:
        """Nothing is merged before `follow`.

        Args:
            writer: Knows whose symbols these are.
            write: Takes a record's key and value for the topic of merged windows.
            telemetry: Told what is not written.
            clock: For windows that nothing closes.
            epoch: Of the events topic.
            end: Next offset to be written to a partition of it, as far as is known; 0 if it is not.
            copy: Takes each window once more, for readers without Kafka: symbol, token, value.
        """
        self.counts: Counter[tuple[str, str]] = Counter()
        self._writer, self._write, self._telemetry = writer, write, telemetry
        self._clock, self._epoch, self._end = clock, epoch, end
        self._copy = copy
        self._begun: set[str] = set()
        self._symbols: dict[str, SymbolMerges] = {}
        self._by_key: dict[bytes, str] = {}

    def follow(self, merges: Iterable[Merge]) -> None:
        """Merge these from now on, and no others."""
        by_symbol: dict[str, list[Merge]] = {}
        for merge in merges:
            by_symbol.setdefault(merge.symbol, []).append(merge)
        for symbol in self._symbols.keys() - by_symbol.keys():
            self._begun.discard(symbol)
            self._discarded(symbol, self._symbols.pop(symbol).discard())
            for key in [key for key in self.counts if key[0] == symbol]:
                del self.counts[key]
        for symbol, ours in by_symbol.items():
            known = self._symbols.setdefault(symbol, SymbolMerges())
            self._discarded(symbol, known.follow(ours))
        self._by_key = {symbol.encode(): symbol for symbol in by_symbol}

    def take(self, batch: Batch) -> None:
        """Records of one partition that engines have been given."""
        for key, symbol in self._by_key.items():
            values = batch.by_key.get(key)
            if values is None:
                continue
            if not self._writer.holds(symbol):
                self.lost(symbol)
                continue
            merges = self._symbols[symbol]
            if symbol not in self._begun:
                self._begun.add(symbol)
                merges.offset = max(batch.to_offset, self._end(batch.partition)) - 1
            now_ms, epoch = self._clock.monotonic_ms(), self._epoch()
            for offset, raw in values:
                for outcome in merges.take(offset, raw, now_ms, epoch):
                    self._tell(outcome)

    def lost(self, symbol: str) -> None:
        """Another writes it from here on."""
        self._begun.discard(symbol)
        if symbol in self._symbols:
            self._discarded(symbol, self._symbols[symbol].discard())

    async def run(self) -> None:
        """Close what is due, until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            self.tick()

    def tick(self) -> None:
        """Close what is due."""
        now_ms = self._clock.monotonic_ms()
        for symbol, merges in self._symbols.items():
            if self._writer.holds(symbol):
                for outcome in merges.tick(now_ms):
                    self._tell(outcome)

    def _discarded(self, symbol: str, events: int) -> None:
        if events:
            self.counts[symbol, "discarded"] += events
            log.info("merge.discarded", symbol=symbol, events=events)

    def _tell(self, outcome: Outcome) -> None:
        match outcome:
            case Complete(merged):
                token = self._writer.token(merged.symbol)
                if not token:
                    self._discarded(merged.symbol, len(merged.events))
                    return
                merged.token = token
                self.counts[merged.symbol, "windows"] += 1
                value = encode(merged)
                self._write(merged.symbol.encode(), value)
                if self._copy is not None:
                    self._copy(merged.symbol, token, value)
            case Suppressed(merge, merge_id, missing, events, closed_by):
                self.counts[merge.symbol, "suppressed_partial"] += 1
                ids = self._telemetry.tell(
                    "merge.suppressed_partial",
                    merge_key=f"{merge.symbol}:{merge.kind}",
                    merge_id=merge_id,
                    symbol=merge.symbol,
                    missing_providers=[*missing],
                    events=events,
                    closed_by=closed_by,
                )
                log.info(
                    "merge.suppressed_partial",
                    symbol=merge.symbol,
                    kind=merge.kind,
                    missing_providers=missing,
                    events=events,
                    **ids._asdict(),
                )
            case Late(merge, venue, seq, offset, lateness_ms):
                self.counts[merge.symbol, "late"] += 1
                ids = self._telemetry.tell(
                    "late_event.dropped",
                    stage="merge",
                    provider=venue,
                    symbol=merge.symbol,
                    kind=merge.kind,
                    seq_provider=seq,
                    offset=offset,
                    lateness_ms=lateness_ms,
                )
                log.debug(
                    "late_event.dropped",
                    symbol=merge.symbol,
                    provider=venue,
                    lateness_ms=lateness_ms,
                    **ids._asdict(),
                )
