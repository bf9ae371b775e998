"""How much a key may ask: a token bucket each, and the headers that say what is left."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import ceil
from typing import Final

BURST_S: Final = 2
"""What a bucket holds, in seconds of its rate."""

KEPT_MAX: Final = 10_000
"""Buckets kept; the one not asked for longest goes first, and would be full again by then."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a bucket says to one request.

    Attributes:
        allowed: Whether it may pass.
        rate_per_s, burst: Of the bucket.
        remaining: Requests left at once.
        reset_s: Until the bucket is full again.
        retry_after_s: Until the next may pass; 0 where one may now.
    """

    allowed: bool
    rate_per_s: int
    burst: int
    remaining: int
    reset_s: int
    retry_after_s: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        """``RateLimit`` and ``RateLimit-Policy`` of the IETF's draft, and ``Retry-After``."""
        window_s = BURST_S
        found = [
            (b"ratelimit-policy", b'"key";q=%d;w=%d' % (self.burst, window_s)),
            (b"ratelimit", b'"key";r=%d;t=%d' % (self.remaining, self.reset_s)),
        ]
        if not self.allowed:
            found.append((b"retry-after", b"%d" % self.retry_after_s))
        return found


class TokenBucket:
    """Fills at ``rate_per_s`` up to ``burst``; each request takes one.

    Args:
        rate_per_s: Tokens a second.
        burst: What it holds, and begins with.
        now_ms: Now, of a clock that never steps back.
    """

    def __init__(self, rate_per_s: int, burst: int, now_ms: int) -> None:
        self.rate_per_s, self.burst = rate_per_s, burst
        self._tokens, self._at_ms = float(burst), now_ms

    def take(self, now_ms: int) -> Verdict:
        """Take one token, if there is one."""
        passed_s = max(0, now_ms - self._at_ms) / 1000
        self._tokens = min(float(self.burst), self._tokens + passed_s * self.rate_per_s)
        self._at_ms = max(self._at_ms, now_ms)
        allowed = self._tokens >= 1
        if allowed:
            self._tokens -= 1
        return Verdict(
            allowed=allowed,
            rate_per_s=self.rate_per_s,
            burst=self.burst,
            remaining=int(self._tokens),
            reset_s=ceil((self.burst - self._tokens) / self.rate_per_s),
            retry_after_s=0 if allowed else max(1, ceil((1 - self._tokens) / self.rate_per_s)),
        )


class Limiter:
    """A bucket for each name, made when first asked for."""

    def __init__(self, kept_max: int = KEPT_MAX) -> None:
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._kept_max = kept_max

    def take(self, name: str, rate_per_s: int, now_ms: int) -> Verdict:
        """One request of ``name``; a changed rate begins with a full bucket."""
        bucket = self._buckets.get(name)
        if bucket is None or bucket.rate_per_s != rate_per_s:
            bucket = self._buckets[name] = TokenBucket(rate_per_s, rate_per_s * BURST_S, now_ms)
        self._buckets.move_to_end(name)
        while len(self._buckets) > self._kept_max:
            self._buckets.popitem(last=False)
        return bucket.take(now_ms)
