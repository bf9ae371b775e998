"""What every REST call of a simulated venue goes through: budget, refusals, faults, counts."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from streams.simulator.server import SimulatedExchange

MINUTE_MS: Final = 60_000
BANNED: Final = 418

Handler = Callable[[web.Request, bool], str]
"""Answers a request; told whether to answer out of the past."""


class Refusal(Exception):
    """A request is answered with the venue's error body."""

    def __init__(self, status: int, code: int, msg: str, retry_after_s: int = 0) -> None:
        super().__init__(msg)
        self.status, self.code, self.msg, self.retry_after_s = status, code, msg, retry_after_s


class Gate:
    """Lets requests in, or refuses them as the venue would.

    Its clients share one budget, whatever their number.
    """

    def __init__(
        self,
        sim: SimulatedExchange,
        weight_per_minute: int,
        error_body: Callable[[Refusal], object],
        too_many: tuple[int, str],
    ) -> None:
        """A gate.

        Args:
            sim: The venue.
            weight_per_minute: Budget of all clients; 0 for none.
            error_body: The venue's body for a refusal.
            too_many: Its code and words for too many requests.
        """
        self.budget = weight_per_minute
        self._sim = sim
        self._error_body = error_body
        self._too_many = too_many
        self._used: deque[tuple[int, int]] = deque()

    def guarded(
        self,
        answer: Handler,
        weight: Callable[[web.Request], int],
        symbol: Callable[[web.Request], str],
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """A handler that counts, weighs, and turns refusals into the venue's errors.

        Args:
            answer: Gives the body of a request that is let in.
            weight: What it costs.
            symbol: Which symbol it is about; empty for none.
        """

        async def handle(request: web.Request) -> web.StreamResponse:
            sim = self._sim
            headers: dict[str, str] = {}
            try:
                kind = request.path.rpartition("/")[2]
                old = self._let_in(headers, symbol(request), kind, weight(request))
                body = answer(request, old)
                status: int = HTTPStatus.OK
            except Refusal as refusal:
                status = refusal.status
                body = text(self._error_body(refusal))
                if refusal.retry_after_s:
                    headers["Retry-After"] = str(refusal.retry_after_s)
            refused = status in (HTTPStatus.TOO_MANY_REQUESTS, BANNED)
            sim.requests["refused" if refused else request.path] += 1
            return web.Response(
                text=body, status=status, headers=headers, content_type="application/json"
            )

        return handle

    def _let_in(self, headers: dict[str, str], symbol: str, kind: str, weight: int) -> bool:
        """Whether the answer is to be an old one."""
        sim = self._sim
        sim.advance()
        now_ms = sim.now_ms()
        code, words = self._too_many
        if now_ms < sim.exchange.refuse_until_ms:
            raise Refusal(429, code, words, sim.exchange.retry_after_s)
        fault, wait_s = sim.faults.request(symbol, kind, now_ms)
        if wait_s:
            raise Refusal(BANNED if fault == "ban" else 429, code, words, wait_s)
        used = self._used
        while used and used[0][0] <= now_ms - MINUTE_MS:
            used.popleft()
        total = weight + sum(cost for _, cost in used)
        if self.budget and total > self.budget:
            wait_ms = used[0][0] + MINUTE_MS - now_ms if used else MINUTE_MS
            raise Refusal(
                429,
                code,
                f"Too much request weight used; current limit is {self.budget} request weight "
                "per 1 MINUTE.",
                1 + wait_ms // 1000,
            )
        used.append((now_ms, weight))
        headers["X-MBX-USED-WEIGHT-1M"] = str(total)
        return fault == "old_snapshot"


def text(body: object) -> str:
    """JSON without blanks."""
    return json.dumps(body, separators=(",", ":"))
