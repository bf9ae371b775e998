"""The records of the control topics: commands, what became of them, and the set they make.

`docs/contracts.md` is the prose to this module. Commands are JSON on ``control.commands.v1``,
acknowledgements on ``ops.telemetry.v1``, the set on ``control.routing.v1``.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from streams.events import SYMBOL_PATTERN, VENUE_PATTERN, Millis
from streams.symbols import Listing
from tapeline.errors import MalformedRecord, UnknownVersion

COMMAND_VERSION: Final = 1
SUBSCRIBE: Final = "subscribe"
UNSUBSCRIBE: Final = "unsubscribe"

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
        type: ``subscribe`` or ``unsubscribe``. Others are refused, and said to be.
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
    """

    v: int
    applied: int
    routing_version: int
    symbols: list[str]
    decisions: list[Decision] = []
    answers: list[Answer] = []


class _Head(msgspec.Struct):
    v: Any = None
    command_id: Any = None
    type: Any = None


_decode_command: Final = msgspec.json.Decoder(Command).decode
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


def decode_command(value: bytes | None) -> Command:
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
    if type_ not in (SUBSCRIBE, UNSUBSCRIBE):
        # The place for further types; each has fields of its own.
        why = f"type is {head.type!r}; expected {SUBSCRIBE} or {UNSUBSCRIBE}"
        raise RefusedCommand(why[:500], command_id[:128], type_[:64])
    try:
        return _decode_command(value or b"")
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
