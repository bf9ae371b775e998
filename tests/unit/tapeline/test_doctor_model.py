"""Running checks: at once, in time, each by itself, and nothing secret in what they say."""

from __future__ import annotations

import asyncio
import time

import pytest

from tapeline.doctor.model import (
    Check,
    Finding,
    Result,
    Status,
    as_json,
    chosen,
    fail,
    ok,
    run,
    skip,
    warn,
    worst,
)
from tapeline.errors import ConfigError


def check(name: str, finding: Finding | Exception | float) -> Check:
    """One that finds this, raises it, or takes so long."""

    async def look() -> Finding:
        if isinstance(finding, float):
            await asyncio.sleep(finding)
            return ok("late", "in time")
        if isinstance(finding, Exception):
            raise finding
        return finding

    return Check(name, look, "look yourself")


async def test_one_that_hangs_and_one_that_breaks_are_failures_of_their_own() -> None:
    began_s = time.monotonic()
    results = await run(
        [
            check("a", ok("x", "y")),
            check("b", 60.0),
            check("c", RuntimeError("broken")),
            check("d", 60.0),
        ],
        limit_s=0.2,
    )
    assert time.monotonic() - began_s < 3
    assert [result.name for result in results] == ["a", "b", "c", "d"]
    findings = [result.finding for result in results]
    assert findings[0] == ok("x", "y")
    assert findings[1] == fail("no answer in 0.2 s", "an answer", "look yourself")
    assert findings[2].found == "RuntimeError: broken"
    assert findings[3].status is Status.FAIL
    assert results[1].ms >= 190


def test_checks_are_chosen_by_name_or_group() -> None:
    checks = [
        check(name, ok("", "")) for name in ("redis", "redis.scripts", "redis.eviction", "topics")
    ]
    assert chosen(checks, ()) == checks
    assert [c.name for c in chosen(checks, ["redis"])] == [
        "redis",
        "redis.scripts",
        "redis.eviction",
    ]
    assert [c.name for c in chosen(checks, ["redis.scripts", "topics"])] == [
        "redis.scripts",
        "topics",
    ]
    with pytest.raises(
        ConfigError, match=r"--only is 'red'; expected one of redis, redis\.scripts"
    ):
        chosen(checks, ["topics", "red"])


def test_one_failure_outweighs_all_else() -> None:
    def results(*findings: Finding) -> list[Result]:
        return [Result("x", finding, 1) for finding in findings]

    assert worst(results(ok("", ""), skip("", ""))) is Status.OK
    assert worst(results(ok("", ""), warn("", "", "f"), skip("", ""))) is Status.WARN
    assert worst(results(warn("", "", "f"), fail("", "", "f"))) is Status.FAIL
    assert worst([]) is Status.OK


def test_the_object_counts_and_hides_what_is_secret() -> None:
    url = "redis://user:hush@host:6379/0"
    body = as_json(
        [Result("redis", fail(f"{url}: refused", "an answer", f"redis-cli -u {url}"), 12)]
    )
    assert body == {
        "status": "fail",
        "counts": {"ok": 0, "warn": 0, "fail": 1, "skip": 0},
        "checks": [
            {
                "name": "redis",
                "status": "fail",
                "found": "redis://user:***@host:6379/0: refused",
                "expected": "an answer",
                "fix": "redis-cli -u redis://user:***@host:6379/0",
                "ms": 12,
            }
        ],
    }
    assert as_json([Result("a", ok("x", "y"), 0)])["checks"][0]["fix"] is None
