"""Twenty questions with answers that can be checked, by a client that has read descriptions only."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from mcp.types import TextResourceContents
from redis.asyncio import Redis

from tables.report import decode_report, encode_report
from tests.support.mcp_questions import Scripted
from tests.support.mcp_server import connected, refused, server_on
from tests.support.reports import stored

TICK = (
    b'{"symbol":"%s","venue":"binance","writer_token":7,"seq":3,"offset":9,"ts_recv_ms":%d,'
    b'"last_trade":null,"quote":null,"book":"ok","bids":[[100.0,500.0],[99.9,2.0]],'
    b'"asks":[[100.2,500.0],[100.3,3.0]],"synthetic":false}'
)
SPREADS = {"BTCUSDT": 0.5, "ETHUSDT": 3.25, "SOLUSDT": 1.75, "XRPUSDT": 9.0}
OLD = "XRPUSDT"


async def market(redis: Redis) -> None:
    """Four symbols, one of them stale, and one that has no report."""
    now_ms = time.time_ns() // 1_000_000
    for symbol, spread_bps in SPREADS.items():
        at_ms = now_ms - 5000 if symbol == OLD else now_ms
        report = decode_report(stored(symbol, seq=4, now_ms=at_ms))
        payload, _ = encode_report(msgspec.structs.replace(report, spread_bps=spread_bps), 10**9)
        await redis.set(f"report:{symbol}", payload)
        await redis.set(f"report:writer:{symbol}", "w1|1|7")
        await redis.set(f"tick:{symbol}", TICK % (symbol.encode(), now_ms))
    await redis.hset("report:meta:ADAUSDT", mapping={"token": 7, "seq": 1})


def of_report(*path: str) -> Callable[[Any], Any]:
    def found(content: Any) -> Any:
        for step in path:
            content = content[step]
        return content

    return found


def named(content: Any) -> list[str]:
    return [row["symbol"] for row in content["symbols"]]


def widest(content: Any) -> Any:
    fresh = [row for row in content["rows"] if not row["stale"]]
    best = max(fresh, key=lambda row: row["values"][0])
    return best["symbol"], best["values"][0]


def table(content: Any) -> Any:
    return content["fields"], [row["symbol"] for row in content["rows"]]


QUESTIONS: list[tuple[str, str, Callable[[Any], Any], Any]] = [
    ("What is the price in the report of BTCUSDT?", "get_report",
     of_report("report", "mid_price"), 60000.05),
    ("How is the health of ETHUSDT?", "get_report", of_report("report", "health", "score"), 81.7),
    ("How old is the report of XRPUSDT, by its age?", "get_report", of_report("read", "stale"), True),
    ("Give me the full report of BTCUSDT.", "get_report",
     of_report("report", "schemaVersion"), "1.1"),
    ("Where is the volume profile of BTCUSDT?", "get_report",
     of_report("report", "liquidity", "volume_profile", "POC"), 60000.325),
    ("Are there walls at ETHUSDT?", "get_report", of_report("report", "liquidity", "walls"), []),
    ("Which anomalies has BTCUSDT?", "get_report", of_report("report", "anomalies"), []),
    ("What was the flow of SOLUSDT?", "get_report",
     of_report("report", "flow", "net_flow"), 0.20658),
    ("Which symbols are stale?", "list_symbols", named, [OLD]),
    ("Which symbols are down?", "list_symbols", named, ["ADAUSDT"]),
    ("List the symbols where there is a gap.", "list_symbols", named,
     ["BTCUSDT", "ETHUSDT", "SOLUSDT"]),
    ("Rank them by spread_bps: who is widest now?", "compare_reports", widest, ("ETHUSDT", 3.25)),
    ("Compare depth.imbalance of ETHUSDT and BTCUSDT.", "compare_reports", table,
     (["depth.imbalance"], ["ETHUSDT", "BTCUSDT"])),
    ("Compare the net flow of BTCUSDT and SOLUSDT, as a table.", "compare_reports", table,
     (["flow.net_flow"], ["BTCUSDT", "SOLUSDT"])),
    ("What is the cost of trading a notional 20040 of BTCUSDT?", "get_order_book",
     of_report("buy", "price"), pytest.approx(100.2)),
    ("Show the top of the order book of ETHUSDT, depth 1 please.", "get_order_book",
     lambda content: (len(content["bids"]), len(content["asks"])), (1, 1)),
    ("What is the micro price in the book of SOLUSDT?", "get_order_book",
     of_report("micro_price"), pytest.approx(100.1)),
    ("Wait for a report of BTCUSDT newer than seq 3 please.", "wait_for_report",
     of_report("matched"), True),
    ("Do feed, topic and workers work?", "get_service_status",
     lambda content: [stage["stage"] for stage in content["stages"]],
     ["feed", "topic", "workers", "redis", "reader"]),
    ("Which runbook helps?", "get_service_status",
     lambda content: content["state"] in {"degraded", "down"}, True),
]  # fmt: skip


@pytest.mark.slow
async def test_twenty_questions_are_answered_by_what_the_tools_say_of_themselves(
    redis: Redis,
) -> None:
    assert len(QUESTIONS) == 20
    await market(redis)
    wrong = []
    async with connected(server_on(redis)) as client:
        scripted = await _scripted(client)
        for question, tool, answer, expected in QUESTIONS:
            choice = await scripted.answer(question)
            if choice.tool != tool or choice.result.is_error:
                wrong.append((question, choice.tool, choice.arguments, choice.result.content))
            elif answer(choice.result.structured_content) != expected:
                wrong.append((question, choice.tool, choice.arguments, expected))
    assert wrong == []


async def test_old_data_is_refused_where_the_question_says_so(redis: Redis) -> None:
    await market(redis)
    async with connected(server_on(redis)) as client:
        scripted = await _scripted(client)
        choice = await scripted.answer(
            f"What is the report of {OLD}, where data older than max 1000 ms is to be refused?"
        )
    assert (choice.tool, choice.arguments) == ("get_report", {"symbol": OLD, "max_age_ms": 1000})
    assert refused(choice.result)["code"] == "too_old"


async def _scripted(client: Any) -> Scripted:
    [content] = (await client.read_resource("market://glossary")).contents
    assert isinstance(content, TextResourceContents)
    fields = [term["field"] for term in json.loads(content.text)]
    return Scripted(client, (await client.list_tools()).tools, fields)
