"""Bytewax: its Kafka source, `stateful_map` by symbol, a sink that counts.

    python -m benchmarks.peers.bytewax_flow --handler engine ...

State is in memory: without a recovery store Bytewax keeps it nowhere else, which is its quickest
way to run. ``empty`` calls a handler for each record; ``batches`` calls none and counts whole
batches at the sink.
"""

from __future__ import annotations

from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main

from benchmarks.peers.analytics import Analytics, arguments
from benchmarks.peers.meter import Meter
from tables.engine import Engine

BATCH = 10_000
"""Ten times the source's default, to its advantage: it waits a millisecond for each partition that
has less to give, in turn."""


class _TimedSource(KafkaSource):
    """Starts the clock when the first batch of all has been read.

    The sink would start it too late: a batch of every partition goes through each step of the
    flow before the first of them reaches the next step.
    """

    def __init__(self, meter: Meter, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._meter = meter

    def build_part(self, *args: Any, **kwargs: Any) -> Any:
        part = super().build_part(*args, **kwargs)
        read, meter = part.next_batch, self._meter

        def next_batch() -> Any:
            batch = read()
            if batch:
                meter.start()
            return batch

        part.next_batch = next_batch
        return part


class _Counting(StatelessSinkPartition[Any]):
    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def write_batch(self, items: list[Any]) -> None:
        self._meter.add(len(items))


class _CountingSink(DynamicSink[Any]):
    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> _Counting:
        return _Counting(self._meter)


def build(args: Any, meter: Meter) -> Dataflow:
    """The flow of the chosen kind."""
    flow = Dataflow("bench")
    source = _TimedSource(meter, [args.kafka], [args.topic], batch_size=BATCH)
    stream = op.input("in", flow, source)
    if args.handler == "engine":
        analytics = Analytics(meter)

        def keyed(message: KafkaSourceMessage[Any, Any]) -> tuple[str, Any]:
            return message.key.decode(), message

        def apply(engine: Engine | None, message: Any) -> tuple[Engine, None]:
            if engine is None:
                engine = Engine(message.key.decode(), "binance")
            analytics.check(engine.apply(((message.offset, message.value),)))
            return engine, None

        stream = op.stateful_map("engine", op.map("key", stream, keyed), apply)
    elif args.handler == "empty":
        stream = op.map("count", stream, lambda message: message)
    op.output("out", stream, _CountingSink(meter))
    return flow


def main() -> None:
    """Run the flow, one worker, until the meter ends it."""
    args = arguments("Bytewax", ("empty", "batches", "engine"))
    cli_main(build(args, Meter(args.records, args.seconds)))


if __name__ == "__main__":
    main()
