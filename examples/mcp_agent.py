"""An agent's errand over MCP: which symbol has the widest spread now, and how old is that?

    python -m examples.mcp_agent http://127.0.0.1:8080/mcp
    REDIS_URL=redis://127.0.0.1:6379/0 python -m examples.mcp_agent

asks a running reader, or starts ``tapeline mcp`` itself as a host does. What a model would decide
is scripted here: list the symbols, compare their spreads ten at a time, leave out what is stale,
and never say a number without its age. With a key: ``TAPELINE_KEY=tl_... python -m ...``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

AT_A_TIME = 10
"""Symbols in one comparison, by the tool's own schema."""


class Unanswered(Exception):
    """A tool refused; its code and sentence are the message."""


@dataclass(frozen=True)
class Found:
    """The answer.

    Attributes:
        symbol: With the widest spread; None where no symbol has a fresh one.
        spread_bps: In 1/10,000 of mid.
        age_ms: Of the data behind it.
        left_out: Symbols whose data is stale, or who have no book.
    """

    symbol: str | None
    spread_bps: float
    age_ms: int
    left_out: tuple[str, ...]

    def sentence(self) -> str:
        """In words."""
        left_out = f" Left out: {', '.join(self.left_out)}." if self.left_out else ""
        if self.symbol is None:
            return f"No symbol has fresh data.{left_out}"
        return (
            f"{self.symbol} has the widest spread: {self.spread_bps:.4f} bps, "
            f"from data {self.age_ms} ms old.{left_out}"
        )


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    """What a tool gives.

    Raises:
        Unanswered: It refused.
    """
    result = await client.call_tool(tool, arguments)
    if result.is_error:
        raise Unanswered(" ".join(getattr(block, "text", "") for block in result.content))
    return result.structured_content


async def symbols_of(client: Client) -> list[str]:
    """All of them, page by page."""
    page = await call(client, "list_symbols")
    found = page["symbols"]
    while page["next_cursor"]:
        page = await call(client, "list_symbols", cursor=page["next_cursor"])
        found += page["symbols"]
    return [row["symbol"] for row in found]


async def widest_spread(client: Client) -> Found:
    """Compare all, ten at a time."""
    names = await symbols_of(client)
    fresh: list[tuple[float, int, str]] = []
    left_out: list[str] = []
    for at in range(0, len(names), AT_A_TIME):
        asked = names[at : at + AT_A_TIME]
        table = await call(client, "compare_reports", symbols=asked, fields=["spread_bps"])
        left_out += table["missing"]
        for row in table["rows"]:
            [spread_bps] = row["values"]
            if row["stale"] or spread_bps is None:
                left_out.append(row["symbol"])
            else:
                fresh.append((spread_bps, row["data_age_ms"], row["symbol"]))
    if not fresh:
        return Found(None, 0.0, 0, tuple(left_out))
    spread_bps, age_ms, symbol = max(fresh)
    return Found(symbol, spread_bps, age_ms, tuple(left_out))


@asynccontextmanager
async def connected(url: str, key: str = "") -> AsyncIterator[Client]:
    """A client of a reader's ``/mcp``, or of a server of its own where ``url`` is empty."""
    if not url:
        command = StdioServerParameters(
            command=sys.executable, args=["-m", "tapeline.cli", "mcp"], env=dict(os.environ)
        )
        async with Client(command) as client:
            yield client
        return
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=40) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        yield client


async def main() -> None:
    """Ask, and print the answer."""
    url = sys.argv[1] if len(sys.argv) > 1 else ""
    async with connected(url, os.environ.get("TAPELINE_KEY", "")) as client:
        print((await widest_spread(client)).sentence())


if __name__ == "__main__":
    asyncio.run(main())
