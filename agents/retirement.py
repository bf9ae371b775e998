"""Symbols that are followed no more: what was kept of them goes, what fences their writers stays."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from agents.coordination.connections import FAILURES
from agents.ownership import Ownership
from tapeline.logging import get_logger

LOOK_S: Final = 2.0
LOOKS: Final = 30
"""In a row that must find nobody who writes it: workers that know a symbol may be about to start."""

log = get_logger("retirement")


class Retirement:
    """Deletes the reports and the checkpoints of symbols that no setting names any more.

    A symbol that somebody still writes is left until nobody does: while workers are replaced one
    by one, those of before may follow it still. Token and meta stay: were it followed again, its
    next writer goes on above them.

    Args:
        ownership: Says who writes.
        send: (partition, key, value) to the changelog.
        partition_of: Home of a symbol.
    """

    def __init__(
        self,
        ownership: Ownership,
        send: Callable[[int, bytes, bytes | None], Any],
        partition_of: Callable[[str], int],
    ) -> None:
        self._ownership, self._send, self._partition_of = ownership, send, partition_of
        self._left: dict[str, list[bytes]] = {}
        self._unwritten: Counter[str] = Counter()

    def assigned(self, unlisted: Mapping[str, list[bytes]]) -> None:
        """What the changelog of our partitions holds of symbols that are not listed: their keys."""
        self._unwritten.clear()
        self._left = {symbol: list(keys) for symbol, keys in unlisted.items() if symbol}

    async def run(self) -> None:
        """Retire what there is, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            for symbol in list(self._left):
                try:
                    await self._retire(symbol)
                except FAILURES as error:
                    log.warning("retirement.redis_away", error=repr(error))
                    break

    async def _retire(self, symbol: str) -> None:
        if await self._ownership.is_written(symbol):
            self._unwritten.pop(symbol, None)
            return
        self._unwritten[symbol] += 1
        if self._unwritten[symbol] < LOOKS:
            return
        await self._ownership.erase(symbol)
        for key in self._left.pop(symbol, ()):
            self._send(self._partition_of(symbol), key, None)
        log.info("symbol.retired", symbol=symbol)
