"""Websockets: who may come in, and until when."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import APIRouter, WebSocket

from serving.access import Access
from serving.access.ring import KeysUnknown
from serving.hub.protocol import Close
from serving.parts import Parts

CHECK_S: Final = 0.5
"""Between two looks whether the keys of those who are here are still in force."""


def router(parts: Parts) -> APIRouter:
    """Routes on these parts."""
    routes = APIRouter()

    async def authenticate(text: str) -> Access | None:
        """Who a key belongs to that came with the first message."""
        try:
            key = await parts.ring.find(text)
        except KeysUnknown:
            return None
        return None if key is None else key.access

    parts.hub.authenticate = authenticate

    @routes.websocket("/ws")
    async def ws(websocket: WebSocket) -> None:
        access: Access | None = websocket.scope["state"]["access"]
        await parts.hub.endpoint(websocket, access)

    return routes


async def watch_keys(parts: Parts) -> None:
    """Send away whose key is revoked, until cancelled: a connection outlives the look at its key."""
    while True:
        await asyncio.sleep(CHECK_S)
        clients = [(client, client.access) for client in parts.hub.clients.values()]
        for client, access in clients:
            if access is None or access == Access.loopback():
                continue
            try:
                key = await parts.ring.current(access.key_id)
            except KeysUnknown:
                key = None  # as over HTTP: what is not known for a minute is not in force
            if key is None:
                client.sink.close(Close.REFUSED, "the key is no longer in force")
