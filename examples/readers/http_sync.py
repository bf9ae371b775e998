"""Reports over HTTP from a program without an event loop; the standard library alone.

    python examples/readers/http_sync.py BTCUSDT ETHUSDT
    python examples/readers/http_sync.py BTCUSDT --once --json

prints each report with the age of its numbers, and ``stale`` as soon as they are older than 2 s,
whoever is to blame. A key, where the reader wants one, is read from the variable ``TAPELINE_KEY``:
on a command line others would see it. ``--once`` ends with status 0 for fresh, 3 for stale, 1
where the reader refuses.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import time
from typing import Any
from urllib.parse import urlencode, urlsplit

from tapeline_reading import Newest, ReaderError, Reading, Refused, of_answer, shown


class ReportClient:
    """Asks one reader over one connection, which is kept. Not for several threads at once.

    Args:
        url: The reader's, such as ``http://127.0.0.1:8080``.
        key: Where it wants one.
        timeout_s: How long an answer may take.
    """

    def __init__(self, url: str, key: str | None = None, timeout_s: float = 1.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is no address such as http://127.0.0.1:8080")
        secure = parts.scheme == "https"
        made = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._connection = made(parts.hostname, parts.port, timeout=timeout_s)
        self._base = parts.path.rstrip("/")
        self._headers = {"Accept": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._seen: dict[str, tuple[str, dict[str, Any]]] = {}

    def read(self, symbol: str) -> Reading | None:
        """The newest report of ``symbol``; None where there is none.

        An unchanged report is not sent again (``ETag``); its age is.

        Raises:
            Refused: The symbol, the key or its scope is wrong.
            ReaderError: No answer in time, or none that says anything.
        """
        etag, report = self._seen.get(symbol, ("", {}))
        headers = {**self._headers, **({"If-None-Match": etag} if etag else {})}
        path = f"{self._base}/get_report?{urlencode({'symbol': symbol})}"
        asked_s = time.monotonic()
        status, answered, body = self._ask(path, headers)
        if status == 200:
            try:
                report = json.loads(body)
            except ValueError:
                raise ReaderError("the answer is no JSON; is this a Tapeline reader?") from None
            if report is None:
                return None
        elif status != 304:
            raise problem(status, body)
        try:
            reading = of_answer(symbol, answered, report, asked_s)
        except (KeyError, ValueError):
            raise ReaderError("the answer is no report; is this a Tapeline reader?") from None
        self._seen[symbol] = answered.get("etag", ""), report
        return reading

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()

    def _ask(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        kept = self._connection.sock is not None
        try:
            return self._once(path, headers)
        except (http.client.HTTPException, OSError) as error:
            self._connection.close()
            # A connection that was kept may have been closed by the reader in the meantime.
            if not kept or isinstance(error, TimeoutError):
                raise ReaderError(f"no answer: {str(error) or type(error).__name__}") from None
        try:
            return self._once(path, headers)
        except (http.client.HTTPException, OSError) as error:
            self._connection.close()
            raise ReaderError(f"no answer: {str(error) or type(error).__name__}") from None

    def _once(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        self._connection.request("GET", path, headers=headers)
        answer = self._connection.getresponse()
        headers_by_name = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers_by_name, answer.read()


def problem(status: int, body: bytes) -> ReaderError:
    """What an error says (RFC 9457), as an exception."""
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = "no reason given"
    # 429 and 5xx pass; the others are the caller's own.
    kind = Refused if 400 <= status < 500 and status != 429 else ReaderError
    return kind(f"{status}: {detail}")


def main() -> int:
    """Print until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Reports of a Tapeline reader over HTTP.")
    parser.add_argument("symbols", nargs="+", metavar="SYMBOL")
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--every", type=float, default=0.25, metavar="SECONDS")
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    client, newest = ReportClient(given.url, os.environ.get("TAPELINE_KEY")), Newest()
    while True:
        for symbol in given.symbols:
            note = ""
            try:
                newest.take(client.read(symbol))
            except Refused as error:
                print(error, file=sys.stderr)
                return 1
            except ReaderError as error:
                note = str(error)
            line = shown(symbol, newest.get(symbol), time.monotonic(), note, as_json=given.json)
            print(line, flush=True)
        if given.once:
            now_s = time.monotonic()
            return 0 if all(newest.fresh(symbol, now_s) for symbol in given.symbols) else 3
        time.sleep(given.every)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
