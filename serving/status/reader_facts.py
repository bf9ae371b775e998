"""What this reader says of itself."""

from __future__ import annotations

import os
import socket

from serving.metrics import ReaderMetrics
from serving.status.facts import ReaderFacts
from tapeline.beats import Rates, own_version
from tapeline.clock import Clock
from tapeline.config import Settings


class ReaderCounts:
    """Its name, its age, and how fast it answers requests."""

    def __init__(self, settings: Settings, metrics: ReaderMetrics, clock: Clock) -> None:
        self._id = f"{socket.gethostname()}-{settings.serve_port}"
        self._metrics, self._clock = metrics, clock
        self._started_at = clock.now_ms()
        self._rates = Rates()

    def facts(self) -> ReaderFacts:
        """As of now; each call is a look at the counts."""
        answered = sum(
            sample.value
            for family in self._metrics.requests.collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        )
        self._rates.look(self._clock.monotonic_ms(), {"answers": answered})
        return ReaderFacts(
            id=self._id,
            version=own_version(),
            pid=os.getpid(),
            started_at=self._started_at,
            rate_per_s=self._rates.per_s("answers"),
        )
