"""The REST calls of Coinbase Advanced Trade that need no key: products and their books."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from streams.simulator.dialect_coinbase import CoinbaseFeed
from streams.simulator.gate import Gate, Refusal, text

if TYPE_CHECKING:
    from streams.simulator.server import SimulatedExchange

ROOT: Final = "/api/v3/brokerage"
_ERRORS: Final = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 429: "RATE_LIMIT", 418: "RATE_LIMIT"}


def add_routes(app: web.Application, sim: SimulatedExchange, weight_per_minute: int) -> None:
    """Serve ``/api/v3/brokerage/market`` for one exchange."""
    gate = Gate(sim, weight_per_minute, _error, (0, "too many requests"))
    rest = _Rest(sim)
    for path, answer in (
        ("/time", rest.time),
        ("/market/products", rest.products),
        ("/market/products/{product_id}", rest.product),
        ("/market/product_book", rest.book),
    ):
        app.router.add_get(ROOT + path, gate.guarded(answer, lambda _: 1, _product_asked))


class _Rest:
    def __init__(self, sim: SimulatedExchange) -> None:
        self._sim = sim

    def time(self, _: web.Request, old: bool) -> str:
        now_ms = self._sim.now_ms()
        return text({"epochSeconds": str(now_ms // 1000), "epochMillis": str(now_ms)})

    def products(self, request: web.Request, old: bool) -> str:
        """All products, or those asked for by ``product_ids`` that there are."""
        listed = self._sim.exchange.feeds
        asked = request.query.getall("product_ids", [*listed])
        products = [self._feed(name).product() for name in asked if name in listed]
        return text(
            {
                "products": products,
                "num_products": len(products),
                "pagination": {"prev_cursor": "", "next_cursor": "", "has_next": False},
            }
        )

    def product(self, request: web.Request, old: bool) -> str:
        return text(self._feed(request.match_info["product_id"]).product())

    def book(self, request: web.Request, old: bool) -> str:
        limit = request.query.get("limit", "")
        if limit and not (limit.isdigit() and int(limit)):
            raise Refusal(400, 0, "limit must be a positive integer")
        product = request.query.get("product_id", "")
        return text(self._feed(product).product_book(int(limit) if limit else None))

    def _feed(self, name: str) -> CoinbaseFeed:
        feed = self._sim.exchange.feeds.get(name)
        if not isinstance(feed, CoinbaseFeed):
            raise Refusal(404, 0, f"product {name} not found")
        return feed


def _product_asked(request: web.Request) -> str:
    return request.query.get("product_id", "") or request.match_info.get("product_id", "")


def _error(refusal: Refusal) -> dict[str, Any]:
    return {
        "error": _ERRORS[refusal.status],
        "error_details": refusal.msg,
        "message": refusal.msg,
    }
