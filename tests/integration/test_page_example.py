"""The page of ``examples/readers/page`` in a real Chromium, served from an origin of its own."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tapeline.stack.ports import free_port
from tests.support import commands
from tests.support.reader_house import WAIT_S, House, child, reading_house, writing
from tests.support.reader_process import serving

playwright = pytest.importorskip("playwright.async_api", reason="no Playwright here")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.redis,
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

FOLDER = commands.ROOT / "examples" / "readers" / "page"
SLACK_S = 1.5
WITHIN_MS = 1000 * WAIT_S


@pytest.fixture
async def origin() -> AsyncIterator[str]:
    """Where the page lies, served as its text says."""
    port = free_port()
    argv = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    async with child(*argv, "--directory", str(FOLDER)) as process:
        assert process.stdout is not None
        said = await asyncio.wait_for(process.stdout.readline(), WAIT_S)
        assert said.startswith(b"Serving HTTP"), said
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[Any, list[str]]]:
    """The page, and what its console says and its scripts throw."""
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = await browser.new_page()
            complaints: list[str] = []
            page.on("console", lambda said: complaints.append(said.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            await page.goto(url)
            yield page, complaints
        finally:
            await browser.close()


async def row(page: Any, symbol: str, state: str, within_s: float = WAIT_S) -> list[str]:
    """Texts of a symbol's row, once it is in this state."""
    selector = f"#of-{symbol} td:last-child:text-is('{state}')"
    await page.wait_for_selector(selector, timeout=1000 * within_s)
    texts: list[str] = await page.locator(f"#of-{symbol} td").all_text_contents()
    return texts


def asking(house_url: str, origin: str, symbols: str = "BTCUSDT,ETHUSDT") -> str:
    return f"{origin}/?reader={house_url.removeprefix('http://')}&symbols={symbols}"


async def test_the_page_shows_spreads_and_ages_and_says_stale(redis_url: str, origin: str) -> None:
    """The writer killed: stale within 2 s. The reader killed: stale by the page's own clock, and
    it comes back without a reload. Its console stays empty until a connection is refused.
    """
    port = str(free_port())
    settings = {"NT_ALLOWED_ORIGINS": origin, "NT_SERVE_PORT": port}
    async with (
        reading_house(redis_url, **settings) as house,
        opened(asking(house.server.url, origin)) as (page, complaints),
    ):
        symbol, mid, spread, age, _ = await row(page, "BTCUSDT", "fresh")
        assert (symbol, mid, spread) == ("BTCUSDT", "60000.05", "0.017")
        assert age.endswith(" ms")
        assert (await row(page, "ETHUSDT", "fresh"))[2] == "0.500"
        house.writer.kill()
        await row(page, "BTCUSDT", "stale", 2 + SLACK_S)
        before = await order(page)
        async with writing(redis_url, "w2"):
            await row(page, "BTCUSDT", "fresh")
            assert await order(page) > before
            assert complaints == []
            house.server.process.kill()
            await row(page, "BTCUSDT", "stale", 2 + SLACK_S)
            assert "Not connected" in await page.inner_text("#state")
            async with serving(REDIS_URL=redis_url, **settings):
                await row(page, "BTCUSDT", "fresh")
                assert "Connected to" in await page.inner_text("#state")


async def order(page: Any) -> tuple[int, int]:
    data = json.loads(
        await page.evaluate("JSON.stringify(document.getElementById('of-BTCUSDT').dataset)")
    )
    return int(data["token"]), int(data["seq"])


async def test_a_page_that_is_not_named_is_kept_out_and_says_so(
    redis_url: str, origin: str
) -> None:
    """Any page can open a socket to this machine; which may is the reader's to say."""
    async with (
        reading_house(redis_url) as house,
        opened(asking(house.server.url, origin)) as (page, _),
    ):
        await page.wait_for_selector(
            f"#state:has-text('NT_ALLOWED_ORIGINS names {origin}')", timeout=WITHIN_MS
        )
        assert await page.locator("tbody tr").count() == 0


async def test_a_key_is_asked_for_and_never_in_an_address(redis_url: str, origin: str) -> None:
    """A wrong one is asked for again."""
    settings = {"NT_ALLOWED_ORIGINS": origin, "NT_REQUIRE_KEYS": "always"}
    async with reading_house(redis_url, **settings) as house:
        key = await key_of(house)
        async with opened(asking(house.server.url, origin, "BTCUSDT")) as (page, _):
            sockets: list[str] = []
            page.on("websocket", lambda socket: sockets.append(socket.url))
            await page.wait_for_selector("#key:not([hidden])", timeout=WITHIN_MS)
            await page.fill("#key input", key[:-1] + ("a" if key[-1] != "a" else "b"))
            await page.click("#key button")
            await page.wait_for_selector("#state:has-text('refuses')", timeout=WITHIN_MS)
            await page.fill("#key input", key)
            await page.click("#key button")
            await row(page, "BTCUSDT", "fresh")
            assert sockets
            assert not any(key in url for url in [*sockets, page.url])
            assert await page.input_value("#key input") == ""


async def key_of(house: House) -> str:
    created = await commands.start(
        *("keys", "create", "--name", "page", "--scope", "reports:read", "--json"),
        REDIS_URL=house.redis_url,
    )
    out, err = await asyncio.wait_for(created.communicate(), WAIT_S)
    assert created.returncode == 0, err
    key: str = json.loads(out.splitlines()[-1])["key"]
    return key
