"""Faust as it comes: an agent, and a table where the handler keeps something.

    python -m benchmarks.peers.faust_stock --handler engine-event ...

Settings are Faust's own, but for what the topic demands (raw bytes, its number of partitions).
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import faust

from benchmarks.peers.analytics import HANDLERS, Analytics, arguments, row
from benchmarks.peers.meter import Meter


def build(args: Any) -> faust.App:
    """The application with one agent of the chosen kind."""
    meter = Meter(args.records, args.seconds)
    app = faust.App(
        args.group,
        broker=f"kafka://{args.kafka}",
        store="memory://",
        datadir=args.state_dir or tempfile.mkdtemp(prefix="faust-"),
        origin="benchmarks",
        autodiscover=False,
        web_enabled=False,
        topic_partitions=args.partitions,
        topic_replication_factor=1,
        consumer_auto_offset_reset="earliest",
    )
    topic = app.topic(
        args.topic,
        partitions=args.partitions,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
    )
    if args.handler == "empty":

        @app.agent(topic)
        async def count(stream: Any) -> None:
            async for _ in stream:
                meter.add()

        return app

    analytics = Analytics(meter)
    if args.handler == "engine":

        @app.agent(topic)
        async def apply(stream: Any) -> None:
            async for event in stream.events():
                analytics.apply(event.key, event.message.offset, event.value)
                meter.add()

    elif args.handler == "engine-event":
        rows = app.Table("rows", key_type=bytes, partitions=args.partitions)

        @app.agent(topic)
        async def apply_and_keep(stream: Any) -> None:
            async for event in stream.events():
                engine = analytics.apply(event.key, event.message.offset, event.value)
                rows[event.key] = row(engine)
                meter.add()

    else:
        states = app.Table("states", key_type=bytes, value_type=bytes, partitions=args.partitions)

        @app.agent(topic)
        async def apply_and_save(stream: Any) -> None:
            async for event in stream.events():
                engine = analytics.apply(event.key, event.message.offset, event.value)
                if analytics.due(event.key):
                    states[event.key] = engine.snapshot()
                meter.add()

    return app


def main() -> None:
    """Run it as ``faust worker`` does."""
    args = arguments("stock Faust", HANDLERS)
    app = build(args)
    sys.argv = [sys.argv[0], "worker", "--without-web", "-l", "warn"]
    app.main()


if __name__ == "__main__":
    main()
