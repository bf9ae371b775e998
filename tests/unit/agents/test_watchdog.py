"""What is a stall and what is none: the judge on a virtual clock, the rest on facts given."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from agents.broker_look import Look
from agents.ledger import COMMIT_PERIOD_MS
from agents.metrics import Metrics
from agents.watchdog import (
    JUMP_MS,
    SETTLE_MS,
    TICK_MS,
    Concern,
    Deadman,
    Judge,
    Pulse,
    Stalled,
    Watchdog,
    concerns_of,
)

LIMIT_MS = 5000
GROUP_MS = 25_000


def stuck(kind: str = "records", partition: int | None = 3, at: int = 7) -> Concern:
    return Concern(kind, partition, at, LIMIT_MS)


def stalled_after(judge: Judge, concern: Concern, *, up_to_ms: int = 60_000) -> int | None:
    """Milliseconds of ticks until the judge calls it stalled."""
    for now_ms in range(TICK_MS, up_to_ms, TICK_MS):
        if any(one.stalled for one in judge.step(TICK_MS, [concern], excused=False)):
            return now_ms
    return None


def test_it_is_suspected_at_half_the_limit_and_stalled_at_all_of_it() -> None:
    """Counted from the first tick that found it with work to do."""
    judge = Judge()
    found = [
        (bool(standing), any(one.stalled for one in standing))
        for standing in (
            judge.step(TICK_MS, [stuck()], excused=False)
            for _ in range(0, LIMIT_MS + TICK_MS, TICK_MS)
        )
    ]
    assert found.index((True, False)) * TICK_MS == LIMIT_MS / 2
    assert found.index((True, True)) * TICK_MS == LIMIT_MS
    assert judge.ages_ms("records") == {3: LIMIT_MS}


def test_what_is_done_now_and_then_has_its_period_beside_the_limit() -> None:
    """Offsets are committed once a second: until then a commit has not moved, and all is well."""
    judge = Judge()
    concern = Concern("commit", 3, 7, LIMIT_MS, period_ms=COMMIT_PERIOD_MS)
    suspected = [
        bool(judge.step(TICK_MS, [concern], excused=False))
        for _ in range(0, LIMIT_MS + TICK_MS, TICK_MS)
    ]
    assert suspected.index(True) * TICK_MS == COMMIT_PERIOD_MS + LIMIT_MS / 2
    assert stalled_after(Judge(), concern) == COMMIT_PERIOD_MS + LIMIT_MS + TICK_MS


def test_a_commit_has_the_period_of_commits() -> None:
    [commit] = concerns_of(pulse(committed={3: 90}), look(committed={}), LIMIT_MS, GROUP_MS)
    assert commit.period_ms == COMMIT_PERIOD_MS


def test_each_partition_is_judged_by_itself() -> None:
    """One that moves does not excuse another."""
    judge = Judge()
    for tick in range(21):
        concerns = [stuck(), stuck(partition=4, at=tick)]
        standing = judge.step(TICK_MS, concerns, excused=False)
    assert [(one.concern.partition, one.stalled) for one in standing] == [(3, True)]


def test_nothing_to_do_is_no_standstill() -> None:
    """And what comes after it starts afresh."""
    judge = Judge()
    for _ in range(19):
        judge.step(TICK_MS, [stuck()], excused=False)
    assert judge.step(TICK_MS, [], excused=False) == []
    assert judge.step(TICK_MS, [stuck()], excused=False) == []


@pytest.mark.parametrize("outage_ms", [TICK_MS, 600_000])
def test_an_outage_is_waited_out(outage_ms: int) -> None:
    """However long, and there is time to settle after it."""
    judge = Judge()
    for _ in range(15):
        judge.step(TICK_MS, [stuck()], excused=False)
    for _ in range(0, outage_ms, TICK_MS):
        assert judge.step(TICK_MS, [stuck()], excused=True) == []
    assert stalled_after(judge, stuck()) == SETTLE_MS + LIMIT_MS


def test_what_moves_again_after_an_outage_needs_no_more_time() -> None:
    """It has shown that it is back."""
    judge = Judge()
    judge.step(TICK_MS, [stuck(at=1)], excused=True)
    judge.step(TICK_MS, [stuck(at=1)], excused=False)
    judge.step(TICK_MS, [stuck(at=2)], excused=False)
    assert stalled_after(judge, stuck(at=2)) == LIMIT_MS


@pytest.mark.parametrize("jump_ms", [JUMP_MS, 12_000, 86_400_000])
def test_a_process_stopped_and_continued_is_not_judged_by_the_wall(jump_ms: int) -> None:
    """It had no time to do anything; then it has to find its connections again."""
    judge = Judge()
    for _ in range(15):
        judge.step(TICK_MS, [stuck()], excused=False)
    assert [one.stalled for one in judge.step(jump_ms, [stuck()], excused=False)] in ([], [False])
    after = stalled_after(judge, stuck())
    assert after is not None
    assert after >= SETTLE_MS


def test_a_machine_that_has_no_time_is_given_time() -> None:
    """Ticks that come late count for a second at most."""
    judge = Judge()
    judge.step(TICK_MS, [stuck()], excused=False)
    for _ in range(4):
        assert not any(one.stalled for one in judge.step(2500, [stuck()], excused=False))


@pytest.mark.parametrize("kind", ["fetcher", "consumer_thread"])
def test_a_part_that_died_is_no_matter_of_the_broker(kind: str) -> None:
    """An outage does not excuse it."""
    judge = Judge()
    for _ in range(21):
        standing = judge.step(TICK_MS, [stuck(kind, None)], excused=True)
    assert [one.stalled for one in standing] == [True]


# --- what has work to do -------------------------------------------------------------------------


def pulse(**changed: Any) -> Pulse:
    """A worker of one partition that is through with all there is."""
    facts: dict[str, Any] = {
        "complete": True,
        "recovering": False,
        "joined": True,
        "recovery": 1,
        "taken": {3: 100},
        "undone": frozenset(),
        "positions": {3: 100},
        "committable": {3: 100},
        "committed": {3: 100},
        "ended": {},
        "thread_beats": None,
    }
    return Pulse(**{**facts, **changed})


def look(**changed: Any) -> Look:
    facts: dict[str, Any] = {"ends": {3: 100}, "committed": {3: 100}, "group_forming": False}
    return Look(**{**facts, **changed})


def found(pulse: Pulse, look: Look) -> list[tuple[str, int | None, int]]:
    return [
        (one.kind, one.partition, one.limit_ms)
        for one in concerns_of(pulse, look, LIMIT_MS, GROUP_MS)
    ]


@pytest.mark.parametrize(
    ("changed", "seen", "expected"),
    [
        ({}, {}, []),
        ({}, {"ends": {}}, []),  # the look has not been answered yet
        ({"taken": {3: 99}}, {}, [("records", 3, LIMIT_MS)]),
        ({"taken": {3: None}}, {}, [("records", 3, LIMIT_MS)]),
        ({"undone": frozenset({3})}, {}, [("records", 3, LIMIT_MS)]),
        # A marker of Kafka's own was the last: taken, and never seen by the agent.
        ({"positions": {3: 99}, "committable": {3: 99}}, {}, []),
        ({"positions": {3: None}, "committable": {3: None}}, {}, []),
        ({"committed": {3: 90}}, {"committed": {3: 99}}, [("commit", 3, LIMIT_MS)]),
        ({"committed": {3: -1}}, {"committed": {}}, [("commit", 3, LIMIT_MS)]),
        ({"committed": {3: 90}}, {}, []),  # by what the group says it is
        ({"ended": {"fetcher": "gone"}}, {}, [("fetcher", None, LIMIT_MS)]),
        ({"thread_beats": 4}, {}, [("consumer_thread", None, LIMIT_MS)]),
        ({"complete": False, "recovering": True}, {}, [("assignment", None, LIMIT_MS)]),
        ({"complete": False}, {}, [("assignment", None, LIMIT_MS)]),
        ({"complete": False}, {"group_forming": True}, [("assignment", None, GROUP_MS)]),
        ({"complete": False}, {"group_forming": None}, [("assignment", None, GROUP_MS)]),
        ({"complete": False, "joined": False}, {}, [("assignment", None, GROUP_MS)]),
    ],
)
def test_what_ought_to_move(
    changed: dict[str, Any], seen: dict[str, Any], expected: list[tuple[str, int | None, int]]
) -> None:
    """Only what has something to do, and for as long as it is up to this process."""
    assert found(pulse(**changed), look(**seen)) == expected


# --- the shell -----------------------------------------------------------------------------------


class Worker:
    """Says what it is told to say."""

    def __init__(self) -> None:
        self.now = pulse()
        self.away: dict[str, str] = {}
        self.failures: list[BaseException | None] = []

    def pulse(self) -> Pulse:
        return self.now

    def outages(self) -> Mapping[str, str]:
        return self.away

    def fail(self, error: BaseException | None) -> None:
        self.failures.append(error)


class Bench:
    """A watchdog on a virtual clock."""

    def __init__(self) -> None:
        self.worker = Worker()
        self.metrics = Metrics()
        self.dog = Watchdog(self.worker, None, self.metrics, LIMIT_MS, GROUP_MS)  # type: ignore[arg-type]
        self.now_s = 1000.0
        self.see(look())

    def see(self, look: Look) -> None:
        self.dog._seen, self.dog._looked_s = look, self.now_s

    def run(self, ms: int, *, looking: bool = True) -> None:
        for _ in range(0, ms, TICK_MS):
            self.now_s += TICK_MS / 1000
            if looking:
                self.dog._looked_s = self.now_s
            self.dog.tick(TICK_MS, self.now_s)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


def test_what_was_away_before_an_assignment_excuses_nothing_after_it() -> None:
    """The broker that assigned partitions is there, whatever a look of a moment earlier has found."""
    bench = Bench()
    bench.worker.now = pulse(complete=False, recovering=True)
    bench.see(look(outages={"coordinator": "none yet"}))
    bench.run(TICK_MS, looking=False)
    assert bench.dog.health()[1]["status"] == "degraded"
    bench.worker.now = pulse(taken={3: 90})
    bench.run(TICK_MS, looking=False)
    assert bench.dog.health()[1]["status"] == "ok"
    bench.see(look())
    bench.run(LIMIT_MS)
    assert [type(error) for error in bench.worker.failures] == [Stalled]


def test_health_says_what_stands_still_since_when() -> None:
    """Before the process is ended, and with its metrics."""
    bench = Bench()
    bench.run(1000)
    assert bench.dog.health() == (True, {"status": "ok", "stalled": [], "outages": {}})
    bench.worker.now = pulse(taken={3: 90})
    bench.run(3000)
    well, body = bench.dog.health()
    assert (well, body["status"]) == (False, "stalled")
    (stall,) = body["stalled"]
    assert (stall["what"], stall["partition"], stall["seconds"]) == ("records", 3, 2.75)
    assert bench.value("tapeline_stall_seconds", kind="records") == 2.75
    assert bench.value("tapeline_stalls_total", kind="records") == 1
    assert bench.value("tapeline_progress_age_seconds", partition="3") == 2.75
    assert bench.value("tapeline_end_offset", partition="3") == 100
    assert bench.worker.failures == []
    bench.worker.now = pulse()
    bench.run(TICK_MS)
    assert bench.dog.health()[0]
    assert bench.value("tapeline_stall_seconds", kind="records") == 0


def test_a_stall_fails_the_worker_once() -> None:
    """And names what and where."""
    bench = Bench()
    bench.worker.now = pulse(taken={3: 90})
    bench.run(2 * LIMIT_MS)
    (error,) = bench.worker.failures
    assert isinstance(error, Stalled)
    assert "records of partition 3" in str(error)


def test_nobody_is_failed_on_what_was_seen_long_ago() -> None:
    """The broker may be away by now; the next look will say so."""
    bench = Bench()
    bench.worker.now = pulse(taken={3: 90})
    bench.run(2 * LIMIT_MS, looking=False)
    assert bench.worker.failures == []
    bench.run(TICK_MS)
    assert len(bench.worker.failures) == 1


@pytest.mark.parametrize("own", [True, False], ids=["redis", "broker"])
def test_an_outage_is_degraded_and_well(own: bool) -> None:
    """With what is away and since when, until it is back."""
    bench = Bench()
    bench.worker.now = pulse(taken={3: 90})
    what = "redis" if own else "broker"
    if own:
        bench.worker.away = {what: "gone"}
    else:
        bench.see(look(outages={what: "gone"}))
    bench.run(60_000)
    well, body = bench.dog.health()
    assert (well, body["status"]) == (True, "degraded")
    assert body["outages"][what] == {"seconds": 59.8, "error": "gone"}
    assert bench.value("tapeline_outage", what=what) == 1
    bench.worker.away = {}
    bench.see(look())
    bench.worker.now = pulse()
    bench.run(1000)
    assert bench.dog.health()[1]["status"] == "ok"
    assert bench.value("tapeline_outage", what=what) == 0
    assert bench.worker.failures == []


def test_an_assignment_completed_after_an_outage_needs_no_more_time() -> None:
    """It has been through every connection."""
    bench = Bench()
    bench.worker.now = pulse(complete=False, recovering=True)
    bench.see(look(outages={"coordinator": "loading"}))
    bench.run(3000)
    bench.see(look())
    bench.run(1000)
    bench.worker.now = pulse(taken={3: 90})
    bench.run(LIMIT_MS + TICK_MS)
    assert len(bench.worker.failures) == 1


def test_partitions_given_up_are_forgotten_by_the_metrics() -> None:
    """They are another's to tell of."""
    bench = Bench()
    bench.run(TICK_MS)
    bench.worker.now = pulse(taken={}, positions={}, committable={}, committed={})
    bench.run(TICK_MS)
    assert bench.value("tapeline_end_offset", partition="3") is None


