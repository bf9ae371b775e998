"""Reports over WebSocket: each new one as it is written, and ``stale`` when there are none.

    python examples/readers/ws_async.py BTCUSDT ETHUSDT

What a client that is to run for weeks does, and this one does:

- it comes back by itself, after waits that double up to 10 s, and says where it stopped, so that
  the reader goes on from there;
- it holds (token, seq) and refuses what is lower, whichever reader it has come back to;
- it sees a frame that is missing between two (``prev_token``, ``prev_seq``) and asks for the state;
- it takes a silent connection for a dead one: a reader sends a heartbeat every 2 s;
- it counts ages on its own clock, so that a number turns stale although nothing comes in.

Options and key are those of ``http_sync.py``. It ends with status 1 where the reader refuses.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from tapeline_reading import Newest, Refused, of_frame, shown
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

CHANNEL: Final = "reports.fast"
WAIT_FIRST_S, WAIT_MAX_S = 0.2, 10.0
HEARTBEATS_MISSED: Final = 3
RESUMED_MAX: Final = 500
"""A message has 64 KiB at most; symbols beyond begin with a snapshot."""

REFUSED: Final = 1008
"""Close code: key, scope or origin."""


class Follower:
    """Keeps the newest reports of some symbols, over as many connections as it takes.

    Args:
        url: The reader's, such as ``http://127.0.0.1:8080``.
        symbols: Which; ``["*"]`` for all.
        key: Where it wants one.
        told: Called with a symbol when what is held of it, or what is wrong, has changed.

    Attributes:
        newest: What is held.
        seen: Symbols asked for or heard of.
    """

    def __init__(
        self,
        url: str,
        symbols: list[str],
        key: str | None = None,
        told: Callable[[str], None] = lambda _symbol: None,
    ) -> None:
        parts = urlsplit(url)
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        self._url = f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/ws"
        self._symbols = symbols
        # In a header: a URL gets into logs.
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._told = told
        self._links: dict[str, tuple[int, int]] = {}
        self._heartbeat_s = 2.0
        self._wait_s = WAIT_FIRST_S
        self._connection, self._store = "not connected yet", ""
        self.newest = Newest()
        self.seen: set[str] = {symbol for symbol in symbols if symbol != "*"}

    @property
    def note(self) -> str:
        """What is wrong now; '' while all is well."""
        return self._connection or self._store

    async def run(self) -> None:
        """Follow until cancelled.

        Raises:
            Refused: The reader does not want this client; coming back would not help.
        """
        while True:
            try:
                # A frame holds one whole report; 4 MB is beyond any.
                async with connect(
                    self._url, additional_headers=self._headers, max_size=1 << 22, open_timeout=5
                ) as socket:
                    await self._follow(socket)
            except InvalidStatus as error:
                status = error.response.status_code
                if 400 <= status < 500 and status != 429:
                    raise Refused(f"the reader answers {status}") from None
                self._connected(f"the reader answers {status}")
            except ConnectionClosed as error:
                if error.rcvd is not None and error.rcvd.code == REFUSED:
                    raise Refused(error.rcvd.reason or "refused") from None
                self._connected("connection lost")
            except (OSError, TimeoutError, WebSocketException) as error:
                self._connected(f"not connected: {str(error) or type(error).__name__}")
            # Not all at once after a restart of the reader.
            await asyncio.sleep(self._wait_s * random.uniform(0.5, 1.0))
            self._wait_s = min(WAIT_MAX_S, 2 * self._wait_s)

    async def _follow(self, socket: ClientConnection) -> None:
        await socket.send(json.dumps(self._subscription()))
        while True:
            async with asyncio.timeout(HEARTBEATS_MISSED * self._heartbeat_s):
                text = await socket.recv()
            wanted = self._take(json.loads(text), time.monotonic())
            if wanted is not None:
                await socket.send(json.dumps(wanted))

    def _subscription(self) -> dict[str, Any]:
        """Follow, and go on from what is held: an update on that comes, if there is a newer one."""
        held = [self.newest.get(symbol) for symbol in sorted(self.seen)]
        known = [reading for reading in held if reading is not None][:RESUMED_MAX]
        self._links = {reading.symbol: reading.order for reading in known}
        return {
            "op": "subscribe",
            "id": "reports",
            "channels": [CHANNEL],
            "symbols": self._symbols,
            "resume": {
                f"{CHANNEL}|{reading.symbol}": f"{reading.token}.{reading.seq}" for reading in known
            },
        }

    def _take(self, frame: dict[str, Any], now_s: float) -> dict[str, Any] | None:
        """Take one frame; what is to be sent because of it."""
        match frame["type"]:
            case "hello":
                self._heartbeat_s = frame["heartbeat_s"]
                if frame["auth_required"]:
                    raise Refused("the reader wants a key: set TAPELINE_KEY")
            case "subscribed":
                self._wait_s = WAIT_FIRST_S
                self._connected("")
            case "snapshot" | "update":
                return self._state(frame, now_s)
            case "source":
                self._store = "" if frame["redis"] == "up" else "the reader's store is down"
                self._tell_all()
            case "stale":
                self._told(frame["symbol"])
            case "error":
                if frame["code"] != "rate_limited":
                    raise Refused(f"{frame['code']}: {frame['message']}")
            case _:
                pass  # heartbeats, counts, and what later versions add
        return None

    def _state(self, frame: dict[str, Any], now_s: float) -> dict[str, Any] | None:
        symbol = frame["symbol"]
        self.seen.add(symbol)
        before = self._links.get(symbol)
        self._links[symbol] = frame["token"], frame["seq"]
        if self.newest.take(of_frame(frame, now_s)):
            self._told(symbol)
        if frame["type"] == "update" and (frame["prev_token"], frame["prev_seq"]) != before:
            return {"op": "snapshot", "channel": CHANNEL, "symbol": symbol}
        return None

    def _connected(self, but: str) -> None:
        if but != self._connection:
            self._connection = but
            self._tell_all()

    def _tell_all(self) -> None:
        for symbol in sorted(self.seen):
            # What is asked for and still on its way is told when it is here.
            if self.note or self.newest.get(symbol) is not None:
                self._told(symbol)


async def main() -> int:
    """Print until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Reports of a Tapeline reader over WebSocket.")
    parser.add_argument("symbols", nargs="+", metavar="SYMBOL")
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--every", type=float, default=0.25, metavar="SECONDS", help="of ages")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()

    def tell(symbol: str) -> None:
        reading = follower.newest.get(symbol)
        line = shown(symbol, reading, time.monotonic(), follower.note, as_json=given.json)
        print(line, flush=True)

    follower = Follower(given.url, given.symbols, os.environ.get("TAPELINE_KEY"), tell)
    following = asyncio.create_task(follower.run())
    # Told again while nothing comes in: what was fresh a second ago may not be so any more.
    while not (await asyncio.wait({following}, timeout=given.every))[0]:
        now_s = time.monotonic()
        for symbol in sorted(follower.seen):
            if follower.newest.fresh(symbol, now_s) is None:
                tell(symbol)
    try:
        await following
    except Refused as error:
        print(error, file=sys.stderr)
    return 1


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
