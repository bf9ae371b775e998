"""Feeds out of the bridges' heartbeats: of each, the word of the bridge that writes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from serving.status.facts import BridgeBeat, BridgeFacts, Feed
from serving.status.models import WORST, Book, FeedSight, State

SILENT_MS: Final = 3_000
"""Heartbeats come each second: who is silent for so long can't be counted on."""

RECORD_LATE_MS: Final = 2_000
RECORD_LOST_MS: Final = 10_000
"""Even a silent market's feed writes twice a second that it is alive."""

_BOOKS: Final = ("in_sync", "out_of_sync", "unlisted")


def lives(bridge: BridgeFacts) -> bool:
    """Whether a bridge's heartbeat is recent, and can be read."""
    return bridge.beat is not None and bridge.age_ms is not None and bridge.age_ms <= SILENT_MS


def feeds_of(bridges: Mapping[str, BridgeFacts]) -> dict[str, FeedSight]:
    """All feeds that bridges tell of, by their stream's id.

    Several bridges may follow one: the one that holds its lease speaks for it, then whoever is
    best off. One that lives speaks before one that does not.
    """
    best: dict[str, tuple[tuple[bool, int, int], FeedSight]] = {}
    for name, bridge in sorted(bridges.items()):
        if bridge.beat is None:
            continue
        for stream_id, feed in bridge.beat.feeds.items():
            venue, colon, symbol = stream_id.partition(":")
            if not (venue and colon and symbol):
                continue
            sight = _sight(name, bridge, bridge.beat, stream_id, feed)
            rank = (lives(bridge), feed.token, -WORST[sight.state])
            if stream_id not in best or rank > best[stream_id][0]:
                best[stream_id] = rank, sight
    return {stream_id: sight for stream_id, (_, sight) in sorted(best.items())}


def _sight(
    name: str, bridge: BridgeFacts, beat: BridgeBeat, stream_id: str, feed: Feed
) -> FeedSight:
    venue, _, symbol = stream_id.partition(":")
    connected = venue in beat.venues and beat.venues[venue].connected
    age_ms = feed.last_record_age_ms
    if age_ms is not None:
        age_ms = max(0, age_ms + (bridge.age_ms or 0))
    state, sentence = _judged(name, bridge, feed, connected, age_ms)
    return FeedSight(
        stream_id=stream_id,
        venue=venue,
        symbol=symbol,
        state=state,
        sentence=sentence,
        bridge=name,
        connected=connected,
        book=cast("Book", feed.book) if feed.book in _BOOKS else "unknown",
        token=feed.token,
        records_per_s=feed.records_per_s,
        last_record_age_ms=age_ms,
        gaps=feed.gaps,
        resyncs=feed.resyncs,
    )


def _judged(
    name: str, bridge: BridgeFacts, feed: Feed, connected: bool, age_ms: int | None
) -> tuple[State, str]:
    if not lives(bridge):
        return "down", f"bridge {name} is silent"
    if feed.book == "unlisted":
        return "down", "its venue does not list it, or refused it"
    if not connected:
        return "down", f"bridge {name} has no connection to its venue"
    if not feed.token:
        return "degraded", "no bridge holds its lease: nothing of it is written"
    if age_ms is not None and age_ms > RECORD_LOST_MS:
        return "down", f"nothing of it was written for {age_ms / 1000:.0f} s"
    if age_ms is not None and age_ms > RECORD_LATE_MS:
        return "degraded", f"nothing of it was written for {age_ms / 1000:.1f} s"
    if feed.book != "in_sync":
        return "degraded", "its book is out of sync"
    return "ok", ""
