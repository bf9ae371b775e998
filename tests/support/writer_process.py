"""One writer in a process of its own, to be stopped and killed: ``python -m ... URL NODE``."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from tests.support.coordination import desk, encoder

TTL_MS = 400
PERIOD_S = 0.005


async def write(url: str, node: str) -> None:
    async with desk(url, node, f"{os.getpid()}-{time.monotonic_ns()}", ttl_ms=TTL_MS) as made:
        made.leases.want({"X": 0})
        while True:
            # All processes see this clock: it stands for the topic's offset.
            watermark = time.monotonic_ns() // 1_000_000
            made.publisher.put("X", watermark, encoder(node))
            await asyncio.sleep(PERIOD_S)


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2]))
