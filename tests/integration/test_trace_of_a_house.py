"""One trace from a venue's frame to a reader's answer, through processes that are real."""

from __future__ import annotations

import asyncio
import json

import pytest

from streams.events import decode
from tapeline.traceparent import parse
from tests.support.house import House, house
from tests.support.worker import WorkerProcess, eventually, total

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

from mcp import Client

from tests.support.otlp import Collector, Seen, collector

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.kafka,
    pytest.mark.redis,
    pytest.mark.slow(limit_s=120),
]

PARENTS = {
    "bridge.frame": "",
    "bridge.send": "bridge.frame",
    "worker.apply": "bridge.send",
    "worker.compute": "worker.apply",
    "worker.publish": "worker.compute",
    "reader.answer": "worker.publish",
}
SERVICES = {"bridge": "tapeline-bridge", "worker": "tapeline-worker", "reader": "tapeline-serve"}
VIAS = ("http", "websocket", "mcp")


def whole(spans: list[Seen]) -> bool:
    """Whether a trace has all links, and answers of each sort."""
    vias = {span.attributes.get("tapeline.via") for span in spans}
    return {span.name for span in spans} == set(PARENTS) and vias >= set(VIAS)


async def ask_http(home: House) -> None:
    while True:
        await home.ask("/get_report?symbol=BTCUSDT")
        await asyncio.sleep(0.01)


async def ask_socket(home: House) -> None:
    async with home.http.ws_connect(f"{home.url}/ws") as socket:
        wish = {"op": "subscribe", "id": "1", "channels": ["reports.fast"], "symbols": ["BTCUSDT"]}
        await socket.send_json(wish)
        async for _ in socket:
            pass


async def ask_mcp(home: House) -> None:
    async with Client(f"{home.url}/mcp", cache=None) as client:
        while True:
            await client.call_tool("get_report", {"symbol": "BTCUSDT"})
            await asyncio.sleep(0.01)


async def a_whole_trace(collected: Collector) -> list[Seen]:
    async def found() -> list[Seen] | None:
        return next((spans for spans in collected.by_trace().values() if whole(spans)), None)

    seen = lambda: sorted({span.name for span in collected.spans})  # noqa: E731
    try:
        return await eventually(found, 60.0, "a trace with all links")
    except AssertionError as error:
        raise AssertionError(f"{error}; spans seen: {seen()}") from None


def check(spans: list[Seen]) -> None:
    """Who is whose child, who tells of it, and that times are those of the clock."""
    by_name = {span.name: span for span in spans}
    ids = {span.span_id: span for span in spans}
    assert len(ids) == len(spans)
    for span in spans:
        parent = PARENTS[span.name]
        assert (ids[span.parent_id].name if span.parent_id else "") == parent, span
        assert span.service == SERVICES[span.name.partition(".")[0]]
        assert span.start_ns <= span.end_ns
        assert not span.error
        if parent:
            assert span.start_ns >= ids[span.parent_id].start_ns, (span, ids[span.parent_id])
    took_s = (max(span.end_ns for span in spans) - by_name["bridge.frame"].start_ns) / 1e9
    assert took_s < 30.0
    answers = [span for span in spans if span.name == "reader.answer"]
    publish = by_name["worker.publish"]
    for answer in answers:
        for name in ("tapeline.symbol", "tapeline.token", "tapeline.seq"):
            assert answer.attributes[name] == publish.attributes[name]


async def test_one_trace_from_the_frame_to_the_answers(kafka_url: str, redis_url: str) -> None:
    """Every link a child of the one before; the record names the trace, and so do log lines.

    And when the collector is away reports go on, and each process ends as ever.
    """
    with collector() as collected:
        async with house(kafka_url, redis_url, ["BTCUSDT"]) as home:
            home.one.env |= {
                "NT_OTLP_ENDPOINT": collected.url,
                "NT_TRACE_SAMPLE_RATIO": "0.2",
                "NT_LOG_LEVEL": "DEBUG",
            }
            await home.serve()
            bridge = await home.bridge()
            worker = await home.worker()
            asking = [asyncio.create_task(ask(home)) for ask in (ask_http, ask_socket, ask_mcp)]
            try:
                spans = await a_whole_trace(collected)
            finally:
                for task in asking:
                    task.cancel()
                await asyncio.gather(*asking, return_exceptions=True)
            check(spans)
            trace_id = spans[0].trace_id
            send = next(span for span in spans if span.name == "bridge.send")

            records = await home.one.read(home.one.topic)
            traced = [r for r in records if r.headers]
            assert 0 < len(traced) < len(records)
            for record in records:
                header = dict(record.headers).get("traceparent")
                context = parse(header)
                assert (context.trace_id if context else None) == decode(record.value).trace_id
            (one,) = {
                header
                for record in traced
                if (header := dict(record.headers)["traceparent"]).decode().split("-")[1]
                == trace_id
            }
            assert parse(one) == (trace_id, send.span_id)

            publish = next(span for span in spans if span.name == "worker.publish")
            lines = worker.logged("report.published")
            (line,) = [one for one in lines if one["span_id"] == publish.span_id]
            assert line["trace_id"] == trace_id
            assert (line["token"], line["symbol"]) == (
                int(publish.attributes["tapeline.token"]),
                "BTCUSDT",
            )
            said = [json.loads(line) for line in home.lines["serve"] if line.startswith("{")]
            answers = [one for one in said if one["event"] == "report.answered"]
            assert trace_id in {one["trace_id"] for one in answers}
            assert total(await worker.metrics(), "tapeline_trace_spans_total") > 0
            await goes_on_without(collected, home, worker)
            assert await worker.stopped() == 0
            assert await bridge.stop(grace_s=15) == 0
            collected.hold.set()


async def goes_on_without(collected: Collector, home: House, worker: WorkerProcess) -> None:
    """The collector refuses spans, then does not even answer: counted, and nobody's trouble."""
    collected.status = 400

    async def refused() -> bool:
        found = await worker.metrics()
        return bool(found.get("tapeline_trace_spans_total{outcome=failed}"))

    await eventually(refused, 40.0, "spans that are refused")
    collected.hold.clear()
    _, before = await home.ask("/get_report?symbol=BTCUSDT")

    async def newer() -> bool:
        _, report = await home.ask("/get_report?symbol=BTCUSDT")
        return bool(report["seq"] >= before["seq"] + 10)

    await eventually(newer, 20.0, "reports that go on")
