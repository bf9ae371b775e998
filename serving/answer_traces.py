"""The end of a trace: a reader's first answer, each way, with a report of a sampled record.

What a report's trace is stands beside it in Redis, for some seconds after it was written. It is
looked up when the answer has been given, so that nobody waits for it, and only of the first answer
with a report: a thousand clients that are told the same would be a thousand times the same span.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Literal

from lua import Keys
from serving.fetching import Fetcher, StoreUnavailable
from tapeline.logging import get_logger
from tapeline.tasks import end_all
from tapeline.traceparent import TraceContext, parse, within
from tapeline.tracing import Tracing

Via = Literal["http", "websocket", "mcp"]

LOOKUPS_MAX: Final = 256
"""Lookups under way; answers beyond them have no span."""

log = get_logger("answers")


def context_in(value: bytes | None, token: int, seq: int) -> TraceContext | None:
    """What stands at a symbol's trace key, if it is of this report."""
    order, _, header = (value or b"").partition(b" ")
    return parse(header) if order == b"%d.%d" % (token, seq) else None


class AnswerTraces:
    """Makes the spans of answers.

    Args:
        tracing: Makes spans.
        fetcher: Reads Redis.
        keys: Names of the keys.
    """

    def __init__(self, tracing: Tracing, fetcher: Fetcher, keys: Keys) -> None:
        self._tracing, self._fetcher, self._keys = tracing, fetcher, keys
        self._answered: dict[tuple[Via, str], tuple[int, int]] = {}
        self._lookups: set[asyncio.Task[None]] = set()

    def answered(self, symbol: str, token: int, seq: int, via: Via, began_ns: int) -> None:
        """A report was handed out, ``began_ns`` being when it was asked for or came."""
        order = (token, seq)
        if not token or self._answered.get((via, symbol)) == order:
            return
        self._answered[via, symbol] = order
        if len(self._lookups) >= LOOKUPS_MAX:
            return
        work = self._look_up(symbol, token, seq, via, began_ns, time.time_ns())
        task = asyncio.get_running_loop().create_task(work, name="trace of an answer")
        self._lookups.add(task)
        task.add_done_callback(self._lookups.discard)

    async def _look_up(
        self, symbol: str, token: int, seq: int, via: Via, began_ns: int, ended_ns: int
    ) -> None:
        try:
            value = await self._fetcher.get(self._keys.trace(symbol))
        except StoreUnavailable:
            return
        parent = context_in(value, token, seq)
        if parent is None:
            return
        span = self._tracing.start(
            "reader.answer",
            parent=parent,
            kind="server",
            start_ns=began_ns,
            attributes={
                "tapeline.symbol": symbol,
                "tapeline.token": token,
                "tapeline.seq": seq,
                "tapeline.via": via,
            },
        )
        span.end(ended_ns)
        with within(span.context):
            log.debug("report.answered", symbol=symbol, token=token, seq=seq, via=via)

    async def close(self) -> None:
        """Leave nothing running."""
        await end_all(self._lookups)
