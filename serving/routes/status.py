"""The chain from the venues to this reader."""

from __future__ import annotations

from fastapi import APIRouter, Response

from serving.parts import Parts
from serving.routes.documented import json_bytes, problems
from serving.status.models import Status


def router(parts: Parts) -> APIRouter:
    """Routes on these parts."""
    routes = APIRouter(tags=["status"])

    @routes.get("/status", responses={200: {"model": Status}, **problems()})
    async def get_status() -> Response:
        """Feed, topic, workers, Redis and reader, each with rate, lag, age and restarts.

        Always 200: what is wrong is said inside, and `/ready` is for machines. A figure that nobody
        tells is null, with the reason beside it. At most 250 ms old.
        """
        return json_bytes(await parts.board.payload())

    return routes
