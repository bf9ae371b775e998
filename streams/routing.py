"""Which symbols are followed: what ``SYMBOLS`` says, and what commands have said since. Pure.

Every bridge reads the same commands in the same order and so comes to the same set, whoever has
the venue's ear. A command about a (venue, symbol) outweighs ``SYMBOLS`` from then on, restarts
included: a symbol removed stays away although ``SYMBOLS`` names it, until it is added again.

What only a venue can know comes back as a command, too: a bridge that is refused a symbol writes
the `unsubscribe` that undoes it, so that the others, and those that start later, follow.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from streams.commands import (
    COMMAND_VERSION,
    MERGED_SUBSCRIBE,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Answer,
    Command,
    Decision,
    Key,
    MergeCommand,
    RefusedCommand,
    RoutingState,
    decode_command,
)
from streams.merged import MERGEABLE, Merge
from streams.symbols import Listing, check_quotes, check_venue, clash
from tapeline.errors import ConfigError

ANSWERS_MAX: Final = 256
"""Commands whose answer is remembered: an id that comes again within these changes nothing."""

FIRST_VERSION: Final = 1


class Taken(NamedTuple):
    """What a record has led to.

    Attributes:
        answers: Commands answered by it, for the senders; those pending come later.
        error: Why it is no command at all: it belongs to the dead letters.
    """

    answers: tuple[Answer, ...] = ()
    error: RefusedCommand | None = None


class Routing:
    """The set of subscriptions.

    Attributes:
        version: Raised by each change of the set.
        applied: Offset of the newest command taken; -1 before any.
        listings: The set, by (venue, symbol), in order: ``SYMBOLS`` first.
        merges: Windows that are merged, by (symbol, kind).
        waiting: Subscribed, and nothing has come of it yet: ids of the commands that wait.
        changed: Whether the state is another since it was last asked for.
    """

    def __init__(self, initial: Iterable[Listing], *, quote_mixed: str = "") -> None:
        """Begin with what ``SYMBOLS`` says; ``quote_mixed`` is a ``NT_QUOTE_MIXED`` value."""
        self.version = FIRST_VERSION
        self.applied = -1
        self.merges: dict[tuple[str, str], Merge] = {}
        self.waiting: dict[Key, list[str]] = {}
        self.changed = True
        self._initial, self._quote_mixed = tuple(initial), quote_mixed
        self._decisions: dict[Key, Decision] = {}
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._faults: dict[Key, str] = {}
        self.listings = self._whole()

    # --- what is kept --------------------------------------------------------------------------

    def state(self) -> RoutingState:
        """All of it, for whoever starts later."""
        self.changed = False
        return RoutingState(
            v=COMMAND_VERSION,
            applied=self.applied,
            routing_version=self.version,
            symbols=[str(listing) for listing in self.listings.values()],
            decisions=[*self._decisions.values()],
            answers=[*self._answers.values()],
            merges=[*self.merges.values()],
        )

    def restore(self, state: RoutingState) -> None:
        """Go on where a state ends. ``SYMBOLS`` may be another meanwhile: that is a change, too."""
        self.applied = state.applied
        self._decisions = {(d.venue, d.symbol): d for d in state.decisions}
        self._answers = OrderedDict((a.command_id, a) for a in state.answers)
        self.merges = {merge.key: merge for merge in state.merges}
        self.listings = self._whole()
        self.waiting = {}
        for answer in state.answers:
            if answer.status == "pending":
                self.waiting.setdefault((answer.venue, answer.symbol), []).append(answer.command_id)
        same = {*state.symbols} == {str(listing) for listing in self.listings.values()}
        self.version = max(self.version, state.routing_version + (not same))
        self.changed = not same

    def overruled(self) -> list[Listing]:
        """What ``SYMBOLS`` names and is not followed, because a command has said so."""
        followed = {*self.listings.values()}
        return [listing for listing in self._initial if listing not in followed]

    def _whole(self) -> dict[Key, Listing]:
        decided = {
            key: Listing(d.venue, d.venue_symbol, d.symbol)
            for key, d in self._decisions.items()
            if d.venue_symbol
        }
        whole: dict[Key, Listing] = {}
        for listing in self._initial:
            key = listing.venue, listing.symbol
            if key in decided:
                whole[key] = decided[key]
            elif key not in self._decisions and not any(
                clash(listing, other) for other in decided.values()
            ):
                whole[key] = listing
        return whole | decided

    # --- commands ------------------------------------------------------------------------------

    def take(self, offset: int, value: bytes | None) -> Taken:
        """Carry out one record of the command topic."""
        self.applied = offset
        self.changed = True
        try:
            command = decode_command(value)
        except RefusedCommand as error:
            if not error.command_id:
                return Taken(error=error)
            known = self._answers.get(error.command_id)
            answer = known or self._answered(
                Answer(
                    command_id=error.command_id, type=error.type, status="error", error=str(error)
                )
            )
            return Taken((answer,), None if known else error)
        if isinstance(command, Command) and command.undoes:
            return Taken(self._undo(command))
        known = self._answers.get(command.command_id)
        if known is not None:
            return Taken((known,) if known.status != "pending" else ())
        if isinstance(command, MergeCommand):
            return Taken((self._merge(command),))
        subscribes = command.type == SUBSCRIBE
        answers = (self._subscribe(command),) if subscribes else self._unsubscribe(command)
        return Taken(tuple(answer for answer in answers if answer.status != "pending"))

    def _subscribe(self, command: Command) -> Answer:
        key, listing = command.key, command.listing
        followed = self.listings.get(key)
        try:
            check_venue(listing.venue, name="venue")
            self._check_free(listing)
        except ConfigError as error:
            return self._answer(command, error=str(error))
        if followed is None:
            self._decide(command, listing.venue_symbol)
            self.waiting[key] = [command.command_id]
            return self._answer(command, changed=True, pending=True)
        if key in self._faults:
            return self._answer(command, error=self._faults[key])
        if key in self.waiting:
            self.waiting[key].append(command.command_id)
            return self._answer(command, pending=True)
        return self._answer(command)

    def _check_free(self, listing: Listing) -> None:
        """Raises ConfigError where another listing has the venue's symbol or market already, or the
        symbol's other venues quote in another currency.
        """
        for other in self.listings.values():
            if other != listing and clash(other, listing):
                expected = f"one that goes with {other}, which is followed; remove that one first"
                raise ConfigError("symbol", str(listing), expected)
        together = [other for other in self.listings.values() if other.symbol == listing.symbol]
        if listing not in together:
            check_quotes([*together, listing], name="symbol", quote_mixed=self._quote_mixed)

    def _unsubscribe(self, command: Command) -> tuple[Answer, ...]:
        key = command.key
        if key not in self.listings:
            return (self._answer(command),)
        self._decide(command, "")
        gone = self._give_up(key, f"removed by {command.command_id} before anything had come")
        return *gone, self._answer(command, changed=True)

    def _undo(self, command: Command) -> tuple[Answer, ...]:
        """A venue has refused what a command asked for. Nobody waits for an answer to this one."""
        decision = self._decisions.get(command.key)
        if decision is None or decision.command_id != command.undoes or not decision.venue_symbol:
            return ()  # undone already, or decided anew since
        self._decide(command, "")
        return self._give_up(command.key, command.reason or "the venue refused it")

    def _decide(self, command: Command, venue_symbol: str) -> None:
        self._decisions[command.key] = Decision(
            venue=command.venue,
            symbol=command.symbol,
            venue_symbol=venue_symbol,
            command_id=command.command_id,
        )
        if not venue_symbol and all(
            (listing.venue, listing.symbol) != command.key for listing in self._initial
        ):
            # Nothing is left to be outweighed. Without this the state would only ever grow. An undo
            # that comes late finds nothing, and that is right.
            del self._decisions[command.key]
        self.listings = self._whole()
        self.version += 1
        self._faults.pop(command.key, None)

    def _merge(self, command: MergeCommand) -> Answer:
        """Windows of a symbol, merged or not any more; answered at once."""
        before = self.merges
        try:
            if command.type == MERGED_SUBSCRIBE:
                self.merges = before | {merge.key: merge for merge in self._wanted(command)}
            else:
                _check_kinds(command.kinds)
                self.merges = {
                    (symbol, kind): merge
                    for (symbol, kind), merge in before.items()
                    if symbol != command.symbol or (command.kinds and kind not in command.kinds)
                }
        except ConfigError as error:
            return self._answer(command, error=str(error))
        changed = self.merges != before
        self.version += changed
        return self._answer(command, changed=changed)

    def _wanted(self, command: MergeCommand) -> list[Merge]:
        """Raises ConfigError where they can't be merged, or are merged in another way."""
        symbol = command.symbol
        if not command.kinds:
            raise ConfigError("kinds", command.kinds, f"some of {', '.join(MERGEABLE)}")
        _check_kinds(command.kinds)
        followed = sorted(venue for venue, listed in self.listings if listed == symbol)
        venues = tuple(sorted({*command.venues} or followed))
        missing = [venue for venue in venues if venue not in followed]
        if missing or len(venues) < 2:
            known = f"{symbol} is followed at {', '.join(followed) or 'none'}"
            raise ConfigError("venues", [*venues], f"two or more that list it; {known}")
        merges = [
            Merge(symbol, kind, venues, command.window_s, command.max_events)
            for kind in dict.fromkeys(command.kinds)
        ]
        for merge in merges:
            there = self.merges.get(merge.key)
            if there not in (None, merge):
                assert there is not None
                how = f"{', '.join(there.venues)}, {there.window_s:g} s, {there.max_events} events"
                raise ConfigError(
                    "merged_subscribe",
                    f"{symbol} {merge.kind}",
                    f"what is merged already ({how}); remove that one first",
                )
        return merges

    # --- what venues say -----------------------------------------------------------------------

    def came(self, key: Key) -> tuple[Answer, ...]:
        """Something of a symbol has come: whoever waits for it has what it asked for."""
        ids = self.waiting.pop(key, ())
        self.changed |= bool(ids)
        return tuple(self._settle(one, "success") for one in ids if one in self._answers)

    def refused(self, key: Key, reason: str) -> Command | None:
        """A venue will not send a symbol.

        Returns:
            The command to write, for every bridge to follow, where it was a command that asked for
            the symbol and nothing has come since; None where it has been followed for long: it
            stays in the set, and a venue that lists it again is heard at the next connection.
        """
        self._faults[key] = reason
        decision = self._decisions.get(key)
        if key not in self.waiting or decision is None or not decision.venue_symbol:
            return None
        venue, symbol = key
        return Command(
            v=COMMAND_VERSION,
            command_id=f"{decision.command_id[:120]}:undo",
            type=UNSUBSCRIBE,
            venue=venue,
            symbol=symbol,
            undoes=decision.command_id,
            reason=reason[:500],
        )

    def _give_up(self, key: Key, reason: str) -> tuple[Answer, ...]:
        ids = self.waiting.pop(key, ())
        return tuple(self._settle(one, "error", reason) for one in ids if one in self._answers)

    # --- answers -------------------------------------------------------------------------------

    def _answer(
        self,
        command: Command | MergeCommand,
        *,
        changed: bool = False,
        pending: bool = False,
        error: str = "",
    ) -> Answer:
        return self._answered(
            Answer(
                command_id=command.command_id,
                type=command.type,
                venue=command.venue,
                symbol=command.symbol,
                status="error" if error else "pending" if pending else "success",
                error=error,
                changed=changed,
                routing_version=self.version,
            )
        )

    def _answered(self, answer: Answer) -> Answer:
        self._answers[answer.command_id] = answer
        while len(self._answers) > ANSWERS_MAX:
            self._answers.popitem(last=False)
        return answer

    def _settle(self, command_id: str, status: str, error: str = "") -> Answer:
        answer = msgspec.structs.replace(self._answers[command_id], status=status, error=error)
        if status == "error":
            answer.changed, answer.routing_version = False, self.version
        self._answers[command_id] = answer
        return answer


def _check_kinds(kinds: Iterable[str]) -> None:
    """Raises ConfigError for a kind that can't be merged."""
    for kind in kinds:
        if kind not in MERGEABLE:
            raise ConfigError("kinds", kind, f"some of {', '.join(MERGEABLE)}")
