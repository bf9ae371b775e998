"""Pages for everybody: axe, the keyboard, every width, both themes; and pictures to be looked at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browsers import SIZES, THEMES, Watched, watched
from tests.support.desk_stack import Stack

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
SHOTS = Path(__file__).parents[2] / ".cache" / "screenshots"
PAGES = {
    "wall": "/",
    "symbol": "/s/BTCUSDT",
    "status": "/status-ui",
    "samples": "/topics",
    "connect": "/connect",
}
READY = {
    "wall": "document.querySelectorAll('tr[data-symbol]').length === 20",
    "symbol": "window.__probe.heatmap?.columns > 4",
    "status": "window.__probe.status?.stages.reader",
    "samples": "window.__probe.topics?.().kept > 3",
    "connect": "document.querySelectorAll('pre').length > 4",
}
LOUD = {"serious", "critical"}
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(browser: Browser, stack: Stack, name: str, theme: str) -> None:
    """Contrast, names, roles, order: of each page in each theme."""
    with watched(browser, stack.url, theme=theme) as seen:
        seen.go(PAGES[name])
        seen.wait(READY[name], 15)
        seen.page.evaluate(AXE.read_text(encoding="utf-8"))
        found: dict[str, Any] = seen.page.evaluate(
            "() => axe.run(document, {resultTypes: ['violations']})"
        )
        worst = [
            (one["id"], one["help"], [node["html"][:160] for node in one["nodes"][:3]])
            for one in found["violations"]
            if one["impact"] in LOUD
        ]
        assert worst == []
        seen.judge()


def test_axe_finds_nothing_serious_in_a_stale_wall(browser: Browser, stack: Stack) -> None:
    """Grey numbers are still to be read."""
    try:
        with watched(browser, stack.url) as seen:
            seen.go("/")
            seen.wait(READY["wall"], 15)
            stack.tell("hold")
            seen.wait("document.querySelectorAll('tr[data-state=stale]').length === 20", 6)
            seen.page.evaluate(AXE.read_text(encoding="utf-8"))
            found = seen.page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
            assert [one["id"] for one in found["violations"] if one["impact"] in LOUD] == []
    finally:
        stack.tell("go")


def test_the_wall_is_walked_by_keyboard(desk: Watched) -> None:
    """Arrows move, Enter opens, Escape leads back, the slash goes to the search."""
    desk.go("/")
    desk.wait(READY["wall"])
    keys = desk.page.keyboard
    for key in ("ArrowDown", "ArrowDown", "End", "ArrowUp", "Home", "ArrowDown"):
        keys.press(key)
    names = desk.page.locator("a[data-open]").all_text_contents()
    assert desk.page.evaluate("() => document.activeElement.dataset.open") == names[1]
    keys.press("Enter")
    desk.wait(f"document.querySelector('.head h1')?.textContent === '{names[1]}'")
    keys.press("Escape")
    desk.wait("document.querySelector('table.wall')")
    keys.press("/")
    assert desk.page.evaluate("() => document.activeElement.id") == "jump-to"
    keys.type("ethusdt")
    keys.press("Enter")
    desk.wait("location.pathname === '/s/ETHUSDT'")


def test_every_control_is_reached_by_tab_and_can_be_seen_to_be(desk: Watched) -> None:
    desk.go("/connect")
    desk.wait(READY["connect"])
    wanted = desk.page.evaluate(
        "() => [...document.querySelectorAll('a[href], button, input, select, pre[tabindex]')]"
        ".filter(one => one.offsetParent).length"
    )
    reached: set[int] = set()
    for _ in range(wanted + 6):
        desk.page.keyboard.press("Tab")
        at, outline = desk.page.evaluate(
            "() => { const one = document.activeElement; const all = [...document.querySelectorAll('*')];"
            "return [one === document.body ? -1 : all.indexOf(one), getComputedStyle(one).outlineStyle]; }"
        )
        if at >= 0:
            assert outline != "none"
            reached.add(at)
    assert len(reached) >= wanted


def test_rows_are_sorted_filtered_and_chosen_by_state(desk: Watched) -> None:
    desk.go("/")
    desk.wait(READY["wall"])
    rows = "[...document.querySelectorAll('tr[data-symbol]')].map(row => row.dataset.symbol)"
    desk.page.get_by_role("button", name="Mid", exact=True).click()
    desk.page.get_by_role("button", name="Mid", exact=True).click()
    desk.wait(
        "document.querySelector('th[data-key=mid]').getAttribute('aria-sort') === 'descending'"
    )
    mids = "[...document.querySelectorAll('td[data-f=mid]')].map(one => Number(one.textContent.replaceAll(',', '')))"
    desk.wait(f"{mids}.every((one, n, all) => !n || one <= all[n - 1])")
    desk.page.get_by_label("Filter symbols").fill("eth")
    desk.wait(f"{rows}.join() === 'ETHUSDT'")
    desk.page.get_by_label("Filter symbols").fill("")
    desk.page.locator(".tally[data-state=down]").click()
    desk.wait(f"{rows}.length === 0")
    desk.page.locator(".tally[data-state=down]").click()
    desk.wait(f"{rows}.length === 20")


def test_a_theme_that_was_chosen_stays(desk: Watched) -> None:
    desk.go("/")
    theme = "document.documentElement.dataset.theme"
    desk.wait(f"{theme} === 'dark'")
    desk.page.locator("#theme").click()
    desk.go("/connect")
    desk.wait(f"{theme} === 'light'")


@pytest.mark.slow(limit_s=150)
@pytest.mark.parametrize("name", PAGES)
def test_every_width_and_theme_has_its_picture_and_nothing_sticks_out(
    desk: Watched, name: str
) -> None:
    """One page in all sizes: so a map of some seconds is on each picture."""
    desk.go(PAGES[name])
    desk.wait(READY[name], 15)
    if name == "symbol":
        desk.page.get_by_role("button", name="1 m", exact=True).click()
        desk.wait("window.__probe.heatmap.columns > 60", 45)
    if name == "wall":
        desk.page.wait_for_timeout(12_000)
    SHOTS.mkdir(parents=True, exist_ok=True)
    for theme in THEMES:
        desk.page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        for size, (width, height) in SIZES.items():
            desk.page.set_viewport_size({"width": width, "height": height})
            desk.page.wait_for_timeout(900)
            assert desk.page.evaluate(OVERFLOW) <= 0, f"{name} is wider than {size}"
            path = SHOTS / f"{name}-{theme}-{size}.png"
            desk.page.screenshot(path=path)
            assert path.stat().st_size > 10_000


def test_motion_is_left_out_where_it_is_not_wanted(browser: Browser, stack: Stack) -> None:
    with watched(browser, stack.url, reduced_motion="reduce") as seen:
        seen.go("/")
        seen.page.evaluate(
            "() => { document.getElementById('link').dataset.state = 'connecting'; }"
        )
        style = "getComputedStyle(document.querySelector('#link i')).animationName"
        assert seen.page.evaluate(f"() => {style}") == "none"
