"""Between commands and the bridge: carries the set of subscriptions out, and answers for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from streams.commands import STATE_KEY, Answer, Key, RoutingState, acknowledgement, encode
from streams.control import ControlLog, Headers, Record
from streams.routing import Routing
from streams.symbols import Listing
from streams.topics import dead_letters_of
from tapeline.clock import Clock
from tapeline.config import Settings
from tapeline.errors import ConfigError
from tapeline.kafka_access import KafkaAccess
from tapeline.logging import get_logger

MESSAGE_MAX: Final = 500

log = get_logger("subscriptions")


class Follower(Protocol):
    """Who follows symbols; the bridge is one."""

    def follow(self, listing: Listing) -> None:
        """Follow one more symbol.

        Raises:
            ConfigError: It can't be; nothing has changed.
        """
        ...

    def unfollow(self, listing: Listing) -> None:
        """Follow a symbol no longer."""
        ...

    def routed(self, version: int) -> None:
        """Which set it is from now on."""
        ...


class Subscriptions:
    """The set of subscriptions of one bridge, a `ControlSink`.

    Attributes:
        routing: The set, and who waits for what of it.
        log: The topics.
    """

    def __init__(
        self, settings: Settings, listings: Iterable[Listing], follower: Follower, clock: Clock
    ) -> None:
        """Nothing is read before `ControlLog.run`.

        Args:
            settings: Where the topics are, and whose answers these are.
            listings: Followed already: what ``SYMBOLS`` says.
            follower: Carries out what changes.
            clock: For the time in acknowledgements.
        """
        self.routing = Routing(listings, quote_mixed=settings.quote_mixed)
        self.log = ControlLog(
            self,
            access=KafkaAccess.of(settings),
            commands=settings.commands_topic,
            routing=settings.routing_topic,
            client_id=f"{settings.app_id}-bridge-{settings.node_id}",
        )
        self._settings, self._follower, self._clock = settings, follower, clock
        self._followed = dict(self.routing.listings)

    @property
    def applied(self) -> int:
        """Offset of the newest command that was taken."""
        return self.routing.applied

    @property
    def waiting(self) -> bool:
        """Whether a subscription waits for something to come."""
        return bool(self.routing.waiting)

    # --- what the topics bring -----------------------------------------------------------------

    def restored(self, state: RoutingState) -> None:
        """The set as it was kept."""
        self.routing.restore(state)
        overruled = self.routing.overruled()
        if overruled:
            log.warning(
                "symbols.overruled",
                symbols=[str(listing) for listing in overruled],
                error="SYMBOLS names them, a command has removed them: `tapeline symbols add`",
            )
        self._carry_out()

    def commands(self, records: Sequence[Record]) -> None:
        """Carry out commands, then answer those that need no venue to be answered."""
        answers: list[Answer] = []
        for record in records:
            taken = self.routing.take(record.offset, record.value)
            answers += taken.answers
            if taken.error is not None:
                self._bury(record, str(taken.error))
        self._carry_out()
        self._answer(answers)

    def _carry_out(self) -> None:
        wanted, followed = self.routing.listings, self._followed
        self._follower.routed(self.routing.version)
        for key in [key for key, listing in followed.items() if wanted.get(key) != listing]:
            listing = followed.pop(key)
            self._follower.unfollow(listing)
            log.info("symbol.unfollowed", symbol=str(listing), version=self.routing.version)
        for key, listing in wanted.items():
            if key in followed:
                continue
            followed[key] = listing
            try:
                self._follower.follow(listing)
            except ConfigError as error:
                log.error("symbol.refused", venue=key[0], symbol=key[1], error=str(error))
                self.refused(key, str(error))
            else:
                log.info("symbol.followed", symbol=str(listing), version=self.routing.version)
        self._keep()

    # --- what venues bring ---------------------------------------------------------------------

    def came(self, key: Key) -> None:
        """Something of a symbol has come."""
        answers = self.routing.came(key)
        if answers:
            self._keep()
            self._answer(answers)

    def refused(self, key: Key, reason: str) -> bool:
        """A venue will not send a symbol; whether a command is to blame, which is undone."""
        undo = self.routing.refused(key, reason)
        if undo is not None:
            self.log.write(self._settings.commands_topic, undo.command_id.encode(), encode(undo))
        return undo is not None

    # --- what is said --------------------------------------------------------------------------

    def _answer(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            said = acknowledgement(answer, self._settings.node_id, self._clock.now_ms())
            key = answer.command_id.encode()
            self.log.write(self._settings.telemetry_topic, key, encode(said))
            log.info(
                "command.acknowledged",
                decision_id=answer.command_id,
                command=answer.type,
                venue=answer.venue,
                symbol=answer.symbol,
                status=answer.status,
                error=answer.error,
                version=answer.routing_version,
            )

    def _keep(self) -> None:
        if self.routing.changed:
            value = encode(self.routing.state())
            self.log.write(self._settings.routing_topic, STATE_KEY, value)

    def _bury(self, record: Record, why: str) -> None:
        """Keep what is no command, as it was."""
        topic = self._settings.commands_topic
        log.error("command.dead_letter", offset=record.offset, error=why[:MESSAGE_MAX])
        headers: Headers = (
            ("error", b"malformed"),
            ("message", why[:MESSAGE_MAX].encode()),
            ("topic", topic.encode()),
            ("partition", b"0"),
            ("offset", str(record.offset).encode()),
        )
        self.log.write(dead_letters_of(topic), record.key, record.value, headers)
