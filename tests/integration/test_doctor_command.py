"""`tapeline doctor` as a process: on a house that is well, and on nothing at all."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from aiokafka.admin import NewTopic

from streams import topics
from streams.topics import admin_of
from tapeline.config import load_settings
from tapeline.doctor import broker, venues
from tapeline.doctor.machine import look_at_port
from tapeline.doctor.model import Finding, Result, Status, run
from tapeline.stack.ports import free_port
from tests.support import commands
from tests.support.worker import Installation, eventually

pytestmark = [pytest.mark.e2e]

GROUPS = {"python", "packages", "settings", "ports", "files", "memory", "disk", "broker", "topics",
          "redis", "clock", "venues"}  # fmt: skip
EIGHT = {"NT_PARTITIONS": "8"}
"""As with all who make the topics of orders on the broker that tests share: they have no other names."""


async def doctor(*options: str, status: int, **variables: str) -> tuple[dict[str, Any], str]:
    """The command's object, and all it said."""
    process = await commands.start("doctor", *options, **variables)
    out, err = await process.communicate()
    assert process.returncode == status, (out.decode()[-3000:], err.decode()[-3000:])
    body = json.loads(out.splitlines()[-1]) if "--json" in options and out else {}
    return body, out.decode() + err.decode()


def ports(**more: str) -> dict[str, str]:
    free = {f"NT_{name}_PORT": str(free_port()) for name in ("METRICS", "BRIDGE", "SERVE")}
    return {**free, **more}


@pytest.mark.slow
async def test_with_nothing_running_it_says_what_is_missing() -> None:
    """In seconds, with a fix for each, and without a word of the clients' own."""
    away = {
        "KAFKA_URL": f"kafka://127.0.0.1:{free_port()}",
        "REDIS_URL": f"redis://u:hush@127.0.0.1:{free_port()}/0",
        "SYMBOLS": "binance:BTCUSDT",
        "NT_BINANCE_STREAM_URL": f"ws://127.0.0.1:{free_port()}",
        "NT_BINANCE_REST_URL": f"http://127.0.0.1:{free_port()}",
    }
    began_s = time.monotonic()
    body, said = await doctor("--json", status=3, **ports(**away))
    assert time.monotonic() - began_s < 30
    checks = {check["name"]: check for check in body["checks"]}
    assert {name.partition(".")[0] for name in checks} == GROUPS
    failed = {name for name, check in checks.items() if check["status"] == "fail"}
    assert {"broker", "redis"} <= failed
    assert {checks[name]["status"] for name in ("topics", "redis.scripts", "clock.redis")} == {
        "skip"
    }
    for check in checks.values():
        assert set(check) == {"name", "status", "found", "expected", "fix", "ms"}
        assert check["found"]
        assert check["ms"] < 4000
        assert bool(check["fix"]) is (check["status"] in ("warn", "fail")), check
    assert body["status"] == "fail"
    assert sum(body["counts"].values()) == len(checks)
    assert "hush" not in said
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1
    _, shown = await doctor("--only", "redis", "--only", "python", status=3, **ports(**away))
    lines = shown.splitlines()
    assert lines[0].startswith("ok   python")
    assert any(line.startswith("fail redis ") for line in lines)
    assert any("fix: start it, or set REDIS_URL" in line for line in lines)
    assert "hush" not in shown


