"""Prompts: how to go about three common tasks, freshness first. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    GetPromptResult,
    Prompt,
    PromptArgument,
    PromptMessage,
    TextContent,
)

from serving.mcp.contract import SYMBOLS_MAX
from serving.reader import SYMBOL_PATTERN

_SYMBOLS: Final = re.compile(
    rf"{SYMBOL_PATTERN}(?:\s*,\s*{SYMBOL_PATTERN}){{0,{SYMBOLS_MAX - 1}}}", re.ASCII
)
_AMOUNT: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,8})?", re.ASCII)
_FORMS: Final = {
    "symbols": _SYMBOLS,
    "symbol": re.compile(SYMBOL_PATTERN, re.ASCII),
    "notional": _AMOUNT,
}
_EXPECTED: Final = {
    "symbols": f"1 to {SYMBOLS_MAX} symbols, separated by commas",
    "symbol": "a symbol such as BTCUSDT",
    "notional": "a positive number of quote units",
}


@dataclass(frozen=True, slots=True)
class _Known:
    says: str
    takes: tuple[str, ...]
    text: str


_PROMPTS: Final = {
    "market_briefing": _Known(
        "Brief on symbols",
        ("symbols",),
        "Brief me on {symbols}. Call compare_reports for them once, then get_report with "
        "kind=slow for each that stands out. For each symbol: price, spread, depth imbalance, net "
        "flow, value area, findings. Give every number with its data age; say first which are "
        "stale or have gaps, and leave their numbers out of any ranking.",
    ),
    "liquidity_check": _Known(
        "Can an amount be traded?",
        ("symbol", "notional"),
        "Can {notional} quote units of {symbol} be traded now? Call get_order_book with depth=50 "
        "and notional={notional}. Give average price, slippage and filled share of both sides "
        "with the data age; if book is not ok or the data is stale, say so first and give no "
        "verdict. Then get_report with kind=slow: are there walls or vacuums on the way?",
    ),
    "anomaly_triage": _Known(
        "What is wrong with a symbol?",
        ("symbol",),
        "Find out what is wrong with {symbol}. 1. get_service_status: is a stage not ok? 2. "
        "get_report with kind=slow and detail=full: stale, gaps, coverage, ingestion, anomalies. "
        "3. compare_reports with two other symbols: is it alone? 4. Where a stage names a "
        "runbook, read market://runbook/ANCHOR. Say which is the case: market, feed, or service, "
        "and how old the data is that you conclude it from.",
    ),
}


def listed() -> list[Prompt]:
    """Every prompt."""
    return [
        Prompt(
            name=name,
            description=known.says,
            arguments=[PromptArgument(name=taken, required=True) for taken in known.takes],
        )
        for name, known in _PROMPTS.items()
    ]


def filled(name: str, arguments: Mapping[str, str] | None) -> GetPromptResult:
    """One prompt, its arguments in it.

    Raises:
        MCPError: There is none of this name, or an argument is missing or of another form: it is
            never put into the text then.
    """
    known = _PROMPTS.get(name)
    if known is None:
        raise MCPError(INVALID_PARAMS, f"there is no such prompt; there are {', '.join(_PROMPTS)}")
    given = {}
    for taken in known.takes:
        text = (arguments or {}).get(taken, "").strip()
        if _FORMS[taken].fullmatch(text) is None:
            raise MCPError(INVALID_PARAMS, f"argument {taken}: expected {_EXPECTED[taken]}")
        given[taken] = text
    return GetPromptResult(
        description=known.says,
        messages=[PromptMessage(role="user", content=TextContent(text=known.text.format(**given)))],
    )
