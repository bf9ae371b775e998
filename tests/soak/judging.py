"""What a soak has to show, of what was seen; no process, no socket."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, Final

from tests.chaos.history import Verdict
from tests.soak.alarms import unavailable
from tests.soak.claims import Claim
from tests.soak.memory import Flatness, Resident, flatness
from tests.soak.restarts import Restart
from tests.soak.tally import Tally, silences
from tests.soak.topic import untold
from tests.soak.watch import TWICE, Seen

if TYPE_CHECKING:
    from tests.soak.run import Soak

FRESH_MS: Final = 2000
RECOVER_S: Final = 30.0
"""From the end of a process to fresh data of every symbol at the reader."""

SEVERAL: Final = {"w": "workers", "b": "bridges"}
"""Components of several processes, which have numbers."""

OURS: Final = ("workers", "bridges", "reader", "redis")
"""Whose memory is judged. The broker's heap has a limit of its own, the venue is a toy."""

LINES_PER_MIN_MAX: Final = 100.0
"""That one process may log, on average over a run of restarts: people have to read it."""

AGAIN: Final = ("duplicate_records", "stale_feed")
"""What workers notice of records that the topic has twice."""

SHOWN: Final = 6


def claims(soak: Soak) -> list[Claim]:
    """All of them."""
    args, seen, hand, tally = soak.args, soak.watcher.seen, soak.hand, soak.tally
    outages = [one for one in hand.done if one.turn.component == "bridge"]
    return [
        load(tally, args.rate, args.rate_within, soak.began_ms, soak.frozen_s),
        order(tally, soak.ledger),
        reports(tally, len(soak.probes)),
        audit(len(soak.house.symbols), soak.audits),
        writes(soak.verdict, sum(map(len, soak.observer.writes.values()))),
        counters(seen, tally),
        told(outages, tally, bridges=args.bridges),
        recovered(hand.done),
        by_itself(hand.unexpected, hand.refused),
        memory(seen, soak.warm_s, soak.ended_s, args.restart_every_s),
        logs(soak.lines(), soak.frozen_s / 60),
        alerts(soak),
    ]


def load(tally: Tally, rate: float, within: float, began_ms: int, frozen_s: float) -> Claim:
    """Records a second while the feed was there, until the market was stopped."""
    first_s, end_s = began_ms // 1000 + 1, int(began_ms / 1000 + frozen_s)
    seconds = [second for second in tally.per_second if first_s <= second < end_s]
    mean = fmean(tally.per_second[second] for second in seconds) if seconds else 0.0
    away = sum(last - first + 1 for first, last in silences(tally.per_second))
    return Claim(
        "load",
        mean >= within * rate,
        f"{tally.records:,} records; {mean:,.0f} a second of {rate:,.0f} asked for, in"
        f" {len(seconds):,} seconds; none at all in {away} s",
    )


def order(tally: Tally, ledger: list[str]) -> Claim:
    """The topic holds every record that was written, and all that the venue made or a told hole."""
    disorder = [text for one in tally.symbols.values() for text in one.disorder]
    trades = sum(one.trades for one in tally.symbols.values())
    missing = sum(one.missing for one in tally.symbols.values())
    again = sum(one.again for one in tally.symbols.values())
    dropped = sum(len(one.dropped) for one in tally.symbols.values())
    faults = [*disorder, *ledger]
    return Claim(
        "the topic holds every record",
        not faults,
        _first(faults)
        or f"no hole in any feed's sequence but {dropped} that bridges tell of, {again:,} records again; the venue has made {trades + missing:,}"
        f" trades, {trades:,} are there, {missing:,} passed while no bridge was",
    )


def reports(tally: Tally, probes: int) -> Claim:
    """Reports of the whole run say what the topic's records give, by an independent count."""
    return Claim(
        "nothing lost or counted twice",
        not tally.differing if tally.compared else None,
        _first(tally.differing)
        or f"{tally.compared:,} figures of {probes:,} reports, read behind each restart, are those of an"
        " independent count of the topic: trades and volumes of 30 s, trades of 30 min, gaps, trades"
        " missing, coverage",
    )


def audit(symbols: int, differing: list[str]) -> Claim:
    """The last reports, field by field."""
    return Claim(
        "last reports recomputed",
        not differing,
        _first(differing) or f"tapeline audit finds all fields of {symbols} of {symbols} equal",
    )


def writes(verdict: Verdict, accepted: int) -> Claim:
    """What Redis took, as an observer heard it."""
    return Claim(
        "no stale, no duplicate write accepted",
        verdict.well() if accepted else None,
        f"{accepted:,} accepted writes heard: {verdict.stale} stale, {verdict.duplicate} twice",
    )


def counters(seen: Seen, tally: Tally) -> Claim:
    """What the workers themselves have noticed, beside what the topic has twice, or lacks."""
    noticed = {what: seen.counted(what) for what in (*TWICE, "dead_letters")}
    symbols = tally.symbols.values()
    allowed = [*(AGAIN if any(one.again for one in symbols) else ())]
    allowed += ["gap.feed_seq"] if any(one.dropped for one in symbols) else []
    return Claim(
        "workers have noticed nothing",
        not any(count for what, count in noticed.items() if what not in allowed),
        ", ".join(f"{name} {count}" for name, count in noticed.items())
        + f"; {seen.counted('records_skipped'):,} records came again after restarts and were skipped;"
        f" standstills suspected {seen.counted('stalls')}",
    )


