"""The REST calls that a feed needs, as Binance answers them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from aiohttp import web

from streams.simulator.dialect_binance import DEPTH_LIMITS
from streams.simulator.gate import Gate, Refusal, text

if TYPE_CHECKING:
    from streams.simulator.server import SimulatedExchange

_SYMBOL: Final = re.compile(r"[A-Z0-9_.-]{1,20}")
_DEPTH_WEIGHTS: Final = ((100, 5), (500, 25), (1000, 50), (DEPTH_LIMITS, 250))


def add_routes(app: web.Application, sim: SimulatedExchange, weight_per_minute: int) -> None:
    """Serve ``/api/v3`` for one exchange."""
    gate = Gate(
        sim,
        weight_per_minute,
        lambda refusal: {"code": refusal.code, "msg": refusal.msg},
        (-1003, "Too many requests."),
    )
    rest = _Rest(sim, gate)
    for path, weight, answer in (
        ("/api/v3/ping", lambda _: 1, rest.ping),
        ("/api/v3/time", lambda _: 1, rest.time),
        ("/api/v3/exchangeInfo", lambda _: 20, rest.exchange_info),
        ("/api/v3/depth", _depth_weight, rest.depth),
    ):
        handler = gate.guarded(answer, weight, lambda request: request.query.get("symbol", ""))
        app.router.add_get(path, handler)


class _Rest:
    def __init__(self, sim: SimulatedExchange, gate: Gate) -> None:
        self._sim = sim
        self._gate = gate

    def ping(self, _: web.Request, old: bool) -> str:
        return "{}"

    def time(self, _: web.Request, old: bool) -> str:
        return text({"serverTime": self._sim.now_ms()})

    def depth(self, request: web.Request, old: bool) -> str:
        """The book, with the id of the last change in it."""
        symbol = self._symbol(request.query.get("symbol"))
        return self._sim.exchange.snapshot(symbol, _limit(request), old=old)

    def exchange_info(self, request: web.Request, old: bool) -> str:
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
                raise Refusal(400, -1100, "Illegal characters found in parameter 'symbols'.")
            names = [self._symbol(name) for name in asked]
        return text(
            {
                "timezone": "UTC",
                "serverTime": self._sim.now_ms(),
                "rateLimits": [
                    {
                        "rateLimitType": "REQUEST_WEIGHT",
                        "interval": "MINUTE",
                        "intervalNum": 1,
                        "limit": self._gate.budget or 6000,
                    }
                ],
                "exchangeFilters": [],
                "symbols": self._sim.exchange.listings(names),
            }
        )

    def _symbol(self, name: object) -> str:
        if not name:
            raise Refusal(
                400,
                -1102,
                "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.",
            )
        if not isinstance(name, str) or not _SYMBOL.fullmatch(name):
            raise Refusal(
                400,
                -1100,
                "Illegal characters found in parameter 'symbol'; legal range is "
                "'^[A-Z0-9-_.]{1,20}$'.",
            )
        if name not in self._sim.exchange.feeds:
            raise Refusal(400, -1121, "Invalid symbol.")
        return name


def _limit(request: web.Request) -> int:
    given = request.query.get("limit", "100")
    if not given.isdigit() or not int(given):
        raise Refusal(400, -1100, "Illegal characters found in parameter 'limit'.")
    return min(int(given), DEPTH_LIMITS)


def _depth_weight(request: web.Request) -> int:
    limit = _limit(request)
    return next(weight for upto, weight in _DEPTH_WEIGHTS if limit <= upto)
