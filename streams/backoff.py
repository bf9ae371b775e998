"""When the shell of a venue does what, and how long it waits before it tries again."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """When the shell does what, in seconds.

    Attributes:
        ping_every: Between our pings.
        live_for: The venue counts as alive this long after a frame or a pong.
        dead_after: A socket is given up this long after its last frame or pong.
        life: A socket is replaced at this age; venues close them after 24 hours.
        open_within: For connecting and for the websocket handshake.
        stable_after: A connection that lived this long makes the next failure a first one again.
        backoff: Ceiling of the wait before the first attempt; it doubles with each.
        backoff_max: Ceiling of the ceiling.
    """

    ping_every: float = 2.0
    live_for: float = 5.0
    dead_after: float = 10.0
    life: float = 23 * 3600 + 50 * 60
    open_within: float = 10.0
    stable_after: float = 60.0
    backoff: float = 0.5
    backoff_max: float = 30.0


class Backoff:
    """Waits between attempts: exponential, full jitter. Pure but for its generator."""

    def __init__(self, timing: Timing, rng: random.Random | None = None) -> None:
        self._timing = timing
        self._rng = rng or random.Random()
        self._failures = 0

    def next_s(self, at_least_s: float = 0.0) -> float:
        """Seconds to wait now; never less than the venue asked for."""
        timing = self._timing
        ceiling = min(timing.backoff_max, timing.backoff * 2 ** min(self._failures, 20))
        self._failures += 1
        return max(at_least_s, self._rng.uniform(0, ceiling))

    def lived(self, seconds: float) -> None:
        """A connection has ended after this long."""
        if seconds >= self._timing.stable_after:
            self._failures = 0
