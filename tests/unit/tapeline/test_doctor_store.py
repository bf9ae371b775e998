"""The doctor's checks of Redis, on real ones that are as they should not be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapeline.config import load_settings
from tapeline.doctor import store
from tapeline.doctor.model import Result, Status, run
from tests.support.redis_process import RedisProcess, running_server
from tests.support.worker import free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with running_server(tmp_path_factory.mktemp("redis"), durable=True) as process:
        yield process


async def looked(url: str, **variables: str) -> dict[str, Result]:
    """All checks of this Redis by name."""
    settings = load_settings({"REDIS_URL": url, **variables})
    return {result.name: result for result in await run(store.checks(settings), 10.0)}


def status_of(results: dict[str, Result]) -> dict[str, Status]:
    return {name: result.finding.status for name, result in results.items()}


async def test_a_redis_as_it_should_be(server: RedisProcess) -> None:
    results = await looked(server.url)
    statuses = status_of(results)
    assert statuses.pop("redis") in (Status.OK, Status.WARN)  # a busy machine answers late
    assert set(statuses.values()) == {Status.OK}, results
    assert "7 scripts" in results["redis.scripts"].finding.found
    assert "master" in results["redis"].finding.found
    assert server.call("DBSIZE") == ":0"


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_policy_that_throws_leases_away(server: RedisProcess, policy: str) -> None:
    """With a limit it fails; without one it may one day."""
    server.call("CONFIG", "SET", "maxmemory-policy", policy)
    try:
        found = (await looked(server.url))["redis.eviction"].finding
        assert found.status is Status.WARN
        server.call("CONFIG", "SET", "maxmemory", "100mb")
        found = (await looked(server.url))["redis.eviction"].finding
        assert found.status is Status.FAIL
        assert policy in found.found
        assert "CONFIG SET maxmemory-policy noeviction" in found.fix
        server.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
        assert (await looked(server.url))["redis.eviction"].finding.status is Status.OK
        used = next(
            line for line in server.call("INFO", "memory").splitlines() if "used_memory:" in line
        )
        server.call("CONFIG", "SET", "maxmemory", str(int(int(used.partition(":")[2]) * 1.1)))
        assert (await looked(server.url))["redis.eviction"].finding.status is Status.WARN
    finally:
        server.call("CONFIG", "SET", "maxmemory", "0")
        server.call("CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_a_redis_that_forgets_is_warned_of(server: RedisProcess) -> None:
    server.call("CONFIG", "SET", "appendonly", "no")
    try:
        found = (await looked(server.url))["redis.persistence"].finding
        assert found.status is Status.WARN
        assert "appendonly yes" in found.fix
    finally:
        server.call("CONFIG", "SET", "appendonly", "yes")


async def test_a_user_who_may_not_load_scripts(server: RedisProcess) -> None:
    """By name, with what to grant; the password is in nothing that is said."""
    server.call("ACL", "SETUSER", "poor", "on", ">hush", "~*", "&*", "+@all", "-script")
    try:
        url = server.url.replace("redis://", "redis://poor:hush@")
        results = await looked(url)
        found = results["redis.scripts"].finding
        assert found.status is Status.FAIL
        assert "script" in found.found
        assert found.fix.startswith("ACL SETUSER poor")
        assert status_of(results)["redis"] is not Status.FAIL
        wrong = await looked(url.replace("hush", "wrong-word"))
        assert status_of(wrong)["redis"] is Status.FAIL
        said = str([result.as_json() for result in (*results.values(), *wrong.values())])
        assert "hush" not in said
        assert "wrong-word" not in said
    finally:
        server.call("ACL", "DELUSER", "poor")


async def test_a_replica_takes_no_writes(server: RedisProcess, tmp_path: Path) -> None:
    with running_server(tmp_path) as replica:
        replica.call("REPLICAOF", "127.0.0.1", str(server.port))
        found = (await looked(replica.url))["redis"].finding
        assert found.status is Status.FAIL
        assert "primary" in found.fix


async def test_nobody_there() -> None:
    """Said once, as a failure; what stands on it is skipped."""
    results = await looked(f"redis://user:hush@127.0.0.1:{free_port()}/0")
    assert status_of(results).pop("redis") is Status.FAIL
    assert {s for name, s in status_of(results).items() if name != "redis"} == {Status.SKIP}
    assert "REDIS_URL" in results["redis"].finding.fix
    assert "hush" not in str([result.as_json() for result in results.values()])
    settings = load_settings({})
    unset = {result.name: result for result in await run(store.checks(settings))}
    assert unset["redis"].finding.found == "REDIS_URL is not set"
    assert status_of(unset)["redis"] is Status.FAIL
    assert status_of(unset)["clock.redis"] is Status.SKIP


@pytest.mark.slow
async def test_one_that_takes_connections_and_says_nothing_ends_in_time(
    server: RedisProcess,
) -> None:
    server.pause()
    try:
        began_s = time.monotonic()
        results = await looked(server.url)
        assert time.monotonic() - began_s < 8
        assert status_of(results)["redis"] is Status.FAIL
    finally:
        server.resume()


@pytest.mark.slow
async def test_one_that_is_slow_is_told_of(server: RedisProcess) -> None:
    """A proxy that holds each answer back for 30 ms: slower than it should be. For 110 ms: leases
    of 400 ms would end before they are renewed.
    """
    for delay_s, expected in ((0.03, Status.WARN), (0.11, Status.FAIL)):
        proxy = await asyncio.start_server(
            lambda r, w, delay_s=delay_s: _held_back(server.port, r, w, delay_s), "127.0.0.1", 0
        )
        try:
            port = proxy.sockets[0].getsockname()[1]
            settings = load_settings(
                {"REDIS_URL": f"redis://127.0.0.1:{port}/0", "NT_LEASE_TTL_MS": "400"}
            )
            (result,) = await run([c for c in store.checks(settings) if c.name == "redis"], 5.0)
            assert result.finding.status is expected, result
        finally:
            proxy.close()
            await proxy.wait_closed()


async def _held_back(
    port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float
) -> None:
    up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)

    async def up() -> None:
        while data := await reader.read(65_536):
            up_writer.write(data)
        up_writer.close()

    async def down() -> None:
        while data := await up_reader.read(65_536):
            await asyncio.sleep(delay_s)
            writer.write(data)
        writer.close()

    await asyncio.gather(up(), down(), return_exceptions=True)


@pytest.mark.parametrize(
    ("ahead_ms", "error_ms", "status"),
    [
        (0, 1, Status.OK),
        (-150, 1, Status.OK),
        (250, 1, Status.WARN),
        (-250, 100, Status.OK),
        (-1200, 10, Status.FAIL),
        (1200, 600, Status.WARN),
    ],
)
def test_a_clock_is_judged_by_what_is_certain(ahead_ms: int, error_ms: int, status: Status) -> None:
    finding = store.judge_clock("Redis", ahead_ms, error_ms)
    assert finding.status is status
    assert ("ahead of" if ahead_ms > 0 else "behind") in finding.found


async def test_a_clock_that_is_wrong_is_found(
    server: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours, here: nobody but root can set Redis'."""
    real = time.time
    monkeypatch.setattr(store.time, "time", lambda: real() - 5)
    found = (await looked(server.url))["clock.redis"].finding
    assert found.status is Status.FAIL
    assert "5000 ms ahead" in found.found or "4999 ms" in found.found or "5001 ms" in found.found
