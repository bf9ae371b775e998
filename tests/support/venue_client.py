"""A client of the simulated venues on a real socket."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import aiohttp
from websockets.asyncio.client import ClientConnection, connect

from tests.support.wire import read

WAIT_S = 4.0
Book = dict[str, dict[str, str]]


@asynccontextmanager
async def socket(url: str) -> AsyncIterator[ClientConnection]:
    async with connect(url, max_size=None, close_timeout=0.2, ping_interval=None) as ws:
        yield ws


async def until(condition: Callable[[], object], within_s: float = WAIT_S) -> None:
    """Wait for something to become true, not for ever."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110, nobody could set an event
            await asyncio.sleep(0.005)


async def frames(ws: ClientConnection, enough: Callable[[list[Any]], object]) -> list[Any]:
    """Frames, numbers as printed, until there are enough."""
    found: list[Any] = []
    async with asyncio.timeout(WAIT_S):
        while not enough(found):
            found.append(read(str(await ws.recv())))
    return found


async def rest_of(ws: ClientConnection, seconds: float = 0.3) -> list[Any]:
    """Frames until none comes for a while."""
    found: list[Any] = []
    while True:
        try:
            async with asyncio.timeout(seconds):
                found.append(read(str(await ws.recv())))
        except TimeoutError:
            return found


async def get(client: aiohttp.ClientSession, url: str, **params: str) -> tuple[int, Any]:
    async with client.get(url, params=params) as response:
        return response.status, await response.json()


def set_level(levels: dict[str, str], price: str, size: str) -> None:
    if Decimal(size):
        levels[price] = size
    else:
        levels.pop(price, None)


def ranked(levels: dict[str, str], *, best_high: bool) -> list[list[str]]:
    return [[p, levels[p]] for p in sorted(levels, key=Decimal, reverse=best_high)]


def kraken_book(found: list[Any], depth: int) -> tuple[Book, int]:
    """The book that the frames add up to, each checksum compared, and the last of them."""
    book: Book = {"bids": {}, "asks": {}}
    checksum = 0
    for body in found:
        if body.get("channel") != "book":
            continue
        (row,) = body["data"]
        if body["type"] == "snapshot":
            book = {"bids": {}, "asks": {}}
        for side in ("bids", "asks"):
            for level in row[side]:
                set_level(book[side], level["price"], level["qty"])
            book[side] = dict(map(tuple, ranked(book[side], best_high=side == "bids")[:depth]))
        text = "".join(
            digits.replace(".", "").lstrip("0")
            for side in ("asks", "bids")
            for level in [*book[side].items()][:10]
            for digits in level
        )
        checksum = row["checksum"]
        assert zlib.crc32(text.encode()) == checksum
    return book, checksum
