"""The market: one seed, one history; a book that holds together; a quiet that is quiet."""

from __future__ import annotations

from collections import Counter, deque

import pytest

from streams.simulator import fitted
from streams.simulator.flow import Market
from streams.simulator.listing import KNOWN, spec_for
from streams.simulator.resting import ASK, BID, Print, Top
from streams.simulator.restraint import Restraint
from tapeline.errors import ConfigError

START_MS = 1_700_000_000_000
NEWS = list[Top | Print]


def market(symbol: str = "BTCUSDT", seed: int = 7, rate: float = 300.0) -> Market:
    return Market(spec_for(symbol), seed, START_MS, rate)


def run(subject: Market, until_ms: int, step_ms: int) -> NEWS:
    news: NEWS = []
    for now_ms in range(START_MS + step_ms, START_MS + until_ms + 1, step_ms):
        news += subject.advance(now_ms)
    return news + subject.advance(START_MS + until_ms)


def test_one_seed_makes_one_history() -> None:
    assert run(market(), 5000, 100) == run(market(), 5000, 100)
    assert run(market(), 5000, 100) != run(market(seed=8), 5000, 100)


@pytest.mark.parametrize("step_ms", [7, 330, 5000])
def test_how_the_time_is_cut_changes_nothing(step_ms: int) -> None:
    assert run(market(), 5000, step_ms) == run(market(), 5000, 100)


def test_symbols_of_one_seed_are_not_each_others_echo() -> None:
    assert market("XRPUSDT").book.levels(BID, 30) != market("ADAUSDT").book.levels(BID, 30)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "DOGEUSDT"])
def test_the_book_is_never_crossed_and_each_size_is_positive(symbol: str) -> None:
    subject = market(symbol)
    for now_ms in range(START_MS, START_MS + 30_000, 50):
        for news in subject.advance(now_ms):
            if isinstance(news, Top):
                assert news.bid_px < news.ask_px
                assert news.bid_sz > 0
                assert news.ask_sz > 0
            else:
                assert news.sz > 0
        bids, asks = subject.book.sides
        assert bids.prices[-1] < asks.prices[0]
        assert min(bids.sizes.values()) > 0
        assert min(asks.sizes.values()) > 0
        assert min(len(bids), len(asks)) > 50


def test_a_trade_takes_what_the_best_level_held() -> None:
    """Between two tops, trades at a price remove just what that price lost."""
    subject = market()
    top: Top | None = None
    compared = 0
    for news in run(subject, 60_000, 100):
        if isinstance(news, Top):
            top = news
        elif top is not None:
            at, held = (top.bid_px, top.bid_sz) if news.buyer_is_maker else (top.ask_px, top.ask_sz)
            assert news.px == at
            assert news.sz <= held
            compared += 1
    assert compared > 100


def test_trade_ids_and_times_only_rise() -> None:
    news = run(market(), 20_000, 100)
    ids = [item.trade_id for item in news if isinstance(item, Print)]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    times = [item.ts_ms for item in news]
    assert times == sorted(times)


def test_the_rate_is_the_number_of_changes_a_second() -> None:
    changes = 0
    for seed in (1, 2, 3):
        subject = market(seed=seed, rate=300)
        before = subject.book.update_id
        subject.advance(START_MS + 60_000)
        changes += subject.book.update_id - before
    assert changes / 180 == pytest.approx(300, rel=0.3)


def test_level_changes_cover_all_ids_since_the_last_ones() -> None:
    subject = market()
    last = subject.book.update_id
    for now_ms in range(START_MS + 100, START_MS + 5000, 100):
        subject.advance(now_ms)
        changes = subject.level_changes()
        if changes is None:
            assert subject.book.update_id == last
            continue
        assert (changes.first_id, changes.last_id) == (last + 1, subject.book.update_id)
        assert changes.bids == sorted(changes.bids, reverse=True)
        assert changes.asks == sorted(changes.asks)
        last = changes.last_id
    assert subject.level_changes() is None


def test_a_held_market_keeps_its_best_prices() -> None:
    subject = market()
    subject.advance(START_MS + 2000)
    subject.hold()
    subject.hold()
    bid = subject.book.best(BID)
    subject.release()
    for now_ms in range(START_MS + 2000, START_MS + 20_000, 100):
        subject.advance(now_ms)
        assert subject.book.best(BID) <= bid < subject.book.best(ASK)
    assert subject.pinned == (bid, bid + 1)
    subject.release()
    assert subject.pinned is None
    subject.advance(START_MS + 60_000)
    assert subject.book.best(BID) != bid


def test_a_percentile_is_measured_once_there_is_enough_to_measure() -> None:
    subject = market()
    assert subject.percentile(95) == round(fitted.SIZE_P95 * subject.spec.lots_per_unit)
    assert subject.percentile(10) == round(fitted.SIZE_P10 * subject.spec.lots_per_unit)
    for now_ms in range(START_MS, START_MS + 10_000, 100):
        subject.advance(now_ms)
        subject.level_changes()
    ranked = sorted(subject.sizes)
    assert subject.percentile(95) in ranked
    below = sum(size < subject.percentile(95) for size in ranked)
    assert below / len(ranked) == pytest.approx(0.95, abs=0.01)