def told(outages: list[Restart], tally: Tally, *, bridges: int) -> Claim:
    """Times without a bridge are in the topic, and in reports, as such."""
    if bridges != 1 or not outages:
        return Claim("bridge outages told", None, "needs one bridge, and restarts of it")
    count, missing = untold(outages, tally)
    overs = [over for one in tally.symbols.values() for over in one.takeovers]
    lengths = [(over.first_ms - over.last_ms) / 1000 for over in overs] or [0.0]
    farewells = sum(over.farewell for over in overs)
    lost = sum(one.missing for one in tally.symbols.values())
    return Claim(
        "bridge outages told as gaps",
        not missing,
        _first(missing)
        or f"{len(outages)} outages, {count} (outage, symbol) told by a new token of the feed, {farewells}"
        f" with a farewell before (gaps.count); {lost:,} trades missing, counted in reports"
        f" (gaps.trades_missing); {median(lengths):.1f} s long, {max(lengths):.1f} at most",
    )


def recovered(restarts: list[Restart]) -> Claim:
    """All is fresh again soon after each restart."""
    if not restarts:
        return Claim("recovered", None, "nothing was restarted")
    late = [
        f"{one.turn.name} at {one.at_s:.0f} s: {one.fresh_s}"
        for one in restarts
        if one.fresh_s is None or one.fresh_s > RECOVER_S
    ]
    return Claim(
        f"fresh again within {RECOVER_S:g} s of each restart",
        not late,
        _first(late)
        or ", ".join(
            f"{component} {count}x: {median(times):.1f} s, {max(times):.1f} at most"
            for component, times in _by_component(restarts).items()
            if (count := len(times))
        ),
    )


def _by_component(restarts: list[Restart]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for one in restarts:
        found.setdefault(one.turn.component, []).append(one.fresh_s or 0.0)
    return found


def by_itself(unexpected: list[str], refused: list[str]) -> Claim:
    """Processes end when they are told to, and well."""
    faults = [*unexpected, *refused]
    return Claim(
        "processes end only when told to, and with status 0",
        not faults,
        _first(faults) or "all of them",
    )


def component_of(name: str) -> str:
    """Of which component a process is: ``w1`` is one of the ``workers``."""
    return SEVERAL.get(name.rstrip("0123456789"), name)


def flatnesses(
    seen: Seen, warm_s: float, ended_s: float, every_s: float
) -> dict[str, Flatness | None]:
    """Of each component, while everything was restarted."""
    members: dict[str, list[list[Resident]]] = {}
    for name, looks in seen.memory.items():
        members.setdefault(component_of(name), []).append(looks)
    return {name: flatness(looks, warm_s, ended_s, every_s) for name, looks in members.items()}


def memory(seen: Seen, warm_s: float, ended_s: float, every_s: float) -> Claim:
    """Resident memory after the warm-up, cycle by cycle."""
    found = flatnesses(seen, warm_s, ended_s, every_s)
    unknown = [name for name in OURS if found.get(name) is None]
    growing = [name for name in OURS if (flat := found.get(name)) is not None and not flat.flat]
    texts = [f"{name} {flat}" for name, flat in found.items() if flat is not None]
    if unknown:
        texts.append(f"too short a run for {', '.join(unknown)}")
    return Claim(
        f"resident memory flat within 5 % after {warm_s / 60:.0f} minutes",
        False if growing else None if unknown else True,
        "; ".join(texts),
    )


def logs(lines: dict[str, int], minutes: float) -> Claim:
    """What each process has logged, restarts and outages included.

    Args:
        lines: By process, of all its lives.
        minutes: Of the run.
    """
    rates = {name: count / minutes for name, count in lines.items()}
    texts = [f"{name} {rate:.0f}" for name, rate in rates.items()]
    return Claim(
        f"logs that people can read: at most {LINES_PER_MIN_MAX:g} lines a minute of each process",
        all(rate <= LINES_PER_MIN_MAX for rate in rates.values()),
        ", ".join(texts),
    )


def alerts(soak: Soak) -> Claim:
    """The project's rules, at the end."""
    if soak.alarms is None:
        why = unavailable(Path(soak.args.rules))
        return Claim("no alert left firing", None, f"not checked: {why}")
    fired = ", ".join(f"{name} {len(times)}x" for name, times in sorted(soak.alarms.fired.items()))
    if soak.firing is None:
        return Claim("no alert left firing", None, "Prometheus did not answer")
    return Claim(
        "no alert left firing",
        not soak.firing,
        (
            _first(soak.firing)
            or f"none of {soak.rules} rules, {soak.quiet_s:.0f} s after the last restart"
        )
        + f"; seen firing meanwhile: {fired or 'none'}",
    )


def _first(faults: list[str]) -> str:
    if not faults:
        return ""
    more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return f"{len(faults)}: " + "; ".join(faults[:SHOWN]) + more


def found(soak: Soak, about: dict[str, Any]) -> dict[str, Any]:
    """For ``--json``."""
    args, seen, tally = soak.args, soak.watcher.seen, soak.tally
    ages = [age.ms for age in seen.ages if age.ms is not None]
    flats = flatnesses(seen, soak.warm_s, soak.ended_s, args.restart_every_s)
    return {
        "minutes": args.minutes,
        "warm_up_minutes": args.warm_up_minutes,
        "rate": args.rate,
        "symbols": args.symbols,
        "seed": args.seed,
        "restart_every_s": args.restart_every_s,
        "records": tally.records,
        "kinds": dict(tally.kinds),
        "restarts": [one.as_json() for one in soak.hand.done],
        "restarts_by": dict(
            Counter("SIGKILL" if one.turn.hard else "SIGTERM" for one in soak.hand.done)
        ),
        "data_age_ms": {"p50": median(ages), "max": max(ages)} if ages else {},
        "lag_max": max((lag.records for lag in seen.lags), default=None),
        "memory": {name: str(flat) for name, flat in flats.items() if flat is not None},
        "cores": seen.cores(),
        "alerts_fired": {} if soak.alarms is None else soak.alarms.fired,
        "machine": about,
    }
