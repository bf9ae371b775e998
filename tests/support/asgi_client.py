"""Calls an ASGI application, no socket in between."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


class Client:
    """Calls an ASGI application, no socket in between."""

    def __init__(self, app: ASGIApp, key: str = "", client: str = "127.0.0.1") -> None:
        self.app, self.key, self.client = app, key, client

    async def get(
        self,
        path: str,
        query: str = "",
        method: str = "GET",
        headers: list[tuple[str, str]] | None = None,
        host: str | None = "127.0.0.1",
        body: list[bytes] | None = None,
    ) -> Answer:
        """One request.

        Args:
            path: Decoded.
            query: Encoded.
            method: Its method.
            headers: Beside ``Host`` and the client's own key.
            host: ``Host``; None for none.
            body: In pieces.
        """
        sent: list[dict[str, Any]] = []
        pieces = list(body or [b""])

        async def receive() -> dict[str, Any]:
            if not pieces:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

        async def send(message: Any) -> None:
            sent.append(dict(message))

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [
                *([(b"host", host.encode("latin-1"))] if host is not None else []),
                *([(b"authorization", b"Bearer " + self.key.encode())] if self.key else []),
                *((n.lower().encode(), v.encode("latin-1")) for n, v in headers or []),
            ],
            "client": (self.client, 1),
            "server": ("127.0.0.1", 80),
        }
        await self.app(scope, receive, send)  # type: ignore[arg-type]
        start = next(m for m in sent if m["type"] == "http.response.start")
        body = b"".join(m.get("body", b"") for m in sent if m["type"] == "http.response.body")
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], headers, body)

    async def report(self, symbol: str, **more: Any) -> Answer:
        """``GET /get_report``."""
        return await self.get("/get_report", f"symbol={quote(symbol)}", **more)


async def eventually(
    call: Callable[[], Awaitable[Answer]], status: int, within_s: float = 1.0
) -> Answer:
    """The first answer of this status; fails where none comes in time."""
    deadline_s = time.monotonic() + within_s
    while True:
        answer = await call()
        if answer.status == status:
            return answer
        assert time.monotonic() < deadline_s, f"still {answer.status}: {answer.body!r}"
        await asyncio.sleep(0.01)
