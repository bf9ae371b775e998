"""What the hub counts, and the two log events of a client that is behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.hub.session import Pair
from tapeline.logging import get_logger

LOG_PERIOD_MS: Final = 10_000
"""Between two lines on the same stream."""

LINES_MAX: Final = 20
"""Of one event in that time, whatever the stream."""

_DELIVERY: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_SESSION: Final = (1, 10, 60, 300, 1800, 3600, 21_600, 86_400)

log = get_logger("hub")


class HubMetrics:
    """Metrics of one hub.

    Args:
        registry: Where they are shown.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.connections = Gauge("tapeline_hub_connections", "Clients connected", registry=registry)
        self.subscribers = Gauge(
            "tapeline_hub_subscribers",
            "Pairs of channel and symbol followed, each by each client",
            registry=registry,
        )
        self.subscribers_peak = Gauge(
            "tapeline_hub_subscribers_peak", "Most there have been", registry=registry
        )
        self.streams = Gauge(
            "tapeline_hub_streams",
            "Pairs of channel and symbol that somebody follows",
            registry=registry,
        )
        self.buffer_depth = Gauge(
            "tapeline_hub_buffer_depth",
            "Frames and events of one stream that wait for one client: the most there are",
            registry=registry,
        )
        self.session_seconds = Histogram(
            "tapeline_hub_session_seconds",
            "How long clients stayed",
            buckets=_SESSION,
            registry=registry,
        )
        self.delivery_seconds = Histogram(
            "tapeline_hub_delivery_seconds",
            "From the hub's hearing of market data to its being handed to a client's socket; the "
            "oldest of each write",
            buckets=_DELIVERY,
            registry=registry,
        )
        self.frames = Counter("tapeline_hub_frames_total", "Frames sent", registry=registry)
        self.bytes = Counter("tapeline_hub_bytes_total", "Bytes sent", registry=registry)
        self.coalesced = Counter(
            "tapeline_hub_coalesced_total",
            "Frames and events that newer ones have replaced or pushed out",
            ("channel",),
            registry=registry,
        )
        self.throttled_seconds = Counter(
            "tapeline_hub_throttled_seconds_total",
            "Time in which clients' frames waited for the rate limit",
            registry=registry,
        )
        self.errors = Counter(
            "tapeline_hub_broadcast_errors_total",
            "What could not be handed on",
            ("reason",),
            registry=registry,
        )
        self.closed = Counter(
            "tapeline_hub_closed_total",
            "Connections that the hub has ended",
            ("reason",),
            registry=registry,
        )
        self.refused = Counter(
            "tapeline_hub_refused_total", "Requests refused", ("code",), registry=registry
        )
        self.store_up = Gauge(
            "tapeline_hub_store_up", "Whether Redis answers: 1 or 0", registry=registry
        )
        # Of a series that appears with its first event, Prometheus does not see that event.
        for reason in ("own_fault", "unreadable"):
            self.errors.labels(reason)
        for reason in ("flood", "full", "no_room", "slow", "unauthorized"):
            self.closed.labels(reason)
        self._peak = 0
        self._lines = _Sparingly("coalescing.applied"), _Sparingly("backpressure.triggered")

    def subscribed(self, number: int) -> None:
        """How many there are."""
        self.subscribers.set(number)
        if number > self._peak:
            self._peak = number
            self.subscribers_peak.set(number)

    def sent(self, frames: list[bytes], waited_ms: float | None) -> None:
        """Frames have been handed to a socket."""
        self.frames.inc(len(frames))
        self.bytes.inc(sum(map(len, frames)))
        if waited_ms is not None:
            self.delivery_seconds.observe(waited_ms / 1000)

    def dropped(self, by_pair: Mapping[Pair, int], mono_ms: float) -> None:
        """Frames and events have been replaced or pushed out."""
        for (channel, symbol), number in by_pair.items():
            self.coalesced.labels(channel).inc(number)
            self._lines[0].say(f"{channel}|{symbol}", "dropped_count", number, mono_ms)

    def backpressure(self, stream_key: str, depth: int, mono_ms: float) -> None:
        """A client does not take what it is sent."""
        self._lines[1].say(stream_key, "buffer_depth", depth, mono_ms, add=False)


class _Sparingly:
    """One log event: at most once a period for each stream, and not for too many of them."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._said_ms: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}
        self._since_ms = float("-inf")
        self._lines = 0

    def say(
        self, stream_key: str, field: str, number: int, mono_ms: float, *, add: bool = True
    ) -> None:
        if mono_ms - self._since_ms >= LOG_PERIOD_MS:
            self._since_ms, self._lines = mono_ms, 0
            self._said_ms = {
                key: at for key, at in self._said_ms.items() if mono_ms - at < LOG_PERIOD_MS
            }
        if add:
            number += self._unsaid.get(stream_key, 0)
        if stream_key in self._said_ms or self._lines >= LINES_MAX:
            if add and (stream_key in self._unsaid or len(self._unsaid) < 10_000):
                self._unsaid[stream_key] = number
            return
        self._said_ms[stream_key] = mono_ms
        self._unsaid.pop(stream_key, None)
        self._lines += 1
        log.warning(self._event, stream_key=stream_key, **{field: number})
