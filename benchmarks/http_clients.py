"""Requests at a steady rate, whatever becomes of them: ``python -m benchmarks.http_clients``.

Told by a line, it asks, and answers by a line. Each request has its moment; its time runs from that
moment and not from when a connection was free, so that a server which stands still is charged for
all who would have come meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any

import aiohttp

BIN_NS = 50_000
WARM_S = 1.0


async def asked(options: dict[str, Any]) -> dict[str, Any]:
    """Ask for each symbol in turn, ``rate`` a second for ``seconds``."""
    counts: Counter[int] = Counter()
    failed: Counter[str] = Counter()
    urls = [
        f"http://127.0.0.1:{options['port']}{options['path']}?symbol={symbol}"
        for symbol in options["symbols"]
    ]
    connector = aiohttp.TCPConnector(limit=options["connections"])
    async with aiohttp.ClientSession(connector=connector) as http:

        async def ask(url: str, due_ns: int, counted: bool) -> None:
            try:
                async with http.get(url) as answer:
                    body = await answer.read()
            except aiohttp.ClientError as error:
                failed[type(error).__name__] += 1
                return
            if answer.status != 200 or body == b"null":
                failed[str(answer.status)] += 1
            elif counted:
                counts[(time.perf_counter_ns() - due_ns) // BIN_NS] += 1

        gap_ns = 1_000_000_000 // options["rate"]
        warm = int(WARM_S * options["rate"])
        total = warm + int(options["seconds"] * options["rate"])
        began_ns = time.perf_counter_ns()
        async with asyncio.TaskGroup() as group:
            for n in range(total):
                due_ns = began_ns + n * gap_ns
                ahead_s = (due_ns - time.perf_counter_ns()) / 1e9
                if ahead_s > 0:
                    await asyncio.sleep(ahead_s)
                group.create_task(ask(urls[n % len(urls)], due_ns, n >= warm))
    return {"counts": dict(counts), "failed": dict(failed)}


async def main() -> None:
    """Answer each line until the input ends."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await asked(json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
