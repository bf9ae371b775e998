"""What a soak and an overload are judged by: each fault is found in figures made for it."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import orjson
import pytest

from streams.events import Feed, FeedStatus, Trade, decode, encode, stamp
from streams.simulator.tape import simulated_records
from tables.engine import Engine
from tables.report import Position, Source, Writer, compose, encode_report
from tests.soak.claims import Claim, as_json, well
from tests.soak.memory import Resident, flatness, slope
from tests.soak.restarts import Hand, Restart, Turn, first_fresh, turns
from tests.soak.tally import Probe, SymbolTally, Tally, read, silences
from tests.soak.topic import account, probes_of, untold
from tests.soak.venue import TRIED, flow_rate, frames_per_s
from tests.soak.watch import Age

SYMBOL = "BTCUSDT"
COMPONENTS = {
    "worker": ["w1", "w2"],
    "bridge": ["b1"],
    "reader": ["reader"],
    "redis": ["redis"],
    "kafka": ["kafka"],
}

Records = list[tuple[int, bytes]]


# --- an independent count of the topic ------------------------------------------------------------


@pytest.fixture(scope="module")
def records() -> Records:
    """A minute of a made-up market."""
    return [(o, v) for _, o, v in simulated_records([SYMBOL], seconds=60, rate=60)]


@pytest.fixture(scope="module")
def probes(records: Records) -> list[Probe]:
    """Reports of an engine on the way: what a soak reads from Redis."""
    engine, found = Engine(SYMBOL, "binance"), []
    step = len(records) // 7
    for at in range(0, len(records), step):
        engine.apply(records[at : at + step])
        place = Position("t", 0, engine.applied, engine.newest_ms + 40 * at % 3000)
        report = compose(
            engine.fast_report(place.now_ms),
            engine.slow_report(place.now_ms),
            writer=Writer("n", 1),
            seq=at + 1,
            updated_at=place.now_ms,
            source=Source(place, place),
        )
        found += probes_of(float(at), {SYMBOL: encode_report(report, 1 << 30)[0]})
    return found


def tally_of(records: Records, probes: list[Probe]) -> Tally:
    tally = Tally(probes)
    for offset, value in records:
        tally.take(SYMBOL, offset, value)
    tally.close()
    return tally


def place_of(records: Records, kind: str) -> int:
    """Of a record of that kind, in the middle of the tape."""
    return next(
        n for n in range(len(records) // 2, len(records)) if read(records[n][1]).kind == kind
    )


def test_reports_of_an_engine_are_what_the_count_says(
    records: Records, probes: list[Probe]
) -> None:
    tally = tally_of(records, probes)
    assert tally.differing == []
    assert tally.compared >= 8 * len(probes) - 1, "the first may have too few trades for a profile"
    assert tally.symbols[SYMBOL].trades > 50
    assert tally.symbols[SYMBOL].disorder == []


def test_a_trade_that_was_lost_is_found(records: Records, probes: list[Probe]) -> None:
    """By an engine that has missed it: the topic has one more than its reports."""
    at = place_of(records, "trade")
    offset, value = records[at]
    again = msgspec.structs.replace(decode(value), trade_id=None, event_id="x")
    seen = [*records[:at], (offset, encode(again)), *records[at + 1 :]]
    differing = tally_of(seen, probes).differing
    assert any("gaps.trades_missing is 0.0, by the records 1" in text for text in differing)


@pytest.mark.parametrize(
    ("field", "part"),
    [
        ("flow.trade_count", "fast"),
        ("flow.buy_volume", "fast"),
        ("gaps.duplicates", "fast"),
        ("coverage.profile_30min", "fast"),
        ("liquidity.volume_profile.trade_count", "slow"),
    ],
)
def test_one_too_many_in_a_report_is_found(
    records: Records, probes: list[Probe], field: str, part: str
) -> None:
    changed = orjson.loads(orjson.dumps(probes[-1].body))
    inner, names = changed, field.split(".")
    for name in names[:-1]:
        inner = inner[name]
    inner[names[-1]] += 0.01 if "coverage" in field else 1
    differing = tally_of(records, [Probe(5.0, SYMBOL, changed)]).differing
    assert len(differing) == 1
    assert f"{part}@" in differing[0]
    assert field in differing[0]


def test_a_report_of_a_record_that_is_not_there_is_found(
    records: Records, probes: list[Probe]
) -> None:
    differing = tally_of(records[: len(records) // 2], probes[-1:]).differing
    assert len(differing) == 2
    assert "the topic has no such record" in differing[0]


def trade(token: int, seq: int, ts_ms: int, ident: int) -> bytes:
    event = Trade(
        venue="binance", symbol=SYMBOL, ts_event_ms=ts_ms, ts_recv_ms=ts_ms, px_e=-2, sz_e=-5,
        px=100, sz=5, side="buy", event_id=f"t{ident}", trade_id=ident,
    )  # fmt: skip
    stamp(event, Feed(token, seq), 1)
    return encode(event)


def goodbye(token: int, seq: int, ts_ms: int) -> bytes:
    event = FeedStatus(
        venue="binance", symbol=SYMBOL, ts_event_ms=ts_ms, ts_recv_ms=ts_ms, status="disconnected"
    )
    stamp(event, Feed(token, seq), 1)
    return encode(event)


@pytest.mark.parametrize(
    ("feeds", "holes", "again"),
    [
        ([(7, 1), (7, 2), (9, 1), (9, 2)], 0, 0),
        ([(7, 1), (7, 3)], 1, 0),
        ([(7, 1), (7, 2), (7, 2)], 0, 1),
        ([(7, 1), (9, 1), (7, 2)], 0, 1),
        ([(7, 1), (9, 2)], 1, 0),
    ],
)
def test_a_feed_out_of_order_is_found(feeds: list[tuple[int, int]], holes: int, again: int) -> None:
    values = [trade(*feed, 1000 + n, n + 1) for n, feed in enumerate(feeds)]
    one = tally_of(list(enumerate(values)), []).symbols[SYMBOL]
    assert (len(one.disorder), one.again) == (holes, again)
    assert one.trades == len(feeds) - again


OUTAGE = [
    trade(7, 1, 10_000, 1),
    trade(7, 2, 10_400, 2),
    goodbye(7, 3, 10_500),
    trade(9, 1, 14_200, 6),
    trade(9, 2, 14_300, 7),
]


def restarted(at_ms: int, back_ms: int) -> Restart:
    return Restart(Turn(0.0, "bridge", "b1", False), at_ms / 1000, at_ms, back_ms=back_ms)


def test_an_outage_is_told_by_a_new_token() -> None:
    tally = tally_of(list(enumerate(OUTAGE)), [])
    one = tally.symbols[SYMBOL]
    assert [(o.last_ms, o.first_ms, o.farewell) for o in one.takeovers] == [(10_500, 14_200, True)]
    assert (one.trades, one.missing) == (4, 3)
    assert untold([restarted(10_450, 13_000)], tally) == (1, [])
    assert untold([restarted(10_450, 13_000), restarted(60_000, 63_000)], tally) == (
        2,
        [f"{SYMBOL} at 60 s"],
    )
    assert [*silences(tally.per_second)] == [(11, 13)]


def test_the_venues_account_is_held_against_the_topic() -> None:
    tally = tally_of(list(enumerate(OUTAGE)), [])
    assert account({"symbols": {SYMBOL: {"trade_id": 7}}}, tally) == []
    assert len(account({"symbols": {SYMBOL: {"trade_id": 8}}}, tally)) == 1
    tally.symbols[SYMBOL].trades -= 1
    assert len(account({"symbols": {SYMBOL: {"trade_id": 7}}}, tally)) == 1


def test_gaps_and_coverage_by_the_rules_of_the_report() -> None:
    one = SymbolTally(SYMBOL)
    for offset, value in enumerate(OUTAGE):
        one.take(offset, read(value))
    fast = one.fast(14_350)
    assert fast["gaps.count"] == 1
    assert fast["gaps.trades_missing"] == 3
    assert fast["coverage.profile_30min"] == 2 / 1800
    assert one.fast(15_100)["coverage.profile_30min"] == 3 / 1800
    assert one.fast(14_350 + 1_800_000)["gaps.trades_missing"] == 0


# --- memory ---------------------------------------------------------------------------------------


EVERY_S = 180.0


def cycles(values: list[float]) -> list[Resident]:
    """A process restarted at the beginning of each cycle, which takes 30 s to its whole size."""
    return [
        Resident(n * EVERY_S + t, mb * min(1.0, 0.5 + t / 60))
        for n, mb in enumerate(values)
        for t in range(0, int(EVERY_S), 5)
    ]


@pytest.mark.parametrize(
    ("values", "flat"),
    [
        ([100, 101, 99, 100, 102, 100], True),
        ([100, 102, 104, 106, 108, 110], False),
        ([110, 108, 106, 104, 102, 100], False),
        ([100, 140, 100, 140, 100, 140, 100, 140, 100], True),
    ],
)
def test_memory_from_cycle_to_cycle(values: list[float], flat: bool) -> None:
    found = flatness([cycles(values)], 0.0, len(values) * EVERY_S, EVERY_S)
    assert found is not None
    assert found.cycles == len(values)
    assert found.flat is flat


def test_two_workers_count_together() -> None:
    """One has all symbols while the other is away: what one has more the other has less."""
    one, other = [100, 120, 100, 120, 100, 120], [120, 100, 120, 100, 120, 100]
    found = flatness([cycles(one), cycles(other)], 0.0, 6 * EVERY_S, EVERY_S)
    assert found is not None
    assert (round(found.rise, 3), round(found.spread, 3)) == (0.0, 0.0)
    growing = [mb + 5 * n for n, mb in enumerate(other)]
    found = flatness([cycles(one), cycles(growing)], 0.0, 6 * EVERY_S, EVERY_S)
    assert found is not None
    assert not found.flat


def test_cycles_of_the_warm_up_and_behind_the_end_do_not_count() -> None:
    looks = cycles([50, 60, 70, 100, 100, 100, 100, 300])
    found = flatness([looks], 3 * EVERY_S, 7 * EVERY_S, EVERY_S)
    assert found is not None
    assert (found.cycles, round(found.rise, 3)) == (4, 0.0)


def test_a_few_cycles_are_nothing_to_judge_by() -> None:
    assert flatness([cycles([100, 100, 100])], 0.0, 3 * EVERY_S, EVERY_S) is None
    assert flatness([cycles([100] * 6), []], 0.0, 6 * EVERY_S, EVERY_S) is None


def test_a_line_through_points() -> None:
    assert slope([(0, 1), (1, 3), (2, 5)]) == pytest.approx(2)
    assert slope([(1, 1), (1, 3)]) == 0


# --- restarts -------------------------------------------------------------------------------------


def test_each_component_is_restarted_once_in_the_time() -> None:
    planned = [*turns(COMPONENTS, 180.0, 1800.0)]
    for component in COMPONENTS:
        times = [turn.at_s for turn in planned if turn.component == component]
        assert len(times) == 10
        assert {round(b - a) for a, b in pairwise(times)} == {180}
    for name in ("w1", "w2", "b1", "reader", "redis", "kafka"):
        ends = [turn.hard for turn in planned if turn.name == name]
        assert abs(ends.count(True) - ends.count(False)) <= 1, name
    assert planned[-1].at_s < 1800


def looks(ages: list[int | None]) -> list[Age]:
    return [Age(float(n), ms) for n, ms in enumerate(ages)]


def test_fresh_is_fresh_for_a_while() -> None:
    """A moment after a kill nothing is stale yet."""
    seen = looks([50, 60, 900, 2500, None, 3000, 80, 70, 60, 60, 50])
    assert first_fresh(seen, 1.0, 2000) == 6.0
    assert first_fresh(seen, 7.0, 2000) == 7.0
    assert first_fresh(seen, 8.0, 2000) is None
    missing = [age._replace(missing=1) for age in seen]
    assert first_fresh(missing, 0.0, 2000) is None


def test_restarts_are_told_how_long_they_took() -> None:
    hand = Hand(house=None)  # type: ignore[arg-type]
    one = restarted(3_000, 5_000)
    one.ended_s = 3.2
    hand.done.append(one)
    hand.recovered(looks([50, 60, 900, 2500, None, 3000, 80, 70, 60, 60, 50]), 2000)
    assert one.fresh_s == pytest.approx(3.0)
    assert one.as_json()["by"] == "SIGTERM"


# --- the venue's rate, and claims ------------------------------------------------------------------


def test_the_venue_is_given_the_rate_that_makes_so_many_records() -> None:
    """On the line through two rates that were tried."""
    names = ["BTCUSDT", "ETHUSDT"]
    low, high = (frames_per_s(names, rate, 3, 10) for rate in TRIED)
    assert low < high
    assert flow_rate(names, low, 3, 20) == pytest.approx(TRIED[0])
    assert flow_rate(names, high, 3, 20) == pytest.approx(TRIED[1])
    middle = flow_rate(names, (low + high) / 2, 3, 20)
    assert middle == pytest.approx(sum(TRIED) / 2)


def test_what_is_not_shown_is_no_failure_and_no_pass() -> None:
    claims = [Claim("a", True, ""), Claim("b", None, "no prometheus")]
    assert well(claims)
    assert [claim.verdict for claim in claims] == ["ok", "not shown"]
    assert as_json(claims)[1] == {"claim": "b", "holds": None, "told": "no prometheus"}
    assert not well([*claims, Claim("c", False, "")])
