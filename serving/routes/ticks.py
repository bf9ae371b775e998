"""Ticks: last trade and top of book."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response

from serving.models import TickAnswer
from serving.parts import Parts
from serving.reader import SYMBOL_PATTERN
from serving.routes.documented import json_bytes, problems

_TICK: Final[dict[str, Any]] = {
    "description": "The tick, or null.",
    "content": {
        "application/json": {
            "schema": {
                "anyOf": [
                    {"$ref": f"#/components/schemas/{TickAnswer.__name__}"},
                    {"type": "null"},
                ]
            }
        }
    },
}


def router(parts: Parts) -> APIRouter:
    """Routes on these parts."""
    routes = APIRouter(tags=["ticks"])

    @routes.get(
        "/ticks/realtime",
        responses={
            200: _TICK,
            **problems("malformed-symbol", "unreadable-report", "store-unavailable"),
        },
    )
    async def get_tick(
        symbol: Annotated[
            str,
            Query(
                description="Canonical symbol, such as BTCUSDT.",
                json_schema_extra={"pattern": f"^{SYMBOL_PATTERN}$"},
                examples=["BTCUSDT"],
            ),
        ],
    ) -> Response:
        """The latest trade and top of book with spread, mid, micro price, imbalance and flow.

        Null where there is none. Written when something changes, at most 20 times a second.
        """
        body = await parts.ticks.get(symbol)
        return json_bytes(b"null" if body is None else body)

    return routes
