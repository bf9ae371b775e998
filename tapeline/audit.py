"""``tapeline audit``: is the report in Redis the one that the topic's records give?

The report says of which records and moment it is (`source`); the topic has the records. They are
read from 35 minutes before, applied to an engine of this process, and what comes out is compared
with what was published, field by field. Nothing is asked of the worker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

import msgspec
import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from agents.parameters import parameters_of
from agents.positions import WARM_UP_MS
from agents.recompute import Difference, Recomputation, differences
from agents.shards import TOPIC_EPOCH_SHIFT
from lua import Keys
from streams.record_time import NO_TIME, recv_ms
from streams.topic_reader import Span, TopicReader
from streams.topics import changelog_of, partition_of
from tables.changelog import checkpoint_key, decode_checkpoint
from tables.engine import ENGINE_VERSION
from tables.report import Report, decode_report, encode_report, iso_utc
from tapeline.config import Settings
from tapeline.errors import ReportError, SnapshotError, TopicError
from tapeline.halves import join_halves

WHOLE: Final = 1 << 40
NEXT_S: Final = 15.0
"""For a report later than the one audited last."""

POLL_S: Final = 0.05
RECORD_S: Final = 10.0
"""For a record that the topic may not have."""

HEAVY_TRIES: Final = 20


class Verdict(IntEnum):
    """What an audit found; the value is the exit status."""

    EQUAL = 0
    DIFFERENT = 1
    REFUSED = 2
    NOT_HELD = 3


WORST_FIRST: Final = (Verdict.DIFFERENT, Verdict.REFUSED, Verdict.NOT_HELD, Verdict.EQUAL)


@dataclass(slots=True)
class Audit:
    """Of one report.

    Attributes:
        token, seq: Which report.
        offset, now_ms: Of its fast part.
        records: Of the symbol, applied.
        differences: Fields that are not what the records give.
        reason: Why there is no verdict on the fields, if there is none.
    """

    token: int
    seq: int
    offset: int
    now_ms: int
    verdict: Verdict = Verdict.EQUAL
    records: int = 0
    seconds: float = 0.0
    differences: list[Difference] = field(default_factory=list)
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "token": self.token,
            "seq": self.seq,
            "offset": self.offset,
            "now_ms": self.now_ms,
            "verdict": self.verdict.name.lower(),
            "records": self.records,
            "seconds": round(self.seconds, 3),
            "differences": [
                {"field": d.path, "published": d.published, "recomputed": d.recomputed}
                for d in self.differences
            ],
            "reason": self.reason,
        }


def worst(audits: list[Audit]) -> Verdict:
    """Of several audits."""
    found = {audit.verdict for audit in audits}
    return next(verdict for verdict in WORST_FIRST if verdict in found)


@dataclass(frozen=True, slots=True)
class Published:
    """A report as it stands in Redis, its two halves joined.

    Attributes:
        body: Every field as published.
        epoch: How often the topic had been recreated when it was written; None where the last
            write's mark is not this report's.
    """

    report: Report
    body: dict[str, Any]
    epoch: int | None


class NoReport(ReportError):
    """There is none to audit, or none later than the last."""


class _NotHeld(Exception):
    """The topic can't tell; the message says why."""


