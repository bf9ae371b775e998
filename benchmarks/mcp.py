"""How soon an agent's ``get_report`` is answered over HTTP, and how many tokens the answer is.

    python -m benchmarks mcp [--rate 500] [--seconds 20] [--json]

A ``tapeline serve`` of its own on a store of its own, a writer of 20 symbols at 4 Hz, and requests
at a fixed rate over kept connections, each timed from when it was due: the plain ``/get_report``,
then MCP's in both revisions and both details. One after the other in one run, so their ratio holds
on a machine that is slow today. Tokens are counted by rule, since no model's own tokenizer is at
hand offline: a word of up to six letters, three digits, two other signs are one each, and never
less than a quarter of the bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import re
import sys
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

from benchmarks.machine import cpu_seconds, described, machine, versions
from benchmarks.readers_hub import names, serving, writing
from tapeline.stack.embedded import EmbeddedKeyValueStore

GOAL_MS = 20.0
SYMBOLS = 20
CONNECTIONS = 32
TOKENS = {"summary": 400, "full": 2500}
MODERN, LEGACY = "2026-07-28", "2025-11-25"


@dataclass(frozen=True)
class Case:
    """One way to ask.

    Attributes:
        name: Of the figure.
        era: Revision of MCP; '' for plain HTTP.
        detail: Of the report.
    """

    name: str
    era: str = ""
    detail: str = ""


CASES = (
    Case("http"),
    Case("mcp_summary", MODERN, "summary"),
    Case("mcp_full", MODERN, "full"),
    Case("mcp_legacy_summary", LEGACY, "summary"),
)


def request(case: Case, symbol: str) -> tuple[str, str, dict[str, Any]]:
    """Method, path, and the rest as `aiohttp` takes it."""
    if not case.era:
        return "GET", f"/get_report?symbol={symbol}", {}
    params: dict[str, Any] = {
        "name": "get_report",
        "arguments": {"symbol": symbol, "detail": case.detail},
    }
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": case.era,
    }
    if case.era == MODERN:
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        headers |= {"Mcp-Method": "tools/call", "Mcp-Name": "get_report"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return "POST", "/mcp", {"json": body, "headers": headers}


def tokens(text: str) -> int:
    """About how many a model makes of it; see the top of this file."""
    pieces = re.findall(r"[A-Za-z]{1,6}|[0-9]{1,3}|[^A-Za-z0-9\s]{1,2}", text)
    return max(len(pieces), len(text.encode()) // 4)


async def loaded(
    http: aiohttp.ClientSession, case: Case, rate: int, seconds: float, pid: int
) -> dict[str, Any]:
    """Ask at the rate, whatever comes back when."""
    took: list[float] = []
    failed = 0
    symbols = names(SYMBOLS)

    async def ask(n: int, due_s: float) -> None:
        nonlocal failed
        method, path, more = request(case, symbols[n % SYMBOLS])
        async with http.request(method, path, **more) as response:
            body = await response.read()
        took.append(time.perf_counter() - due_s)
        if response.status != 200 or b'"isError":true' in body or len(body) < 200:
            failed += 1

    for n in range(2 * CONNECTIONS):  # connections open, caches filled
        await ask(n, time.perf_counter())
    took.clear()
    gc.collect()
    gc.disable()  # a collection here would be told as the server's
    began, before = time.perf_counter(), cpu_seconds(pid)
    open_ = set()
    for n in range(int(rate * seconds)):
        due_s = began + n / rate
        if (ahead := due_s - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        task = asyncio.create_task(ask(n, due_s))
        open_.add(task)
        task.add_done_callback(open_.discard)
    await asyncio.gather(*open_)
    passed = time.perf_counter() - began
    gc.enable()
    took.sort()
    return {
        "requests": len(took),
        "failed": failed,
        "per_s": round(len(took) / passed, 1),
        "p50_ms": round(1000 * took[len(took) // 2], 2),
        "p99_ms": round(1000 * took[int(len(took) * 0.99)], 2),
        "p999_ms": round(1000 * took[int(len(took) * 0.999)], 2),
        "server_cpu": round((cpu_seconds(pid) - before) / passed, 3),
    }


async def sized(http: aiohttp.ClientSession, case: Case) -> int:
    """Tokens of an answer: its text and its object."""
    method, path, more = request(case, names(1)[0])
    async with http.request(method, path, **more) as response:
        result = (await response.json())["result"]
    [block] = result["content"]
    whole = json.dumps(result["structuredContent"], separators=(",", ":"))
    return tokens(block["text"]) + tokens(whole)


async def measured(rate: int, seconds: float) -> dict[str, Any]:
    """Every case in turn."""
    found: dict[str, Any] = {"rate": rate, "seconds": seconds, "cases": {}, "tokens": {}}
    async with (
        EmbeddedKeyValueStore() as store,
        writing(store.url, names(SYMBOLS)),
        serving(store.url) as (port, pid),
        aiohttp.ClientSession(
            f"http://127.0.0.1:{port}", connector=aiohttp.TCPConnector(limit=CONNECTIONS)
        ) as http,
    ):
        for case in CASES:
            found["cases"][case.name] = await loaded(http, case, rate, seconds, pid)
            print(f"mcp: {case.name}: {found['cases'][case.name]}", file=sys.stderr)
            if case.era == MODERN:
                found["tokens"][case.detail] = await sized(http, case)
    base = found["cases"]["http"]
    found["ratio_p99"] = round(found["cases"]["mcp_summary"]["p99_ms"] / base["p99_ms"], 2)
    found["ratio_cpu"] = round(
        found["cases"]["mcp_summary"]["server_cpu"] / max(base["server_cpu"], 1e-3), 2
    )
    found["machine"], found["versions"] = machine(), versions()
    return found


def reached(found: dict[str, Any]) -> bool:
    """Whether the figures of the summary are as promised."""
    asked = found["cases"]["mcp_summary"]
    return (
        asked["p99_ms"] <= GOAL_MS
        and not any(case["failed"] for case in found["cases"].values())
        and all(found["tokens"][detail] <= most for detail, most in TOKENS.items())
    )


def main(argv: list[str] | None = None) -> int:
    """Measure, and print; 1 where a goal is not reached."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--rate", type=int, default=500, help="requests a second")
    options.add_argument("--seconds", type=float, default=20.0, help="of each case")
    options.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = options.parse_args(argv)
    found = asyncio.run(measured(args.rate, args.seconds))
    print(described(found["machine"]), file=sys.stderr)
    print(
        f"tokens {found['tokens']}; p99 {found['ratio_p99']} times, CPU {found['ratio_cpu']} times "
        f"that of plain HTTP; goal p99 {GOAL_MS:g} ms",
        file=sys.stderr,
    )
    if args.json:
        print(json.dumps(found))
    return 0 if reached(found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
