"""A registry as text, made a piece at a time.

A worker of 500 symbols has thousands of series. Written out in one go they would hold up its event
loop, and with it its cycles, for longer than a report may be late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

SLICE: Final = 128
"""Samples between two turns of everybody else: about a millisecond."""


class _One(Collector):
    """One family, to be written by itself."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family


async def exposition(registry: CollectorRegistry) -> bytes:
    """What `prometheus_client.generate_latest` gives, with pauses.

    Families are each of one moment; they need not all be of the same.
    """
    text: list[bytes] = []
    for family in registry.collect():
        for at in range(0, max(1, len(family.samples)), SLICE):
            piece = Metric(family.name, family.documentation, family.type)
            piece.samples = family.samples[at : at + SLICE]
            lines = generate_latest(_One(piece))
            # HELP and TYPE stand before the first sample, and nowhere else.
            text.append(lines if at == 0 else lines.split(b"\n", 2)[2])
            await asyncio.sleep(0)
    return b"".join(text)
