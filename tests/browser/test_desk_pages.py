"""Samples, keys, status, and what becomes of an error in a page."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.support.browsers import Watched, watched
from tests.support.desk_stack import Stack, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

KEPT = 200
KEY = "tl_desk_0123456789abcdef"


def test_samples_are_paused_stepped_and_shown_as_they_are(desk: Watched) -> None:
    desk.go("/topics")
    desk.page.get_by_label("Symbol", exact=True).fill("ethusdt")
    desk.page.get_by_label("Symbol", exact=True).press("Enter")
    desk.wait("window.__probe.topics().kept > 2")
    shown = desk.page.locator("tbody tr td:nth-child(3)").all_text_contents()
    assert set(shown) == {"ETHUSDT"}
    desk.page.get_by_role("button", name="Pause").click()
    kept = desk.probe("topics().kept")
    desk.wait("window.__probe.topics().waiting > 1")
    assert desk.probe("topics().kept") == kept
    desk.page.get_by_role("button", name="Step").click()
    desk.wait(f"window.__probe.topics().kept === {kept + 1}")
    frame = json.loads(desk.page.locator("pre.code").inner_text().partition("\n…")[0] or "{}")
    assert (frame["type"], frame["symbol"], frame["channel"]) == (
        *("update", "ETHUSDT", "reports.fast"),
    )
    desk.page.get_by_role("button", name="Raw").click()
    desk.wait("!document.querySelector('pre.code').textContent.includes('\\n  ')")
    desk.page.get_by_role("button", name="Go on").click()
    desk.wait("window.__probe.topics().waiting === 0")


@pytest.mark.parametrize("channel", ["ticks", "book", "trades", "reports.slow"])
def test_every_channel_has_samples(desk: Watched, channel: str) -> None:
    """Through the same connection as everything else, and no more of them than are kept."""
    desk.go("/topics")
    desk.page.get_by_label("Channel").select_option(channel)
    desk.page.get_by_label("Symbol", exact=True).fill("BTCUSDT")
    desk.page.get_by_label("Symbol", exact=True).press("Enter")
    desk.wait(
        f"""document.querySelector('pre.code').textContent.includes('"channel": "{channel}"')"""
    )
    assert 0 < desk.probe("topics().kept") <= KEPT


def test_a_symbol_that_can_t_be_one_is_refused_in_words(desk: Watched) -> None:
    desk.go("/topics")
    desk.page.get_by_label("Symbol", exact=True).fill("<b>no</b>")
    desk.page.get_by_label("Symbol", exact=True).press("Enter")
    desk.wait("document.querySelector('.strip').textContent.includes('unknown_symbol_name')")


def test_the_status_page_is_the_api_s_chain(desk: Watched, stack: Stack) -> None:
    desk.go("/status-ui")
    desk.wait("window.__probe.status?.stages.redis === 'ok'")
    stages = [one["stage"] for one in json.loads(stack.get("/status")[1])["chain"]]
    shown = desk.page.locator(".stage").evaluate_all("all => all.map(one => one.dataset.stage)")
    assert shown == stages
    desk.wait("document.querySelectorAll('tr[data-symbol]').length === 20")
    owner = desk.page.locator("tr[data-symbol=BTCUSDT] td:nth-child(3)").inner_text()
    assert owner == stack.report("BTCUSDT")["writer"]["nodeId"]
    desk.page.get_by_label("Filter symbols, owners, states").fill("ETH")
    desk.wait("document.querySelectorAll('tr[data-symbol]').length === 1")
    desk.page.locator(".stage[data-state=down] summary").first.click()
    desk.wait("document.querySelector('.stage details[open] p').textContent.includes('runbooks')")


def test_a_key_is_in_memory_unless_it_is_to_be_kept_and_never_in_an_address(
    browser: Browser, stack: Stack
) -> None:
    """On loopback none is needed; one that is not known is refused, and the page says so."""
    with watched(browser, stack.url) as seen:
        sent: list[str] = []
        seen.page.on(
            "websocket",
            lambda socket: socket.on("framesent", lambda frame: sent.append(str(frame))),
        )
        urls: list[str] = []
        seen.page.on("request", lambda request: urls.append(request.url))
        seen.away = True  # a key that nobody made is refused, which Chromium writes down
        seen.go("/connect")
        stored = "JSON.stringify({...sessionStorage, ...localStorage}) + document.cookie"
        seen.page.get_by_label("Key", exact=True).fill(KEY)
        seen.page.get_by_role("button", name="Use", exact=True).click()
        until(lambda: seen.page.evaluate("1") and any(KEY in one for one in sent), 5, "key sent")
        assert KEY not in seen.page.evaluate(stored)
        assert json.loads(next(one for one in sent if KEY in one))["op"] == "auth"
        seen.page.get_by_label("keep it for this tab").check()
        seen.page.get_by_label("Key", exact=True).fill(KEY)
        seen.page.get_by_role("button", name="Use", exact=True).click()
        assert KEY in seen.page.evaluate("JSON.stringify({...sessionStorage})")
        assert KEY not in seen.page.evaluate("JSON.stringify({...localStorage}) + document.cookie")
        seen.page.get_by_role("button", name="Forget").click()
        assert KEY not in seen.page.evaluate(stored)
        assert not [url for url in urls if KEY in url]
        assert seen.foreign == []
    assert KEY not in stack.serve_log.read_text()


def test_an_error_in_a_page_reaches_the_reader_s_log(browser: Browser, stack: Stack) -> None:
    """Thrown, rejected, and refused by the policy; few of them, whatever happens."""
    with watched(browser, stack.url) as seen:
        seen.go("/s/BTCUSDT")
        seen.page.evaluate(
            "() => { setTimeout(() => { throw new Error('thrown tl_x_secret'); }); }"
        )
        seen.page.evaluate("() => { Promise.reject(new Error('rejected')); }")
        seen.page.evaluate(
            "() => { const image = new Image(); image.src = 'http://192.0.2.1/x.png'; }"
        )
        until(
            lambda: (
                seen.page.evaluate("1")
                and {one["kind"] for one in stack.logged("page.error")}
                >= {"error", "rejection", "csp"}
            ),
            5,
            "all three are logged",
        )
    told = {one["kind"]: one for one in stack.logged("page.error")}
    assert told["error"]["page"] == "/s/BTCUSDT"
    assert "thrown tl_***" in told["error"]["message"]
    assert re.search(r"192\.0\.2\.1", told["csp"]["message"])


def test_a_page_of_what_is_no_symbol_says_so(browser: Browser, stack: Stack) -> None:
    with watched(browser, stack.url) as seen:
        seen.away = True  # 404 is what is asked for here
        seen.go("/s/not%20one")
        assert "can't be a symbol" in seen.page.locator("main").inner_text()
        assert seen.foreign == []


def test_a_symbol_nobody_writes_waits_for_its_first_report(desk: Watched) -> None:
    desk.go("/s/NOSUCHUSDT")
    desk.wait("document.querySelector('.notice')?.textContent.includes('Nobody has written')")
    assert desk.page.locator(".head .chip").inner_text() == "down"


def test_help_is_told_for_a_field(desk: Watched) -> None:
    """From the glossary, which is generated from the report's types and their prose."""
    desk.go("/s/BTCUSDT")
    desk.wait("document.querySelector('dd[data-path=\"micro_price\"]')")
    desk.page.locator("[data-term=micro_price] dt").focus()
    desk.wait("document.querySelector('.help').textContent.includes('Gatheral')")
    desk.page.locator("[data-term='venues.by_venue.binance.consolidated'] dt").focus()
    desk.wait("document.querySelector('.help').textContent.startsWith('venues.by_venue.binance')")
    desk.wait("!document.querySelector('.help').textContent.includes('not in the glossary')")
