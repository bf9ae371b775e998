"""REST calls to a venue: a session with timeouts, and a budget that keeps the venue friendly."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Final, NamedTuple

import aiohttp

TIMEOUT_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 5.0
CONCURRENT_MAX: Final = 4
BODY_BYTES_MAX: Final = 64 * 1024 * 1024
MINUTE_S: Final = 60.0
BUDGET_SHARE: Final = 0.8
"""Of the venue's limit: other programs may share the address."""

BAN_S: Final = 120.0
"""The shortest ban, for a 418 that does not say how long."""

_IM_A_TEAPOT: Final = 418


class Reply(NamedTuple):
    """What a GET brought; status 0 if nothing did."""

    status: int
    body: bytes
    retry_after_s: float


class WeightBudget:
    """Request weight spent within the last minute. Pure: times come with each call.

    Attributes:
        limit: Weight a minute that is ours to spend.
    """

    def __init__(self, per_minute: float) -> None:
        self.limit = per_minute
        self._spent: deque[tuple[float, float]] = deque()
        self._barred_until_s = 0.0

    def wait_s(self, weight: float, now_s: float) -> float:
        """Seconds until ``weight`` may be spent; 0 if it may be now."""
        spent = self._spent
        while spent and spent[0][0] <= now_s - MINUTE_S:
            spent.popleft()
        wait_s = max(0.0, self._barred_until_s - now_s)
        over = sum(cost for _, cost in spent) + weight - self.limit
        for at_s, cost in spent:
            if over <= 0:
                break
            over -= cost
            wait_s = max(wait_s, at_s + MINUTE_S - now_s)
        return wait_s  # a weight above the limit goes alone, when all else has been forgiven

    def spend(self, weight: float, now_s: float) -> None:
        """Note a request that is being sent."""
        self._spent.append((now_s, weight))

    def correct(self, used: float, now_s: float) -> None:
        """The venue counts more than we do: somebody else is spending too."""
        missing = used - sum(cost for at_s, cost in self._spent if at_s > now_s - MINUTE_S)
        if missing > 0:
            self._spent.append((now_s, missing))

    def bar(self, seconds: float, now_s: float) -> None:
        """The venue told us to stay away."""
        self._barred_until_s = max(self._barred_until_s, now_s + seconds)


class RestClient:
    """GETs below one root.

    Attributes:
        requests: Requests by status; 0 for those without an answer.
        root: The venue's REST root, without a slash at the end.
    """

    def __init__(
        self,
        root: str,
        *,
        weight_per_minute: int,
        used_weight_header: str = "",
        monotonic_s: Callable[[], float] | None = None,
    ) -> None:
        """Open it with ``async with``.

        Args:
            root: The venue's REST root.
            weight_per_minute: The venue's limit of an address.
            used_weight_header: Where its answers tell what has been spent.
            monotonic_s: Instead of the event loop's clock.
        """
        self.requests: Counter[int] = Counter()
        self.root = root.rstrip("/")
        self._budget = WeightBudget(weight_per_minute * BUDGET_SHARE)
        self._header = used_weight_header
        self._slots = asyncio.Semaphore(CONCURRENT_MAX)
        self._now_s = monotonic_s or asyncio.get_running_loop().time
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> RestClient:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S),
            headers={"Accept": "application/json", "User-Agent": "tapeline"},
            trust_env=True,
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, weight: float) -> Reply:
        """One request, when the budget allows it; never raises for what the network does."""
        async with self._slots:
            while (wait_s := self._budget.wait_s(weight, self._now_s())) > 0:  # noqa: ASYNC110
                await asyncio.sleep(wait_s)
            self._budget.spend(weight, self._now_s())
            reply = await self._get(path)
        self.requests[reply.status] += 1
        if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
            self._budget.bar(reply.retry_after_s or 1.0, self._now_s())
        elif reply.status == _IM_A_TEAPOT:
            self._budget.bar(reply.retry_after_s or BAN_S, self._now_s())
        return reply

    async def _get(self, path: str) -> Reply:
        assert self._session is not None
        try:
            async with self._session.get(self.root + path, allow_redirects=False) as response:
                body = await response.content.read(BODY_BYTES_MAX)
                while not response.content.at_eof():
                    more = await response.content.read(BODY_BYTES_MAX)
                    body += more
                    if len(body) > BODY_BYTES_MAX:
                        return Reply(0, b"", 0)
                used = response.headers.get(self._header, "") if self._header else ""
                if used.isdigit():
                    self._budget.correct(int(used), self._now_s())
                return Reply(
                    response.status, body, retry_after_s(response.headers.get("Retry-After"))
                )
        except (aiohttp.ClientError, OSError, TimeoutError):
            return Reply(0, b"", 0)


def retry_after_s(header: str | None) -> float:
    """Seconds that a ``Retry-After`` asks for; 0 if it is absent or a date."""
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 0.0
