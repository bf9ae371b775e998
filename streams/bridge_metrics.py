"""The bridge's counters as Prometheus reads them.

The hot path counts in plain integers; this collector looks at them when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.capture.recorder import Recorder
from streams.feed_lease import FeedLeases
from streams.feeds import Feeds
from streams.frame_letters import LetterQueue
from streams.kafka_writer import KafkaWriter
from streams.outbox import LostLine, Outbox
from streams.sources import REFUSED, FrameSource
from streams.telemetry import Telemetry
from tapeline.metrics.registry import new_registry

PREFIX: Final = "tapeline_bridge_"

REASONS: Final = (REFUSED, "age", "announced", "closed", "error", "lost", "silent")
"""Of reconnects, from zero on: of a series that appears with its first event, Prometheus does not
see that event.
"""

Sample = tuple[tuple[str, ...], float]


class BridgeMetrics(Collector):
    """Reads what the bridge's parts have counted."""

    def __init__(
        self,
        sources: Iterable[FrameSource],
        feeds: dict[str, Feeds],
        outbox: Outbox,
        writer: KafkaWriter,
        leases: FeedLeases,
        outbox_age_s: Callable[[], float],
        *,
        letters: LetterQueue,
        recorders: Mapping[str, Recorder],
        telemetry: Telemetry,
    ) -> None:
        self._sources = tuple(sources)
        self._feeds, self._outbox, self._writer, self._leases = feeds, outbox, writer, leases
        self._outbox_age_s = outbox_age_s
        self._letters, self._recorders, self._telemetry = letters, recorders, telemetry

    def registry(self) -> CollectorRegistry:
        """A registry with these metrics, and those of every process."""
        registry = new_registry("bridge")
        registry.register(self)
        return registry

    def collect(self) -> Iterator[Metric]:
        """All metrics, as they are now."""
        yield from self._venues()
        yield from self._lines()
        yield from self._broker()
        yield from self._dead_letters()
        yield from self._recordings()
        yield from self._told()

    def _venues(self) -> Iterator[Metric]:
        by_venue = {
            source.assembler.venue: source
            for source in self._sources
            # A venue of which nothing is followed has nothing to be well or ill.
            if self._feeds[source.assembler.venue].lines
        }
        yield _counter(
            "frames", "Frames received.", ["venue"], _each(by_venue, lambda s: s.counts.frames)
        )
        yield _counter(
            "frame_errors",
            "Frames and replies that were not the venue's dialect.",
            ["venue"],
            _each(by_venue, lambda s: s.counts.errors),
        )
        yield _counter(
            "connects", "Sockets opened.", ["venue"], _each(by_venue, lambda s: s.counts.connects)
        )
        reconnects = [
            ((venue, reason), source.counts.reconnects[reason])
            for venue, source in by_venue.items()
            for reason in dict.fromkeys((*REASONS, *source.counts.reconnects))
        ]
        yield _counter("reconnects", "Sockets lost or given up.", ["venue", "reason"], reconnects)
        yield _counter(
            "ws_resubscribe",
            "Times a venue was subscribed to anew, by why.",
            ["venue", "reason"],
            [(labels, count) for labels, count in reconnects if labels[1] != REFUSED],
            prefix="nt_",
        )
        for name, what in (
            ("resyncs", "Books distrusted and asked for anew."),
            ("checksums_failed", "Books that differed from the venue's checksum of them."),
            ("sequence_gaps", "Holes in a connection's own numbers."),
            ("late", "Events that came when their hole had been given up."),
            ("trade_duplicates", "Trades dropped, their id seen before."),
            ("checks_differed", "Books in sync that differed from a snapshot of them."),
            ("crossed", "Books found with the best bid at or above the best ask."),
            ("ts_replaced", "Times of the venue replaced by ours, being more than 60 s off."),
        ):
            yield _counter(
                name,
                what,
                ["venue"],
                _each(by_venue, _count_of(name)),
            )
        yield _counter(
            "requests_refused",
            "REST requests that came to nothing; status 0: without an answer.",
            ["venue", "status"],
            [
                ((venue, str(status)), count)
                for venue, source in by_venue.items()
                for status, count in source.counts.requests_refused.items()
            ],
        )
        yield _counter(
            "trades_missing",
            "Trades the venue made and the bridge did not see.",
            ["venue"],
            _each(by_venue, lambda s: s.assembler.counts.trades_missing),
        )
        clocks = {venue: source.counts.clock for venue, source in by_venue.items()}
        yield _gauge(
            "clock_offset_seconds",
            "How far the venue's clock is ahead of ours, estimated.",
            ["venue"],
            [((v,), c.offset_ms / 1000) for v, c in clocks.items() if c.offset_ms is not None],
        )
        yield _gauge(
            "round_trip_seconds",
            "Shortest round trip of a ping to the venue in the last minute.",
            ["venue"],
            [
                ((v,), c.round_trip_ms / 1000)
                for v, c in clocks.items()
                if c.round_trip_ms is not None
            ],
        )
        yield _gauge(
            "connected",
            "1 while the venue has a socket.",
            ["venue"],
            [((venue,), float(self._feeds[venue].connected)) for venue in by_venue],
        )

    def _lines(self) -> Iterator[Metric]:
        lines = [
            (v, feeds, line) for v, feeds in self._feeds.items() for line in feeds.lines.values()
        ]
        yield _counter(
            "gaps",
            "Times readers were told that something is missing.",
            ["venue", "symbol"],
            [((v, line.symbol), feeds.gaps[line.symbol]) for v, feeds, line in lines],
        )
        yield _counter(
            "records",
            "Records made.",
            ["venue", "kind"],
            [
                ((venue, kind), count)
                for venue, feeds in self._feeds.items()
                for kind, count in feeds.records.items()
            ],
        )
        yield _counter(
            "muted",
            "Events not written because another bridge holds the feed lease, or nobody does yet.",
            ["venue"],
            [((venue,), feeds.muted) for venue, feeds in self._feeds.items()],
        )
        yield _counter(
            "dropped",
            "Records and events dropped because the broker was away for too long.",
            ["venue", "symbol"],
            [
                (
                    (venue, line.symbol),
                    feeds.dropped[line.symbol] + self._outbox.dropped[LostLine(venue, line.symbol)],
                )
                for venue, feeds, line in lines
            ],
        )
        yield _gauge(
            "in_sync",
            "1 while the symbol's book follows the venue's.",
            ["venue", "symbol"],
            [((v, line.symbol), float(line.in_sync)) for v, _, line in lines],
        )
        yield _gauge(
            "feed_token",
            "Token of the feed lease; 0 while none is held.",
            ["venue", "symbol"],
            [((v, line.symbol), float(line.token)) for v, _, line in lines],
        )

        yield _gauge(
            "routing_version",
            "Raised by each change of the set of subscriptions.",
            [],
            [((), max((feeds.routing_version for feeds in self._feeds.values()), default=0))],
        )

    def _broker(self) -> Iterator[Metric]:
        outbox, writer = self._outbox, self._writer
        yield _gauge(
            "outbox_bytes", "Bytes that the broker has not acknowledged.", [], [((), outbox.bytes)]
        )
        yield _gauge(
            "outbox_records",
            "Records that the broker has not acknowledged.",
            [],
            [((), outbox.depth)],
        )
        yield _gauge(
            "outbox_age_seconds", "Age of the oldest of them.", [], [((), self._outbox_age_s())]
        )
        yield _counter(
            "acknowledged", "Records acknowledged by the broker.", [], [((), outbox.acknowledged)]
        )
        yield _counter(
            "refused", "Records that the broker will never take.", [], [((), writer.refused)]
        )
        yield _counter(
            "producers_replaced",
            "Producers that became unusable.",
            ["reason"],
            [((reason,), count) for reason, count in writer.replaced.items()],
        )
        yield _gauge(
            "broker_connected", "1 while there is a producer.", [], [((), float(writer.connected))]
        )
        yield _gauge(
            "redis_reachable", "1 while Redis answers.", [], [((), float(self._leases.reachable))]
        )
        yield _counter(
            "leases_lost", "Feed leases that became another's.", [], [((), self._leases.lost)]
        )

    def _dead_letters(self) -> Iterator[Metric]:
        letters = self._letters
        yield _counter(
            "dead_letters",
            "Frames that could not be parsed, kept in the dead-letter topic.",
            ["venue"],
            [
                ((venue,), letters.kept[venue])
                for venue, feeds in self._feeds.items()
                if feeds.lines
            ],
        )
        yield _counter(
            "dead_letters_dropped",
            "Frames that could not be parsed and were not kept either.",
            ["venue", "reason"],
            letters.dropped.items(),
        )
        yield _gauge(
            "dead_letters_waiting",
            "Of those to be kept, not yet acknowledged.",
            [],
            [((), len(letters))],
        )

    def _recordings(self) -> Iterator[Metric]:
        recorders = self._recorders
        yield _counter(
            "recorder_dropped",
            "Frames and replies that came and were not recorded.",
            ["venue"],
            [((venue,), each.dropped) for venue, each in recorders.items()],
        )
        yield _gauge(
            "recorder_queue_bytes",
            "What waits to be recorded.",
            ["venue"],
            [((venue,), each.queue.bytes) for venue, each in recorders.items()],
        )
        yield _gauge(
            "recorder_failed",
            "1 while the disk takes nothing.",
            ["venue"],
            [((venue,), float(bool(each.failure))) for venue, each in recorders.items()],
        )

    def _told(self) -> Iterator[Metric]:
        yield _counter(
            "telemetry",
            "Telemetry events, written and left out because there were too many.",
            ["event", "venue", "outcome"],
            self._telemetry.outcomes(),
        )


def _each(sources: dict[str, FrameSource], read: Callable[[FrameSource], float]) -> list[Sample]:
    return [((venue,), read(source)) for venue, source in sources.items()]


def _count_of(name: str) -> Callable[[FrameSource], float]:
    """Reads one of `streams.venues.base.AssemblerCounts`."""
    return lambda source: float(getattr(source.assembler.counts, name))


def _counter(
    name: str, text: str, labels: list[str], samples: Iterable[Sample], *, prefix: str = PREFIX
) -> Metric:
    family = CounterMetricFamily(prefix + name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _gauge(name: str, text: str, labels: list[str], samples: Iterable[Sample]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family
