"""What routes say of themselves to OpenAPI."""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import Response

from serving.models import InvalidProblem, Problem
from serving.problems import KINDS, MEDIA_TYPE

ANYWHERE: Final = ("key-in-url", "malformed-request", "uri-too-long", "wrong-host", "internal")
"""What the front door may answer to any call."""

KEYED: Final = ("unauthorized", "forbidden", "rate-limited", "keys-unknown")
"""And to one that may need a key."""


def json_bytes(body: bytes, headers: dict[str, str] | None = None, status: int = 200) -> Response:
    """An answer whose JSON is made already."""
    return Response(
        body,
        status,
        media_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def problems(*kinds: str, public: bool = False) -> dict[int | str, dict[str, Any]]:
    """``responses`` of a route: these kinds of problems, and those of the front door.

    Args:
        kinds: Names of `KINDS`.
        public: Whether it never asks for a key.
    """
    by_status: dict[int, list[str]] = {}
    for kind in (*kinds, *ANYWHERE, *(() if public else KEYED)):
        by_status.setdefault(KINDS[kind].status, []).append(KINDS[kind].title)
    return {
        status: {
            "description": "; ".join(dict.fromkeys(titles)),
            "content": {MEDIA_TYPE: {"schema": _schema(status)}},
        }
        for status, titles in sorted(by_status.items())
    }


def _schema(status: int) -> dict[str, Any]:
    model = InvalidProblem if status == 422 else Problem
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def header(description: str, **schema: Any) -> dict[str, Any]:
    """One header of an answer."""
    return {"description": description, "schema": schema}
