"""Whether the reader is well, and its metrics."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from serving.access.front import keys_needed
from serving.access.ring import KeysUnknown
from serving.models import HealthAnswer, LiveAnswer, ReadyAnswer
from serving.parts import Parts
from serving.reader import StoreUnavailable
from serving.routes.documented import json_bytes, problems
from tapeline.errors import ReportError
from tapeline.metrics.exposition import exposition


def router(parts: Parts) -> APIRouter:
    """Routes on these parts."""
    routes = APIRouter(tags=["operations"])

    async def trouble() -> str:
        """What Redis lacks; '' where it answers."""
        try:
            await parts.reader.get("HEALTH")
        except StoreUnavailable as error:
            return str(error)
        except ReportError:
            pass  # it answered
        return ""

    @routes.get(
        "/health",
        responses={
            200: {"model": HealthAnswer},
            503: {"model": HealthAnswer, "description": "Redis does not answer"},
            **problems(public=True),
        },
    )
    async def health() -> Response:
        """Whether this process answers and Redis does."""
        reason = await trouble()
        body = {
            "status": "unhealthy" if reason else "ok",
            "redis": reason or "ok",
            "uptime_s": (parts.clock.now_ms() - parts.started_ms) / 1000,
        }
        return json_bytes(orjson.dumps(body), status=503 if reason else 200)

    @routes.get("/live", responses={200: {"model": LiveAnswer}, **problems(public=True)})
    async def live() -> Response:
        """Whether this process answers; nothing else is asked, as a restart would mend nothing else."""
        return json_bytes(b'{"live":true}')

    @routes.get(
        "/ready",
        responses={
            200: {"model": ReadyAnswer},
            503: {"model": ReadyAnswer, "description": "Not ready, and why"},
            **problems(public=True),
        },
    )
    async def ready() -> Response:
        """Whether calls will be answered: Redis is there, and keys are known where needed."""
        reason = await trouble()
        if not reason and keys_needed(parts.settings):
            try:
                await parts.ring.refresh()
            except KeysUnknown as error:
                reason = str(error)
            else:
                if not parts.ring.in_force:
                    reason = "no API key is in force; `tapeline keys create` makes one"
        body = {"ready": not reason, "reason": reason}
        return json_bytes(orjson.dumps(body), status=503 if reason else 200)

    @routes.get("/metrics", include_in_schema=False)
    async def get_metrics() -> Response:
        try:
            parts.metrics.stored.looked(await parts.directory.look())
        except StoreUnavailable:
            parts.metrics.stored.away()
        text = await exposition(parts.metrics.registry)
        return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    return routes