def test_quiet_minutes_look_healthy_and_like_the_recording() -> None:
    """The detectors' definitions, asked of the book itself, every 2 s.

    The recording's means are 0.775 walls and 1.098 vacuums a look; the simulator's lie within
    2x. benchmarks/simulator_likeness.py does it over ten minutes and through the engine.
    """
    subject = market(rate=300)
    walls = vacuums = looks = 0
    spreads: list[int] = []
    depths: list[int] = []
    net: deque[int] = deque(maxlen=100)
    nets: list[int] = []
    for now_ms in range(START_MS + 100, START_MS + 240_000, 100):
        sold = 0
        for news in subject.advance(now_ms):
            if isinstance(news, Print):
                sold += news.sz if news.buyer_is_maker else -news.sz
        net.append(sold)
        subject.level_changes()
        if now_ms % 2000 or len(subject.sizes) < 1000:
            continue
        looks += 1
        ranked = sorted(subject.sizes)
        low, high = ranked[len(ranked) // 10], 1.5 * ranked[len(ranked) * 95 // 100]
        for side in (BID, ASK):
            sizes = [sz for _, sz in subject.book.levels(side, 50)]
            walls += sum(sz >= high for sz in sizes)
            thin = "".join("x" if sz < low else " " for sz in sizes).split()
            vacuums += sum(len(run) >= 3 for run in thin)
        spreads.append(subject.book.spread())
        depths.append(subject.depth(BID))
        nets.append(sum(net))
    usual_depth = sorted(depths)[looks // 2]
    usual_net = sorted(map(abs, nets))[looks // 2]
    for spread, depth, selling in zip(spreads, depths, nets, strict=True):
        assert (spread >= 3) + (depth <= 0.4 * usual_depth) + (selling >= 3 * usual_net) < 2
    assert Counter(spreads)[1] > 0.98 * looks
    print(f"walls {walls / looks:.3f}, vacuums {vacuums / looks:.3f} a look")
    assert 0.5 <= walls / looks / 0.775 <= 2
    assert 0.5 <= vacuums / looks / 1.098 <= 2


def test_takers_are_restrained_once_they_have_gone_far_one_way() -> None:
    restraint = Restraint(usual_net=100, usual_depth=(1000, 1000), now_ms=0)
    assert restraint.allowed(0, 10, buys=True) == 10
    restraint.traded(0, 185, buys=True)
    assert restraint.allowed(1, 50, buys=True) == 5
    assert restraint.allowed(1, 50, buys=False) == 50
    restraint.traded(1, 5, buys=True)
    assert restraint.allowed(1, 50, buys=True) == 0
    assert restraint.allowed(10_001, 50, buys=True) == 50


def test_a_thin_side_is_filled_up_relative_to_what_is_usual() -> None:
    restraint = Restraint(usual_net=100, usual_depth=(1000, 1000), now_ms=0)
    assert restraint.lacking(BID, 600) == 0
    assert restraint.lacking(BID, 100) == 506
    restraint.sample(500, (1, 1))
    assert restraint.usual_depth == [1000, 1000]
    restraint.sample(1000, (400, 1600))
    assert restraint.usual_depth == [990, 1010]


def test_an_unknown_name_gets_a_price_of_its_own_always_the_same() -> None:
    spec = spec_for("NEWUSDT")
    assert spec == spec_for("NEWUSDT")
    assert (spec.base, spec.quote) == ("NEW", "USDT")
    assert spec.tick_e8 >= 1
    assert spec.lot_e8 >= 1
    assert spec_for("BTCUSDT") is KNOWN["BTCUSDT"]
    with pytest.raises(ConfigError, match="upper-case"):
        spec_for("btc/usdt")


def test_the_known_symbols_all_hold_a_book_of_their_own_grain() -> None:
    for symbol in KNOWN:
        subject = market(symbol, rate=100)
        subject.advance(START_MS + 1000)
        assert subject.spec.lots_per_unit * fitted.DUST > 3, symbol
        assert subject.mid == pytest.approx(subject.spec.start_px, rel=0.01)


def test_quantiles_are_interpolated_in_their_logarithm() -> None:
    table = ((0.0, 1.0), (0.5, 10.0), (1.0, 1000.0))
    assert fitted.quantile(table, 0.25) == pytest.approx(10**0.5)
    assert fitted.quantile(table, 0.75) == pytest.approx(100)
    assert fitted.quantile(table, 1.5) == 1000
    drawn = fitted.lookup(table, 10, 100)
    assert drawn == sorted(drawn)
    assert min(fitted.lookup(table, 0.0001)) == 1
