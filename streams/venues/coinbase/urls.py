"""Coinbase's addresses and the frames that ask for channels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final, Literal
from urllib.parse import quote, urlsplit

STREAM_ROOT: Final = "wss://advanced-trade-ws.coinbase.com"
REST_ROOT: Final = "https://api.coinbase.com/api/v3/brokerage"

STREAM_PATH: Final = ""
"""All sockets have the same address: what is followed is asked for by frames."""

LEVEL2: Final = "level2"
HEARTBEATS: Final = "heartbeats"
CHANNELS: Final = (LEVEL2, "market_trades", "ticker", "candles")
"""What is subscribed for each product, books first: they are what a reader waits for."""

FRAME_PRODUCTS_MAX: Final = 200
"""Products named by one frame: a few kilobytes, however many there are."""

_PRODUCTS: Final = "/market/products"

Method = Literal["subscribe", "unsubscribe"]


def request(method: Method, channel: str, products: Sequence[str] = ()) -> list[str]:
    """Frames about one channel; there is one channel to a frame."""
    asked: dict[str, object] = {"type": method, "channel": channel}
    if not products:
        return [_written(asked)]
    return [
        _written(asked | {"product_ids": list(products[at : at + FRAME_PRODUCTS_MAX])})
        for at in range(0, len(products), FRAME_PRODUCTS_MAX)
    ]


def subscribe_all(products: Sequence[str]) -> list[str]:
    """What a new socket is sent first: signs of life, and all channels of these products."""
    frames = request("subscribe", HEARTBEATS)
    for channel in CHANNELS if products else ():
        frames += request("subscribe", channel, products)
    return frames


def subscribe_again(product: str, *, book_only: bool) -> list[str]:
    """What brings the snapshot of one product's book: its subscription, after an end to it."""
    frames = request("unsubscribe", LEVEL2, [product])
    for channel in CHANNELS[:1] if book_only else CHANNELS:
        frames += request("subscribe", channel, [product])
    return frames


def products_path(products: Iterable[str]) -> str:
    """The rules of these products, in one request; those the venue lacks are left out."""
    return _PRODUCTS + "?" + "&".join(f"product_ids={quote(name)}" for name in products)


def product_path(product: str) -> str:
    """The rules of one product; 404 if the venue lacks it."""
    return f"{_PRODUCTS}/{quote(product)}"


def is_products(url: str) -> bool:
    """Whether a REST address is one of the two above."""
    _, found, tail = urlsplit(url).path.partition(_PRODUCTS)
    return bool(found) and tail.count("/") <= 1 and (not tail or tail[0] == "/")


def wire_names(product: str) -> tuple[str, ...]:
    """What the websocket may call a product: a ``-USDC`` one goes by the name of its ``-USD`` one."""
    if product.endswith("-USDC"):
        return product, product[:-1]
    return (product,)


def _written(frame: dict[str, object]) -> str:
    return json.dumps(frame, separators=(",", ":"))
