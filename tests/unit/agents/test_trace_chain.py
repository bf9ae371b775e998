"""One trace from a bridge's frame to a reader's answer, in memory."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from agents.batches import Batch, TracedRecord, batches_of
from agents.cycles import Cycles, Draft
from agents.ledger import CommitLedger
from agents.metrics import Metrics
from agents.report_traces import ReportTraces
from agents.shards import Shards
from lua import Keys, PublishCode, ReportWrite
from serving.answer_traces import AnswerTraces
from streams.chunks import Chunk
from streams.events import Event, Feed, decode, encode, stamp
from streams.feeds import OutRecord
from streams.frame_traces import FrameTraces
from streams.symbols import parse_symbols
from streams.topics import partition_of
from tables.parameters import Parameters
from tapeline.clock import SystemClock
from tapeline.config import load_settings
from tests.support.tape import Tape

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tapeline.otel import OtelTracing

SYMBOL = "BTCUSDT"
HOME = partition_of(SYMBOL, 64)


def chunk_of(records: list[OutRecord]) -> Chunk:
    """Records as a consumer gets them: written, stored and read by aiokafka's own code."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=10**9,
    )
    for offset, record in enumerate(records):
        headers = record.traced.headers if record.traced is not None else []
        builder.append(offset, 1_700_000_000_000, record.key, record.value, headers)
    stored = MemoryRecords(bytes(builder.build()))
    return Chunk(HOME, 0, len(records), [stored.next_batch()])


def events_of(now_ms: int) -> list[Event]:
    """An instrument, a book and a trade of just now."""
    tape = Tape()
    tape.instrument()
    tape.snapshot([(5_999_999, 10)], [(6_000_001, 10)])
    tape.trade(6_000_000, 5)
    events = [decode(value) for _, value in tape.records]
    for event in events:
        event.ts_recv_ms = event.ts_event_ms = now_ms
    return events


def made(events: Any) -> list[OutRecord]:
    out = []
    for event in events:
        stamp(event, Feed(1, event.feed.seq), 1)
        out.append(OutRecord(HOME, "binance", SYMBOL, SYMBOL.encode(), encode(event), "x"))
    return out


class Written:
    """Takes the newest draft."""

    draft: Draft

    def put(self, symbol: str, draft: Draft) -> None:
        self.draft = draft


class Store:
    """What is beside a report."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    async def get(self, key: str) -> bytes:
        return self.values[key].encode()


async def test_one_trace_from_the_frame_to_the_answer() -> None:
    memory = InMemorySpanExporter()
    tracing = OtelTracing(memory, Resource.create({}))
    now_ms = time.time_ns() // 1_000_000 - 20
    events = events_of(now_ms)

    # The bridge: two events that are not sampled, and one that is.
    outbox = made(events[:2])
    FrameTraces(tracing, 1.0, "md.events.v1").accept("binance", events[2:], made, outbox.extend)
    traced = outbox[2].traced
    assert traced is not None
    traced.arrived()

    # The worker.
    shards = Shards(parse_symbols(f"binance:{SYMBOL}"), 64, Parameters(), CommitLedger())
    shards.assign({HOME}, [])
    traces = ReportTraces(tracing, "md.events.v1", "tapeline", Keys(), lambda _: True)
    written = Written()
    cycles = Cycles(load_settings({}), shards, written, lambda: [SYMBOL], Metrics(), SystemClock())
    cycles.traces = traces
    (batch,) = batches_of(chunk_of(outbox), 100, traced=True)
    assert [record.offset for record in batch.traced] == [2]
    outcome = traces.applying(shards.apply)(batch)
    assert (outcome.applied, outcome.failures) == (3, [])
    cycles.now(SYMBOL)
    payload, heavy = written.draft.encode(7, 3, now_ms)
    write = ReportWrite(
        symbol=SYMBOL,
        lease_value="n|i|7",
        token=7,
        seq=3,
        watermark=written.draft.watermark,
        updated_at=now_ms,
        payload=payload,
        heavy=heavy,
    )
    store = Store()
    store.values |= dict(traces.begin([write]))
    traces.ended(write, PublishCode.OK)

    # The reader.
    answers = AnswerTraces(tracing, store, Keys())  # type: ignore[arg-type]
    answers.answered(SYMBOL, 7, 3, "http", time.time_ns())
    for lookup in [*answers._lookups]:
        await lookup
    tracing.stop()

    spans = {span.name: span for span in memory.get_finished_spans()}
    chain = [
        "bridge.frame",
        "bridge.send",
        "worker.apply",
        "worker.compute",
        "worker.publish",
        "reader.answer",
    ]
    assert sorted(spans) == sorted(chain)
    assert len(memory.get_finished_spans()) == len(chain)
    assert len({span.context.trace_id for span in spans.values()}) == 1
    assert spans["bridge.frame"].parent is None
    for parent, child in pairwise(chain):
        assert spans[child].parent.span_id == spans[parent].context.span_id, child
        assert spans[child].start_time >= spans[parent].start_time, child
    assert all(span.start_time <= span.end_time for span in spans.values())
    assert spans["bridge.frame"].start_time == now_ms * 1_000_000
    sampled = decode(outbox[2].value)
    assert sampled.trace_id == f"{spans['bridge.frame'].context.trace_id:032x}"
    assert [decode(record.value).trace_id for record in outbox[:2]] == [None, None]


def test_a_worker_that_traces_nothing_does_not_look() -> None:
    """The same batch, without a look at any header."""
    memory = InMemorySpanExporter()
    tracing = OtelTracing(memory, Resource.create({}))
    outbox: list[OutRecord] = []
    events = events_of(1_700_000_000_000)
    FrameTraces(tracing, 1.0, "md.events.v1").accept("binance", events, made, outbox.extend)
    tracing.stop()
    (batch,) = batches_of(chunk_of(outbox), 100)
    assert batch.traced == ()
    assert len(batch) == 3


@pytest.mark.parametrize("most", [1, 2, 100])
def test_each_batch_tells_of_its_own_records(most: int) -> None:
    """However a chunk is cut."""
    memory = InMemorySpanExporter()
    tracing = OtelTracing(memory, Resource.create({}))
    outbox: list[OutRecord] = []
    FrameTraces(tracing, 1.0, "events").accept("binance", events_of(1), made, outbox.extend)
    tracing.stop()
    found: list[Batch] = [*batches_of(chunk_of(outbox), most, traced=True)]
    assert all(
        [r.offset for r in one.traced] == [*range(one.first_offset, one.last_offset + 1)]
        for one in found
    )
    assert sum(len(one.traced) for one in found) == 3
    assert all(isinstance(r, TracedRecord) for one in found for r in one.traced)
