"""The end of a trace: whose answers have spans, and that nobody waits for them."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from lua import Keys
from serving.answer_traces import LOOKUPS_MAX, AnswerTraces, context_in
from serving.fetching import StoreUnavailable
from tapeline.traceparent import TraceContext
from tests.support.spans import FakeTracing

PUBLISH = TraceContext("ab" * 16, "cd" * 8)
KEY = "report:BTCUSDT:trace"


class Store:
    """What is stored, given out when it is let."""

    def __init__(self, value: bytes | Exception | None) -> None:
        self.value = value
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def get(self, key: str) -> bytes | None:
        self.asked.append(key)
        await self.open.wait()
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def answers(store: Store) -> tuple[AnswerTraces, FakeTracing]:
    tracing = FakeTracing()
    return AnswerTraces(tracing, store, Keys()), tracing  # type: ignore[arg-type]


async def settled(made: AnswerTraces) -> None:
    while made._lookups:
        await asyncio.gather(*made._lookups)
        await asyncio.sleep(0)


async def test_an_answer_with_a_traced_report_is_its_trace_s_end(logged: Any) -> None:
    logging.getLogger().setLevel("DEBUG")
    store = Store(b"7.3 " + PUBLISH.header)
    made, tracing = answers(store)
    made.answered("BTCUSDT", 7, 3, "http", began_ns=55)
    await settled(made)
    (span,) = tracing.spans
    assert (span.name, span.parent, span.start_ns, span.ended) == ("reader.answer", PUBLISH, 55, 1)
    assert span.attributes["tapeline.via"] == "http"
    assert store.asked == [KEY]
    line = json.loads(logged.take().splitlines()[-1])
    assert (line["event"], line["trace_id"], line["span_id"]) == ("report.answered", *span.context)


async def test_only_the_first_answer_each_way_has_a_span() -> None:
    store = Store(b"7.3 " + PUBLISH.header)
    made, tracing = answers(store)
    for _ in range(3):
        for via in ("http", "websocket", "mcp"):
            made.answered("BTCUSDT", 7, 3, via, began_ns=1)  # type: ignore[arg-type]
    await settled(made)
    vias = [span.attributes["tapeline.via"] for span in tracing.spans]
    assert vias == ["http", "websocket", "mcp"]
    made.answered("BTCUSDT", 7, 4, "http", began_ns=1)
    await settled(made)
    assert len(tracing.spans) == 3, "what is stored is another report's"
    assert len(store.asked) == 4


@pytest.mark.parametrize("value", [None, b"", StoreUnavailable("away")])
async def test_a_report_that_is_not_sampled_has_no_span(value: Any) -> None:
    made, tracing = answers(Store(value))
    made.answered("BTCUSDT", 7, 3, "http", began_ns=1)
    made.answered("BTCUSDT", 0, 0, "http", began_ns=1)
    await settled(made)
    assert tracing.spans == []


async def test_a_slow_store_is_not_asked_without_end() -> None:
    """Answers are given all the same, and have no span."""
    store = Store(b"")
    store.open.clear()
    made, _ = answers(store)
    for seq in range(1, 2 * LOOKUPS_MAX):
        made.answered("BTCUSDT", 7, seq, "http", began_ns=1)
    await asyncio.sleep(0)
    assert len(store.asked) == LOOKUPS_MAX
    await made.close()
    assert not made._lookups


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"7.3 " + PUBLISH.header, PUBLISH),
        (b"7.4 " + PUBLISH.header, None),
        (b"8.3 " + PUBLISH.header, None),
        (b"7.3", None),
        (b"7.3 x", None),
        (None, None),
    ],
)
def test_a_trace_is_a_report_s_by_its_order(value: bytes | None, found: Any) -> None:
    assert context_in(value, 7, 3) == found
