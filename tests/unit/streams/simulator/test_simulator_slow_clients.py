"""A client that does not keep up is cut off, and nobody is for what the simulator itself was late with."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import aiohttp

from streams.simulator import SimulatedExchange
from streams.simulator.dialect import Message
from tests.support.venue_client import until

WAIT_S = 3.0


async def test_a_client_too_far_behind_is_cut_off_alone(client: aiohttp.ClientSession) -> None:
    """Its queue is bounded; the others go on."""
    async with (
        SimulatedExchange(["BTCUSDT"], seed=1, queue_frames=4) as sim,
        client.ws_connect(f"{sim.stream_url}/ws/btcusdt@ticker") as good,
        client.ws_connect(f"{sim.stream_url}/ws/slow@trade"),
    ):
        await until(lambda: len(sim.sessions) == 2, WAIT_S)
        slow = next(s for s in sim.sessions if "slow@trade" in s.streams)
        for _ in range(6):  # without giving its writer a turn
            slow.publish(Message(0, "slow@trade", "{}"), 0)
        await until(lambda: len(sim.sessions) == 1, WAIT_S)
        assert sim.counts["slow"] == 1
        assert not good.closed
        slow.offer("slow@trade", "{}")  # late, and nobody minds


async def test_a_clock_that_was_behind_counts_against_no_client(
    client: aiohttp.ClientSession,
) -> None:
    """The simulator had no core for a while; its clients read all the time."""
    now = [1_700_000_000_000]
    async with (
        SimulatedExchange(
            ["BTCUSDT"], seed=1, rate=300, queue_frames=100, clock_ms=lambda: now[0]
        ) as sim,
        client.ws_connect(f"{sim.stream_url}/ws/btcusdt@depth@100ms") as ws,
    ):
        await until(lambda: sim.sessions, WAIT_S)
        now[0] += 30_000
        async with asyncio.timeout(WAIT_S):
            found = [json.loads(await ws.receive_str()) for _ in range(250)]
        assert all(one["U"] == before["u"] + 1 for before, one in pairwise(found))
        assert "slow" not in sim.counts
