"""Reports of some symbols, four times a second, in a process of its own, to be killed.

``python -m tests.support.example_writer REDIS_URL NODE SYMBOL=SPREAD_TICKS...``: through the real
leases and the real publish script. It says ``ready`` when each symbol has been written once.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from functools import partial

import msgspec

from tables.report import Best, Position, Report, Source, Writer, decode_report, encode_report
from tests.support.coordination import desk, until
from tests.support.reports import WHOLE

PERIOD_S = 0.25
TTL_MS = 3000
SLOW_MS = 2000
DATA_AGE_MS = 40
BID, TICK = 60_000.0, 0.1


def report(
    symbol: str, node: str, ticks: int, now_ms: int, token: int, seq: int, updated_at: int
) -> Report:
    """A whole report, its book ``ticks`` wide."""
    golden = decode_report(WHOLE)
    ask = BID + ticks * TICK
    mid = (BID + ask) / 2
    place = golden.source.fast
    return msgspec.structs.replace(
        golden,
        symbol=symbol,
        writer=Writer(node, token),
        seq=seq,
        updated_at=updated_at,
        source=Source(
            fast=Position(place.topic, place.partition, place.offset + seq, now_ms),
            slow=Position(place.topic, place.partition, place.offset, now_ms - now_ms % SLOW_MS),
        ),
        data_age_ms=DATA_AGE_MS,
        ingestion=msgspec.structs.replace(
            golden.ingestion, status="ok", feed="alive", book="ok", reason=""
        ),
        micro_price=mid,
        synthetic=False,
        best_bid=Best(BID, 1.0),
        best_ask=Best(ask, 1.0),
        mid_price=mid,
        spread_bps=(ask - BID) / mid * 10_000,
    )


def encoded(
    symbol: str, node: str, ticks: int, now_ms: int, token: int, seq: int, updated_at: int
) -> tuple[bytes, bytes]:
    """As the publisher wants it."""
    return encode_report(report(symbol, node, ticks, now_ms, token, seq, updated_at), 10**9)


async def write(url: str, node: str, spreads: dict[str, int]) -> None:
    """Until killed."""
    incarnation = f"{os.getpid()}-{time.monotonic_ns()}"
    async with desk(url, node, incarnation, ttl_ms=TTL_MS) as made:
        made.leases.want(dict.fromkeys(spreads, 0))
        await until(lambda: set(made.leases.owned()) == set(spreads), 20)
        said = False
        while True:
            now_ms, mark = time.time_ns() // 1_000_000, time.monotonic_ns() // 1_000_000
            for symbol, ticks in spreads.items():
                made.publisher.put(symbol, mark, partial(encoded, symbol, node, ticks, now_ms))
            if not said and all(made.sink.counts[f"published:{symbol}"] for symbol in spreads):
                said = True
                print("ready", flush=True)
            await asyncio.sleep(PERIOD_S)


if __name__ == "__main__":
    pairs = (one.partition("=") for one in sys.argv[3:])
    asyncio.run(write(sys.argv[1], sys.argv[2], {name: int(ticks) for name, _, ticks in pairs}))
