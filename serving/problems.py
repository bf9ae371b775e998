"""Errors as RFC 9457 wants them: one kind, one type, one page that says what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.responses import Response

MEDIA_TYPE: Final = "application/problem+json"
TYPES: Final = "/problems/"
"""Where the types of problems are, relative to the reader."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem.

    Attributes:
        status: Its HTTP status.
        title: The same for all of the kind.
        meaning: What happened and what to do, for people.
    """

    status: int
    title: str
    meaning: str


KINDS: Final[Mapping[str, Kind]] = {
    "key-in-url": Kind(
        400,
        "API key in the URL",
        "URLs end up in logs and histories. Send the key as `Authorization: Bearer` or "
        "`X-API-Key`, and revoke this one: it has been seen.",
    ),
    "malformed-request": Kind(
        400, "Malformed request", "A header is there twice, or not what it may be."
    ),
    "unauthorized": Kind(
        401,
        "No valid API key",
        "The call needs a key and came without one, or the key is unknown, wrong or revoked. "
        "`tapeline keys create` makes one.",
    ),
    "forbidden": Kind(
        403, "Scope missing", "The key is valid and lacks the scope that the call needs."
    ),
    "foreign-origin": Kind(
        403,
        "Foreign origin",
        "A page of another origin made the call. `NT_ALLOWED_ORIGINS` lists those that may.",
    ),
    "not-found": Kind(404, "Not found", "There is no such path; `/openapi.json` lists all."),
    "no-such-stream": Kind(
        404, "No such stream", "No bridge follows it; `/api/v1/streams` lists those that one does."
    ),
    "method-not-allowed": Kind(
        405, "Method not allowed", "The path is there; `Allow` says by which methods."
    ),
    "too-slow": Kind(408, "Body not received in time", "The body took longer than the limit."),
    "stream-refused": Kind(
        409,
        "Stream refused",
        "The venue does not list the symbol or refuses it, or it clashes with another one that is "
        "followed; the detail says which. Nothing has changed.",
    ),
    "body-too-large": Kind(413, "Body too large", "`NT_HTTP_BODY_MAX_BYTES` is the limit."),
    "uri-too-long": Kind(414, "URI too long", "Path and query together are above 8 KiB."),
    "wrong-host": Kind(
        421,
        "Unknown host",
        "`Host` is not a name of this reader; a page may have pointed its own name here. "
        "`NT_ALLOWED_HOSTS` lists further names.",
    ),
    "malformed-symbol": Kind(
        422, "Malformed symbol", "A symbol has 1 to 32 capital letters, digits, dots, - or _."
    ),
    "invalid-parameter": Kind(
        422, "Invalid parameter", "A parameter is missing or out of its range; `errors` says which."
    ),
    "upgrade-required": Kind(426, "WebSocket only", "The path is a WebSocket's: open it as one."),
    "rate-limited": Kind(
        429,
        "Too many requests",
        "The key's bucket is empty, or too many wrong keys came from one address; "
        "`Retry-After` says how many seconds to wait.",
    ),
    "headers-too-large": Kind(
        431, "Headers too large", "Together above 16 KiB, or more than a hundred of them."
    ),
    "internal": Kind(
        500, "Internal error", "The reader's own fault; the log has it under the request's id."
    ),
    "unreadable-report": Kind(
        502, "Unreadable report", "What is stored under the symbol is no report of schema 1.x."
    ),
    "store-unavailable": Kind(
        503, "Store unavailable", "Redis did not answer in time. Try again in a second."
    ),
    "keys-unknown": Kind(
        503,
        "Keys not known yet",
        "Redis has not yet said which API keys are in force. Try again in a second.",
    ),
    "broker-unavailable": Kind(
        503,
        "Broker unavailable",
        "Commands go over Kafka, and it does not answer or lacks their topics. Nothing was sent.",
    ),
    "not-configured": Kind(
        503, "Not configured", "The reader was started without what the call needs, such as Kafka."
    ),
}
"""By name: the last part of a problem's ``type``."""


def body_of(kind: str, detail: str, **extra: Any) -> dict[str, Any]:
    """The members of a problem.

    Args:
        kind: A name of `KINDS`.
        detail: What happened this time.
        extra: Further members.
    """
    known = KINDS[kind]
    return {
        "type": TYPES + kind,
        "title": known.title,
        "status": known.status,
        "detail": detail,
        **extra,
    }


def problem(
    kind: str, detail: str, headers: Mapping[str, str] | None = None, **extra: Any
) -> Response:
    """An answer that says what went wrong; arguments as of `body_of`."""
    return Response(
        orjson.dumps(body_of(kind, detail, **extra)),
        KINDS[kind].status,
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def kind_of_status(status: int) -> str:
    """The kind that a bare status stands for."""
    named = {404: "not-found", 405: "method-not-allowed", 413: "body-too-large"}
    return named.get(status, "internal" if status >= 500 else "malformed-request")
