"""What a bridge tells operators: each thing it has decided about a feed, once, with an id.

Resyncs, drops and the like that assemblers and sources only count are found by looking at their
counts, a few times a second: what happened in between is told together. A book that was asked for
anew and the book that has come are told under one ``trace_id``.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from streams.events import FeedStatus
from streams.feeds import Feeds
from streams.sources import REFUSED, FrameSource
from streams.telemetry import Ids, Telemetry
from tapeline.clock import Clock
from tapeline.logging import get_logger

CHECKSUM: Final = "checksum"
"""Reason of a gap that is the venue's own checksum of the book."""

COUNTED: Final = {
    "trade_duplicates": "duplicate_event.dropped",
    "trades_missing": "trade.missing",
    "stale": "stale_event.dropped",
    "sequence_gaps": "sequence.gap",
    "crossed": "book.crossed",
    "checks_differed": "book.differed",
}
"""By name among `streams.venues.base.AssemblerCounts`: the event that tells of more of them."""

log = get_logger("bridge")


class _Episode(NamedTuple):
    trace_id: str
    since_ms: int


class BridgeTelemetry:
    """Tells what there is to tell of a bridge's venues.

    Attributes:
        resyncs: Books asked for anew, by (venue, symbol).
    """

    def __init__(
        self, write: Callable[[bytes, bytes], None], *, node_id: str, clock: Clock
    ) -> None:
        """``write`` takes a record's key and value."""
        self.telemetry = Telemetry(write, component="bridge", node_id=node_id, clock=clock)
        self._clock = clock
        self.resyncs: Counter[tuple[str, str]] = Counter()
        self._episodes: dict[tuple[str, str], _Episode] = {}
        self._seen: dict[str, Counter[str]] = {}
        self._reconnects: dict[str, Counter[str]] = {}

    # --- told as it happens -----------------------------------------------------------------------

    def resync(self, venue: str, symbol: str, reason: str, detail: str = "", **more: Any) -> None:
        """A book is wrong, or may be, and is asked for anew."""
        self.resyncs[venue, symbol] += 1
        episode = self._episodes.setdefault(
            (venue, symbol), _Episode(uuid.uuid4().hex, self._clock.monotonic_ms())
        )
        if reason == CHECKSUM:
            ids = self._tell(
                "checksum.failed", venue, episode.trace_id, symbol=symbol, detail=detail
            )
            log.warning(
                "checksum.failed", venue=venue, symbol=symbol, detail=detail, **ids._asdict()
            )
        ids = self._tell(
            "book.resync",
            venue,
            episode.trace_id,
            symbol=symbol,
            reason=reason,
            detail=detail,
            **more,
        )
        log.warning(
            "book.resync",
            venue=venue,
            symbol=symbol,
            reason=reason,
            detail=detail,
            **ids._asdict(),
            **more,
        )

    def gap(self, status: FeedStatus) -> None:
        """An assembler has found that something is missing."""
        self.resync(status.venue, status.symbol, status.reason, status.detail)

    def granted(self, venue: str, symbol: str, token: int) -> None:
        """A feed is ours, under this token."""
        ids = self._tell("feed.granted", venue, "", symbol=symbol, token=token)
        log.info("feed.granted", venue=venue, symbol=symbol, token=token, **ids._asdict())

    def lease_lost(self, venue: str, symbol: str, token: int) -> None:
        """A feed that was ours under this token is another's."""
        ids = self._tell("feed.lease_lost", venue, "", symbol=symbol, token=token)
        log.warning("feed.lease_lost", venue=venue, symbol=symbol, token=token, **ids._asdict())

    def backpressure(self, depth: int, age_ms: int) -> None:
        """The broker has taken nothing for too long."""
        ids = self.telemetry.tell(
            "backpressure.triggered", stream_key="outbox", buffer_depth=depth, age_ms=age_ms
        )
        log.error("broker.outage", age_ms=age_ms, buffered=depth, **ids._asdict())

    # --- found by looking -------------------------------------------------------------------------

    def look(self, sources: Iterable[FrameSource], feeds: Mapping[str, Feeds]) -> None:
        """Tell what has been counted since the last time, and which books are right again."""
        for source in sources:
            venue = source.assembler.venue
            self._sockets(venue, source.counts.reconnects)
            self._counts(venue, source)
            late = source.assembler.counts.late_events
            while late:
                one = late.popleft()
                self._tell(
                    "late_event.dropped",
                    venue,
                    "",
                    stage="bridge",
                    symbol=one.symbol,
                    kind=one.kind,
                    seq_provider=one.seq,
                    lateness_ms=one.lateness_ms,
                )
        self._healed(feeds)

    def _sockets(self, venue: str, reconnects: Mapping[str, int]) -> None:
        before = self._reconnects.setdefault(venue, Counter())
        for reason, count in reconnects.items():
            more = count - before[reason]
            if more > 0:
                before[reason] = count
                event = "ws_connect.refused" if reason == REFUSED else "ws_resubscribe"
                self._tell(event, venue, "", reason=reason, count=more)

    def _counts(self, venue: str, source: FrameSource) -> None:
        before = self._seen.setdefault(venue, Counter())
        for name, event in COUNTED.items():
            count = getattr(source.assembler.counts, name)
            more = count - before[name]
            if more > 0:
                before[name] = count
                self._tell(event, venue, "", count=more)
        for status, count in source.counts.requests_refused.items():
            more = count - before[f"status {status}"]
            if more > 0:
                before[f"status {status}"] = count
                self._tell("request.refused", venue, "", status=status, count=more)
        more = source.counts.errors - before["errors"]
        if more > 0:
            before["errors"] = source.counts.errors
            self._tell("frame.refused", venue, "", count=more)

    def _healed(self, feeds: Mapping[str, Feeds]) -> None:
        for venue, symbol in [*self._episodes]:
            line = feeds[venue].lines.get(symbol)
            if line is not None and (not line.in_sync or line.lost):
                continue
            episode = self._episodes.pop((venue, symbol))
            if line is None:
                continue  # followed no more
            took_ms = self._clock.monotonic_ms() - episode.since_ms
            ids = self._tell("book.synced", venue, episode.trace_id, symbol=symbol, took_ms=took_ms)
            log.info(
                "book.synced",
                venue=venue,
                symbol=symbol,
                took_ms=took_ms,
                **ids._asdict(),
            )

    def _tell(self, event: str, venue: str, trace_id: str, **fields: Any) -> Ids:
        return self.telemetry.tell(event, trace_id=trace_id, provider=venue, **fields)
