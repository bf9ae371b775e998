"""The simulated venue's HTTP side: the REST calls a feed needs, and the control API."""

from __future__ import annotations

import json
import re
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from streams.simulator.dialect_binance import DEPTH_LIMITS
from tapeline.errors import ConfigError

if TYPE_CHECKING:
    from streams.simulator.server import SimulatedExchange

_SYMBOL: Final = re.compile(r"[A-Z0-9_.-]{1,20}")
_MINUTE_MS: Final = 60_000
_DEPTH_WEIGHTS: Final = ((100, 5), (500, 25), (1000, 50), (DEPTH_LIMITS, 250))


class _Refusal(Exception):
    """A request is answered with the venue's error body."""

    def __init__(self, status: int, code: int, msg: str, retry_after_s: int = 0) -> None:
        super().__init__(msg)
        self.status, self.code, self.msg, self.retry_after_s = status, code, msg, retry_after_s


def add_routes(app: web.Application, sim: SimulatedExchange, weight_per_minute: int) -> None:
    """Serve ``/api/v3`` and ``/sim`` for one exchange."""
    handlers = _Rest(sim, weight_per_minute)
    for path, weight, answer in (
        ("/api/v3/ping", 1, handlers.ping),
        ("/api/v3/time", 1, handlers.time),
        ("/api/v3/exchangeInfo", 20, handlers.exchange_info),
        ("/api/v3/depth", 0, handlers.depth),
    ):
        app.router.add_get(path, handlers.guarded(weight, answer))
    app.router.add_get("/sim/state", handlers.state)
    app.router.add_post("/sim/episodes", handlers.episode)


class _Rest:
    def __init__(self, sim: SimulatedExchange, weight_per_minute: int) -> None:
        self._sim = sim
        self._budget = weight_per_minute
        self._used: deque[tuple[int, int]] = deque()

    def guarded(self, weight: int, answer: Any) -> Any:
        """A handler that counts, weighs, and turns refusals into the venue's errors."""

        async def handle(request: web.Request) -> web.Response:
            sim = self._sim
            headers: dict[str, str] = {}
            try:
                self._let_in(headers, weight or _depth_weight(request))
                body: str = answer(request)
                status = 200
            except _Refusal as refusal:
                status = refusal.status
                body = _text({"code": refusal.code, "msg": refusal.msg})
                if refusal.retry_after_s:
                    headers["Retry-After"] = str(refusal.retry_after_s)
            sim.requests["refused" if status == 429 else request.path] += 1
            return web.Response(
                text=body, status=status, headers=headers, content_type="application/json"
            )

        return handle

    def _let_in(self, headers: dict[str, str], weight: int) -> None:
        sim = self._sim
        sim.advance()
        now_ms = sim.exchange.now_ms
        if now_ms < sim.exchange.refuse_until_ms:
            raise _Refusal(429, -1003, "Too many requests.", sim.exchange.retry_after_s)
        used = self._used
        while used and used[0][0] <= now_ms - _MINUTE_MS:
            used.popleft()
        total = weight + sum(cost for _, cost in used)
        if self._budget and total > self._budget:
            wait_ms = used[0][0] + _MINUTE_MS - now_ms if used else _MINUTE_MS
            raise _Refusal(
                429,
                -1003,
                f"Too much request weight used; current limit is {self._budget} request weight "
                "per 1 MINUTE.",
                1 + wait_ms // 1000,
            )
        used.append((now_ms, weight))
        headers["X-MBX-USED-WEIGHT-1M"] = str(total)

    def ping(self, _: web.Request) -> str:
        return "{}"

    def time(self, _: web.Request) -> str:
        return _text({"serverTime": self._sim.exchange.now_ms})

    def depth(self, request: web.Request) -> str:
        """The book, with the id of the last change in it."""
        symbol = self._symbol(request.query.get("symbol"))
        return self._sim.exchange.snapshot(symbol, _limit(request))

    def exchange_info(self, request: web.Request) -> str:
        """Listings, all or those asked for by ``symbol`` or ``symbols``."""
        names: list[str] | None = None
        if "symbol" in request.query:
            names = [self._symbol(request.query["symbol"])]
        elif "symbols" in request.query:
            try:
                asked = json.loads(request.query["symbols"])
            except ValueError:
                asked = None
            if not isinstance(asked, list) or not asked:
                raise _Refusal(400, -1100, "Illegal characters found in parameter 'symbols'.")
            names = [self._symbol(name) for name in asked]
        exchange = self._sim.exchange
        return _text(
            {
                "timezone": "UTC",
                "serverTime": exchange.now_ms,
                "rateLimits": [
                    {
                        "rateLimitType": "REQUEST_WEIGHT",
                        "interval": "MINUTE",
                        "intervalNum": 1,
                        "limit": self._budget or 6000,
                    }
                ],
                "exchangeFilters": [],
                "symbols": exchange.listings(names),
            }
        )

    def _symbol(self, name: object) -> str:
        if not name:
            raise _Refusal(
                400,
                -1102,
                "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.",
            )
        if not isinstance(name, str) or not _SYMBOL.fullmatch(name):
            raise _Refusal(
                400,
                -1100,
                "Illegal characters found in parameter 'symbol'; legal range is "
                "'^[A-Z0-9-_.]{1,20}$'.",
            )
        if name not in self._sim.exchange.feeds:
            raise _Refusal(400, -1121, "Invalid symbol.")
        return name

    async def state(self, _: web.Request) -> web.Response:
        """``GET /sim/state``."""
        return web.json_response(self._sim.state())

    async def episode(self, request: web.Request) -> web.Response:
        """``POST /sim/episodes`` {name, symbol, in_s, and the script's own parameters}."""
        try:
            asked = await request.json()
        except ValueError:
            asked = None
        if not isinstance(asked, dict) or not isinstance(asked.get("name"), str):
            expected = {
                "error": 'expected a JSON object such as {"name":"wall","symbol":"BTCUSDT"}'
            }
            return web.json_response(expected, status=400)
        name, symbol = asked.pop("name"), asked.pop("symbol", None)
        in_s = asked.pop("in_s", 0.0)
        try:
            if isinstance(in_s, bool) or not isinstance(in_s, (int, float)) or in_s < 0:
                raise ConfigError("in_s", in_s, "seconds from now, 0 or more")
            params = asked.pop("params", None) or {}
            episode = self._sim.start_episode(name, symbol, in_s=in_s, **{**params, **asked})
        except ConfigError as exc:
            return web.json_response({"error": str(exc)}, status=400)
        return web.json_response(episode.as_dict(), status=201)


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", "100")
    if not text.isdigit() or not int(text):
        raise _Refusal(400, -1100, "Illegal characters found in parameter 'limit'.")
    return min(int(text), DEPTH_LIMITS)


def _depth_weight(request: web.Request) -> int:
    limit = _limit(request)
    return next(weight for upto, weight in _DEPTH_WEIGHTS if limit <= upto)


def _text(body: object) -> str:
    return json.dumps(body, separators=(",", ":"))
