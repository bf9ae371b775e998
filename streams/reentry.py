"""What becomes of a dead letter that is tried again with today's code. Pure.

Only trades re-enter. A book is a matter of order: what a late record said of it has been said
again by every snapshot since, and to apply it now would make the book wrong. Likewise quotes,
candles, instruments and states of the feed, of which the newest alone counts.

Nor can a late trade have its old place in its feed's sequence: that is over, and a new place is
for the bridge that holds the feed lease to give. So it re-enters under `REENTERED`, below every
lease's token. Whoever follows the contract's rules of token and sequence passes over it, no gap
opens and no book is muted; whoever keeps trades by ``event_id`` has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from streams.capture.dialects import dialect_of
from streams.capture.player import listings_of
from streams.dead_letters import Letter
from streams.events import (
    CONTRACT_VERSION,
    BookDelta,
    BookSnapshot,
    Event,
    Feed,
    Trade,
    decode,
    kind_of,
)
from streams.symbols import Listing, is_symbol
from tapeline.errors import ConfigError, FeedError, RecordError

REENTERED: Final = Feed(1, 1)
"""Of a trade that has re-entered: the lowest there can be; leases' tokens are times."""

ROUTING_VERSION: Final = 0
"""No subscription set brought it."""

Outcome = Literal["reentered", "duplicate", "superseded", "unreadable"]


@dataclass(slots=True)
class Decision:
    """What is to become of one letter, or became of it.

    Attributes:
        letter: Which.
        outcome: ``reentered``: its trades go to the topic; ``duplicate``: they are there already;
            ``superseded``: nothing in it that may re-enter; ``unreadable``: not even today.
        why: In words; empty where it re-enters.
        trades: Records that are to be written, stamped.
    """

    letter: Letter
    outcome: Outcome
    why: str = ""
    trades: list[Trade] = field(default_factory=list)


def decide(letter: Letter, topic: str, listings: Iterable[Listing] = ()) -> Decision:
    """Parse a letter anew.

    Args:
        letter: Of any dead-letter topic.
        topic: The events topic: others' records never re-enter.
        listings: What is followed, for the canonical names of what frames name.
    """
    told = letter.headers.get("topic", topic)
    if told != topic:
        return Decision(letter, "superseded", f"a record of {told}; only market trades re-enter")
    if letter.value is None or "omitted" in letter.headers:
        return Decision(letter, "unreadable", "the record was kept without its value")
    return _frame(letter, listings) if letter.is_frame else _record(letter)


def _record(letter: Letter) -> Decision:
    assert letter.value is not None
    try:
        event = decode(letter.value)
    except RecordError as error:
        return Decision(letter, "unreadable", str(error))
    if not isinstance(event, Trade):
        return Decision(letter, "superseded", _superseded(event))
    if not is_symbol(event.symbol) or letter.key != event.symbol.encode():
        key = (letter.key or b"").decode("utf-8", "backslashreplace")
        return Decision(letter, "unreadable", f"symbol {event.symbol!r} under the key {key!r}")
    return Decision(letter, "reentered", "", [_stamped(event)])


def _frame(letter: Letter, listings: Iterable[Listing]) -> Decision:
    told, raw = letter.headers, letter.value or b""
    if letter.truncated is not None:
        why = f"only {len(raw):,} of the frame's {letter.truncated:,} bytes were kept"
        return Decision(letter, "unreadable", why)
    if "path" in told:
        why = "a REST reply: books and instruments are asked for anew"
        return Decision(letter, "superseded", why)
    try:
        events = _events(told["venue"], raw, told.get("ts_recv_ms", ""), listings)
    except (FeedError, ConfigError, UnicodeDecodeError) as error:
        return Decision(letter, "unreadable", str(error))
    trades = [_stamped(event) for event in events if isinstance(event, Trade)]
    if not trades:
        what = _superseded(events[0]) if events else "a frame without a trade: books go on without"
        return Decision(letter, "superseded", what)
    return Decision(letter, "reentered", "", trades)


def _events(venue: str, raw: bytes, ts_recv_ms: str, listings: Iterable[Listing]) -> list[Event]:
    """What today's assembler makes of one frame.

    Raises:
        FrameError: Nothing.
        ConfigError: No adapter has the venue's name.
    """
    dialect, text = dialect_of(venue), raw.decode()
    ours = [listing for listing in listings if listing.venue == venue]
    known = {listing.venue_symbol for listing in ours}
    _, named = dialect.look(text)
    if named and named not in known:
        ours += listings_of(dialect, [named])
    if not ours:
        raise ConfigError("SYMBOLS", None, f"a symbol of {venue}: the frame names none")
    now_ms = int(ts_recv_ms) if ts_recv_ms.isascii() and ts_recv_ms.isdigit() else 0
    assembler = dialect.assembler(ours, infer_instruments=True)
    assembler.connected(now_ms)
    return assembler.receive(text, now_ms)


def _superseded(event: Event) -> str:
    if isinstance(event, BookDelta | BookSnapshot):
        return f"{kind_of(event)}: book records are superseded by the snapshots written since"
    return f"{kind_of(event)}: superseded, the newest alone counts; only trades re-enter"


def _stamped(trade: Trade) -> Trade:
    return msgspec.structs.replace(
        trade, v=CONTRACT_VERSION, feed=REENTERED, routing_version=ROUTING_VERSION
    )
