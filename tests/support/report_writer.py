"""A writer of whole reports in a process of its own: ``python -m ... URL NODE SYMBOL...``.

By the real lease and the real publish script, eight times a second; to be killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from tests.support import commands
from tests.support.coordination import desk
from tests.support.reports import stored

TTL_MS = 400
PERIOD_S = 0.125


def report_encoder(symbol: str) -> Callable[[int, int, int], tuple[bytes, bytes]]:
    """Encodes a report whose newest record is 20 ms old."""

    def encode(token: int, seq: int, updated_at: int) -> tuple[bytes, bytes]:
        now_ms = time.time_ns() // 1_000_000
        payload = stored(
            symbol, token=token, seq=seq, now_ms=now_ms, written_ms=updated_at, data_age_ms=20
        )
        return payload, b""

    return encode


async def write(url: str, node: str, symbols: Sequence[str]) -> None:
    async with desk(url, node, f"{os.getpid()}-{time.monotonic_ns()}", ttl_ms=TTL_MS) as made:
        made.leases.want(dict.fromkeys(symbols, 0))
        while True:
            # All processes see this clock: it stands for the topic's offset.
            watermark = time.monotonic_ns() // 1_000_000
            for symbol in symbols:
                made.publisher.put(symbol, watermark, report_encoder(symbol))
            await asyncio.sleep(PERIOD_S)


@asynccontextmanager
async def writing(url: str, node: str, *symbols: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A writer that runs, until it is killed or the block ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, url, node, *symbols),
        env=commands.environment(),
        cwd=commands.ROOT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2], sys.argv[3:]))
