"""One bridge's contiguous stream: what the place of a record in it says."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from streams.events import Feed

TAKEN_OVER: Final = "another bridge took over"
LOST: Final = "records of the feed are missing"


class Turn(NamedTuple):
    """What a record is that does not simply come next.

    Attributes:
        refused: Why it is not to be applied, as it is counted; empty if it is.
        taken_over: Another bridge goes on from here: the book is not that one's yet.
        lost: Records before it are missing.
    """

    refused: Literal["", "stale_feed", "duplicate_records"] = ""
    taken_over: bool = False
    lost: bool = False


def turn(token: int, seq: int, feed: Feed) -> Turn:
    """Hold a record's place against the newest one of its stream.

    Args:
        token: Of the bridge that is followed; 0 before any record.
        seq: Of that bridge's newest record.
        feed: The record's place.
    """
    if feed.token < token:
        return Turn(refused="stale_feed")
    if feed.token == token:
        if feed.seq <= seq:
            return Turn(refused="duplicate_records")
        return Turn(lost=token > 0 and feed.seq != seq + 1)
    taken_over = token > 0
    return Turn(taken_over=taken_over, lost=taken_over and feed.seq != 1)
