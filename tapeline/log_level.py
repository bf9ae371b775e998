"""The level of a running process's logs, changed for a while.

Two ways lead here. `tapeline loglevel` sets a key in Redis that expires; every process looks at it
each two seconds, and keeps what it saw until then, whether or not Redis is there. And a SIGUSR1
makes one process say everything for ten minutes, or takes that back. The signal wins over the key
of the process's own node, that one over the key for all, and all of them over ``NT_LOG_LEVEL``.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tapeline.clock import Clock, SystemClock
from tapeline.config import Settings
from tapeline.logging import get_logger, set_level
from tapeline.tasks import end_all

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
POLL_S: Final = 2.0
TIMEOUT_S: Final = 1.0
SIGNAL: Final = signal.SIGUSR1
SIGNAL_MS: Final = 600_000
"""How long a signal's effect lasts."""

SIGNAL_LEVEL: Final = "DEBUG"

_FOR_EVER_MS: Final = 2**62

log = get_logger("process")


class Word(NamedTuple):
    """A level somebody has asked for.

    Attributes:
        level: One of `LEVELS`.
        until_ms: Monotonic.
        why: ``signal``, ``node`` or ``all``.
    """

    level: str
    until_ms: int
    why: str


class LevelRule:
    """Which level it is. Pure: times are monotonic ms.

    Args:
        configured: What it is while nobody has asked for another.
    """

    def __init__(self, configured: str) -> None:
        self._configured = configured
        self._signal: Word | None = None
        self._told: list[Word] = []

    def signalled(self, now_ms: int) -> None:
        """A signal has come: another while the first is in force takes it back."""
        on = self._signal is not None and now_ms < self._signal.until_ms
        self._signal = None if on else Word(SIGNAL_LEVEL, now_ms + SIGNAL_MS, "signal")

    def told(self, node: tuple[Any, int], every: tuple[Any, int], now_ms: int) -> None:
        """What Redis holds for this node and for all: value and life left in ms, as it answers."""
        self._told = []
        for why, (value, left_ms) in (("node", node), ("all", every)):
            level = value.decode(errors="replace") if isinstance(value, bytes) else value
            if level in LEVELS and left_ms != 0:
                until_ms = now_ms + left_ms if left_ms > 0 else _FOR_EVER_MS
                self._told.append(Word(level, until_ms, why))

    def at(self, now_ms: int) -> Word:
        """What it is now."""
        for word in (self._signal, *self._told):
            if word is not None and now_ms < word.until_ms:
                return word
        return Word(self._configured, _FOR_EVER_MS, "configured")


class Levels:
    """Keeps this process's level what the rule says.

    Args:
        configured: ``NT_LOG_LEVEL``.
        clock: Tells when a word is over.
        apply: Sets a level.
    """

    def __init__(
        self,
        configured: str,
        clock: Clock | None = None,
        apply: Callable[[str], None] = set_level,
    ) -> None:
        self.rule = LevelRule(configured)
        self._clock, self._apply = clock or SystemClock(), apply
        self._level = configured

    def signalled(self) -> None:
        """A signal has come."""
        self.rule.signalled(self._clock.monotonic_ms())
        self.settle()

    def settle(self) -> None:
        """Make it what it should be now, and say so if that is another."""
        word = self.rule.at(self._clock.monotonic_ms())
        if word.level == self._level:
            return
        before, self._level = self._level, word.level
        # By the louder of the two, or nobody would read it.
        louder = min(before, word.level, key=logging.getLevelName)
        self._apply(louder)
        log.warning("log_level.changed", before=before, now=word.level, why=word.why)
        self._apply(word.level)

    async def follow(self, redis: Redis | None, node_key: str, all_key: str) -> None:
        """Look at what is asked for, until cancelled; without ``redis`` only at the time."""
        while True:
            if redis is not None:
                try:
                    async with asyncio.timeout(TIMEOUT_S):
                        await self._look(redis, node_key, all_key)
                except (RedisError, OSError, TimeoutError):
                    pass  # whoever works with Redis says so; what was asked for still ends in time
            self.settle()
            await asyncio.sleep(POLL_S)

    async def _look(self, redis: Redis, node_key: str, all_key: str) -> None:
        async with redis.pipeline(transaction=False) as pipe:
            for key in (node_key, all_key):
                pipe.get(key)
                pipe.pttl(key)
            node, node_ms, every, every_ms = await pipe.execute()
        self.rule.told((node, node_ms), (every, every_ms), self._clock.monotonic_ms())


@asynccontextmanager
async def levels_followed(
    settings: Settings, redis_url: str, node_key: str, all_key: str
) -> AsyncIterator[Levels]:
    """While this is open the process's level can be changed; call it in the main thread's loop.

    Args:
        settings: What the level is otherwise.
        redis_url: Where it is looked for; empty for the signal alone.
        node_key: Where that of this node is.
        all_key: Where that of all nodes is.
    """
    levels = Levels(settings.log_level)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(SIGNAL, levels.signalled)
    # Without a limit of the client's own: see `serving.reader.reader_client`.
    redis = Redis.from_url(redis_url, socket_timeout=None) if redis_url else None
    task = asyncio.create_task(levels.follow(redis, node_key, all_key), name="log level")
    try:
        yield levels
    finally:
        await end_all([task])
        # Not to its default, which ends the process: it may come while the rest is closed.
        loop.remove_signal_handler(SIGNAL)
        signal.signal(SIGNAL, signal.SIG_IGN)
        if redis is not None:
            await redis.aclose()
