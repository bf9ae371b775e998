"""``tapeline keys`` as a process, and what a reader makes of keys when it starts."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from tests.support import commands
from tests.support.api_keys import issue, revoke
from tests.support.reader_process import START_S, serving
from tests.support.reports import stored

pytestmark = [pytest.mark.redis, pytest.mark.e2e, pytest.mark.slow]

ANYWHERE = "0.0.0.0"


async def run(*arguments: str, **variables: str) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of a command."""
    process = await commands.start(*arguments, **variables)
    out, err = await asyncio.wait_for(process.communicate(), START_S)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def keys(redis_url: str, *arguments: str) -> dict[str, Any]:
    """The JSON that ``tapeline keys`` ends with."""
    status, out, err = await run("keys", *arguments, "--json", REDIS_URL=redis_url)
    assert status == 0, err
    body: dict[str, Any] = json.loads(out.splitlines()[-1])
    return body


async def test_a_key_is_made_used_listed_and_revoked(redis_url: str) -> None:
    """From the command line to a refusal, in one life."""
    async with Redis.from_url(redis_url) as redis:
        await redis.set("report:BTCUSDT", stored(now_ms=time.time_ns() // 1_000_000))
    scopes = ["--scope", "reports:read,status:read", "--scope", "ticks:read"]
    made = await keys(redis_url, "create", "--name", "desk bot", *scopes, "--rate", "7")
    text = made.pop("key")
    assert made["scopes"] == ["reports:read", "ticks:read", "status:read"]
    assert made["rate_per_s"] == 7
    listed = (await keys(redis_url, "list"))["keys"]
    assert listed == [made]
    assert text.split("_", 2)[2] not in json.dumps(listed)
    async with (
        serving(REDIS_URL=redis_url, NT_BIND_HOST=ANYWHERE) as server,
        aiohttp.ClientSession(headers={"X-API-Key": text}) as http,
    ):
        url = f"http://127.0.0.1:{server.port}/get_report?symbol=BTCUSDT"
        async with http.get(url) as answer:
            assert answer.status == 200
            assert answer.headers["RateLimit-Policy"] == '"key";q=14;w=2'
        revoked = await keys(redis_url, "revoke", made["id"])
        revoked_s = time.monotonic()
        assert revoked["revoked_ms"] >= made["created_ms"]
        while True:
            async with http.get(url) as answer:
                if answer.status == 401:
                    break
                assert answer.status in {200, 429}
            assert time.monotonic() - revoked_s < 3
            await asyncio.sleep(0.02)


async def test_what_people_read_has_the_key_alone_on_stdout(redis_url: str) -> None:
    """So that `KEY=$(tapeline keys create ...)` works; once, and never again."""
    made = ["keys", "create", "--name", "a", "--scope", "admin"]
    status, out, err = await run(*made, REDIS_URL=redis_url)
    assert status == 0
    [text] = out.splitlines()
    assert text.startswith("tl_")
    assert "not shown again" in err
    status, out, _ = await run("keys", "list", REDIS_URL=redis_url)
    assert (status, len(out.splitlines())) == (0, 1)
    assert "in force" in out
    assert text not in out
    status, out, _ = await run("keys", "revoke", text.split("_")[1], REDIS_URL=redis_url)
    assert status == 0
    assert "revoked" in out


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["create", "--name", "a", "--scope", "everything"], 2, "--scope is 'everything'"),
        (["create", "--name", "", "--scope", "admin"], 2, "--name"),
        (["create", "--name", "a", "--scope", "admin", "--rate", "0"], 2, "--rate is 0"),
        (["create", "--scope", "admin"], 2, "--name"),
        (["revoke", "nobody"], 1, "no API key 'nobody'"),
    ],
)
async def test_what_is_wrong_is_said_in_a_line(
    redis_url: str, arguments: list[str], status: int, says: str
) -> None:
    found, out, err = await run("keys", *arguments, REDIS_URL=redis_url)
    assert (found, out) == (status, "")
    assert says in err
    assert "Traceback" not in err


async def test_without_redis_it_says_so() -> None:
    status, _, err = await run("keys", "list", REDIS_URL="redis://127.0.0.1:1/0")
    assert status == 1
    assert err.startswith("ERROR: Redis did not answer")
    status, _, err = await run("keys", "list")
    assert status == 2
    assert "REDIS_URL is not set" in err


# --- what a reader makes of it when it starts -----------------------------------------------------


async def test_a_reader_that_others_reach_does_not_start_without_a_key(redis_url: str) -> None:
    """Status 2, and what to do; a revoked key is none."""
    async with Redis.from_url(redis_url) as redis:
        _, key_id = await issue(redis)
        await revoke(redis, key_id)
    status, out, err = await run(
        "serve", REDIS_URL=redis_url, NT_SERVE_PORT="0", NT_BIND_HOST=ANYWHERE
    )
    assert (status, out) == (2, "")
    last = err.splitlines()[-1]
    assert last.startswith("ERROR: NT_BIND_HOST is '0.0.0.0'; expected a loopback address")
    assert "tapeline keys create" in last
    assert "Traceback" not in err


async def test_somebody_else_may_decide_who_reaches_it(redis_url: str) -> None:
    """Said in the log, at each start."""
    async with (
        serving(REDIS_URL=redis_url, NT_BIND_HOST=ANYWHERE, NT_REQUIRE_KEYS="never") as server,
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{server.port}/symbols") as answer,
    ):
        assert answer.status == 200


async def test_keys_may_be_needed_on_loopback_too(redis_url: str) -> None:
    """As behind a proxy on the same machine; it starts without any, and says that it waits."""
    async with (
        serving(REDIS_URL=redis_url, NT_REQUIRE_KEYS="always") as server,
        aiohttp.ClientSession() as http,
    ):
        async with http.get(f"{server.url}/symbols") as answer:
            assert answer.status == 401
        async with http.get(f"{server.url}/ready") as answer:
            assert answer.status == 503
            assert "no API key is in force" in (await answer.json())["reason"]


async def test_without_redis_it_starts_and_lets_nobody_in() -> None:
    """Which keys there are, nobody can tell: the door stays shut, and the process up."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        url = f"redis://127.0.0.1:{held.getsockname()[1]}/0"
        async with (
            serving(REDIS_URL=url, NT_BIND_HOST=ANYWHERE) as server,
            aiohttp.ClientSession() as http,
        ):
            base = f"http://127.0.0.1:{server.port}"
            async with http.get(f"{base}/get_report?symbol=BTCUSDT") as answer:
                assert answer.status == 401
            shown = {"X-API-Key": f"tl_{'a' * 12}_{'A' * 43}"}
            async with http.get(f"{base}/symbols", headers=shown) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            async with http.get(f"{base}/ready") as answer:
                assert answer.status == 503
