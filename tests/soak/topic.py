"""The whole topic once through a tally, audits of what was published last, and the venue's account."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from streams.topic_reader import TopicReader
from tapeline.stack.processes import ChildProcess
from tests.soak.claims import say
from tests.soak.house import TOPIC, House
from tests.soak.restarts import Restart
from tests.soak.tally import Probe, Tally

SAY_EVERY: Final = 2_000_000
TOLD_MS: Final = 60_000
"""From a bridge's start on: within this the feed of each symbol goes on under another token."""


def probes_of(at_s: float, stored: Mapping[str, bytes]) -> list[Probe]:
    """Of each report, what is compared."""
    found = []
    for symbol, raw in stored.items():
        body = orjson.loads(raw)
        kept = {name: body[name] for name in ("source", "flow", "gaps", "coverage")}
        kept["liquidity"] = {"volume_profile": (body["liquidity"] or {}).get("volume_profile")}
        found.append(Probe(at_s, symbol, kept))
    return found


async def tallied(kafka_url: str, probes: Iterable[Probe]) -> Tally:
    """Every record that the topic holds now, in the order of offsets."""
    tally = Tally(probes)
    began, said = time.monotonic(), 0
    async with TopicReader(kafka_url, TOPIC) as reader:
        reader.open(await reader.held(range(reader.partitions)))
        while reader.left:
            for records in (await reader.read()).values():
                for record in records:
                    tally.take(record.key.decode(), record.offset, record.value)
            if tally.records - said >= SAY_EVERY:
                said = tally.records
                say(f"  {said:,} records counted, {said / (time.monotonic() - began):,.0f}/s")
    tally.close()
    return tally


def account(state: Mapping[str, Any], tally: Tally) -> list[str]:
    """Where the venue's own account of its trades and the topic's differ, in words.

    The venue numbers its trades without a hole, and is frozen: what is between the first and the
    last of them is on the topic, or has passed while no bridge was there.
    """
    differing = []
    for symbol, one in tally.symbols.items():
        made_last = state["symbols"][symbol]["trade_id"]
        if one.last_trade != made_last:
            differing.append(
                f"{symbol}: the venue's last trade is {made_last}, the topic's {one.last_trade}"
            )
        made = one.last_trade - one.first_trade + 1 if one.first_trade else 0
        if made != one.trades + one.missing:
            differing.append(
                f"{symbol}: {made} trades made, {one.trades} there, {one.missing} missing"
            )
    return differing


def untold(restarts: Iterable[Restart], tally: Tally) -> tuple[int, list[str]]:
    """Outages of the only bridge, and those that the topic does not tell of, by symbol.

    Returns:
        How many (outage, symbol) there were, and those without a new token of the feed.
    """
    count, missing = 0, []
    for one in restarts:
        for symbol, tallied_one in tally.symbols.items():
            count += 1
            if not any(
                one.at_ms <= over.first_ms <= one.back_ms + TOLD_MS and over.last_ms <= one.back_ms
                for over in tallied_one.takeovers
            ):
                missing.append(f"{symbol} at {one.at_s:.0f} s")
    return count, missing


async def audited(house: House, env: Mapping[str, str] | None = None) -> list[str]:
    """Symbols whose report `tapeline audit` does not find equal, with what it says."""
    differing = []
    environment = {
        **os.environ,
        **house.base,
        **(env or {}),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    for symbol in house.symbols:
        lines: list[str] = []
        child = ChildProcess(
            "audit",
            [sys.executable, "-m", "tapeline.cli", "audit", symbol, "--json"],
            env=environment,
            on_line=lambda _name, line, lines=lines: lines.append(line),  # type: ignore[misc]
        )
        await child.start()
        status = await child.wait()
        if status != 0:
            differing.append(f"{symbol} ({status}): {' '.join(lines)[-400:]}")
            say(f"audit of {differing[-1]}")
    return differing
