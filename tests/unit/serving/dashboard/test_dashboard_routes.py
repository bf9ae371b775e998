"""Pages and files over HTTP, and where pages tell of their errors."""

from __future__ import annotations

import gzip
import json
from urllib.parse import unquote

import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from serving.dashboard import mount
from serving.dashboard.assets import CONTENT_SECURITY_POLICY, Assets
from serving.dashboard.page_errors import BODY_BYTES_MAX, BURST
from tests.support.asgi_client import Answer, Client

ASSETS = Assets()
JSON = [("Content-Type", "application/json")]


class StillClock:
    """Stands, until it is moved."""

    def __init__(self) -> None:
        self.at_ms = 0

    def now_ms(self) -> int:
        return self.at_ms

    def monotonic_ms(self) -> int:
        return self.at_ms


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def client(clock: StillClock) -> Client:
    app = FastAPI()
    mount(app, clock, ASSETS)
    return Client(app)


async def tell(client: Client, body: bytes, headers: list[tuple[str, str]] = JSON) -> Answer:
    return await client.get("/errors", method="POST", headers=headers, body=[body])


@pytest.mark.parametrize("path", ["/", "/s/BTCUSDT", "/status-ui", "/topics", "/connect"])
async def test_every_page_is_the_one_shell_with_its_policy(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status, answer.body) == (200, ASSETS.page.body)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert answer.headers["cache-control"] == "no-cache"
    again = await client.get(path, headers=[("If-None-Match", answer.headers["etag"])])
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("symbol", ["btc usdt", "%3Cscript%3E", "A" * 33, "..", "\x00"])
async def test_a_page_of_no_symbol_is_not_found_and_says_nothing_of_it(
    client: Client, symbol: str
) -> None:
    answer = await client.get(f"/s/{unquote(symbol)}")
    assert answer.status == 404
    assert answer.body == ASSETS.page.body


async def test_a_file_is_kept_for_ever_and_comes_compressed_where_asked(client: Client) -> None:
    for asset in ASSETS:
        path = f"{ASSETS.base}/{asset.name}"
        plain = await client.get(path)
        assert (plain.status, plain.body) == (200, asset.body)
        assert plain.headers["content-type"] == asset.media_type
        assert plain.headers["cache-control"] == "public, max-age=31536000, immutable"
        packed = await client.get(path, headers=[("Accept-Encoding", "gzip, br")])
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(packed.body) == asset.body


@pytest.mark.parametrize(
    "path",
    [
        "/assets/0123456789abcdef/desk.css",
        f"{ASSETS.base}/none.css",
        f"{ASSETS.base}/../assets.py",
        f"{ASSETS.base}/js/../../routes.py",
        f"{ASSETS.base}/",
        f"{ASSETS.base}//etc/passwd",
    ],
)
async def test_no_other_file_is_there(client: Client, path: str) -> None:
    assert (await client.get(path)).status == 404


async def test_an_error_of_a_page_is_one_event_of_the_log(client: Client) -> None:
    with capture_logs() as logs:
        answer = await tell(client, b'{"message":"boom","kind":"error","page":"/s/X"}')
    assert answer.status == 204
    [event] = logs
    assert (event["event"], event["message"], event["page"]) == ("page.error", "boom", "/s/X")


async def test_a_flood_of_them_is_refused_and_counted(client: Client, clock: StillClock) -> None:
    body = b'{"message":"boom"}'
    with capture_logs() as logs:
        statuses = [(await tell(client, body)).status for _ in range(int(BURST) + 5)]
        assert statuses == [204] * int(BURST) + [429] * 5
        clock.at_ms += 2_000
        assert (await tell(client, body)).status == 204
    assert len(logs) == BURST + 1
    assert logs[-1]["refused_before"] == 5


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"message":"a"}', [("Content-Type", "text/plain")], 400),
        (b'{"message":"a"}', [], 400),
        (b"{", JSON, 422),
        (json.dumps({"message": "m" * BODY_BYTES_MAX}).encode(), JSON, 422),
    ],
)
async def test_what_is_no_error_of_a_page_is_refused(
    client: Client, body: bytes, headers: list[tuple[str, str]], status: int
) -> None:
    with capture_logs() as logs:
        answer = await tell(client, body, headers)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert logs == []
