"""The worker's seat in the consumer group: what it says to the coordinator, and when."""

from __future__ import annotations

from typing import Any, Final

from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import RebalanceInProgressError

from agents.recast import recast
from tapeline.clock import SystemClock

CERTAIN_MS: Final = 3000
"""A seat is certain for so long after the coordinator has confirmed it."""

_CLOCK: Final = SystemClock()


class SeatedCoordinator(GroupCoordinator):
    """Commits nothing while it joins.

    A broker answers one connection's requests in order: a commit sent while a JoinGroup waits is
    answered after it, as one of a generation that has passed. aiokafka takes that answer for its
    own exclusion, throws the new seat away and joins as a stranger; the group then waits for the
    seat thrown away until its session ends, 10 s by default.

    And a seat that is lost commits nothing: a broker takes a commit from nobody in particular as
    long as the group is empty.
    """

    _joining = False
    _confirmed_ms: int | None = None

    @classmethod
    def seat(cls, consumer: Any) -> None:
        """Have a started consumer's coordinator be of this class."""
        recast(consumer, "_coordinator", GroupCoordinator, cls)

    async def _do_rejoin_group(self, subscription: Any) -> bool:
        self._joining = True
        try:
            joined: bool = await super()._do_rejoin_group(subscription)
        finally:
            self._joining = False
        if joined:
            self._confirmed_ms = _CLOCK.monotonic_ms()
        return joined

    async def _do_heartbeat(self) -> bool:
        asked_ms = _CLOCK.monotonic_ms()
        accepted: bool = await super()._do_heartbeat()
        self._confirmed_ms = asked_ms if accepted else None
        return accepted

    def is_certain(self) -> bool:
        """Whether the group has said lately that we are in it."""
        confirmed_ms = self._confirmed_ms
        return (
            confirmed_ms is not None
            and self.generation >= 0
            and not self._joining
            and _CLOCK.monotonic_ms() - confirmed_ms < CERTAIN_MS
        )

    async def _do_commit_offsets(self, assignment: Any, offsets: Any) -> None:
        if self._joining or self.generation < 0:
            # To the caller a commit that came too late: there will be another.
            raise RebalanceInProgressError(self.group_id)
        await super()._do_commit_offsets(assignment, offsets)
