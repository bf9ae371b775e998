"""Users of Redis as deploy/redis/users.acl has them: what each may not do, on a real server."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.imports import ROOT
from tests.support.redis_process import RedisProcess, any_binary, free_port, running_server
from tests.support.secured import USERS, make_users, redis_users

pytestmark = [pytest.mark.redis]

NAMES = {"tapeline-worker", "tapeline-bridge", "tapeline-reader", "tapeline-keys", "tapeline-admin"}
PASSWORDS = {name: f"{name}-password" for name in NAMES}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with running_server(tmp_path_factory.mktemp("redis")) as process:
        yield process


@pytest.fixture
async def users(server: RedisProcess) -> None:
    await make_users(server.url, PASSWORDS)
    async with Redis.from_url(server.url) as redis:
        await redis.flushdb()
        await redis.mset({"report:A": "r", "report:writer:A": "n|i|1", "feed:writer:v:A": "b|i|1"})
        await redis.mset({"nt:node:n": "{}", "nt:bridge:b": "{}", "tick:A": "t", "other": "x"})
        await redis.hset("nt:keys", "id", "hash")
        await redis.xadd("nt:queries:id", {"a": "b"})


def as_user(server: RedisProcess, user: str) -> Redis:
    return Redis.from_url(f"redis://{user}:{PASSWORDS[user]}@127.0.0.1:{server.port}/0")


def test_the_file_has_these_users_and_the_readers_page_the_same_rules() -> None:
    found = redis_users(PASSWORDS)
    assert found.keys() == NAMES
    page = (ROOT / "docs" / "security.md").read_text()
    lines = re.findall(r"^ACL SETUSER (\S+) on >PASSWORD (.+)$", page, re.M)
    assert {user for user, _ in lines} == {"tapeline-reader", "tapeline-keys", "tapeline-admin"}
    for user, rules in lines:
        assert found[user][4:] == rules.split(), user


EVERYBODY_NOT = (
    "FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET *", "ACL LIST", "ACL SETUSER x", "DEBUG OBJECT a",
    "CLIENT KILL ID 1", "CLIENT LIST", "SCRIPT FLUSH", "SHUTDOWN", "REPLICAOF h 1", "MONITOR",
    "SAVE", "GET other", "SET other x", "FUNCTION LIST", "MIGRATE h 1 k 0 1",
)  # fmt: skip


@pytest.mark.parametrize("user", sorted(NAMES))
async def test_nobody_may_administer_nor_touch_what_is_not_ours(
    server: RedisProcess, users: None, user: str
) -> None:
    async with as_user(server, user) as redis:
        for command in EVERYBODY_NOT:
            with pytest.raises(NoPermissionError):
                await redis.execute_command(*command.split())


NOT = {
    "tapeline-worker": (
        "SET feed:writer:v:A x", "DEL feed:writer:token:v:A", "GET nt:bridge:b", "HGETALL nt:keys",
        "HSET nt:keys a b", "XADD nt:queries:id * a b", "PUBLISH other x", "SCAN 0",
        "XADD nt:feed:minutes:v:A * a b",
    ),
    "tapeline-bridge": (
        "SET report:A x", "GET report:A", "DEL report:A", "SET report:writer:A x", "SET tick:A x",
        "GET nt:node:n", "SET nt:node:n x", "HGETALL nt:keys", "PUBLISH report:A x",
        "SUBSCRIBE report:A", "XADD events:A * a b", "SCAN 0",
        "EVAL return(redis.call('SET',KEYS[1],'x')) 1 report:A",
    ),
    "tapeline-reader": (
        "SET report:A x", "DEL report:A", "SET tick:A x", "SET nt:node:n x", "DEL feed:writer:v:A",
        "PUBLISH report:A x", "EVAL return(1) 0", "XADD events:A * a b", "HGETALL nt:keys",
        "XRANGE nt:queries:id - +", "EXPIRE report:A 1",
    ),
    "tapeline-keys": (
        "HSET nt:keys a b", "DEL nt:keys", "GET report:A", "SET report:A x", "DEL nt:queries:id",
        "PUBLISH report:A x",
    ),
    "tapeline-admin": ("GET report:A", "SET report:A x", "XRANGE nt:queries:id - +", "DEL nt:keys"),
}  # fmt: skip


@pytest.mark.parametrize("user", sorted(NOT))
async def test_a_user_may_not_do_another_s_work(
    server: RedisProcess, users: None, user: str
) -> None:
    async with as_user(server, user) as redis:
        for command in NOT[user]:
            # Inside a script the refusal comes as the script's error.
            with pytest.raises(ResponseError, match=r"NOPERM|permission|ACL failure in script"):
                await redis.execute_command(*command.split())


DO = {
    "tapeline-worker": ("SET report:A x", "GET nt:node:n", "PUBLISH report:A x", "INCRBY nt:topic:epoch:t 1"),
    "tapeline-bridge": ("GET feed:writer:v:A", "SET nt:bridge:b x", "XADD nt:feed:minutes:v:A * a b"),
    "tapeline-reader": ("GET report:A", "GET nt:bridge:b", "PTTL report:A"),
    "tapeline-keys": ("HGETALL nt:keys", "XADD nt:queries:id * a b"),
    "tapeline-admin": ("HSET nt:keys a b",),
}  # fmt: skip


@pytest.mark.parametrize("user", sorted(DO))
async def test_a_user_may_do_its_own(server: RedisProcess, users: None, user: str) -> None:
    """Else the refusals above would mean little."""
    async with as_user(server, user) as redis:
        for command in DO[user]:
            await redis.execute_command(*command.split())


async def test_nobody_comes_in_with_a_wrong_password(server: RedisProcess, users: None) -> None:
    url = f"redis://tapeline-reader:wrong@127.0.0.1:{server.port}/0"
    async with Redis.from_url(url) as redis:
        with pytest.raises(AuthenticationError):
            await redis.ping()


def _server_on(file: Path, port: int) -> subprocess.Popen[bytes]:
    binary = any_binary()
    assert binary is not None
    return subprocess.Popen(
        [binary, "--port", str(port), "--bind", "127.0.0.1", "--aclfile", str(file), "--save", ""],
        cwd=file.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_a_server_refuses_the_file_as_it_is(tmp_path: Path, server: RedisProcess) -> None:
    """A password that everybody knows would be worse than none at all."""
    file = tmp_path / "users.acl"
    shutil.copy(USERS, file)
    process = _server_on(file, free_port())
    try:
        out, _ = process.communicate(timeout=4)
    finally:
        process.kill()
        process.wait()
    assert process.returncode not in (0, -9), out
    assert b"ACL" in out


async def test_a_server_takes_the_file_with_hashes_in_it_and_has_no_default_user(
    tmp_path: Path, server: RedisProcess
) -> None:
    """As the page says to make it."""
    text = re.sub(
        r"(user (\S+) on )#\w+",
        lambda m: m[1] + "#" + hashlib.sha256(PASSWORDS[m[2]].encode()).hexdigest(),
        USERS.read_text(),
    )
    file = tmp_path / "users.acl"
    file.write_text(text)
    other = RedisProcess("", tmp_path)
    process = _server_on(file, other.port)
    try:
        async with as_user(other, "tapeline-worker") as redis:
            await _until_up(redis)
        async with Redis.from_url(other.url) as redis:
            with pytest.raises(AuthenticationError):
                await redis.ping()
    finally:
        process.kill()
        process.communicate()


async def _until_up(redis: Redis) -> None:
    async with asyncio.timeout(4):
        while True:
            try:
                assert await redis.ping()
                return
            except AuthenticationError:
                raise
            except RedisConnectionError:
                await asyncio.sleep(0.05)
