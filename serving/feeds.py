"""Having bridges follow more, or less: what a reader asks for, whoever carries it out.

A reader knows no Kafka. Whoever starts it hands it a `FeedControl`, or none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from tapeline.errors import TapelineError


class ControlUnavailable(TapelineError):
    """The broker that commands go over does not answer, or lacks their topics."""


class UnknownFeed(TapelineError):
    """No venue has that name, or it can have no such symbol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a command.

    Attributes:
        command_id: The command's.
        status: ``success``; ``error`` where the venue or a bridge has refused it; ``unanswered``
            where no bridge has said anything in time: the command is kept, and carried out when
            one can.
        error: Why it was refused.
        changed: Whether other feeds are followed since; None where nobody has answered.
        routing_version: Of the set of feeds from then on; likewise.
        node_id: The bridge that answered; likewise.
    """

    command_id: str
    status: Literal["success", "error", "unanswered"]
    error: str = ""
    changed: bool | None = None
    routing_version: int | None = None
    node_id: str | None = None


class FeedControl(Protocol):
    """Sends commands to the bridges."""

    async def follow(self, venue: str, symbol: str, venue_symbol: str) -> Outcome:
        """Have a symbol of a venue followed, also after a restart.

        Args:
            venue: Its name.
            symbol: Canonical.
            venue_symbol: The venue's own name; '' for the same.

        Raises:
            UnknownFeed: There can be none such.
            ControlUnavailable: The command could not be sent.
        """
        ...

    async def unfollow(self, venue: str, symbol: str) -> Outcome:
        """Have it followed no longer; arguments and errors as of `follow`."""
        ...
