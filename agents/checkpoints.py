"""Keeping state in the changelog: one record per changed symbol per period, staggered.

The order of things, on which restarts rely:

1. the state is taken at one moment, with the offset it has been applied to;
2. it goes to the changelog under (symbol, token);
3. when the broker has acknowledged it, records of lower tokens are tombstoned;
4. only then does the ledger let the offsets it covers be committed.

A worker killed anywhere in between finds an older state and an older committed offset: it
applies more records again, and gets the same state.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from agents.metrics import Metrics
from agents.schedule import Grid
from agents.shards import Shards
from tables.changelog import checkpoint_key, encode_checkpoint
from tapeline.clock import Clock
from tapeline.logging import get_logger

TOLD: Final = 20
"""So many symbols are named in one log line."""

log = get_logger("checkpoints")

SendChangelog = Callable[[int, bytes, bytes | None], Any]
"""(partition, key, value) to an awaitable that ends when the broker has it."""


class Checkpointer:
    """Writes checkpoints of dirty symbols.

    Args:
        shards: Where the engines are.
        send: The way to the changelog.
        token_of: Under which token a symbol's state is kept.
        metrics: Whoever counts.
        clock: For what is due.
        period_ms: Time between two checkpoints of a symbol.
        seated: Whether the partitions are ours at this moment, for certain. Between two assignments
            engines go on, and what they come to is the next owner's to keep: under our token it
            could count for more than what that owner keeps under its own, while its commits go
            past it.
        may_keep: Whether a symbol's state may replace one that is kept under the given token.

    Attributes:
        tokens: Token of the newest acknowledged checkpoint by symbol.
    """

    def __init__(
        self,
        shards: Shards,
        send: SendChangelog,
        token_of: Callable[[str], int],
        metrics: Metrics,
        clock: Clock,
        period_ms: int,
        seated: Callable[[], bool] = lambda: True,
        may_keep: Callable[[str, int], bool] = lambda _symbol, _stored: True,
    ) -> None:
        self._shards = shards
        self._send = send
        self._token_of = token_of
        self._metrics = metrics
        self._clock = clock
        self._grid = Grid(period_ms)
        self._seated, self._may_keep = seated, may_keep
        self.tokens: dict[str, int] = {}
        self._stored: dict[str, set[int]] = {}

    def set_symbols(self, stored_tokens: dict[str, set[int]]) -> None:
        """Serve the assigned symbols from now on.

        Args:
            stored_tokens: Tokens under which the changelog holds records, by symbol.
        """
        symbols = self._shards.symbols()
        self._grid.set_symbols(symbols, self._clock.now_ms())
        self._stored = {symbol: set(stored_tokens.get(symbol, ())) for symbol in symbols}
        self.tokens = {s: max(tokens, default=0) for s, tokens in self._stored.items()}

    async def run(self) -> None:
        """Write checkpoints as they fall due, until cancelled."""
        while True:
            due_ms = self._grid.next_due_ms()
            wait_ms = 100 if due_ms is None else min(100, max(1, due_ms - self._clock.now_ms()))
            await asyncio.sleep(wait_ms / 1000)
            due = self._grid.take_due(self._clock.now_ms())
            await self._save([symbol for symbol in due if self._shards.may_save(symbol)])

    async def save_all(self) -> None:
        """One checkpoint of every dirty symbol, now: before a stop.

        What it could not keep is told, also where it is cancelled, and where the seat is so
        uncertain that it does not try: the records are applied again by whoever comes next.
        """
        try:
            await self._save(self._dirty())
        finally:
            left = self._ours(self._dirty())
            if left:
                log.warning("checkpoint.not_kept", symbols=left[:TOLD], symbols_total=len(left))

    async def _save(self, symbols: list[str]) -> None:
        if not self._seated():
            return
        await asyncio.gather(*(self._save_one(symbol) for symbol in self._ours(symbols)))

    def _dirty(self) -> list[str]:
        return [symbol for symbol in self._shards.symbols() if self._shards.may_save(symbol)]

    def _ours(self, symbols: list[str]) -> list[str]:
        return [s for s in symbols if self._may_keep(s, self.tokens.get(s, 0))]

    async def _save_one(self, symbol: str) -> None:
        shards = self._shards
        # Never below what is stored: a lower one would be ignored when restoring.
        token = max(self._token_of(symbol), self.tokens.get(symbol, 0))
        partition = shards.partition_of[symbol]
        # Of this thread's processor time: what others did meanwhile is not a checkpoint's cost.
        began_s = time.thread_time()
        checkpoint = shards.checkpoint(symbol, token)
        value = encode_checkpoint(checkpoint)
        self._metrics.checkpoint_seconds.inc(time.thread_time() - began_s)
        try:
            await self._send(partition, checkpoint.key, value)
        except asyncio.CancelledError:
            shards.saved(symbol, acknowledged=False)
            raise
        except Exception as error:
            # Whatever the producer raises: not acknowledged, so it stays dirty and is tried anew.
            shards.saved(symbol, acknowledged=False)
            self._metrics.checkpoints.labels("failed").inc()
            log.warning("checkpoint.failed", symbol=symbol, error=repr(error))
            return
        shards.saved(symbol, acknowledged=True)
        self.tokens[symbol] = token
        self._metrics.checkpoints.labels("acknowledged").inc()
        self._metrics.checkpoint_bytes.inc(len(value))
        stored = self._stored.setdefault(symbol, set())
        for older in [held for held in stored if held < token]:
            stored.discard(older)
            self._send(partition, checkpoint_key(symbol, older), None)
        stored.add(token)
