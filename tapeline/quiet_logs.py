"""A library that says the same thing ten times a second during an outage says it now and then."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

EVERY_S: Final = 10.0

REPETITIVE: Final = "aiokafka"
"""Its loggers repeat themselves with each attempt to reach a broker."""

TEXTS_MAX: Final = 1_000
"""Texts remembered; messages are told apart before their arguments are put in, so few exist."""


class NowAndThen(logging.Filter):
    """Lets each message of one library through once per period, and says how many it held back.

    Told apart by logger and text, before arguments are put in; the number is the record's
    ``repeated``. Other libraries' messages pass.
    """

    def __init__(
        self,
        library: str = REPETITIVE,
        every_s: float = EVERY_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(library)
        self._every_s, self._now_s = every_s, now_s
        self._said_s: dict[tuple[str, str], float] = {}
        self._held: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is time to say this again."""
        if not super().filter(record):
            return True
        text = (record.name, str(record.msg))
        now_s = self._now_s()
        if now_s - self._said_s.get(text, -self._every_s) < self._every_s:
            self._held[text] = self._held.get(text, 0) + 1
            return False
        if len(self._said_s) >= TEXTS_MAX:
            self._said_s.clear()
            self._held.clear()
        self._said_s[text] = now_s
        held = self._held.pop(text, 0)
        if held:
            record.repeated = held
        return True
