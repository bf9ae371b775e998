"""A library that says the same thing ten times a second during an outage says it now and then."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

EVERY_S: Final = 10.0

AIOKAFKA: Final = ("aiokafka.client", "aiokafka.conn", "aiokafka.producer.sender")
"""Loggers that repeat themselves with each attempt to reach a broker."""


class NowAndThen(logging.Filter):
    """Lets a message through once per period, by its text before the arguments are put in."""

    def __init__(
        self, every_s: float = EVERY_S, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._every_s, self._now_s = every_s, now_s
        self._said_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is time to say this again."""
        text = str(record.msg)
        now_s = self._now_s()
        if now_s - self._said_s.get(text, -self._every_s) < self._every_s:
            return False
        self._said_s[text] = now_s
        return True


def calm(names: Iterable[str] = AIOKAFKA) -> None:
    """Put the filter on these loggers; once is enough, twice does no harm."""
    for name in names:
        logger = logging.getLogger(name)
        if not any(isinstance(each, NowAndThen) for each in logger.filters):
            logger.addFilter(NowAndThen())
