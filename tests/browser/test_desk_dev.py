"""The page over the whole system as `tapeline dev` starts it: exchange, bridge, broker, worker."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import commands
from tests.support.browsers import Watched, watched
from tests.support.desk_stack import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.e2e, pytest.mark.slow(limit_s=120)]

START_S = 60.0
SHOTS = Path(__file__).parents[2] / ".cache" / "screenshots"
STAGES = ("feed", "topic", "workers", "redis", "reader")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Five simulated markets; where its reader is."""
    log = tmp_path_factory.mktemp("dev") / "dev.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            commands.tapeline("dev", "--symbols", "5"),
            env=commands.environment(NT_ENABLE_STREAMS="true"),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            process_group=0,
        )
    try:
        said = re.compile(r"✓ api +(http://\S+)")
        until(lambda: said.search(log.read_text()), START_S, "the reader is up")
        until(lambda: "✓ report" in log.read_text(), START_S, "a report")
        found = said.search(log.read_text())
        assert found is not None
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture
def page(browser: Browser, system: str) -> Iterator[Watched]:
    with watched(browser, system) as seen:
        yield seen
        seen.judge()


def test_real_reports_and_trades_are_on_the_page(page: Watched) -> None:
    """From the venue's frames to the canvas, through every part."""
    page.go("/")
    page.wait("document.querySelectorAll('tr[data-state=live]').length === 5", 30)
    page.go("/s/BTCUSDT")
    page.wait("window.__probe.heatmap?.columns > 6", 20)
    page.wait("window.__probe.heatmap.bubbles > 0 && window.__probe.ladder.bids === 12", 20)
    page.wait("window.__probe.ladder.of === 'book'", 10)
    assert page.page.locator(".tapepanel .quiet").first.inner_text() == "", "a tape, not samples"
    assert page.probe("heatmap.hatched") == []


def test_the_chain_is_whole_and_told_link_by_link(page: Watched) -> None:
    page.go("/status-ui")
    page.wait("window.__probe.status?.symbols === 5", 20)
    good = " && ".join(f"window.__probe.status.stages.{name} === 'ok'" for name in STAGES)
    page.wait(good, 20)
    for name in STAGES:
        figures = page.page.locator(f".stage[data-stage={name}] dd").all_text_contents()
        assert any(text != "–" for text in figures), name
    began = time.monotonic()
    rate = page.page.locator(".stage[data-stage=feed] dd").first
    first = rate.inner_text()
    until(lambda: rate.inner_text() != first or time.monotonic() - began > 8, 10)
    assert rate.inner_text().endswith("/s")
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.page.screenshot(path=SHOTS / "chain-dark-laptop.png")
