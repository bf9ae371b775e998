"""The records of the control topics: commands, what became of them, and the set they make.

`docs/contracts.md` is the prose to this module. Commands are JSON on ``control.commands.v1``,
acknowledgements on ``ops.telemetry.v1``, the set on ``control.routing.v1``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec

from streams.events import SYMBOL_PATTERN, VENUE_PATTERN, Millis
from streams.merged import EVENTS_MAX, WINDOW_S, EventsMax, Merge, WindowS
from streams.symbols import Listing
from tapeline.errors import MalformedRecord, UnknownVersion

COMMAND_VERSION: Final = 1
SUBSCRIBE: Final = "subscribe"
UNSUBSCRIBE: Final = "unsubscribe"
MERGED_SUBSCRIBE: Final = "merged_subscribe"
MERGED_UNSUBSCRIBE: Final = "merged_unsubscribe"

ACKNOWLEDGED: Final = "command.acknowledged"
"""The ``event`` of an acknowledgement: other records of the telemetry topic have others."""

STATE_KEY: Final = b"routing"
"""Of every record of the set: compaction leaves the newest."""

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Key = tuple[str, str]
"""(venue, canonical symbol): what is followed once."""


class Command(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One wish.

    Attributes:
        command_id: Of the sender's making; the same one again changes nothing and is answered
            the same.
        type: ``subscribe`` or ``unsubscribe``; `MergeCommand` has the other two.
        venue, symbol: What it is about; the symbol is the canonical one.
        venue_symbol: The venue's own name, where it differs from the canonical one.
        undoes: Of a bridge's own `unsubscribe`: the subscription that the venue has refused.
        reason: Why, then.
        ts_ms: When it was sent, for people to read.
    """

    v: int
    command_id: Id
    type: Name
    venue: Annotated[str, msgspec.Meta(pattern=VENUE_PATTERN)]
    symbol: Annotated[str, msgspec.Meta(pattern=SYMBOL_PATTERN)]
    venue_symbol: Annotated[str, msgspec.Meta(max_length=64)] = ""
    undoes: str = ""
    reason: str = ""
    ts_ms: Millis = 0

    @property
    def key(self) -> Key:
        """What it is about."""
        return self.venue, self.symbol

    @property
    def listing(self) -> Listing:
        """What it names, as ``SYMBOLS`` would."""
        return Listing(self.venue, self.venue_symbol or self.symbol, self.symbol)


