"""What an overload has to show, of what was seen; no process, no socket."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Final

from agents.kafka_app import FETCH_BYTES
from tests.soak.claims import Claim
from tests.soak.judging import audit, by_itself, counters, reports
from tests.soak.memory import Resident
from tests.soak.watch import Age, Lag

if TYPE_CHECKING:
    from tests.soak.overload import Overload, Phase

STALE_MS: Final = 2000
FETCH_MB: Final = FETCH_BYTES / 1e6
"""Most that a fetch brings of one partition."""

REPORT_S: Final = 0.25
"""Between two reports of a symbol, by default."""

ROOM_MB: Final = 24
"""Beside what is fetched: a batch's objects, windows that fill meanwhile, the allocator's share."""


def claims(run: Overload) -> list[Claim]:
    """All of them."""
    seen, over = run.watcher.seen, run.over
    ends = [end for at_s, end in seen.ends if over.has(at_s)]
    times = [at_s for at_s, _ in seen.ends if over.has(at_s)]
    return [
        load(times, ends, run.capacity, run.args.factor),
        lag_grows(seen.lags, over, run.capacity, run.args.factor),
        reports_say_so(seen.ages, over, run.args.factor),
        status_says_so(run.said),
        bounded(seen.memory["w1"], run.before, over, run.after, run.args.symbols),
        cycles(run.published, run.skipped, len(run.house.symbols) * run.args.seconds / REPORT_S),
        caught_up(run),
        reports(run.tally, len(run.probes)),
        audit(len(run.house.symbols), run.audits),
        counters(seen, run.tally),
        by_itself(run.hand.unexpected, run.hand.refused),
    ]


def load(times: list[float], ends: list[int], capacity: float, factor: float) -> Claim:
    """What was written while it was to be too much."""
    if len(times) < 2:
        return Claim("load", False, "nobody has looked")
    rate = (ends[-1] - ends[0]) / (times[-1] - times[0])
    return Claim(
        "load",
        rate >= 0.95 * factor * capacity,
        f"{rate:,.0f} records/s for {times[-1] - times[0]:.0f} s: {rate / capacity:.2f} times the"
        f" {capacity:,.0f} that one worker takes",
    )


def lag_grows(lags: list[Lag], over: Phase, capacity: float, factor: float) -> Claim:
    """From third to third, and to about as much as it must."""
    inside = [lag for lag in lags if over.has(lag.at_s)]
    third = len(inside) // 3
    if not third:
        return Claim("lag grows", False, "nobody has looked")
    steps = [inside[0], inside[third], inside[2 * third], inside[-1]]
    records = [lag.records for lag in steps]
    due = 0.5 * (factor - 1) * capacity * (over.end_s - over.begin_s)
    return Claim(
        "lag grows",
        records == sorted(set(records)) and records[-1] >= due,
        " to ".join(f"{count:,}" for count in records)
        + f" records; at least {due:,.0f} were due to be behind",
    )


def reports_say_so(ages: list[Age], over: Phase, factor: float) -> Claim:
    """Every report is called stale, and down, as soon as its data must be older than that."""
    # Behind by (1 - 1 / factor) of each second; twice that time, and a look.
    settle_s = 2 * STALE_MS / 1000 / (1 - 1 / factor) + 2
    inside = [age for age in ages if over.has(age.at_s, settle_s) and age.ms is not None]
    if not inside:
        return Claim("reports say so", False, "nobody has looked")
    silent = [age for age in inside if not (age.stale and age.down)]
    oldest = max(age.ms or 0 for age in inside)
    all_stale = sum(age.stale == inside[0].stale for age in inside)
    return Claim(
        "reports say so",
        not silent and oldest > STALE_MS,
        f"of {len(inside)} looks at the reader, from {settle_s:.0f} s on, {len(inside) - len(silent)}"
        f" had `stale` and `ingestion.status` down, of {inside[-1].stale} symbols at the end"
        f" ({all_stale} looks alike); data_age_ms up to {oldest:,}",
    )


def status_says_so(said: dict[str, int]) -> Claim:
    """`/status` of the reader names the workers."""
    ill = {text: count for text, count in said.items() if not text.startswith("ok")}
    texts = [*ill][:1] + [*ill][1:][-1:]  # the first and the last of many alike
    return Claim(
        "/status says so",
        bool(ill),
        f"{sum(ill.values())} looks of {sum(said.values())}: {' ... '.join(texts)}",
    )


def bounded(
    looks: list[Resident], before: Phase, over: Phase, after: Phase, partitions: int
) -> Claim:
    """Memory of the worker, held against a bound that does not depend on the lag."""
    idle = [look.mb for look in looks if before.has(look.at_s)]
    busy = [look for look in looks if over.has(look.at_s) or after.has(look.at_s)]
    if not idle or not busy:
        return Claim("memory bounded", False, "nobody has looked")
    base = median(idle)
    # Of each partition one fetch is worked on while the next one waits.
    room = 2 * FETCH_MB * partitions + ROOM_MB
    most = max(busy, key=lambda look: look.mb)
    return Claim(
        "memory bounded",
        most.mb <= base + room,
        f"{base:.0f} MB before, {most.mb:.0f} at most ({most.at_s - over.begin_s:.0f} s after the"
        f" overload began); bound: {room:.0f} MB more, two fetches of {FETCH_MB:.2g} MB of each of"
        f" {partitions} partitions and {ROOM_MB} MB",
    )


def cycles(published: int, skipped: int, due: float) -> Claim:
    """Reports go on to be written; where they can't be, that is counted."""
    return Claim(
        "cycles go on, or are counted as skipped",
        published >= 0.9 * due or skipped > 0,
        f"{published:,} reports accepted of some {due:,.0f} due in the overload, {skipped:,} cycles skipped",
    )


def caught_up(run: Overload) -> Claim:
    """Without a restart, in the time that its capacity gives it."""
    took_s = run.after.end_s - run.after.begin_s
    return Claim(
        "it catches up without a restart",
        run.caught_up and run.pid == run.last_pid,
        f"{took_s:.0f} s after the load fell, limit {run.limit_s:.0f} s; "
        + ("the same process" if run.pid == run.last_pid else "ANOTHER process"),
    )
