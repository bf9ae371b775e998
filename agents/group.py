"""The worker's seat in the consumer group: what it says to the coordinator, and when."""

from __future__ import annotations

from typing import Any

from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import RebalanceInProgressError

from agents.recast import recast


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
        return joined

    async def _do_commit_offsets(self, assignment: Any, offsets: Any) -> None:
        if self._joining or self.generation < 0:
            # To the caller a commit that came too late: there will be another.
            raise RebalanceInProgressError(self.group_id)
        await super()._do_commit_offsets(assignment, offsets)
