"""Users of Redis as `docs/security.md` has them: each may do its work, and nothing else."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from tests.support import commands
from tests.support.api_keys import issue
from tests.support.imports import ROOT
from tests.support.reader_process import serving
from tests.support.redis_process import RedisProcess, running_server
from tests.support.reports import stored

pytestmark = [pytest.mark.redis, pytest.mark.e2e, pytest.mark.slow]

PAGE = ROOT / "docs" / "security.md"


def acl_lines() -> dict[str, list[str]]:
    """By user: the arguments of ``ACL SETUSER`` on the page."""
    found = {}
    for line in re.findall(r"^ACL SETUSER (.+)$", PAGE.read_text(), re.M):
        user, *rules = line.split()
        found[user] = [user, *rules]
    return found


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisProcess]:
    with running_server(tmp_path) as process:
        yield process


def url_of(server: RedisProcess, user: str) -> str:
    return f"redis://{user}:{user}-password@127.0.0.1:{server.port}/0"


@pytest.fixture
async def users(server: RedisProcess) -> set[str]:
    """The users of the page, made in a real server; nobody comes in without a password."""
    async with Redis.from_url(server.url) as redis:
        lines = acl_lines()
        for user, rules in lines.items():
            assert ">PASSWORD" in rules
            own = [f">{user}-password" if rule == ">PASSWORD" else rule for rule in rules]
            await redis.execute_command("ACL", "SETUSER", *own)
        now_ms = time.time_ns() // 1_000_000
        await redis.set("report:BTCUSDT", stored(now_ms=now_ms))
        await redis.set("report:writer:BTCUSDT", "n1|a|7")
        return set(lines)


async def test_a_reader_reads_by_one_user_and_keeps_keys_by_another(
    server: RedisProcess, users: set[str]
) -> None:
    """All it has, from `/get_report` to `/ws`; no command is refused meanwhile."""
    assert users == {"tapeline-reader", "tapeline-keys", "tapeline-admin"}
    async with Redis.from_url(server.url) as redis:
        await redis.execute_command("ACL", "LOG", "RESET")
    admin = url_of(server, "tapeline-admin")
    process = await commands.start(
        *("keys", "create", "--name", "a", "--scope", "reports:read,ticks:read,status:read"),
        REDIS_URL=admin,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err
    key = out.decode().strip()
    async with serving(
        REDIS_READER_URL=url_of(server, "tapeline-reader"),
        REDIS_URL=url_of(server, "tapeline-keys"),
        NT_REQUIRE_KEYS="always",
    ) as reader:
        async with aiohttp.ClientSession(headers={"X-API-Key": key}) as http:
            for path, holds in (
                ("/get_report?symbol=BTCUSDT", "schemaVersion"),
                ("/reports", "BTCUSDT"),
                ("/symbols", '"owner":"n1"'),
                ("/ticks/realtime?symbol=BTCUSDT", "null"),
                ("/status", "workers"),
                ("/api/v1/streams", "streams"),
                ("/ready", '"ready":true'),
                ("/status", '"role":"master"'),
                ("/api/v1/streams", '"streams":[]'),
                ("/queries", "/get_report"),
            ):
                async with http.get(reader.url + path) as answer:
                    body = await answer.text()
                    assert answer.status == 200, (path, body)
                    assert holds in body, path
            async with http.ws_connect(f"{reader.url}/ws") as socket:
                everything = ["reports.fast", "ticks", "book", "status", "trades", "merged"]
                await socket.send_json(
                    {"op": "subscribe", "channels": everything, "symbols": ["BTCUSDT"]}
                )
                kinds: list[str] = []
                while kinds.count("heartbeat") < 2:
                    kinds.append((await socket.receive_json(timeout=20))["type"])
                assert "snapshot" in kinds
        async with Redis.from_url(server.url) as redis:
            refused = await redis.execute_command("ACL", "LOG")
        assert refused == []


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("tapeline-reader", "SET report:BTCUSDT x"),
        ("tapeline-reader", "DEL report:BTCUSDT"),
        ("tapeline-reader", "HGETALL nt:keys"),
        ("tapeline-reader", "GET secret"),
        ("tapeline-reader", "PUBLISH report:BTCUSDT x"),
        ("tapeline-reader", "FLUSHALL"),
        ("tapeline-reader", "EVAL return(1) 0"),
        ("tapeline-keys", "HSET nt:keys a b"),
        ("tapeline-keys", "SET report:BTCUSDT x"),
        ("tapeline-keys", "GET report:BTCUSDT"),
        ("tapeline-keys", "DEL nt:queries:a"),
        ("tapeline-admin", "SET report:BTCUSDT x"),
        ("tapeline-admin", "XRANGE nt:queries:a - +"),
    ],
)
async def test_nobody_may_more_than_its_work(
    server: RedisProcess, users: set[str], user: str, command: str
) -> None:
    async with Redis.from_url(url_of(server, user)) as redis:
        with pytest.raises(NoPermissionError):
            await redis.execute_command(*command.split())


async def test_a_reader_s_user_can_not_issue_itself_a_key(
    server: RedisProcess, users: set[str]
) -> None:
    async with Redis.from_url(url_of(server, "tapeline-keys")) as redis:
        with pytest.raises(NoPermissionError):
            await issue(redis)
