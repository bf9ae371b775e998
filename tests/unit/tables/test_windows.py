"""Rolling windows against a naive recomputation with the same buckets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tables.columns import unpack
from tables.parameters import SIZE_SAMPLES_MAX, WINDOW_SEC
from tables.profile import ValueArea, VolumeProfile, value_area
from tables.quality import FeedQuality
from tables.sizes import SizeHistory
from tables.windows import SPAN_BUCKETS, Flow, TradeWindow

TRADES = st.lists(
    st.tuples(st.integers(-400, 2_000), st.integers(1, 9), st.booleans()), max_size=80
)
"""(ms after the trade before, size, buy); a negative step is a late trade."""


@given(trades=TRADES, ask_after=st.integers(0, 40_000), span=st.sampled_from([10_000, 30_000]))
def test_flow_equals_a_count_over_all_trades(
    trades: list[tuple[int, int, bool]], ask_after: int, span: int
) -> None:
    """For any trades, late ones included, and any time of asking."""
    window, all_trades = TradeWindow(), []
    ts = newest = 1_000_000
    for step, sz, buy in trades:
        ts += step
        newest = max(newest, ts)
        window.add(ts, sz, buy=buy)
        window.expire(newest)
        all_trades.append((ts, sz, buy))
        assert len(window.snapshot()) == 4
    now = newest + ask_after
    reached = [
        (sz, buy)
        for ts, sz, buy in all_trades
        if now // 100 - span // 100 < ts // 100 <= now // 100
        and ts // 100 > newest // 100 - SPAN_BUCKETS
    ]
    assert window.flow(now, span) == Flow(
        len(reached),
        sum(sz for sz, buy in reached if buy),
        sum(sz for sz, buy in reached if not buy),
    )
    restored = TradeWindow()
    restored.restore(window.snapshot())
    assert restored.snapshot() == window.snapshot()


def test_flow_keeps_at_most_300_buckets() -> None:
    """Bounded whatever the rate."""
    window = TradeWindow()
    for ms in range(0, 100_000, 7):
        window.add(ms, 1, buy=True)
        window.expire(ms)
    assert len(unpack(window.snapshot()[0])) <= SPAN_BUCKETS


@given(
    trades=st.lists(
        st.tuples(st.integers(-30, 400), st.integers(-4, 4), st.integers(1, 9)), max_size=60
    ),
    ask_after=st.integers(0, 2_500),
)
def test_the_profile_equals_a_sum_over_all_trades(
    trades: list[tuple[int, int, int]], ask_after: int
) -> None:
    """Bins and trade count, at any later second."""
    profile, all_trades = VolumeProfile(), []
    sec = newest = 10_000
    for step, bin_, sz in trades:
        sec += step
        newest = max(newest, sec)
        if sec > newest - WINDOW_SEC:
            profile.add(sec, bin_, sz)
            all_trades.append((sec, bin_, sz))
        profile.expire(newest)
    now = newest + ask_after
    bins: dict[int, int] = {}
    counted = 0
    for sec, bin_, sz in all_trades:
        if sec > now - WINDOW_SEC:
            counted += 1
            bins[bin_] = bins.get(bin_, 0) + sz
    assert profile.at(now) == (counted, sorted(bins.items()))
    restored = VolumeProfile()
    restored.restore(profile.snapshot())
    assert restored.snapshot() == profile.snapshot()
    assert restored.at(now) == profile.at(now)


@given(
    volumes=st.dictionaries(st.integers(-1000, 1000), st.integers(1, 10**6), min_size=1),
    percent=st.floats(1, 100),
)
def test_val_poc_vah_are_in_order_and_hold_the_share(
    volumes: dict[int, int], percent: float
) -> None:
    """And no smaller area by one step would do."""
    bins = sorted(volumes.items())
    area = value_area(bins, percent)
    assert area.low <= area.poc <= area.high
    assert volumes[area.poc] == max(volumes.values())
    held = sum(v for b, v in bins if area.low <= b <= area.high)
    assert held >= sum(volumes.values()) * percent / 100
    if area.low < area.high:
        edges = [volumes[edge] for edge in (area.low, area.high) if edge != area.poc]
        assert held - max(edges) < sum(volumes.values()) * percent / 100 or len(edges) == 2


def test_value_area_ties_go_up_and_the_lowest_of_equals_is_the_poc() -> None:
    """What the source leaves open."""
    assert value_area([(1, 5), (2, 10), (3, 5)], 60) == ValueArea(2, 2, 3)
    assert value_area([(1, 5), (2, 5)], 10) == ValueArea(1, 1, 1)
    assert value_area([(7, 1)], 100) == ValueArea(7, 7, 7)


@given(runs=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 4_000)), max_size=12))
def test_size_history_keeps_the_newest_10000_of_30_minutes(runs: list[tuple[int, int]]) -> None:
    """Both bounds at once."""
    history, kept = SizeHistory(), []
    sec = 5_000
    for step, count in runs:
        sec += step
        history.expire(sec)
        sizes = [sec % 97 + n for n in range(count)]
        sample = history.sampler(sec)
        for size in sizes:
            sample(size)
        kept += [(sec, size) for size in sizes]
        kept = [(s, size) for s, size in kept if s > sec - WINDOW_SEC][-SIZE_SAMPLES_MAX:]
    assert history._newest().tolist() == [size for _, size in kept]
    assert len(history._sizes) <= 2 * SIZE_SAMPLES_MAX + 4_000
    assert len(history) == len(kept) <= SIZE_SAMPLES_MAX
    later = sec + 1_000
    fresh = sorted(size for s, size in kept if s > later - WINDOW_SEC)
    count, percentiles = history.percentiles(later, (0, 50, 100))
    assert count == len(fresh)
    if fresh:
        middle = (fresh[(count - 1) // 2] + fresh[count // 2]) / 2
        assert percentiles == [fresh[0], middle, fresh[-1]]
    restored = SizeHistory()
    restored.restore(history.snapshot())
    assert restored.snapshot() == history.snapshot()


@given(steps=st.lists(st.integers(-3, 400), max_size=60), after=st.integers(0, 100))
def test_coverage_is_the_share_of_seconds_with_a_record(steps: list[int], after: int) -> None:
    """Late records fill their own second."""
    quality, seen = FeedQuality(), set()
    sec = newest = 9_000
    for step in steps:
        sec += step
        newest = max(newest, sec)
        quality.saw(sec)
        seen.add(sec)
        quality.expire(newest)
    now = newest + after
    for span in (10, 30, WINDOW_SEC):
        covered = len([s for s in seen if now - span < s <= now])
        if seen and max(seen) == now - 1:
            covered = min(covered + 1, span)
        assert quality.covered(now, span) == covered / span


def test_counts_fade_after_30_minutes() -> None:
    """By reason, with the time of the last."""
    quality = FeedQuality()
    quality.count(1_000_000, "gap.sequence")
    quality.count(1_000_400, "gap.sequence", 2)
    quality.count(1_500_000, "gap.crossed")
    counts, last = quality.totals(1_500)
    assert counts == {"gap.sequence": 3, "gap.crossed": 1}
    assert last == {"gap.sequence": 1_000_400, "gap.crossed": 1_500_000}
    assert quality.totals(1_000 + WINDOW_SEC)[0] == {"gap.crossed": 1}
    quality.expire(1_000 + WINDOW_SEC)
    restored = FeedQuality()
    restored.restore(quality.snapshot())
    assert restored.totals(1_500)[0] == {"gap.crossed": 1}
