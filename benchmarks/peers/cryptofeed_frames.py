"""cryptofeed's Binance feed on recorded frames: ``python cryptofeed_frames.py FRAMES``.

FRAMES holds one JSON value a line: the REST book first, then the frames. Each kind of them is told
apart and timed by itself as well; callbacks do nothing. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from cryptofeed.defines import L2_BOOK, TICKER, TRADES
from cryptofeed.exchanges import Binance
from cryptofeed.symbols import Symbols

KINDS = {"depth": L2_BOOK, "trade": TRADES, "bookTicker": TICKER}


class Rest:
    """Answers the one request there is."""

    def __init__(self, book: str) -> None:
        self._book = book

    async def read(self, _address: str) -> str:
        return self._book


class Told:
    """Counts callbacks by channel."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(KINDS.values(), 0)

    def of(self, channel: str) -> Any:
        async def told(_what: object, _at: float) -> None:
            self.counts[channel] += 1

        return told


def feed_of(venue_symbol: str, book: str, told: Told) -> Binance:
    """A feed that asks nobody."""
    base, quote = venue_symbol[:-4], venue_symbol[-4:]
    name = f"{base}-{quote}"
    info = {"tick_size": {name: "0.01"}, "instrument_type": {name: "spot"}}
    Symbols.set(Binance.id, {name: venue_symbol}, info)
    feed = Binance(
        symbols=[name],
        channels=[*KINDS.values()],
        callbacks={channel: told.of(channel) for channel in KINDS.values()},
    )
    feed.http_conn = Rest(book)
    return feed


async def timed(feed: Binance, frames: Sequence[str]) -> float:
    """Seconds that all of them take."""
    handle = feed.message_handler
    began = perf_counter()
    for frame in frames:
        await handle(frame, None, 0.0)
    return perf_counter() - began


async def main(book: str, frames: Sequence[str]) -> dict[str, Any]:
    """All frames in their order, then each kind alone."""
    logging.getLogger("feedhandler").setLevel(logging.ERROR)
    venue_symbol = json.loads(frames[0])["stream"].partition("@")[0].upper()
    told = Told()
    seconds = {"all": await timed(feed_of(venue_symbol, book, told), frames)}
    found: dict[str, Any] = {"frames": {"all": len(frames)}, "told": dict(told.counts)}
    for kind in KINDS:
        own = [f for f in frames if json.loads(f)["stream"].split("@")[1] == kind]
        found["frames"][kind] = len(own)
        seconds[kind] = await timed(feed_of(venue_symbol, book, Told()), own)
    return {**found, "seconds": seconds}


if __name__ == "__main__":
    told_first, *told_then = map(json.loads, Path(sys.argv[1]).read_text().splitlines())
    print(json.dumps(asyncio.run(main(told_first, told_then))))
