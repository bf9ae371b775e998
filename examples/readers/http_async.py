"""Reports over HTTP in an event loop: many symbols at once, on connections that are kept (aiohttp).

    python examples/readers/http_async.py BTCUSDT ETHUSDT

Options, key, output and exit status are those of ``http_sync.py``. To be told of each new report
instead of asking, take ``ws_async.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from typing import Any

import aiohttp
from http_sync import problem
from tapeline_reading import Newest, ReaderError, Reading, Refused, of_answer, shown


class AsyncReportClient:
    """Asks one reader, for several symbols at once if need be.

    Args:
        http: A session; it is the caller's to close.
        url: The reader's, such as ``http://127.0.0.1:8080``.
        key: Where it wants one.
        timeout_s: How long an answer may take.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        key: str | None = None,
        timeout_s: float = 1.0,
    ) -> None:
        self._http, self._url = http, f"{url.rstrip('/')}/get_report"
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._seen: dict[str, tuple[str, dict[str, Any]]] = {}

    async def read(self, symbol: str) -> Reading | None:
        """The newest report of ``symbol``; None where there is none.

        Raises:
            Refused: The symbol, the key or its scope is wrong.
            ReaderError: No answer in time, or none that says anything.
        """
        etag, report = self._seen.get(symbol, ("", {}))
        headers = {**self._headers, **({"If-None-Match": etag} if etag else {})}
        asked_s = time.monotonic()
        try:
            async with self._http.get(
                self._url, params={"symbol": symbol}, headers=headers, timeout=self._timeout
            ) as answer:
                status, answered, body = answer.status, answer.headers, await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            raise ReaderError(f"no answer: {str(error) or type(error).__name__}") from None
        if status not in {200, 304}:
            raise problem(status, body)
        try:
            report = json.loads(body) if status == 200 else report
            if report is None:
                return None
            reading = of_answer(symbol, answered, report, asked_s)
        except (KeyError, ValueError):
            raise ReaderError("the answer is no report; is this a Tapeline reader?") from None
        self._seen[symbol] = answered.get("ETag", ""), report
        return reading


async def main() -> int:
    """Print until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Reports of a Tapeline reader over HTTP.")
    parser.add_argument("symbols", nargs="+", metavar="SYMBOL")
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--every", type=float, default=0.25, metavar="SECONDS")
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    newest = Newest()
    async with aiohttp.ClientSession() as http:
        client = AsyncReportClient(http, given.url, os.environ.get("TAPELINE_KEY"))
        while True:
            answers = await asyncio.gather(
                *(client.read(symbol) for symbol in given.symbols), return_exceptions=True
            )
            now_s = time.monotonic()
            for symbol, answer in zip(given.symbols, answers, strict=True):
                if isinstance(answer, Refused):
                    print(answer, file=sys.stderr)
                    return 1
                if isinstance(answer, BaseException):
                    if not isinstance(answer, ReaderError):
                        raise answer
                    note = str(answer)
                else:
                    newest.take(answer)
                    note = ""
                print(shown(symbol, newest.get(symbol), now_s, note, as_json=given.json))
            sys.stdout.flush()
            if given.once:
                return 0 if all(newest.fresh(symbol, now_s) for symbol in given.symbols) else 3
            await asyncio.sleep(given.every)


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
