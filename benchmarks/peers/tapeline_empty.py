"""Tapeline's batch transport with an agent that does next to nothing.

    python -m benchmarks.peers.tapeline_empty --handler empty|decode ...

The application, the consumer and the commits are the worker's own; ``decode`` reads each record
besides, which tells what of an event's cost is its JSON.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

from agents.kafka_app import create_kafka_app
from agents.ledger import CommitLedger
from benchmarks.peers.analytics import arguments
from benchmarks.peers.meter import Meter
from streams import events
from streams.topics import changelog_of
from tapeline.config import load_settings


def main() -> None:
    """Run it as ``faust worker`` does."""
    args = arguments("Tapeline's transport", ("empty", "decode"))
    meter = Meter(args.records, args.seconds)
    settings = load_settings(
        {},
        kafka_url=f"kafka://{args.kafka}",
        events_topic=args.topic,
        app_id=args.group,
        partitions=args.partitions,
        log_level="WARNING",
    )
    ledger = CommitLedger()
    app, topic, table = create_kafka_app(settings, ledger, Counter())
    assert table.changelog_topic_name == changelog_of(settings.app_id)

    async def recovered() -> None:
        ledger.assign({tp.partition for tp in app.consumer.assignment() if tp.topic == args.topic})

    app.on_recovered = recovered
    decoding = args.handler == "decode"

    @app.agent(topic, name="count")
    async def count(stream: Any) -> None:
        async for batches in stream:
            for batch in batches:
                if decoding:
                    for record in batch.records():
                        events.decode(record.value)
                ledger.advance(batch.partition, batch.last_offset + 1)
                meter.add(len(batch))

    sys.argv = [sys.argv[0], "worker", "--without-web", "-l", "warn"]
    app.main()


if __name__ == "__main__":
    main()
