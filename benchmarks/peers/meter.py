"""How every consumer is timed: from its first batch on, start-up excluded.

Two lines on standard output tell whoever started the program: ``METER first`` and, at the end,
``METER done {...}``. Written past `sys.stdout`, which some frameworks turn into a log.
"""

from __future__ import annotations

import json
import os
import resource
import time

FIRST = "METER first"
DONE = "METER done "


def say(line: str) -> None:
    """One line on the real standard output."""
    os.write(1, f"{line}\n".encode())


class Meter:
    """Counts records; ends the process when all are done, or the time is over.

    Attributes:
        done: Records so far.
    """

    def __init__(self, records: int, seconds_max: float) -> None:
        self.done = 0
        self.extra: dict[str, object] = {}
        self._records, self._seconds_max = records, seconds_max
        self._first = self._look_at = 0
        self._began = self._deadline = self._cpu = 0.0

    def start(self) -> None:
        """Start the clock, if it does not run yet; what is done already does not count."""
        if self._began:
            return
        self._began = time.perf_counter()
        self._deadline = self._began + self._seconds_max
        self._first, self._cpu = self.done, time.process_time()
        say(FIRST)

    def add(self, count: int = 1) -> None:
        """So many more are done; the first call starts the clock."""
        self.done += count
        if self.done < self._look_at:
            return
        self.start()
        now = time.perf_counter()
        if self.done >= self._records or now >= self._deadline:
            self.end(now)
        # The clock is asked every hundred records, and at the very last one.
        self._look_at = min(self.done + 100, self._records)

    def end(self, now: float | None = None) -> None:
        """Say what was measured, and leave: nobody waits for a framework to wind down."""
        seconds = (now or time.perf_counter()) - self._began
        usage = resource.getrusage(resource.RUSAGE_SELF)
        say(
            DONE
            + json.dumps(
                {
                    "records": self.done - self._first,
                    "seconds": round(seconds, 4),
                    "cpu": round((time.process_time() - self._cpu) / seconds, 3),
                    "rss_max_mb": round(usage.ru_maxrss / 1024, 1),
                    **self.extra,
                }
            )
        )
        os._exit(0)
