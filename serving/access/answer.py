"""An answer on its way out: headers that all have, and gzip where it was asked for."""

from __future__ import annotations

import asyncio
import re
import zlib
from typing import Final

from starlette.types import Message, Send

GZIP_MIN_BYTES: Final = 1024
GZIP_LEVEL: Final = 1
"""Reports shrink to a sixth by it; the highest takes four times as long for a tenth of that."""

THREAD_MIN_BYTES: Final = 262_144
"""Above this the loop is not held up: zlib lets go of the interpreter's lock."""

_PACKED_TYPES: Final = (b"application/json", b"application/problem+json", b"text/")
_GZIP: Final = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q\s*=\s*(?P<q>[0-9.]+)\s*)?(?:,|$)")

_COMMON: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"vary", b"Accept-Encoding, Origin"),
)


def wants_gzip(accepted: str) -> bool:
    """Whether an ``Accept-Encoding`` takes gzip."""
    match = _GZIP.search(accepted.lower())
    if match is None:
        return False
    try:
        return float(match["q"] or 1) > 0
    except ValueError:
        return False


def gzipped(body: bytes) -> bytes:
    """``body`` as a gzip member; the same bytes give the same bytes."""
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


class Answer:
    """Stands in for ``send``; what is streamed passes as it is.

    Args:
        send: The server's.
        headers: To be added, as they are when the answer starts.
        asked: The request's.
        bodiless: Headers alone, with the length of the body that a GET would get.

    Attributes:
        status: Of the answer; 500 before it has started.
        started: Whether it has.
        sent_bytes: Of the body, as sent.
    """

    def __init__(
        self,
        send: Send,
        headers: list[tuple[bytes, bytes]],
        asked: list[tuple[bytes, bytes]],
        *,
        bodiless: bool = False,
    ) -> None:
        self._send, self._headers, self._bodiless = send, headers, bodiless
        accepted = b",".join(value for name, value in asked if name == b"accept-encoding")
        self._gzip = wants_gzip(accepted.decode("latin-1"))
        self._held: Message | None = None
        self.status, self.started, self.sent_bytes = 500, False, 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.started = message["status"], True
            own = [pair for pair in message["headers"] if pair[0].lower() != b"vary"]
            message["headers"] = [*own, *_COMMON, *self._headers]
            if self._gzip and _is_packed(message):
                self._held = message
                return
        elif message["type"] == "http.response.body":
            held, self._held = self._held, None
            if held is not None:
                message = await self._packed(held, message)
                await self._send(held)
            if self._bodiless:
                message = {**message, "body": b""}
            self.sent_bytes += len(message.get("body", b""))
        await self._send(message)

    async def _packed(self, start: Message, message: Message) -> Message:
        body = message.get("body", b"")
        if message.get("more_body") or len(body) < GZIP_MIN_BYTES:
            return message
        if len(body) < THREAD_MIN_BYTES:
            body = gzipped(body)
        else:
            body = await asyncio.to_thread(gzipped, body)
        start["headers"] = [
            *(pair for pair in start["headers"] if pair[0].lower() != b"content-length"),
            (b"content-length", str(len(body)).encode()),
            (b"content-encoding", b"gzip"),
        ]
        return {**message, "body": body}


def _is_packed(start: Message) -> bool:
    """Whether an answer is of a type that shrinks, and is not packed yet."""
    headers = {name.lower(): value for name, value in start["headers"]}
    kind = headers.get(b"content-type", b"")
    return (
        b"content-encoding" not in headers
        and kind.startswith(_PACKED_TYPES)
        and not kind.startswith(b"text/event-stream")
    )
