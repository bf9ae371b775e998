"""Merged windows: which are asked for, and the record that one becomes on ``md.merged.v1``.

`docs/contracts.md` is the prose to this module.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from streams.events import KINDS, SYMBOL_PATTERN, VENUE_PATTERN, Count, Millis, Ordinal

MERGED_VERSION: Final = 1
NOT_MERGED: Final = ("instrument", "feed_status")
"""Kinds that say something of a feed, not of the market."""

MERGEABLE: Final = tuple(sorted({*KINDS} - {*NOT_MERGED}))

WINDOW_S: Final = 10.0
EVENTS_MAX: Final = 1000

WindowS = Annotated[float, msgspec.Meta(ge=0.1, le=3600)]
EventsMax = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
ClosedBy = Literal["time", "count", "size"]


class Merge(msgspec.Struct, frozen=True):
    """What is to be merged: one kind of one symbol.

    Attributes:
        symbol: Canonical.
        kind: Of the events.
        venues: All of these must be in a window, or it is not written; sorted.
        window_s: Its length, from its first event's ``ts_recv_ms``.
        max_events: So many close it before its time.
    """

    symbol: Annotated[str, msgspec.Meta(pattern=SYMBOL_PATTERN)]
    kind: str
    venues: tuple[Annotated[str, msgspec.Meta(pattern=VENUE_PATTERN)], ...]
    window_s: WindowS = WINDOW_S
    max_events: EventsMax = EVENTS_MAX

    @property
    def key(self) -> tuple[str, str]:
        """(symbol, kind): what is merged in one way only."""
        return self.symbol, self.kind

    @property
    def window_ms(self) -> int:
        """The length in milliseconds."""
        return round(self.window_s * 1000)


class Merged(msgspec.Struct, kw_only=True):
    """A complete window: a record of ``md.merged.v1``, keyed by its symbol.

    Attributes:
        v: Contract version.
        merge_id: Of the same first event always the same: who reads it twice knows.
        symbol: Canonical.
        kind: Of its events.
        venues: Those asked for; each has an event in it.
        token: Of the writer's lease of the symbol; readers drop records with a lower one.
        opened_ms: ``ts_recv_ms`` of the first event.
        closed_ms: Its end: all its events are of before.
        closed_by: ``time``, ``count`` of events, or ``size`` of the record.
        first_offset, last_offset: Of its events in their partition of the events topic.
        counts: Events by venue.
        events: Records as they are on ``md.events.v1``, in the order of that topic.
    """

    v: int
    merge_id: str
    symbol: str
    kind: str
    venues: tuple[str, ...]
    token: Ordinal
    opened_ms: Millis
    closed_ms: Millis
    closed_by: ClosedBy
    first_offset: Count
    last_offset: Count
    counts: dict[str, int]
    events: list[msgspec.Raw]


encode: Final = msgspec.json.Encoder().encode
decode: Final = msgspec.json.Decoder(Merged).decode