class Auditor:
    """Audits reports of one symbol."""

    def __init__(self, settings: Settings, symbol: str, redis: Redis) -> None:
        self._settings, self._symbol, self._redis = settings, symbol, redis
        self._keys = Keys.of(settings)
        self._versions: dict[int, int | None] = {}

    async def run(self, times: int, on_audit: Callable[[Audit], None]) -> list[Audit]:
        """Audit this many reports, each a later one.

        Raises:
            NoReport: There is none, or no later one comes.
            ReportError: What is stored is none, or Redis does not answer.
            TopicError: No broker or no topic.
        """
        audits: list[Audit] = []
        newest = (0, 0)
        for _ in range(times):
            published = await self._later(newest)
            newest = published.report.writer.writer_token, published.report.seq
            audit = await self.audit(published)
            audits.append(audit)
            on_audit(audit)
        return audits

    async def audit(self, published: Published) -> Audit:
        """Audit one report."""
        report = published.report
        at = report.source.fast
        audit = Audit(report.writer.writer_token, report.seq, at.offset, at.now_ms)
        began = time.monotonic()
        try:
            version = await self._engine_version(audit.token)
            if version not in (None, ENGINE_VERSION):
                audit.verdict = Verdict.REFUSED
                audit.reason = (
                    f"its writer runs engine version {version}, this release {ENGINE_VERSION}: "
                    "audit with the writer's release"
                )
                return audit
            again = await self._again(published, audit)
            audit.differences = differences(published.body, again)
            if audit.differences:
                audit.verdict = Verdict.DIFFERENT
        except _NotHeld as why:
            audit.verdict, audit.reason = Verdict.NOT_HELD, str(why)
        finally:
            audit.seconds = time.monotonic() - began
        return audit

    # --- what was published --------------------------------------------------------------------

    async def _later(self, than: tuple[int, int]) -> Published:
        """The next report in the order of (token, seq)."""
        deadline = time.monotonic() + NEXT_S
        halves = 0
        while True:
            payload, heavy, meta = await self._stored()
            if payload is None:
                raise NoReport(f"no report of {self._symbol}")
            try:
                report = decode_report(payload)
                body = orjson.loads(payload)
            except (msgspec.DecodeError, orjson.JSONDecodeError) as error:
                raise ReportError(
                    f"what is stored of {self._symbol} is no report: {error}"
                ) from None
            order = report.writer.writer_token, report.seq
            if order > than:
                if report.heavy and not join_halves(body, heavy) and halves < HEAVY_TRIES:
                    halves += 1
                else:
                    return Published(report, body, _epoch(meta, order))
            elif time.monotonic() > deadline:
                raise NoReport(f"no report of {self._symbol} later than {than} in {NEXT_S:g} s")
            await asyncio.sleep(POLL_S)

    async def _stored(self) -> tuple[bytes | None, bytes | None, list[bytes | None]]:
        """Report, its heavy half and the mark of the last write, of one moment."""
        keys, symbol = self._keys, self._symbol
        try:
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.get(keys.report(symbol))
            pipeline.get(keys.heavy(symbol))
            pipeline.hmget(keys.meta(symbol), ["token", "seq", "watermark"])
            answers: Any = await pipeline.execute()
        except (RedisError, OSError) as error:
            raise ReportError(f"Redis did not answer: {error!r}") from None
        return answers[0], answers[1], answers[2]

    async def _topic_epoch(self) -> int:
        try:
            found: Any = await self._redis.get(self._keys.topic_epoch(self._settings.events_topic))
        except (RedisError, OSError) as error:
            raise ReportError(f"Redis did not answer: {error!r}") from None
        return int(found or 0)

    async def _engine_version(self, token: int) -> int | None:
        """Of the writer that has this token, as its checkpoints say; None before its first."""
        if self._versions.get(token) is None:
            self._versions[token] = await _checkpoint_version(self._settings, self._symbol, token)
        return self._versions[token]

    # --- what the records give -----------------------------------------------------------------

    async def _again(self, published: Published, audit: Audit) -> dict[str, Any]:
        report, settings = published.report, self._settings
        if published.epoch is not None and published.epoch != await self._topic_epoch():
            raise _NotHeld("the topic has been created anew since the report was written")
        # The names are what was asked for, whatever the report says.
        asked = msgspec.structs.replace(report, symbol=self._symbol)
        making = Recomputation(asked, parameters_of(settings))
        key = self._symbol.encode()
        async with TopicReader(settings, settings.events_topic) as reader:
            home = partition_of(self._symbol, reader.partitions)
            reader.open({home: await self._needed(reader, home, report)})
            while reader.left and not making.done:
                for records in (await reader.read()).values():
                    ours = [(r.offset, r.value) for r in records if r.key == key and r.value]
                    making.feed(ours)
                    audit.records += len(ours)
        again: dict[str, Any] = orjson.loads(encode_report(making.report(), WHOLE)[0])
        for part in filter(None, again["source"].values()):
            part["topic"], part["partition"] = settings.events_topic, home
        return again

    async def _needed(self, reader: TopicReader, home: int, report: Report) -> Span:
        """From 35 minutes before the older part's newest record, to the newer one's.

        Raises:
            _NotHeld: The topic has lost some of it.
        """
        parts = [at for at in (report.source.fast, report.source.slow) if at is not None]
        oldest, newest = (pick(at.offset for at in parts) for pick in (min, max))
        held = (await reader.held([home]))[home]
        if oldest < held.begin:
            since = await self._holds_since(reader, home, held)
            raise _NotHeld(f"the topic no longer holds the report's records{since}")
        last_ms = NO_TIME
        for offset in sorted({oldest, newest}, reverse=True):
            record = await reader.first_from(home, Span(offset, offset + 1), RECORD_S)
            if record is None:
                raise _NotHeld(
                    f"the topic holds no record at offset {offset}, which the report names"
                )
            last_ms = recv_ms(record.value or b"")
        since_ms = last_ms - WARM_UP_MS
        found = (await reader.first_since([home], since_ms))[home]
        begin = held.begin if found is None else min(max(found, held.begin), oldest)
        if 0 < held.begin == begin:
            record = await reader.first_from(home, Span(begin, newest + 1))
            if record is None or recv_ms(record.value or b"") > since_ms:
                since = await self._holds_since(reader, home, held)
                raise _NotHeld(f"the topic no longer holds the 35 minutes before the report{since}")
        return Span(begin, newest + 1)

    async def _holds_since(self, reader: TopicReader, home: int, held: Span) -> str:
        record = await reader.first_from(home, held, RECORD_S)
        first_ms = NO_TIME if record is None else recv_ms(record.value or b"")
        if first_ms == NO_TIME:
            return "; it holds none"
        return (
            f"; it holds records from {iso_utc(first_ms)} (offset {held.begin}) on, so reports from "
            f"{iso_utc(first_ms + WARM_UP_MS)} on can be audited"
        )


def _epoch(meta: list[bytes | None], order: tuple[int, int]) -> int | None:
    token, seq, watermark = meta
    if token is None or seq is None or watermark is None or (int(token), int(seq)) != order:
        return None
    return int(watermark) >> TOPIC_EPOCH_SHIFT


async def _checkpoint_version(settings: Settings, symbol: str, token: int) -> int | None:
    """Engine version in the newest checkpoint under (symbol, token); None without one."""
    key, newest = checkpoint_key(symbol, token), None
    changelog = changelog_of(settings.suffixed(settings.app_id))
    try:
        async with TopicReader(settings, changelog) as reader:
            home = partition_of(symbol, reader.partitions)
            reader.open(await reader.held([home]))
            while reader.left:
                for records in (await reader.read()).values():
                    newest = next(_values(reversed(records), key), newest)
    except TopicError:
        # Compaction may have overtaken the reading; the comparison says what matters.
        return None
    if newest is None:
        return None
    try:
        snapshot = decode_checkpoint(newest).snapshot
    except SnapshotError:
        return None
    return int.from_bytes(snapshot[1:3], "big")


def _values(records: Iterator[Any], key: bytes) -> Iterator[bytes]:
    return (record.value for record in records if record.key == key and record.value)
