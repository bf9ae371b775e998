"""Quix Streams: one `update` of its dataframe, with its state store where something is kept.

    python -m benchmarks.peers.quix --handler engine-event ...

State is its own: RocksDB, and a changelog topic. Keys and values are taken as raw bytes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from quixstreams import Application, message_context

from benchmarks.peers.analytics import HANDLERS, Analytics, arguments, row
from benchmarks.peers.meter import Meter


def main() -> None:
    """Run the application until the meter ends it."""
    args = arguments("Quix Streams", HANDLERS)
    meter = Meter(args.records, args.seconds)
    analytics = Analytics(meter)
    app = Application(
        broker_address=args.kafka,
        consumer_group=args.group,
        auto_offset_reset="earliest",
        state_dir=Path(args.state_dir or tempfile.mkdtemp(prefix="quix-")),
        loglevel="WARNING",
    )
    topic = app.topic(args.topic, key_deserializer="bytes", value_deserializer="bytes")
    frame = app.dataframe(topic)

    def count(_value: bytes) -> None:
        meter.add()

    def apply(value: bytes, key: bytes, _timestamp: int, _headers: Any) -> None:
        analytics.apply(key, message_context().offset, value)
        meter.add()

    def apply_and_keep(
        value: bytes, key: bytes, _timestamp: int, _headers: Any, state: Any
    ) -> None:
        state.set("row", row(analytics.apply(key, message_context().offset, value)))
        meter.add()

    def apply_and_save(
        value: bytes, key: bytes, _timestamp: int, _headers: Any, state: Any
    ) -> None:
        engine = analytics.apply(key, message_context().offset, value)
        if analytics.due(key):
            state.set_bytes("snapshot", engine.snapshot())
        meter.add()

    if args.handler == "empty":
        frame = frame.update(count)
    elif args.handler == "engine":
        frame = frame.update(apply, metadata=True)
    else:
        handler = apply_and_keep if args.handler == "engine-event" else apply_and_save
        frame = frame.update(handler, metadata=True, stateful=True)
    app.run()


if __name__ == "__main__":
    main()
