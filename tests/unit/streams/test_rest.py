"""REST with a budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from streams import rest
from streams.rest import Reply, RestClient, WeightBudget, retry_after_s


def test_a_budget_lets_through_what_fits_a_minute() -> None:
    budget = WeightBudget(100)
    for now_s in (0.0, 10.0):
        assert budget.wait_s(50, now_s) == 0
        budget.spend(50, now_s)
    assert budget.wait_s(50, 20.0) == 40.0
    assert budget.wait_s(60, 20.0) == 50.0
    assert budget.wait_s(50, 60.0) == 0


def test_a_weight_above_the_limit_goes_alone() -> None:
    budget = WeightBudget(100)
    assert budget.wait_s(500, 0.0) == 0
    budget.spend(500, 0.0)
    assert budget.wait_s(1, 1.0) == 59.0


def test_what_others_spend_counts_too() -> None:
    budget = WeightBudget(100)
    budget.spend(10, 0.0)
    budget.correct(90, 1.0)
    budget.correct(50, 2.0)
    assert budget.wait_s(20, 3.0) == 57.0
    assert budget.wait_s(10, 3.0) == 0


def test_a_ban_holds_everything_back() -> None:
    budget = WeightBudget(100)
    budget.bar(30, 0.0)
    assert budget.wait_s(1, 10.0) == 20.0
    assert budget.wait_s(1, 30.0) == 0


@given(
    costs=st.lists(st.tuples(st.floats(0, 20), st.integers(1, 60)), max_size=60),
)
def test_no_minute_ever_holds_more_than_the_limit(costs: list[tuple[float, int]]) -> None:
    budget, now_s, spent = WeightBudget(100), 0.0, []
    for gap_s, cost in costs:
        now_s += gap_s
        now_s += budget.wait_s(cost, now_s)
        assert budget.wait_s(cost, now_s) < 1e-6
        budget.spend(cost, now_s)
        spent.append((now_s, cost))
    for end_s, _ in spent:
        assert sum(cost for at_s, cost in spent if end_s - 59.999 < at_s <= end_s) <= 100


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 0), ("", 0), ("7", 7), ("0.5", 0.5), ("-3", 0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0)],
)
def test_retry_after_is_read_where_it_is_a_number(header: str | None, seconds: float) -> None:
    assert retry_after_s(header) == seconds


class Venue:
    """A loopback server whose next answers a test sets."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str, dict[str, str]]] = []
        self.asked: list[float] = []
        self.root = ""

    async def handle(self, _: web.Request) -> web.Response:
        self.asked.append(asyncio.get_running_loop().time())
        status, text, headers = self.answers.pop(0) if self.answers else (200, "{}", {})
        if status == 0:
            raise ConnectionResetError
        return web.Response(status=status, text=text, headers=headers)


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    served = Venue()
    app = web.Application()
    app.router.add_get("/{path:.*}", served.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.root = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    await runner.cleanup()


async def test_a_get_brings_status_and_body(venue: Venue) -> None:
    venue.answers = [(200, '{"a":1}', {}), (400, "no", {})]
    async with RestClient(venue.root, weight_per_minute=100) as client:
        assert await client.get("/x?y=1", 1) == Reply(200, b'{"a":1}', 0)
        assert await client.get("/x", 1) == Reply(400, b"no", 0)
    assert client.requests == {200: 1, 400: 1}


@pytest.mark.parametrize("status", [429, 418])
async def test_the_next_request_waits_as_long_as_the_venue_asked(venue: Venue, status: int) -> None:
    venue.answers = [(status, "", {"Retry-After": "0.3"})]
    async with RestClient(venue.root, weight_per_minute=100) as client:
        assert (await client.get("/", 1)).retry_after_s == 0.3
        await client.get("/", 1)
    assert venue.asked[1] - venue.asked[0] >= 0.29


async def test_a_ban_without_a_duration_is_a_long_one(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "BAN_S", 0.2)
    venue.answers = [(418, "", {})]
    async with RestClient(venue.root, weight_per_minute=100) as client:
        await client.get("/", 1)
        await client.get("/", 1)
    assert venue.asked[1] - venue.asked[0] >= 0.19


async def test_the_venue_s_own_count_corrects_ours(venue: Venue) -> None:
    venue.answers = [(200, "", {"X-Used": "79"})]
    async with RestClient(venue.root, weight_per_minute=100, used_weight_header="X-Used") as client:
        await client.get("/", 1)
        assert client._budget.wait_s(2, asyncio.get_running_loop().time()) > 50


async def test_no_answer_is_status_0(venue: Venue) -> None:
    async with RestClient("http://127.0.0.1:1", weight_per_minute=100) as client:
        assert await client.get("/", 1) == Reply(0, b"", 0)


async def test_a_body_without_end_is_given_up(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "BODY_BYTES_MAX", 1_000)
    venue.answers = [(200, "x" * 100_000, {})]
    async with RestClient(venue.root, weight_per_minute=100) as client:
        assert await client.get("/", 1) == Reply(0, b"", 0)


async def test_at_most_four_requests_are_open_at_a_time(venue: Venue) -> None:
    open_now = most = 0

    async def slow(_: web.Request) -> web.Response:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.02)
        open_now -= 1
        return web.Response(text="")

    venue.handle = slow  # type: ignore[method-assign]
    app = web.Application()
    app.router.add_get("/", slow)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    root = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with RestClient(root, weight_per_minute=1_000) as client:
        await asyncio.gather(*(client.get("/", 1) for _ in range(12)))
    await runner.cleanup()
    assert most == 4
