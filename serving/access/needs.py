"""Which scope each path asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Need:
    """What a path asks for.

    Attributes:
        key: Whether it asks for a key at all.
        scope: Which scope the key must have; '' for any.
        later: A websocket may show its key in its first message.
    """

    key: bool = True
    scope: str = ""
    later: bool = False


PUBLIC: Final = Need(key=False)
ANY_KEY: Final = Need()
ADMIN: Final = Need(scope="admin")

PATHS: Final = {
    "/get_report": Need(scope="reports:read"),
    "/reports": Need(scope="reports:read"),
    "/symbols": Need(scope="reports:read"),
    "/ticks/realtime": Need(scope="ticks:read"),
    "/status": Need(scope="status:read"),
    "/metrics": Need(scope="status:read"),
    "/health": PUBLIC,
    "/live": PUBLIC,
    "/ready": PUBLIC,
    "/openapi.json": PUBLIC,
    "/openapi-3.0.json": PUBLIC,
    "/asyncapi.json": PUBLIC,
    # Pages hold no data: they ask for it like everybody else, and show where a key goes.
    "/": PUBLIC,
    "/favicon.ico": PUBLIC,
    "/status-ui": PUBLIC,
    "/topics": PUBLIC,
    "/connect": PUBLIC,
    "/errors": PUBLIC,
}
PREFIXES: Final = {
    "/schemas/": PUBLIC,
    "/problems/": PUBLIC,
    "/s/": PUBLIC,
    "/static/": PUBLIC,
    "/assets/": PUBLIC,
}
_FEEDS: Final = "/api/v1/streams"


def need_of(kind: str, method: str, path: str) -> Need:
    """What a request asks for; a path that is none of ours still asks for a key.

    Args:
        kind: ``http`` or ``websocket``.
        method: Of the former.
        path: Decoded, as routes are matched.
    """
    if kind == "websocket":
        return Need(later=True)
    if path == _FEEDS or path.startswith(_FEEDS + "/"):
        return Need(scope="status:read") if method in READS else ADMIN
    found = PATHS.get(path)
    if found is None:
        found = next(
            (need for prefix, need in PREFIXES.items() if path.startswith(prefix)), ANY_KEY
        )
    return found