# --- the thread ----------------------------------------------------------------------------------


class Exit:
    """Where the process would have gone."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.told = threading.Event()

    def __call__(self, status: int) -> None:
        self.status = status
        self.told.set()


def test_a_loop_that_gives_no_beat_ends_the_process() -> None:
    """One that beats does not."""
    leave = Exit()
    deadman = Deadman(200, tick_ms=10, leave=leave)
    deadman.beat()
    deadman.start()
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        deadman.beat()
        time.sleep(0.01)
    assert leave.status is None
    assert leave.told.wait(3)
    assert leave.status == 1
    deadman.join(1)


def test_a_failed_worker_has_a_moment_to_end() -> None:
    """Also when its loop goes on, and when it has said that it is about to end."""
    leave = Exit()
    deadman = Deadman(60_000, tick_ms=10, leave=leave)
    deadman.start()
    deadman.arm(0.1)
    deadman.stop()
    assert leave.told.wait(3)
    deadman.join(1)


def test_a_process_about_to_end_is_let_go() -> None:
    """Its loop gives no more beats."""
    leave = Exit()
    deadman = Deadman(50, tick_ms=10, leave=leave)
    deadman.beat()
    deadman.start()
    deadman.stop()
    deadman.join(1)
    assert not deadman.is_alive()
    assert leave.status is None