@pytest.mark.slow
async def test_a_house_that_is_well(kafka_url: str, redis_url: str) -> None:
    """Warnings are allowed; what is asked for by name alone is looked at."""
    one = Installation(kafka_url, redis_url)
    env = one.environment(**ports(), **EIGHT) | {
        f"NT_{kind.upper()}_TOPIC": f"{one.name}.{kind}"
        for kind in ("merged", "telemetry", "routing", "commands")
    }
    asked = ("--only", "broker", "--only", "topics", "--only", "redis", "--only", "clock.redis")
    body, _ = await doctor("--json", *asked, status=3, **env)
    failed = [check for check in body["checks"] if check["status"] == "fail"]
    assert [check["name"] for check in failed] == ["topics"]
    assert failed[0]["fix"] == "tapeline topics apply"
    async with admin_of(kafka_url) as admin:
        await topics.apply(admin, topics.plan(load_settings(env)))
    body, _ = await doctor("--json", *asked, status=0, **env)
    assert {check["status"] for check in body["checks"]} <= {"ok", "warn"}
    names = [check["name"] for check in body["checks"]]
    assert names == ["broker", "topics", "redis", "redis.scripts", "redis.eviction",
                     "redis.persistence", "clock.redis"]  # fmt: skip
    body, said = await doctor("--json", "--only", "nonsense", status=2, **env)
    assert "--only is 'nonsense'; expected one of python" in said


@pytest.mark.slow
async def test_topics_that_are_not_as_planned(kafka_url: str) -> None:
    """Another number of partitions fails, another retention is warned of."""
    one = Installation(kafka_url)
    env = one.environment(REDIS_URL="", **EIGHT) | {
        f"NT_{kind.upper()}_TOPIC": f"{one.name}.{kind}"
        for kind in ("merged", "telemetry", "routing", "commands")
    }
    made = load_settings(env)

    async def looked() -> dict[str, Result]:
        return {result.name: result for result in await run(broker.checks(made), 10.0)}

    async def topics_are(status: Status) -> Finding:
        """The controller answers before the broker has a change."""

        async def there() -> Finding | None:
            found = (await looked())["topics"].finding
            return found if found.status is status else None

        return await eventually(there, what=f"topics {status}")

    async with admin_of(kafka_url) as admin:
        await topics.apply(admin, topics.plan(made))
        assert (await looked())["topics"].finding.status is Status.OK
        odd = load_settings({**env, "NT_RETENTION_MS": "7200000"})
        await topics.apply(admin, [t for t in topics.plan(odd) if t.name == one.topic])
        found = await topics_are(Status.WARN)
        assert f"{one.topic}: retention.ms is 7200000, planned 21600000" in found.found
        assert found.fix == "tapeline topics apply"
        await one.delete_topic(one.topic)
        await admin.create_topics([NewTopic(one.topic, 3, 1)])
        await topics._until_known(admin, {one.topic})
    found = await topics_are(Status.FAIL)
    assert f"{one.topic} has 3 partitions, planned are 8" in found.found
    assert "NT_PARTITIONS" in found.fix
    results = await looked()
    assert results["broker"].finding.status is Status.OK, results["broker"]
    more = load_settings({**env, "NT_REPLICATION_FACTOR": "3"})
    (lone,) = [r for r in await run(broker.checks(more), 10.0) if r.name == "broker"]
    assert lone.finding.status is Status.FAIL
    assert "NT_REPLICATION_FACTOR=1" in lone.finding.fix


async def test_addresses_that_are_none_of_ours() -> None:
    """To listen on: a failure. To reach a venue at: a warning, as only bridges do."""
    for host, said in (("192.0.2.1", "192.0.2.1"), ("no.such.host.invalid", "no such address")):
        found = await look_at_port(load_settings({"NT_BIND_HOST": host}), "worker")
        assert found.status is Status.FAIL
        assert said in found.found
        assert "NT_BIND_HOST" in found.fix
    root = "no.such.host.invalid"
    made = load_settings(
        {"SYMBOLS": "binance:BTCUSDT", "NT_BINANCE_STREAM_URL": f"wss://{root}",
         "NT_BINANCE_REST_URL": f"https://{root}"}
    )  # fmt: skip
    results = {r.name: r.finding.status for r in await run(venues.checks(made))}
    assert results == {"venues.binance": Status.WARN, "clock.binance": Status.SKIP}


@pytest.mark.slow
async def test_a_wrong_setting_is_a_matter_of_usage() -> None:
    _, said = await doctor(status=2, NT_REPORT_PERIOD_MS="5")
    assert "NT_REPORT_PERIOD_MS is '5'" in said
