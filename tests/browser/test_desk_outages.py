"""Something is killed: the page says so within two seconds, and goes on by itself afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.browsers import Watched
from tests.support.desk_stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

BANNER_S = 2.0
BACK_S = 15.0
"""A lease has to run out, or a connection to be made again, on a machine that may be busy."""

LIVE = "Object.values(window.__probe.wall?.() ?? {}).length === 20"
AGES = """() => [...document.querySelectorAll('td[data-f="age"]')].map(cell => cell.textContent)"""


@pytest.fixture(autouse=True)
def _all_is_well(stack: Stack) -> None:
    stack.mend()


@pytest.fixture
def wall(desk: Watched) -> Iterator[Watched]:
    """Opened, and all is well on it."""
    desk.go("/")
    desk.wait(f"{LIVE} && window.__probe.banner.length === 0", 20)
    desk.page.evaluate("() => { window.__same = true; }")
    yield desk
    assert desk.page.evaluate("() => window.__same === true"), "it was loaded again"


def told_within(desk: Watched, ident: str, began: float) -> None:
    desk.wait(f"window.__probe.banner.some(one => one.id === '{ident}')", 6)
    took_s = time.monotonic() - began
    assert took_s <= BANNER_S, f"told after {took_s:.2f} s"
    desk.page.wait_for_timeout(80)
    assert ident in desk.banner()


def goes_on(desk: Watched) -> None:
    """No banner, and a row's seq rises."""
    seq = desk.probe("report('BTCUSDT').seq")
    desk.wait(
        f"window.__probe.banner.length === 0 && window.__probe.report('BTCUSDT').seq > {seq}",
        BACK_S,
    )
    desk.wait(
        "[...document.querySelectorAll('tr[data-state]')].every(r => r.dataset.state === 'live')", 5
    )


def ages_count(desk: Watched) -> None:
    """No number without an age, and the ages rise by themselves."""
    before = desk.page.evaluate(AGES)
    assert len(before) == 20
    assert all(text != "–" for text in before)
    mids = desk.page.locator('td[data-f="mid"]').all_text_contents()
    assert all(text != "–" for text in mids), "numbers do not vanish"
    desk.page.wait_for_timeout(1200)
    after = desk.page.evaluate(AGES)
    assert all(text.endswith(" s") for text in after)
    assert all(old != new for old, new in zip(before, after, strict=True))


def test_a_killed_worker(wall: Watched, stack: Stack) -> None:
    began = time.monotonic()
    stack.kill_writer()
    told_within(wall, "writer:w1", began)
    wall.wait("document.querySelectorAll('tr[data-state=stale]').length === 20", 4)
    ages_count(wall)
    stack.start_writer("w2")
    goes_on(wall)
    assert wall.page.locator('td[data-f="writer"]').first.inner_text() == "w2"
    wall.judge()


def test_a_killed_store(wall: Watched, stack: Stack) -> None:
    """Its reports are on disk; what comes after it is never lower."""
    newest = wall.probe("report('BTCUSDT')")
    began = time.monotonic()
    stack.store.kill()
    wall.away = True
    told_within(wall, "redis", began)
    ages_count(wall)
    stack.store.start()
    goes_on(wall)
    after = wall.probe("report('BTCUSDT')")
    assert (after["token"], after["seq"]) > (newest["token"], newest["seq"])
    wall.away = False


def test_a_killed_reader(wall: Watched, stack: Stack) -> None:
    """Chromium writes each refused connection into the console; nothing else may be there."""
    began = time.monotonic()
    wall.away = True
    stack.kill_serve()
    told_within(wall, "hub", began)
    ages_count(wall)
    assert wall.page.locator("#link").inner_text() == "reconnecting"
    stack.start_serve()
    goes_on(wall)
    assert wall.probe("stats().connects") == 2
    assert wall.probe("stats().lower") == 0


def test_a_reader_that_hangs_is_left_for_a_new_connection(wall: Watched, stack: Stack) -> None:
    """No end of a connection tells of it, only that nothing comes."""
    wall.away = True
    began = time.monotonic()
    stack.pause_serve(paused=True)
    try:
        wall.wait("window.__probe.banner.length > 0", 4)
        took_s = time.monotonic() - began
        assert took_s <= BANNER_S + 1.0, f"told after {took_s:.2f} s"
        wall.wait("window.__probe.banner[0].id === 'hub'", 6)
    finally:
        stack.pause_serve(paused=False)
    goes_on(wall)


def test_the_symbol_page_goes_on_too_and_shows_what_it_missed_as_missing(
    desk: Watched, stack: Stack
) -> None:
    desk.go("/s/BTCUSDT")
    desk.wait("window.__probe.heatmap?.columns > 3 && window.__probe.banner.length === 0", 20)
    desk.away = True
    stack.kill_serve()
    desk.wait("window.__probe.heatmap.hatched.length === 1", 5)
    assert desk.page.locator(".head [data-f=age]").inner_text().endswith(" s")
    assert desk.page.locator(".head .mid").inner_text() != "–"
    stack.start_serve()
    desk.wait("window.__probe.banner.length === 0", BACK_S)
    columns = desk.probe("heatmap.columns")
    desk.wait(f"window.__probe.heatmap.columns > {columns}", 5)
    [run] = desk.probe("heatmap.hatched")
    assert run["kind"] == "silent"
    assert run["to_ms"] - run["from_ms"] >= 1000
