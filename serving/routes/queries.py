"""What the asking key has asked before."""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query, Request, Response
from redis.exceptions import RedisError

from serving.access import Access
from serving.models import QueriesAnswer
from serving.parts import Parts
from serving.problems import problem
from serving.reader import StoreUnavailable
from serving.routes.documented import json_bytes, problems
from serving.routes.reports import invalid

_CURSOR: Final = re.compile(r"\d{1,19}-\d{1,19}", re.ASCII)  # more would not fit 64 bits
_encode: Final = msgspec.json.Encoder().encode


def router(parts: Parts) -> APIRouter:
    """Routes on these parts."""
    routes = APIRouter(tags=["keys"])

    @routes.get(
        "/queries",
        responses={
            200: {"model": QueriesAnswer},
            **problems("invalid-parameter", "store-unavailable"),
        },
    )
    async def get_queries(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=1000, description="Of a page.")] = 100,
        cursor: Annotated[
            str,
            Query(
                description="`next_cursor` of the page before.",
                json_schema_extra={"pattern": f"^({_CURSOR.pattern})?$"},
            ),
        ] = "",
    ) -> Response:
        """Calls that the asking key has made, newest first; nobody else's.

        Without a key there is no history: 401, on loopback too.
        """
        access: Access | None = request.scope["state"].get("access")
        if access is None or access == Access.loopback():
            return problem(
                "unauthorized",
                "history is kept by key, and the call came without one",
                {"WWW-Authenticate": 'Bearer realm="tapeline"'},
            )
        if cursor and _CURSOR.fullmatch(cursor) is None:
            raise invalid("cursor", "it is none of this call")
        try:
            calls, following = await parts.history.read(access.key_id, limit, cursor)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(f"Redis did not answer: {error!r}") from None
        body = {"key_id": access.key_id, "calls": calls, "next_cursor": following or None}
        return json_bytes(_encode(body))

    return routes
