"""The pictures of a soak and of an overload, of what was seen."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from benchmarks.machine import described
from tests.soak.memory import Resident
from tests.soak.plot import Line, Mark, Panel, Picture, means, peaks, svg
from tests.soak.tally import silences
from tests.soak.watch import Age

if TYPE_CHECKING:
    from tests.soak.overload import Overload
    from tests.soak.run import Soak

RATE_S: Final = 5.0
AGE_S: Final = 3.0


def soak_picture(soak: Soak, found: dict[str, Any]) -> str:
    """Rate, lag, age and memory over the whole run."""
    args, seen, tally = soak.args, soak.watcher.seen, soak.tally
    began_s = soak.began_ms / 1000
    # What follows is the account of it, in which the market stands still.
    seconds = soak.frozen_s
    rate = [(second - began_s, float(count)) for second, count in sorted(tally.per_second.items())]
    rate = [point for point in rate if 0 <= point[0] <= seconds]
    lag = [(one.at_s, float(max(1, one.records))) for one in seen.lags]
    held = [claim["claim"] for claim in found["claims"] if claim["holds"]]
    failed = [claim["claim"] for claim in found["claims"] if claim["holds"] is False]
    return svg(
        Picture(
            title=f"{args.minutes:g} minutes, {args.rate:,.0f} records a second, each component restarted"
            f" every {args.restart_every_s:g} s",
            note=f"{args.symbols} symbols, {args.workers} workers, {args.bridges} bridge; grey: warm-up, in which"
            f" windows of 30 minutes fill. {len(held)} of {len(found['claims'])} claims hold"
            + (f", failed: {', '.join(failed)}" if failed else "")
            + f". {described(found['machine'])}.",
            seconds=seconds,
            shade_s=soak.warm_s,
            kinds=("worker", "bridge", "reader", "redis", "kafka"),
            marks=[Mark(one.at_s, one.turn.component, one.turn.hard) for one in soak.hand.done],
            spans=[
                (first - began_s, last + 1 - began_s) for first, last in silences(tally.per_second)
            ],
            spans_are="nothing on the topic",
            panels=[
                Panel(
                    "Records a second, on the topic, by the time they were received",
                    [Line("records/s", means(rate, RATE_S))],
                ),
                Panel("Records not applied yet", [Line("lag", lag)], least=1.0, log=True),
                Panel(
                    "Age of the newest data, of the symbol that is worst off, at the reader, ms",
                    [Line("data age", ages(seen.ages))],
                    least=10.0,
                    log=True,
                ),
                Panel("Resident memory, MB", memory_lines(seen.memory)),
                Panel(
                    "Resident memory of the broker, MB",
                    [Line("kafka", resident(seen.memory["kafka"]))],
                ),
            ],
        )
    )


def overload_picture(run: Overload, found: dict[str, Any]) -> str:
    """What is written and taken, lag, age and memory."""
    seen, args = run.watcher.seen, run.args
    begin_s = run.before.begin_s
    ends = [(at_s, float(end)) for at_s, end in seen.ends if at_s >= begin_s]
    lags = [(lag.at_s, lag.records) for lag in seen.lags if lag.at_s >= begin_s]
    taken = [(at_s, end - lag) for (at_s, end), (_, lag) in zip(ends, lags, strict=True)]
    seconds = run.after.end_s - begin_s

    def moved(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(at_s - begin_s, value) for at_s, value in points if at_s <= run.after.end_s]

    return svg(
        Picture(
            title=f"{args.factor:g} times what one worker can take, for {args.seconds:g} s",
            note=f"One worker takes {found['capacity_per_s']:,} records a second of {args.symbols} symbols where"
            f" a calculator burns {args.burn_us:g} us at each. Hatched: the overload."
            f" {described(found['machine'])}.",
            seconds=seconds,
            spans=[(run.over.begin_s - begin_s, run.over.end_s - begin_s)],
            spans_are="overload",
            panels=[
                Panel(
                    "Records a second",
                    [
                        Line("written", means(moved(rates(ends)), RATE_S)),
                        Line("applied", means(moved(rates(taken)), RATE_S)),
                    ],
                ),
                Panel("Records not applied yet", [Line("lag", moved(lags))]),
                Panel(
                    "Age of the newest data at the reader, seconds",
                    [
                        Line(
                            "data age",
                            [(t, ms / 1000) for t, ms in moved(ages(seen.ages)) if t >= 0],
                        )
                    ],
                ),
                Panel(
                    "Resident memory of the worker, MB",
                    [Line("w1", [p for p in moved(resident(seen.memory["w1"])) if p[0] >= 0])],
                ),
            ],
        )
    )


def rates(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of a count that rises, by how much a second."""
    return [
        (end_s, (after - before) / (end_s - begin_s))
        for (begin_s, before), (end_s, after) in pairwise(points)
    ]


def resident(looks: Iterable[Resident]) -> list[tuple[float, float]]:
    """As points."""
    return [(look.at_s, look.mb) for look in looks]


def ages(seen: Iterable[Age]) -> list[tuple[float, float]]:
    """Peaks of each few seconds; nothing while the reader does not answer."""
    points = [(age.at_s, float(max(1, age.ms))) for age in seen if age.ms is not None]
    return peaks(points, AGE_S)


def memory_lines(memory: dict[str, list[Resident]]) -> list[Line]:
    """One a process of the house."""
    names = [name for name in memory if name not in ("venue", "kafka")]
    return [Line(name, resident(memory[name])) for name in names]
