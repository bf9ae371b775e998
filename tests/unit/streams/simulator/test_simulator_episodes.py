"""Each episode does what it says, and leaves no trace when it is over."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

from streams.simulator.dialect import Message
from streams.simulator.episodes import SCRIPTS
from streams.simulator.exchange import Exchange, Order
from streams.simulator.flow import Market
from streams.simulator.resting import ASK, BID, Print, Side
from tapeline.errors import ConfigError

START_MS = 1_700_000_000_000
SIDES: dict[str, Side] = {"bid": BID, "ask": ASK}


class Stage:
    """One market, some time after it opened, and an episode on it."""

    def __init__(self, symbol: str = "BTCUSDT", warm_up_ms: int = 20_000) -> None:
        self.exchange = Exchange([symbol], seed=7, start_ms=START_MS, rate=300)
        self.symbol = symbol
        self.now_ms = START_MS
        self.trades: list[Print] = []
        self.to(warm_up_ms)

    @property
    def market(self) -> Market:
        return self.exchange.feeds[self.symbol].market

    def to(self, ms: int, each: Callable[[], None] = lambda: None) -> list[Message | Order]:
        """Run until ``ms`` after the start; ``each`` sees every 100 ms."""
        items: list[Message | Order] = []
        while self.now_ms < START_MS + ms:
            self.now_ms += 100
            items += self.exchange.step(self.now_ms)
            each()
        return items

    def walls(self, side: Side, levels: int = 20) -> list[int]:
        high = 1.5 * self.market.percentile(95)
        return [sz for _, sz in self.market.book.levels(side, levels) if sz >= high]


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.mark.parametrize("side", ["bid", "ask"])
def test_a_wall_stands_among_the_best_20_levels_for_its_time(stage: Stage, side: str) -> None:
    episode = stage.exchange.start("wall", "BTCUSDT", side=side, seconds=8)
    high = 1.5 * stage.market.percentile(95)
    stage.to(20_100)
    big: list[int] = []
    stage.to(27_900, lambda: big.append(max(stage.walls(SIDES[side]), default=0)))
    assert min(big) >= 5 * high
    assert episode.ends_ms == START_MS + 28_000
    stage.to(28_200)
    assert max(stage.walls(SIDES[side]), default=0) < 5 * high
    assert stage.market.pinned is None


@pytest.mark.parametrize("symbol", ["BTCUSDT", "DOGEUSDT"])
def test_a_vacuum_is_a_run_of_thin_levels_beside_the_best_price(symbol: str) -> None:
    stage = Stage(symbol)
    stage.exchange.start("vacuum", symbol, seconds=6, levels=8)
    stage.to(20_200)
    thin = stage.market.percentile(10)

    def check() -> None:
        assert all(sz < thin for _, sz in stage.market.book.levels(ASK, 9)[1:])

    stage.to(25_900, check)
    stage.to(26_100)
    assert not stage.market.closed
    assert stage.market.pinned is None


@pytest.mark.parametrize("side", ["bid", "ask"])
def test_an_iceberg_is_eaten_again_and_again_and_shows_the_same(stage: Stage, side: str) -> None:
    """At least 8 fills at one price, several times what it ever showed."""
    stage.exchange.start("iceberg", "BTCUSDT", side=side)
    book = stage.market.book
    stage.to(20_300)
    px = book.best(SIDES[side])
    first = book.best_size(SIDES[side])

    def check() -> None:
        assert book.best(SIDES[side]) == px
        assert book.best_size(SIDES[side]) == pytest.approx(first, rel=0.05)

    trades = [
        json.loads(item.data)
        for item in stage.to(26_500, check)
        if isinstance(item, Message) and item.stream.endswith("@trade")
    ]
    price = px * stage.market.spec.tick_e8
    fills = [
        round(float(trade["q"]) * 1e8) // stage.market.spec.lot_e8
        for trade in trades
        if round(float(trade["p"]) * 1e8) == price
    ]
    assert len(fills) >= 8
    assert sum(fills) > 4 * first
    stage.to(29_000)
    assert not stage.market.closed


@pytest.mark.parametrize("symbol", ["BTCUSDT", "XRPUSDT"])
def test_a_spoofer_places_far_from_mid_and_takes_back_untraded(symbol: str) -> None:
    stage = Stage(symbol)
    stage.exchange.start("spoof", symbol, side="bid")
    market = stage.market
    high = 1.5 * market.percentile(95)
    before = {px for px, sz in market.book.levels(BID, 5000) if sz >= 2 * high}
    standing: dict[int, int] = {}  # large levels far from mid, and since when
    lives: list[int] = []
    prices: set[int] = set()

    def check() -> None:
        large = {
            px
            for px, sz in market.book.levels(BID, 5000)
            if sz >= 2 * high and px < market.mid * 0.999 and px not in before
        }
        lives.extend(stage.now_ms - standing.pop(px) for px in standing.keys() - large)
        standing.update(dict.fromkeys(large - standing.keys(), stage.now_ms))
        prices.update(large)

    trades = [
        json.loads(item.data)
        for item in stage.to(36_500, check)
        if isinstance(item, Message) and item.stream.endswith("@trade")
    ]
    short = [life for life in lives if 800 <= life <= 2100]
    assert len(short) >= 8
    assert len(short) / (len(lives) + len(standing)) > 0.8
    traded = {round(float(trade["p"]) * 1e8) // market.spec.tick_e8 for trade in trades}
    assert not traded & prices


@pytest.mark.parametrize("symbol", ["BTCUSDT", "DOGEUSDT"])
def test_a_flash_crash_widens_thins_sells_and_recovers(symbol: str) -> None:
    stage = Stage(symbol, warm_up_ms=40_000)
    market = stage.market
    before, depth = market.mid, market.depth(BID)
    stage.exchange.start("flash_crash", symbol)
    spreads: list[int] = []
    depths: list[int] = []
    sold: Counter[int] = Counter()

    def check() -> None:
        spreads.append(market.book.spread())
        depths.append(market.depth(BID))

    for item in stage.to(52_000, check):
        if isinstance(item, Message) and item.stream.endswith("@trade"):
            trade = json.loads(item.data)
            volume = round(float(trade["q"]) * 1e8)
            sold[(trade["T"] - START_MS - 40_000) // 4000] += volume if trade["m"] else -volume
    assert max(spreads[10:]) >= 12
    assert sorted(depths)[len(depths) // 2] < 0.25 * depth
    assert 0 < sold[0] < sold[1] < sold[2]
    low = market.mid
    assert 40 < (before - low) / before * 10_000 < 150
    stage.to(62_000)
    assert market.mid - low > (before - low) / 3
    assert market.book.spread() == 1
    assert not market.wide
    assert market.thinned == [0.0, 0.0]


def test_a_swallowed_event_makes_exactly_one_gap(stage: Stage) -> None:
    stage.exchange.start("gap", "BTCUSDT")
    items = stage.to(30_000)
    found = [
        json.loads(item.data)
        for item in items
        if isinstance(item, Message) and item.stream == "btcusdt@depth@100ms"
    ]
    breaks = [b["U"] - a["u"] for a, b in pairwise(found) if b["U"] != a["u"] + 1]
    first = stage.exchange.feeds["BTCUSDT"]
    assert len(breaks) + (found[0]["E"] > START_MS + 20_100) == 1
    assert (first.swallowed, first.swallow) == (1, 0)


def test_a_gap_can_be_wider(stage: Stage) -> None:
    stage.exchange.start("gap", "BTCUSDT", at_ms=START_MS + 21_050, count=3)
    items = stage.to(30_000)
    times = [
        item.ts_ms
        for item in items
        if isinstance(item, Message) and item.stream == "btcusdt@depth@100ms"
    ]
    assert max(b - a for a, b in pairwise(times)) == 400


def test_the_venue_is_told_to_close_to_announce_and_to_send_garbage(stage: Stage) -> None:
    stage.exchange.start("disconnect", at_ms=START_MS + 21_000)
    stage.exchange.start("shutdown", at_ms=START_MS + 22_000, seconds=3)
    stage.exchange.start("garbage", "BTCUSDT", at_ms=START_MS + 23_000)
    orders = [item for item in stage.to(30_000) if isinstance(item, Order)]
    assert [(o.ts_ms - START_MS, o.what, o.detail) for o in orders] == [
        (21_000, "close", "disconnect"),
        (22_000, "shutdown", ""),
        (23_000, "garbage", "BTCUSDT"),
        (25_000, "close", "shutdown"),
    ]


def test_a_refusal_lasts_its_time(stage: Stage) -> None:
    stage.exchange.start("refuse", seconds=4, retry_after=2)
    stage.to(20_100)
    assert stage.exchange.refuse_until_ms == START_MS + 24_000
    assert stage.exchange.retry_after_s == 2


def test_a_market_before_its_episode_is_the_same_market() -> None:
    quiet, planned = Stage(warm_up_ms=0), Stage(warm_up_ms=0)
    planned.exchange.start("wall", "BTCUSDT", at_ms=START_MS + 5000)
    assert quiet.to(4900) == planned.to(4900)
    assert quiet.to(6000) != planned.to(6000)


def test_episodes_are_repeatable_and_may_overlap() -> None:
    def play() -> list[Message | Order]:
        stage = Stage(warm_up_ms=1000)
        for name, script in SCRIPTS.items():
            stage.exchange.start(name, "BTCUSDT" if script.needs_symbol else None)
        items = stage.to(40_000)
        bids, asks = stage.market.book.sides
        assert bids.prices[-1] < asks.prices[0]
        assert stage.market.pinned is None
        assert [e.name for e in stage.exchange.episodes] == list(SCRIPTS)
        return items

    assert play() == play()


@pytest.mark.parametrize(
    ("name", "symbol", "params", "said"),
    [
        ("earthquake", "BTCUSDT", {}, "one of wall, vacuum"),
        ("wall", None, {}, "a listed symbol"),
        ("wall", "NOPE", {}, "one of BTCUSDT"),
        ("wall", "BTCUSDT", {"height": 3}, "side, seconds, factor"),
        ("wall", "BTCUSDT", {"side": "up"}, "bid or ask"),
        ("wall", "BTCUSDT", {"seconds": -1}, "a positive number"),
        ("wall", "BTCUSDT", {"seconds": True}, "a positive number"),
        ("disconnect", None, {"seconds": 1}, "out of: none"),
    ],
)
def test_what_is_not_accepted_is_named(
    stage: Stage, name: str, symbol: str | None, params: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        stage.exchange.start(name, symbol, **params)  # type: ignore[arg-type]
    assert stage.exchange.episodes == []
