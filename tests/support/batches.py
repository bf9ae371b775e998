"""Batches of plain records, as the transport makes them of fetched ones."""

from __future__ import annotations

from collections.abc import Iterable

from agents.batches import Batch, RawRecord, batch_of


def batch(partition: int, records: Iterable[RawRecord]) -> Batch:
    """The one batch of these records, of which there is one at least."""
    made = batch_of(partition, records)
    assert made is not None
    return made
