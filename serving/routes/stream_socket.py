"""A stream's own WebSocket: the hub, with a subscription to that stream made already."""

from __future__ import annotations

import re
from typing import Final

import orjson
from fastapi import APIRouter, WebSocket
from starlette.types import Message, Receive

from serving.access import Access
from serving.parts import Parts
from serving.routes.streams import ROOT, STREAM_ID

CHANNELS: Final = ("reports.fast", "ticks")
"""Where the URL's ``channels`` names none."""

CHANNELS_MAX: Final = 16
REQUEST_ID: Final = "stream"
"""Of the request that the client is spared: the hub's answer says it."""

_STREAM_ID: Final = re.compile(STREAM_ID, re.ASCII)


def router(parts: Parts) -> APIRouter:
    """Routes on these parts."""
    routes = APIRouter()

    @routes.websocket(f"{ROOT}/{{stream_id}}/ws")
    async def stream_ws(websocket: WebSocket, stream_id: str) -> None:
        if _STREAM_ID.fullmatch(stream_id) is None:
            await websocket.close(1008, "malformed stream id; expected venue:SYMBOL")
            return
        access: Access | None = websocket.scope["state"]["access"]
        named = websocket.query_params.get("channels", "")
        wish = wish_of(stream_id, [*filter(None, named.split(","))])
        receive = asking(websocket._receive, wish, keyed=access is not None)
        subscribed = WebSocket(websocket.scope, receive, websocket._send)
        await parts.hub.endpoint(subscribed, access)

    return routes


def wish_of(stream_id: str, channels: list[str]) -> str:
    """The request that a client would have sent itself; what is wrong with it, the hub answers."""
    venue, _, symbol = stream_id.partition(":")
    wish = {
        "op": "subscribe",
        "id": REQUEST_ID,
        "channels": channels[:CHANNELS_MAX] or [*CHANNELS],
        "symbols": [symbol],
        "venues": [venue],
    }
    return orjson.dumps(wish).decode()


def asking(receive: Receive, wish: str, *, keyed: bool) -> Receive:
    """A client that asks as soon as it may: before its first message, or behind its key.

    Args:
        receive: Of the client.
        wish: What it asks.
        keyed: Whether it is known already who it is; else its first message says.
    """
    waits = 1 if keyed else 2  # the handshake, and the key
    asked = False

    async def received() -> Message:
        nonlocal waits, asked
        if waits:
            waits -= 1
        elif not asked:
            asked = True
            return {"type": "websocket.receive", "text": wish}
        return await receive()

    return received
