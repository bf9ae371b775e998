"""How the worker's consumer fetches: in a steady pace, what is wanted, and whole chunks.

In Faust's consumer thread nothing is unpacked: while both threads want the interpreter each waits
for the other at every system call.

What it leans on inside aiokafka 0.14 is checked by
``tests/unit/agents/test_transport_internals.py``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Any, Final

from aiokafka.consumer.fetcher import Fetcher
from faust.types import TP

from agents.recast import recast
from streams.chunks import Chunk, fetched_records

FETCH_PERIOD_S: Final = 0.003
"""Shortest time from one fetch to the next, of one broker. As fast as it goes, a market of 5,000
events a second makes a thousand fetches of some records each, every one of them a dozen system
calls and two changes of threads; what is late by milliseconds is late anyway while those wait for
a processor."""

PARTITION_PERIOD_S: Final = 0.0004
"""The same for each partition that a fetch brought something of, beyond the first `FEW_PARTITIONS`:
where they are many, each brings little, and is as much work as if it had brought a lot. 22 ms with
64 of them."""

FEW_PARTITIONS: Final = 8


def period_s(partitions: int) -> float:
    """Shortest time from a fetch that brought something of so many partitions to the next."""
    return max(FETCH_PERIOD_S, PARTITION_PERIOD_S * (partitions - FEW_PARTITIONS))


class PacedFetcher(Fetcher):
    """Asks each broker at most every `FETCH_PERIOD_S`, for what is wanted, and hands it on at once.

    Attributes:
        wanted: Partitions asked for last. aiokafka fetches all that are assigned: of a worker's,
            half are changelogs, whose new records are its own.
    """

    wanted: Collection[TP] = ()

    @classmethod
    def seat(cls, consumer: Any) -> None:
        """Have a started consumer's fetcher be of this class."""
        recast(consumer, "_fetcher", Fetcher, cls)

    def want(self, partitions: Collection[TP]) -> None:
        """Fetch these from now on."""
        if partitions != self.wanted:
            self.wanted = frozenset(partitions)
            self._notify(self._wait_consume_future)

    def _get_actions_per_node(self, assignment: Any) -> Any:
        return super()._get_actions_per_node(_Wanted(assignment, self.wanted))

    async def _proc_fetch_request(self, assignment: Any, node_id: Any, request: Any) -> bool:
        began_s = time.monotonic()
        if await super()._proc_fetch_request(assignment, node_id, request):
            for waiter in self._fetch_waiters:
                self._notify(waiter)
        # The next request is made behind this pause: it asks for what is wanted then.
        left_s = began_s + period_s(len(self._records)) - time.monotonic()
        if left_s > 0:
            await asyncio.sleep(left_s)
        # aiokafka does so a moment later, and overlooks it in between: it would wait 200 ms.
        self._in_flight.discard(node_id)
        return False


class _Wanted:
    """An assignment, reduced to what is to be fetched and what has no position yet."""

    __slots__ = ("_assignment", "tps")

    def __init__(self, assignment: Any, wanted: Collection[TP]) -> None:
        self._assignment = assignment
        self.tps = [
            tp
            for tp in assignment.tps
            if tp in wanted or not assignment.state_value(tp).has_valid_position
        ]

    def state_value(self, tp: TP) -> Any:
        return self._assignment.state_value(tp)


async def fetched_chunks(
    fetcher: PacedFetcher,
    partitions: Collection[TP],
    timeout_s: float,
    records_max: int,
    whole: Collection[str],
    still_wanted: Callable[[], bool],
) -> dict[TP, Chunk | list[Any]]:
    """`streams.chunks.fetched_records`, and nothing else is fetched from now on."""
    fetcher.want(partitions)
    return await fetched_records(fetcher, partitions, timeout_s, records_max, whole, still_wanted)
