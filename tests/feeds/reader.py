"""What a reader of the topic has: an engine for each symbol, and what became of each record."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from decimal import Decimal
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams import topics
from streams.ladder import Ladder
from streams.symbols import Listing
from tables.engine import Engine
from tapeline.config import Settings

Levels = list[tuple[Decimal, Decimal]]


class Reader:
    """Reads events and telemetry from the beginning.

    Attributes:
        engines: By canonical symbol.
        records: Of the events topic.
        applied, passed_over: Of those, what an engine took; and what it did not, by why.
        failures: What an engine refused.
        telemetry: Events told, by (venue, event).
    """

    def __init__(self, settings: Settings, listings: list[Listing]) -> None:
        self.engines = {one.symbol: Engine(one.symbol, one.venue) for one in listings}
        self.records = self.applied = 0
        self.passed_over: Counter[str] = Counter()
        self.failures: list[str] = []
        self.telemetry: Counter[tuple[str, str]] = Counter()
        self._settings = settings
        self._behind = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        settings = self._settings
        consumer = AIOKafkaConsumer(
            bootstrap_servers=topics.bootstrap_servers(settings.kafka_url),
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
        )
        await consumer.start()
        try:
            tps = [TopicPartition(settings.events_topic, p) for p in range(settings.partitions)]
            consumer.assign([*tps, TopicPartition(settings.telemetry_topic, 0)])
            while True:
                found = await consumer.getmany(timeout_ms=200)
                for tp, messages in found.items():
                    if tp.topic == settings.telemetry_topic:
                        for message in messages:
                            told = json.loads(message.value)
                            key = (told.get("provider", ""), told["event"])
                            self.telemetry[key] += int(told.get("count", 1))
                    else:
                        self._apply(messages)
                if not found:
                    self._behind.set()
        finally:
            await consumer.stop()

    async def drained(self) -> None:
        """Wait until nothing has come for a while."""
        for _ in range(3):
            self._behind.clear()
            await self._behind.wait()

    def _apply(self, messages: list[Any]) -> None:
        by_symbol: dict[str, list[tuple[int, bytes]]] = {}
        for message in messages:
            by_symbol.setdefault(message.key.decode(), []).append((message.offset, message.value))
        for symbol, values in by_symbol.items():
            outcome = self.engines[symbol].apply(values)
            self.records += len(values)
            self.applied += outcome.applied
            for why in ("stale_feed", "duplicate_records"):
                self.passed_over[why] += outcome.counts[why]
            self.failures += [f"{symbol}: {error}" for _, error in outcome.failures]

    def book(self, symbol: str, depth: int) -> tuple[Levels, Levels] | None:
        """The best levels of a book that is right; None of one that says it is not."""
        book = self.engines[symbol].book
        if book.state != "ok":
            return None

        def levels(ladder: Ladder, best: list[tuple[int, int]]) -> Levels:
            return [
                (Decimal(px).scaleb(book.px_e), Decimal(sz).scaleb(book.sz_e)) for px, sz in best
            ]

        return (
            levels(book.bids, book.bids.highest(depth)),
            levels(book.asks, book.asks.lowest(depth)),
        )
