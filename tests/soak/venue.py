"""The simulated exchange as a process, at a rate of records, and its own account of what it made."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final

import aiohttp

from streams.simulator.dialect import Message
from streams.simulator.exchange import Exchange
from streams.simulator.tape import START_MS
from streams.venues.binance.urls import STREAMS
from tapeline.stack.processes import ChildProcess
from tapeline.stack.programs import program

NAME: Final = "binance"
BASES: Final = (
    *("BTC", "ETH", "SOL", "BNB", "XRP", "ADA", "DOGE", "AVAX", "LINK", "DOT"),
    *("LTC", "TRX", "ATOM", "NEAR", "UNI", "ETC", "FIL", "APT", "ARB", "OP"),
    *("INJ", "SUI", "SEI", "AAVE", "GRT", "ALGO", "SAND", "EGLD", "THETA", "FTM"),
)
TRIED: Final = (60.0, 240.0)
"""Changes a second and symbol at which the venue's frames are counted."""

SYMBOL_S: Final = 1800
"""Seconds of record time that are tried, all symbols together: markets have waves of minutes."""

LEAST: Final = 1.0
START_S: Final = 30.0


def symbols_of(count: int) -> list[str]:
    """Such as ``BTCUSDT``.

    Raises:
        ValueError: There are not so many.
    """
    if not 0 < count <= len(BASES):
        raise ValueError(f"{count} symbols: expected 1 to {len(BASES)}")
    return [f"{base}USDT" for base in BASES[:count]]


def flow_rate(
    symbols: Sequence[str], records_per_s: float, seed: int, symbol_s: int = SYMBOL_S
) -> float:
    """Changes a second and symbol at which a bridge writes about so many records a second.

    A frame is a record. Trades and quotes come with the flow, depth and candles on a grid of time,
    so two rates are tried, without sockets, and the line through them is followed.
    """
    seconds = max(1, symbol_s // len(symbols))
    low, high = (frames_per_s(symbols, rate, seed, seconds) for rate in TRIED)
    per_change = (high - low) / (TRIED[1] - TRIED[0])
    return max(LEAST, TRIED[0] + (records_per_s - low) / per_change)


def frames_per_s(symbols: Sequence[str], rate: float, seed: int, seconds: int) -> float:
    """That a bridge subscribes to, of a market that nobody waits for."""
    exchange = Exchange(symbols, seed=seed, start_ms=START_MS, rate=rate)
    count = 0
    for now_ms in range(START_MS + 100, START_MS + seconds * 1000 + 1, 100):
        for item in exchange.step(now_ms):
            count += isinstance(item, Message) and item.stream.partition("@")[2] in STREAMS
    return count / seconds


class Venue:
    """A process of its own, which nobody restarts.

    Attributes:
        child: It.
        urls: ``stream_url``, ``rest_url`` and ``control_url``.
    """

    def __init__(self, symbols: Sequence[str], rate: float, seed: int) -> None:
        self.urls: dict[str, str] = {}
        self._told: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.child: ChildProcess = program(
            "simulator",
            *("--port", "0", "--symbols", ",".join(symbols), "--seed", str(seed)),
            *("--rate", f"{rate:.3f}"),
            on_line=self._listen,
        )

    async def start(self) -> None:
        """Until it has said where it listens."""
        await self.child.start()
        async with asyncio.timeout(START_S):
            self.urls = await self._told

    def _listen(self, _name: str, line: str) -> None:
        if not self._told.done() and line.startswith("{"):
            self._told.set_result(json.loads(line))

    async def state(self) -> dict[str, Any]:
        """What it has made and sent: ``GET /sim/state``."""
        return await self._call("GET", "/state")

    async def freeze(self) -> None:
        """The market stands still; sockets and signs of life go on."""
        await self._call("POST", "/freeze")

    async def _call(self, method: str, path: str) -> dict[str, Any]:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
            session.request(method, self.urls["control_url"] + path) as answer,
        ):
            found: dict[str, Any] = await answer.json()
            return found
