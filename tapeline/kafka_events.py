"""Events for the hub out of Kafka: no group, no commits, the partitions of what is followed.

A record's order is (topic epoch, offset + 1), as the id of its copy in a Redis Stream: a cursor of
``events:S`` means the same here. Two consumers: one follows what is new, one reads behind cursors.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from serving.hub.events import BLOCK_MS, RawEntry, Read, RedisEvents, Which
from serving.hub.wire import NOTHING, Order
from streams.topics import partition_of
from tapeline.clock import Clock, SystemClock
from tapeline.config import Settings
from tapeline.kafka_access import KafkaAccess
from tapeline.logging import get_logger

START_S: Final = 5.0
AGAIN_MS: Final = 2_000
"""Between two tries to connect."""

ASK_S: Final = 2.0
BEHIND_S: Final = 0.5
"""How long one look behind a cursor may take: other symbols' records of the partition are read, too."""

RECORDS: Final = 2_000
FETCH_WAIT_MS: Final = 50
TOPICS_MS: Final = 5_000
CLOSE_S: Final = 2.0

FIELD: Final = b"event"

log = get_logger("kafka_events")


class KafkaEvents:
    """A `serving.hub.events.EventSource` of ``events`` and ``merged``; others are Redis'.

    Args:
        settings: ``kafka_url`` and the names of the topics.
        redis: For what is on no topic, and the topics' epochs.
        clock: For when to ask for those again.
    """

    def __init__(self, settings: Settings, redis: RedisEvents, clock: Clock | None = None) -> None:
        self._settings, self._redis = settings, redis
        self._clock = clock or SystemClock()
        merged = settings.suffixed(settings.merged_topic)
        self._topic_of = {"events": settings.events_topic, "merged": merged}
        self._live: Any = None
        self._behind: Any = None
        self._opening, self._reading = asyncio.Lock(), asyncio.Lock()
        self._there: set[str] = set()
        self._next: dict[TopicPartition, int] = {}
        self._known: set[Which] = set()
        self._epochs: dict[str, int] = {}
        self._asked_ms: int | None = None
        self._again_ms = 0
        self._told = False

    # --- EventSource ------------------------------------------------------------------------------

    async def ends(self, wanted: Sequence[Which]) -> list[Order]:
        """See `serving.hub.events.EventSource`."""
        ours = [which for which in wanted if which[0] in self._topic_of]
        others = [which for which in wanted if which[0] not in self._topic_of]
        found: dict[Which, Order] = {}
        if others:
            found |= zip(others, await self._redis.ends(others), strict=True)
        if ours:
            with self._as_outage():
                live, _ = await self._consumers()
                async with asyncio.timeout(ASK_S):
                    tps = {which: self._partition(which) for which in ours}
                    ends = await live.end_offsets(self._existing(tps.values()))
                for which, tp in tps.items():
                    end = ends.get(tp)
                    found[which] = NOTHING if end is None else (self._epoch(tp), end)
        return [found[which] for which in wanted]

    async def kept(self, which: Which, cursor: Order) -> tuple[Order, bool]:
        """See `serving.hub.events.EventSource`."""
        if which[0] not in self._topic_of:
            return await self._redis.kept(which, cursor)
        tp = self._partition(which)
        with self._as_outage():
            live, _ = await self._consumers()
            if not self._existing([tp]):
                return NOTHING, cursor != NOTHING
            async with asyncio.timeout(ASK_S):
                (begin,) = (await live.beginning_offsets([tp])).values()
                (end,) = (await live.end_offsets([tp])).values()
        epoch = self._epoch(tp)
        if cursor[0] != epoch or cursor[1] > end:
            return (epoch, end), True  # of another topic of that name, or of another kind of source
        return ((epoch, begin), True) if cursor[1] < begin else (cursor, False)

    async def after(self, which: Which, cursor: Order, count: int) -> Read:
        """See `serving.hub.events.EventSource`."""
        if which[0] not in self._topic_of:
            return await self._redis.after(which, cursor, count)
        tp = self._partition(which)
        with self._as_outage():
            _, behind = await self._consumers()
            if not self._existing([tp]):
                return Read([], cursor, more=False)
            async with self._reading:
                return await self._read_behind(behind, tp, which, cursor, count)

    async def news(self, at: Mapping[Which, Order]) -> list[tuple[Which, Sequence[RawEntry]]]:
        """See `serving.hub.events.EventSource`."""
        ours = {which: order for which, order in at.items() if which[0] in self._topic_of}
        others = {which: order for which, order in at.items() if which[0] not in self._topic_of}
        if not ours:
            return await self._redis.news(others)
        found: list[tuple[Which, Sequence[RawEntry]]] = []
        if others:
            found += await self._redis.news(others, block_ms=1)
        with self._as_outage():
            live, _ = await self._consumers()
            await self._look_at_topics()
            self._follow(live, ours)
            if not live.assignment():
                await asyncio.sleep(BLOCK_MS / 1000)  # a topic that is not there has no news
                return found
            wait_ms = 1 if found else BLOCK_MS
            batches = await live.getmany(timeout_ms=wait_ms, max_records=RECORDS)
        for tp, records in batches.items():
            self._next[tp] = records[-1].offset + 1
            found += self._by_symbol(tp, records, ours)
        return found

    async def close(self) -> None:
        """See `serving.hub.events.EventSource`."""
        consumers = [each for each in (self._live, self._behind) if each is not None]
        self._live = self._behind = None
        for consumer in consumers:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await consumer.stop()

    # --- consumers --------------------------------------------------------------------------------

    async def _consumers(self) -> tuple[Any, Any]:
        async with self._opening:
            if self._live is None:
                now_ms = self._clock.monotonic_ms()
                if now_ms < self._again_ms:
                    raise ConnectionError("it did not answer a moment ago")
                # Its client logs each try: the hub's pace would flood the log.
                self._again_ms = now_ms + AGAIN_MS
                live, behind = self._consumer(), self._consumer()
                try:
                    async with asyncio.timeout(START_S):
                        await live.start()
                        await behind.start()
                except BaseException:
                    for consumer in (live, behind):
                        with contextlib.suppress(KafkaError, OSError, TimeoutError):
                            await consumer.stop()
                    raise
                self._live, self._behind = live, behind
                self._next.clear()
                self._known.clear()
                self._asked_ms = None
                await self._look_at_topics()
            return self._live, self._behind

    def _consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **KafkaAccess.of(self._settings).arguments(),
            client_id=f"{self._settings.app_id}-hub",
            enable_auto_commit=False,
            # What retention has removed meanwhile: go on with what there is.
            auto_offset_reset="earliest",
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )

    @contextlib.contextmanager
    def _as_outage(self) -> Any:
        """A broker's error as one that the hub waits out."""
        try:
            yield
        except (KafkaError, OSError, TimeoutError) as error:
            if not self._told:
                self._told = True
                log.warning("kafka_events.away", error=str(error) or type(error).__name__)
            raise ConnectionError(f"Kafka did not answer: {error!r}") from error
        self._told = False

    def _follow(self, live: Any, at: Mapping[Which, Order]) -> None:
        """Read the partitions of these; a symbol that is new begins behind its own order."""
        wanted: dict[TopicPartition, list[Which]] = {}
        for which in at:
            wanted.setdefault(self._partition(which), []).append(which)
        tps = {tp: wanted[tp] for tp in self._existing(wanted)}
        seek: dict[TopicPartition, int] = {}
        for tp, whiches in tps.items():
            new = [at[w][1] for w in whiches if w not in self._known or tp not in self._next]
            # Behind the tail of the others: they know by its order what comes a second time.
            if new and min(new) < self._next.get(tp, min(new) + 1):
                seek[tp] = min(new)
        if set(tps) != live.assignment():
            live.assign(list(tps))
            seek = {tp: self._next[tp] for tp in tps if tp in self._next} | seek
        for tp, offset in seek.items():
            self._next[tp] = offset
            live.seek(tp, offset)
        for tp in self._next.keys() - tps.keys():
            del self._next[tp]
        self._known = set(at)

    async def _read_behind(
        self, behind: Any, tp: TopicPartition, which: Which, cursor: Order, count: int
    ) -> Read:
        async with asyncio.timeout(ASK_S):
            (end,) = (await behind.end_offsets([tp])).values()
        at, epoch = cursor[1], self._epoch(tp)
        entries: list[RawEntry] = []
        if at < end:
            behind.assign([tp])
            behind.seek(tp, at)
        loop = asyncio.get_running_loop()
        until_s = loop.time() + BEHIND_S
        while at < end and loop.time() < until_s:
            batches = await behind.getmany(tp, timeout_ms=FETCH_WAIT_MS * 2, max_records=RECORDS)
            for record in batches.get(tp, ()):
                at = record.offset + 1
                if record.key == which[1].encode() and record.value:
                    entries.append(_entry(epoch, record))
                    if len(entries) == count:
                        return Read(entries, (epoch, at), more=True)
            # What Kafka keeps for itself has offsets, too, and is never handed over.
            at = max(at, await behind.position(tp))
        return Read(entries, (epoch, at), more=at < end)

    # --- records ----------------------------------------------------------------------------------

    def _by_symbol(
        self, tp: TopicPartition, records: Iterable[Any], at: Mapping[Which, Order]
    ) -> list[tuple[Which, Sequence[RawEntry]]]:
        family = next(f for f, topic in self._topic_of.items() if topic == tp.topic)
        epoch = self._epoch(tp)
        found: dict[Which, list[RawEntry]] = {}
        for record in records:
            which = (family, (record.key or b"").decode("ascii", "replace"))
            if which in at and record.value and (epoch, record.offset + 1) > at[which]:
                found.setdefault(which, []).append(_entry(epoch, record))
        return [*found.items()]

    def _partition(self, which: Which) -> TopicPartition:
        family, symbol = which
        return TopicPartition(
            self._topic_of[family], partition_of(symbol, self._settings.partitions)
        )

    def _existing(self, tps: Iterable[TopicPartition]) -> list[TopicPartition]:
        return [tp for tp in dict.fromkeys(tps) if tp.topic in self._there]

    def _epoch(self, tp: TopicPartition) -> int:
        return self._epochs.get(tp.topic, 0)

    async def _look_at_topics(self) -> None:
        """Which topics there are, and whether one was made anew, as well as Redis says; now and then."""
        now_ms = self._clock.monotonic_ms()
        if self._asked_ms is not None and now_ms - self._asked_ms < TOPICS_MS:
            return
        self._asked_ms = now_ms
        async with asyncio.timeout(ASK_S):
            # Of all topics: asked about one by name, some brokers create it.
            self._there = set(await self._live.topics())
        for topic in self._topic_of.values():
            try:
                epoch = await self._redis.topic_epoch(topic)
            except (RedisError, OSError, TimeoutError):
                continue  # as far as is known; events go on without Redis
            if epoch > self._epochs.get(topic, epoch):
                for tp in self._next:
                    if tp.topic == topic:
                        self._next[tp] = 0
                        self._live.seek(tp, 0)
            self._epochs[topic] = epoch


def _entry(epoch: int, record: Any) -> RawEntry:
    return f"{epoch}-{record.offset + 1}".encode(), {FIELD: record.value}
