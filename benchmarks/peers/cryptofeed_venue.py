"""cryptofeed's feed of a venue on recorded frames: ``python cryptofeed_venue.py VENUE FRAMES``.

FRAMES holds one JSON text a line. Callbacks do nothing. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from cryptofeed.defines import L2_BOOK, TICKER, TRADES
from cryptofeed.exchanges import Coinbase, Kraken
from cryptofeed.symbols import Symbols

FEEDS = {
    "coinbase": (
        Coinbase,
        (L2_BOOK, TRADES),
        re.compile(r'"product_id":\s*"([A-Z0-9]+-[A-Z0-9]+)"'),
    ),
    "kraken": (Kraken, (L2_BOOK, TRADES, TICKER), re.compile(r'"([A-Z0-9]+/[A-Z0-9]+)"\]$')),
}
"""By venue: its class, channels, and where a frame names its symbol."""


def feed_of(venue: str, frames: list[str], told: dict[str, int]) -> Any:
    """A feed of all symbols that the frames name, which asks nobody."""
    kind, channels, named = FEEDS[venue]
    theirs = sorted(
        {found[1] for frame in frames for found in named.finditer(frame[:400] + frame[-40:])}
    )
    names = {name.replace("/", "-"): name for name in theirs}
    info = {
        "tick_size": dict.fromkeys(names, "0.01"),
        "instrument_type": dict.fromkeys(names, "spot"),
    }
    Symbols.set(kind.id, names, info)

    def of(channel: str) -> Any:
        async def one(_what: object, _at: float) -> None:
            told[channel] = told.get(channel, 0) + 1

        return one

    return kind(
        symbols=[*names],
        channels=[*channels],
        callbacks={channel: of(channel) for channel in channels},
        checksum_validation=True,
    )


async def main(venue: str, frames: list[str]) -> dict[str, Any]:
    """All frames in their order."""
    logging.getLogger("feedhandler").setLevel(logging.ERROR)
    told: dict[str, int] = {}
    handle = feed_of(venue, frames, told).message_handler
    began = perf_counter()
    for frame in frames:
        await handle(frame, None, 0.0)
    return {"seconds": perf_counter() - began, "told": told}


if __name__ == "__main__":
    lines = [json.loads(line) for line in Path(sys.argv[2]).read_text().splitlines()]
    print(json.dumps(asyncio.run(main(sys.argv[1], lines))))
