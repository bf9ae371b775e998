"""Debian's Chromium, driven by Playwright: pages that are judged by all they do.

Chromium itself asks the network for things of its own; only what a page does is looked at.
"""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Response, Route

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
]
SIZES = {"phone": (390, 844), "laptop": (1280, 800), "wide": (2560, 1440)}
THEMES = ("dark", "light")
AWAY = ("WebSocket connection", "net::ERR_", "Failed to load resource")
"""What Chromium itself writes into the console while a server is away."""


def unavailable() -> str:
    """Why there is no browser, or ''."""
    if importlib.util.find_spec("playwright") is None:
        return "Playwright is not installed"
    return "" if program() else "no Chromium on this machine"


def program() -> str | None:
    """Where Chromium is."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


@contextmanager
def browser() -> Iterator[Browser]:
    """A Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=program(), args=FLAGS)
        yield made
        made.close()


@dataclass
class Watched:
    """A page, and all that it must not do.

    Attributes:
        page: Playwright's.
        console: Errors and warnings in its console, and what was thrown.
        foreign: Addresses of other machines that it asked for.
        refused: Answers of 400 and above.
        away: Whether the server is away now, so that Chromium's complaints are its right.
    """

    page: Page
    origin: str
    console: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    away: bool = False

    def go(self, path: str) -> None:
        self.page.goto(self.origin + path)
        self.wait("window.__probe && window.__probe.page")

    def probe(self, expression: str) -> Any:
        """A value of what the page exposes: ``probe("heatmap.bestBid")``."""
        return self.page.evaluate(f"() => window.__probe.{expression}")

    def wait(self, expression: str, within_s: float = 10.0) -> None:
        """Wait until an expression of the page is true.

        Asked from outside: Playwright's own wait evaluates text inside the page, which the page's
        policy forbids, as it should.
        """
        deadline_s = time.monotonic() + within_s
        while not self.page.evaluate(f"() => Boolean({expression})"):
            if time.monotonic() > deadline_s:
                raise AssertionError(f"not within {within_s:g} s: {expression}")
            self.page.wait_for_timeout(20)

    def banner(self) -> list[str]:
        """Which troubles are told."""
        rows = self.page.locator("#banner p").evaluate_all("all => all.map(p => p.dataset.id)")
        return [str(row) for row in rows]

    def judge(self) -> None:
        """Fail for what it must not have done."""
        assert self.foreign == []
        assert self.console == []
        assert self.refused == []

    # --- watching ------------------------------------------------------------------------------

    def on_console(self, message: ConsoleMessage) -> None:
        if message.type not in {"error", "warning"}:
            return
        if self.away and any(sign in message.text for sign in AWAY):
            return
        self.console.append(f"{message.type}: {message.text}")

    def on_response(self, response: Response) -> None:
        if response.status >= 400 and not self.away:
            self.refused.append(f"{response.status} {response.url}")

    def on_route(self, route: Route) -> None:
        url = route.request.url
        if url.startswith((self.origin, "data:", "blob:")):
            route.continue_()
        else:
            self.foreign.append(url)
            route.abort()


@contextmanager
def watched(
    made: Browser, origin: str, size: str = "laptop", theme: str = "dark", **more: Any
) -> Iterator[Watched]:
    """A page in a profile of its own; judged by whoever opened it."""
    width, height = SIZES[size]
    context = made.new_context(
        viewport={"width": width, "height": height},
        color_scheme=theme,  # type: ignore[arg-type]
        **more,
    )
    context.set_default_timeout(15_000)
    page = context.new_page()
    seen = Watched(page, origin)
    context.route("**/*", seen.on_route)
    page.on("console", seen.on_console)
    page.on("pageerror", lambda error: seen.console.append(f"thrown: {error}"))
    page.on("response", seen.on_response)
    page.on("websocket", lambda socket: _same_host(seen, socket.url))
    try:
        yield seen
    finally:
        context.close()


def _same_host(seen: Watched, url: str) -> None:
    if not url.startswith(seen.origin.replace("http", "ws", 1)):
        seen.foreign.append(url)
