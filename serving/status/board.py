"""The status, looked up at most four times a second, however many ask."""

from __future__ import annotations

import asyncio
from typing import Final

from serving.status.chain import status_of
from serving.status.models import Status
from serving.status.survey import StatusSurvey
from tapeline.clock import Clock, SystemClock
from tapeline.tasks import end

FRESH_MS: Final = 250


class StatusBoard:
    """One look shared by all who ask meanwhile, and shown again for a quarter of a second."""

    def __init__(
        self, survey: StatusSurvey, *, clock: Clock | None = None, fresh_ms: int = FRESH_MS
    ) -> None:
        self._survey, self._fresh_ms = survey, fresh_ms
        self._clock = clock or SystemClock()
        self._shown: tuple[int, Status, bytes] | None = None
        self._looking: asyncio.Task[tuple[int, Status, bytes]] | None = None

    async def status(self) -> Status:
        """The chain as it is now, or was less than 250 ms ago."""
        return (await self._fresh())[1]

    async def payload(self) -> bytes:
        """The same as JSON, encoded once."""
        return (await self._fresh())[2]

    async def close(self) -> None:
        """End what is under way."""
        if self._looking is not None:
            await end(self._looking)
        await self._survey.close()

    async def _fresh(self) -> tuple[int, Status, bytes]:
        shown = self._shown
        if shown is not None and 0 <= self._clock.monotonic_ms() - shown[0] < self._fresh_ms:
            return shown
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="status-look")
        # An asker that goes away takes nothing from the others.
        return await asyncio.shield(self._looking)

    async def _look(self) -> tuple[int, Status, bytes]:
        began_ms = self._clock.monotonic_ms()
        status = status_of(await self._survey.look())
        self._shown = began_ms, status, status.model_dump_json().encode()
        return self._shown
