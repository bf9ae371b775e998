"""What the bridge's ``/health`` and ``/ready`` say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from streams.feed_lease import FeedLeases
from streams.feeds import Feeds
from streams.kafka_writer import KafkaWriter
from streams.outbox import Outbox
from streams.sources import FrameSource
from tapeline.clock import Clock


def health(
    sources: Iterable[FrameSource],
    feeds: dict[str, Feeds],
    outbox: Outbox,
    writer: KafkaWriter,
    leases: FeedLeases,
    *,
    clock: Clock,
    started_ms: int,
    node_id: str,
    outage: bool,
) -> tuple[bool, dict[str, Any]]:
    """Whether everything flows, and the figures behind it.

    It flows while every venue has a socket, the broker takes records, and either a lease is held
    or Redis would say whose it is: a bridge that stands by for another one is well.
    """
    now_ms, monotonic_ms = clock.now_ms(), clock.monotonic_ms()
    lines = [line for each in feeds.values() for line in each.lines.values()]
    followed = [source for source in sources if feeds[source.assembler.venue].lines]
    connected = all(feeds[source.assembler.venue].connected for source in followed)
    leased = leases.reachable or any(line.token for line in lines)
    well = connected and leased and writer.connected and not outage
    return well, {
        "status": "ok" if well else "unhealthy",
        "node_id": node_id,
        "uptime_s": (monotonic_ms - started_ms) / 1000,
        "connected": connected,
        "routing_version": max((each.routing_version for each in feeds.values()), default=0),
        "symbols_in_sync": sum(line.in_sync for line in lines),
        "venues": {
            source.assembler.venue: _venue(source, feeds[source.assembler.venue], now_ms)
            for source in followed
        },
        "broker": {
            "connected": writer.connected,
            "outage": outage,
            "idempotent": writer.idempotent,
        },
        "redis": {"reachable": leases.reachable},
        "outbox": {
            "records": outbox.depth,
            "bytes": outbox.bytes,
            "age_ms": outbox.age_ms(monotonic_ms),
        },
    }


def unready(well: bool, body: dict[str, Any]) -> str:
    """What a bridge still waits for, or again; '' where everything flows.

    A bridge that stands by for another one is ready: it has its sockets and its books.

    Args:
        well: Of `health`.
        body: Of `health`.
    """
    if well:
        return ""
    away = [f"{name}: no socket" for name, one in body["venues"].items() if not one["connected"]]
    if not body["broker"]["connected"] or body["broker"]["outage"]:
        away.append("the broker takes nothing")
    if not body["redis"]["reachable"]:
        away.append("Redis does not answer")
    return "; ".join(away) or "nothing is followed yet"


def _venue(source: FrameSource, feeds: Feeds, now_ms: int) -> dict[str, Any]:
    last_ms = source.counts.last_frame_ms
    return {
        "connected": feeds.connected,
        "last_frame_age_ms": max(0, now_ms - last_ms) if last_ms else None,
        "clock_offset_ms": _rounded(source.counts.clock.offset_ms),
        "round_trip_ms": _rounded(source.counts.clock.round_trip_ms),
        "symbols": {
            line.symbol: {
                "listed": not line.closed,
                "in_sync": line.in_sync,
                "feed_token": line.token,
                "feed_seq": line.seq,
                "gaps": feeds.gaps[line.symbol],
            }
            for line in feeds.lines.values()
        },
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
