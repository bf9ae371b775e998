"""The freqtrade strategy and the Hummingbot script against a real reader and writer.

freqtrade and Hummingbot are no dependencies of the tests: `tests.support.bot_stand_ins` has the few
names of them that are used, and stands in for them here. By hand the strategy has been loaded from its
folder and run by freqtrade 2026.9; Hummingbot was not to be had as a package, and has not run the script.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pytest

from tests.support import bot_stand_ins, example_readers
from tests.support.reader_house import WAIT_S, House, reading_house, writing

pytestmark = [pytest.mark.redis, pytest.mark.e2e, pytest.mark.slow]

SLACK_S = 1.5
ROWS = 5
PAIRS = ("BTC/USDT", "ETH/USDT", "NONE/USDT", "BTC/USDT:USDT")


@pytest.fixture
async def house(redis_url: str) -> AsyncIterator[House]:
    async with reading_house(redis_url) as made:
        yield made


def example(name: str) -> ModuleType:
    return example_readers.load(name, before=bot_stand_ins.install)


async def until(condition: Callable[[], bool], within_s: float, step: Callable[[], None]) -> None:
    """As its host does: ``step`` at a steady pace, until the condition holds."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        await asyncio.to_thread(step)
        await asyncio.sleep(0.05)


# --- freqtrade -----------------------------------------------------------------------------------


@contextmanager
def running(house: House, mode: str = "dry_run") -> Iterator[Any]:
    made = example("freqtrade_informative").TapelineInformative(
        {"tapeline": {"url": house.server.url}}
    )
    made.dp = bot_stand_ins.provider(*PAIRS, mode=mode)
    made.bot_start()
    try:
        yield made
    finally:
        made.reports.close()


def analysed(strategy: Any, pair: str) -> bot_stand_ins.Frame:
    """As freqtrade does at a new candle."""
    frame = bot_stand_ins.Frame(ROWS)
    frame = strategy.populate_indicators(frame, {"pair": pair})
    return strategy.populate_entry_trend(frame, {"pair": pair})


def looped(strategy: Any) -> None:
    strategy.bot_loop_start(current_time=datetime.now(UTC))


def confirmed(strategy: Any, pair: str) -> bool:
    return strategy.confirm_trade_entry(
        pair=pair, order_type="limit", amount=1.0, rate=60_000.0, time_in_force="GTC",
        current_time=datetime.now(UTC), entry_tag=None, side="long",
    )  # fmt: skip


async def test_a_strategy_sees_a_fresh_report_in_the_last_candle_alone(house: House) -> None:
    """A pair without reports, or of futures, has NaN, and no entry."""
    with running(house) as strategy:
        looped(strategy)
        frame = analysed(strategy, "BTC/USDT")
        *earlier, last = frame["tapeline_spread_bps"]
        assert last == pytest.approx(0.1 / 60_000.05 * 10_000)
        assert all(math.isnan(value) for value in earlier)
        assert frame["enter_long"] == [None] * (ROWS - 1) + [1]
        assert confirmed(strategy, "BTC/USDT")
        for pair in ("NONE/USDT", "BTC/USDT:USDT"):
            frame = analysed(strategy, pair)
            assert all(math.isnan(value) for value in frame["tapeline_spread_bps"])
            assert frame["enter_long"] == [None] * ROWS
            assert not confirmed(strategy, pair)


async def test_a_strategy_never_enters_on_a_stale_report(house: House) -> None:
    """Neither by its candle nor at the order; it does again when somebody writes."""
    with running(house) as strategy:
        looped(strategy)
        assert confirmed(strategy, "BTC/USDT")
        house.writer.kill()
        await until(
            lambda: not confirmed(strategy, "BTC/USDT"), 2 + SLACK_S, lambda: looped(strategy)
        )
        assert analysed(strategy, "BTC/USDT")["enter_long"] == [None] * ROWS
        assert strategy.reports.said("BTC/USDT").startswith("BTC/USDT: stale, spread ")
        async with writing(house.redis_url, "w2"):
            await until(lambda: confirmed(strategy, "BTC/USDT"), WAIT_S, lambda: looped(strategy))
        house.server.process.kill()
        await until(
            lambda: not confirmed(strategy, "BTC/USDT"), 2 + SLACK_S, lambda: looped(strategy)
        )


async def test_a_backtest_sees_no_report_of_today(house: House) -> None:
    """Of the past there is none; orders are not held up by that."""
    with running(house, mode="backtest") as strategy:
        looped(strategy)
        frame = analysed(strategy, "BTC/USDT")
        assert all(math.isnan(value) for value in frame["tapeline_spread_bps"])
        assert confirmed(strategy, "BTC/USDT")


# --- Hummingbot ----------------------------------------------------------------------------------


async def test_a_script_quotes_by_fresh_reports_and_withdraws(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One buy and one sell while reports come; none when they end, with the reason."""
    monkeypatch.setenv("TAPELINE_URL", house.server.url)
    module = example("hummingbot_script")
    module.TapelineQuotes.init_markets(None)
    script = module.TapelineQuotes({"binance_paper_trade": None})
    try:
        script.on_tick()
        assert script.orders == {}  # not asked yet, so nothing is known
        await until(lambda: len(script.orders) == 2, WAIT_S, script.on_tick)
        prices = {order.side: float(order.price) for order in script.orders.values()}
        assert prices["buy"] == pytest.approx(60_000.05 * (1 - 5 / 10_000))
        assert prices["sell"] == pytest.approx(60_000.05 * (1 + 5 / 10_000))
        assert "BTCUSDT: fresh, micro price 60000.05 (" in script.format_status()
        house.writer.kill()
        await until(lambda: not script.orders, 2 + SLACK_S, script.on_tick)
        assert script.said[-1].startswith("no quotes: BTCUSDT: stale, micro price ")
        async with writing(house.redis_url, "w2"):
            await until(lambda: len(script.orders) == 2, WAIT_S, script.on_tick)
        house.server.process.kill()
        await until(lambda: not script.orders, 2 + SLACK_S, script.on_tick)
        assert "no answer" in script.format_status()
    finally:
        await script.on_stop()
    assert script.stopped