class MergeCommand(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A wish for merged windows of one symbol, or for none any more.

    Attributes:
        command_id: As that of a `Command`.
        type: ``merged_subscribe`` or ``merged_unsubscribe``.
        symbol: Canonical.
        kinds: Of events, each merged by itself. None are all that are merged, for an
            unsubscription.
        venues: Each window has to have an event of each of them; none are all that are followed.
        window_s, max_events: What closes a window.
        ts_ms: When it was sent, for people to read.
    """

    v: int
    command_id: Id
    type: Name
    symbol: Annotated[str, msgspec.Meta(pattern=SYMBOL_PATTERN)]
    kinds: Annotated[list[str], msgspec.Meta(max_length=16)] = []
    venues: Annotated[list[str], msgspec.Meta(max_length=16)] = []
    window_s: WindowS = WINDOW_S
    max_events: EventsMax = EVENTS_MAX
    ts_ms: Millis = 0

    @property
    def venue(self) -> str:
        """None in particular: for answers."""
        return ""


class Answer(msgspec.Struct, kw_only=True):
    """What became of a command.

    Attributes:
        command_id: Whose.
        type, venue, symbol: As it said them.
        status: ``pending`` until the venue has sent something; then nothing else than one of
            the other two.
        error: Why not.
        changed: Whether the set is another since.
        routing_version: Of the set from then on.
    """

    command_id: str
    type: str
    venue: str = ""
    symbol: str = ""
    status: Literal["pending", "success", "error"] = "pending"
    error: str = ""
    changed: bool = False
    routing_version: int = 0


class Acknowledgement(Answer, kw_only=True, omit_defaults=True):
    """An answer as a bridge writes it to the telemetry topic.

    Attributes:
        event: Always `ACKNOWLEDGED`.
        node_id: The bridge that says so.
        decision_id: The command's id: what is logged of it says the same.
        ts_ms: When.
    """

    v: int
    event: str
    ts_ms: int
    node_id: str
    decision_id: str


class Decision(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The newest command about a (venue, symbol) that changed anything.

    Attributes:
        venue_symbol: Followed by this name; empty: not followed.
        command_id: Its id.
    """

    venue: str
    symbol: str
    venue_symbol: str = ""
    command_id: str = ""


class RoutingState(msgspec.Struct, kw_only=True):
    """All that commands up to ``applied`` have come to.

    Attributes:
        applied: Offset of the newest command in it; -1 before any.
        routing_version: Of the set.
        symbols: The whole set, in the grammar of ``SYMBOLS``.
        decisions: What commands have to say about it; ``SYMBOLS`` says the rest.
        answers: Of the newest commands.
        merges: Windows that are merged, by symbol and kind.
    """

    v: int
    applied: int
    routing_version: int
    symbols: list[str]
    decisions: list[Decision] = []
    answers: list[Answer] = []
    merges: list[Merge] = []


class _Head(msgspec.Struct):
    v: Any = None
    command_id: Any = None
    type: Any = None


_decoders: Final[dict[str, Callable[[bytes], Command | MergeCommand]]] = {
    SUBSCRIBE: msgspec.json.Decoder(Command).decode,
    UNSUBSCRIBE: msgspec.json.Decoder(Command).decode,
    MERGED_SUBSCRIBE: msgspec.json.Decoder(MergeCommand).decode,
    MERGED_UNSUBSCRIBE: msgspec.json.Decoder(MergeCommand).decode,
}
_decode_head: Final = msgspec.json.Decoder(_Head).decode
_decode_state: Final = msgspec.json.Decoder(RoutingState).decode
_decode_acknowledgement: Final = msgspec.json.Decoder(Acknowledgement).decode
encode: Final = msgspec.json.Encoder().encode


class RefusedCommand(MalformedRecord):
    """A command that can't be read, though somebody may be waiting for its answer.

    Attributes:
        command_id, type: As far as they could be read; empty else.
    """

    def __init__(self, why: str, command_id: str = "", type_: str = "") -> None:
        super().__init__(why)
        self.command_id, self.type = command_id, type_


def decode_command(value: bytes | None) -> Command | MergeCommand:
    """Read a record of the command topic.

    Raises:
        RefusedCommand: It is no command of this version, with what was expected.
    """
    try:
        head = _decode_head(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedCommand(f"not a command: {error}; expected a JSON object") from None
    command_id = head.command_id if isinstance(head.command_id, str) else ""
    type_ = head.type if isinstance(head.type, str) else ""
    if head.v != COMMAND_VERSION:
        raise RefusedCommand(str(UnknownVersion(head.v)), command_id[:128], type_[:64])
    decode = _decoders.get(type_)
    if decode is None:
        why = f"type is {head.type!r}; expected one of {', '.join(_decoders)}"
        raise RefusedCommand(why[:500], command_id[:128], type_[:64])
    try:
        return decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedCommand(str(error), command_id[:128], type_) from None


def decode_state(value: bytes | None) -> RoutingState | None:
    """Read a record of the routing topic; None for one that this version can't read."""
    try:
        state = _decode_state(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return state if state.v == COMMAND_VERSION else None


def decode_acknowledgement(value: bytes | None) -> Acknowledgement | None:
    """Read a record of the telemetry topic; None where it is none of these."""
    try:
        read = _decode_acknowledgement(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return read if read.event == ACKNOWLEDGED else None


def acknowledgement(answer: Answer, node_id: str, now_ms: int) -> Acknowledgement:
    """An answer, signed."""
    return Acknowledgement(
        v=COMMAND_VERSION,
        event=ACKNOWLEDGED,
        ts_ms=now_ms,
        node_id=node_id,
        decision_id=answer.command_id,
        **msgspec.structs.asdict(answer),
    )
