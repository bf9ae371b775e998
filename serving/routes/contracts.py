"""The contracts themselves: OpenAPI, AsyncAPI, JSON Schemas, and what problems mean."""

from __future__ import annotations

from functools import cache
from typing import Annotated

import orjson
from fastapi import APIRouter, FastAPI, Path, Response

from serving import contracts
from serving.asyncapi import asyncapi
from serving.models import ProblemPage, SchemasAnswer
from serving.openapi30 import downgraded
from serving.problems import KINDS, TYPES, problem
from serving.routes.documented import json_bytes, problems


def router(app: FastAPI) -> APIRouter:
    """Routes that describe ``app``."""
    routes = APIRouter(tags=["contracts"])

    @cache
    def rendered(name: str) -> bytes:
        if name == "asyncapi":
            return orjson.dumps(asyncapi())
        document = app.openapi()
        return orjson.dumps(document if name == "openapi" else downgraded(document))

    @routes.get("/openapi.json", include_in_schema=False)
    async def get_openapi() -> Response:
        return json_bytes(rendered("openapi"), contracts.CACHED)

    @routes.get("/openapi-3.0.json", include_in_schema=False)
    async def get_openapi_30() -> Response:
        return json_bytes(rendered("openapi-3.0"), contracts.CACHED)

    @routes.get("/asyncapi.json", include_in_schema=False)
    async def get_asyncapi() -> Response:
        return json_bytes(rendered("asyncapi"), contracts.CACHED)

    @routes.get("/schemas/", responses={200: {"model": SchemasAnswer}, **problems(public=True)})
    async def get_schemas() -> Response:
        """Names of all JSON Schemas."""
        return json_bytes(orjson.dumps({"schemas": contracts.schema_names()}), contracts.CACHED)

    @routes.get(
        "/schemas/{name}",
        responses={
            200: {"content": {"application/schema+json": {"schema": {"type": "object"}}}},
            **problems("not-found", public=True),
        },
    )
    async def get_schema(
        name: Annotated[str, Path(examples=[contracts.REPORT])],
    ) -> Response:
        """One JSON Schema, such as `report-1.1.json`."""
        if name not in contracts.schema_names():
            return problem("not-found", "there is no such schema; /schemas/ lists all")
        return Response(
            contracts.schema_bytes(name),
            media_type="application/schema+json",
            headers=contracts.CACHED,
        )

    @routes.get(
        TYPES + "{kind}",
        responses={200: {"model": ProblemPage}, **problems("not-found", public=True)},
    )
    async def get_problem(kind: Annotated[str, Path(examples=["unauthorized"])]) -> Response:
        """What a problem's `type` means and what to do about it."""
        known = KINDS.get(kind)
        if known is None:
            return problem("not-found", "there is no such type of problem")
        page = ProblemPage(
            type=TYPES + kind, title=known.title, status=known.status, meaning=known.meaning
        )
        return json_bytes(page.model_dump_json().encode(), contracts.CACHED)

    return routes
