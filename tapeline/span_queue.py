"""Spans on their way to a collector: a bounded queue, and a thread that takes from it.

Whoever ends a span must not wait, whatever becomes of the collector. So a span that finds the queue
full is dropped and counted, and what the collector does not take is counted too.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from tapeline.logging import get_logger

QUEUE_SPANS: Final = 4096
BATCH_SPANS: Final = 256
PERIOD_S: Final = 0.5
"""Longest time from a span's end to the attempt to send it, while the collector answers."""

FLUSH_S: Final = 2.0
"""How long a stop waits for the collector."""

log = get_logger("tracing")


class SpanQueue:
    """Hands ended spans to an exporter, from a thread of its own.

    Args:
        export: Sends a batch, may take its time; whether it was taken.
        spans_max: How many may wait.
        period_s: Between two looks at what waits.

    Attributes:
        exported: Spans that were taken.
        failed: Spans that were sent, and not taken.
        dropped: Spans for which there was no room, or no time at the end.
    """

    def __init__(
        self,
        export: Callable[[Sequence[Any]], bool],
        *,
        spans_max: int = QUEUE_SPANS,
        period_s: float = PERIOD_S,
    ) -> None:
        self.exported = self.failed = self.dropped = 0
        self._export, self._spans_max, self._period_s = export, spans_max, period_s
        self._waiting: deque[Any] = deque()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def put(self, span: Any) -> None:
        """Take an ended span; never waits."""
        with self._lock:
            if self._stopping or len(self._waiting) >= self._spans_max:
                self.dropped += 1
                return
            self._waiting.append(span)
            full = len(self._waiting) >= BATCH_SPANS
        if full:
            self._wake.set()

    def stop(self, flush_s: float = FLUSH_S) -> None:
        """Send what waits, for at most so long; what is left counts as dropped."""
        self._wake.set()
        with self._lock:
            self._stopping = True
        self._thread.join(flush_s)
        with self._lock:
            self.dropped += len(self._waiting)
            self._waiting.clear()

    def _run(self) -> None:
        while True:
            self._wake.wait(self._period_s)
            self._wake.clear()
            while batch := self._take():
                self._send(batch)
            with self._lock:
                if self._stopping and not self._waiting:
                    return

    def _take(self) -> list[Any]:
        with self._lock:
            count = min(len(self._waiting), BATCH_SPANS)
            return [self._waiting.popleft() for _ in range(count)]

    def _send(self, batch: list[Any]) -> None:
        try:
            taken = self._export(batch)
        except Exception:
            # An exporter's fault must not end the thread: the next batch may go.
            log.exception("spans.export_failed", spans=len(batch))
            taken = False
        with self._lock:
            if taken:
                self.exported += len(batch)
            else:
                self.failed += len(batch)
