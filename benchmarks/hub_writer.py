"""Reports as a worker writes them, until its input ends: ``python -m benchmarks.hub_writer``.

Each symbol's report goes through the publish script, with its lease, as often a second as is said;
symbols are dealt out over the period, as a worker's cycles are. Into each report goes the moment at
which its writing began, on the monotonic clock that all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from lua import Acquired, ReportWrite, Scripts
from tests.support.reports import stored

TTL_MS = 300_000
LEASE_MS = 3_600_000
STEPS = 50
"""Into which a period is cut."""

MARK = b'"nodeId":"node-a"'


@dataclass(slots=True)
class Line:
    """One symbol."""

    symbol: str
    lease: Acquired
    before: bytes
    after: bytes
    seq: int = 0


def _template(symbol: str) -> tuple[bytes, bytes]:
    before, _, after = stored(symbol, token=1).partition(MARK)
    return before, after


def _report(line: Line, now_ms: int) -> bytes:
    """The report with its place, its time and its stamp; the rest of it stays as it is."""
    after = (
        line.after.replace(b'"writerToken":1', b'"writerToken":%d' % line.lease.token, 1)
        .replace(b'"seq":1,', b'"seq":%d,' % line.seq, 1)
        .replace(b"1800000000000", b"%d" % now_ms)
    )
    return b'%b"nodeId":"t%d"%b' % (line.before, time.monotonic_ns(), after)


async def write(options: dict[str, Any]) -> None:
    """Until cancelled."""
    async with Redis.from_url(options["redis_url"]) as redis:
        scripts = Scripts(redis)
        lines = []
        for symbol in options["symbols"]:
            lease = await scripts.acquire(scripts.keys.writer(symbol), "bench", "1", LEASE_MS)
            # A run before this one may have written: it goes on from there.
            lines.append(Line(symbol, lease, *_template(symbol), seq=lease.last_seq))
        shares = [lines[step::STEPS] for step in range(STEPS)]
        step_s = 1 / options["hz"] / STEPS
        due_s, at = time.monotonic(), 0
        while True:
            now_ms = time.time_ns() // 1_000_000
            writes = []
            for line in shares[at % STEPS]:
                line.seq += 1
                writes.append(
                    ReportWrite(
                        symbol=line.symbol,
                        lease_value=line.lease.lease_value,
                        token=line.lease.token,
                        seq=line.seq,
                        watermark=line.seq,
                        updated_at=now_ms,
                        payload=_report(line, now_ms),
                    )
                )
            for code in await scripts.publish_many(writes, TTL_MS):
                if code != 1:
                    raise RuntimeError(f"a report came to {code!r}")
            at += 1
            if at == STEPS:
                print("written", flush=True)
            due_s += step_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))


async def main() -> None:
    """Write until the input ends."""
    options = json.loads(sys.stdin.readline())
    writing = asyncio.create_task(write(options))
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait({writing, ended}, return_when=asyncio.FIRST_COMPLETED)
    if writing.done():
        print(f"hub_writer: {writing.exception()!r}", file=sys.stderr, flush=True)
        os._exit(1)  # a thread still waits for the input
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
