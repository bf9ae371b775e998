"""What pages show is what the public interface says, for the same (token, seq)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest

from tests.support.browsers import Watched
from tests.support.desk_market import symbols
from tests.support.desk_stack import Stack, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SYMBOLS = symbols(20)


@pytest.fixture
def still(stack: Stack) -> Iterator[Stack]:
    """Nothing is written meanwhile, so that page and API are of the same moment."""
    yield stack
    stack.tell("go")


# --- as the page writes numbers ------------------------------------------------------------------


def number(value: float | None, digits: int) -> str:
    if value is None:
        return "–"
    step = Decimal(1).scaleb(-digits)
    text = f"{abs(Decimal(repr(value))).quantize(step, ROUND_HALF_UP):,.{digits}f}"
    return "−" + text if value < 0 and text.strip("0.,") else text


def price(value: float | None) -> str:
    digits = 2 if not value else min(8, max(2, 5 - math.floor(math.log10(abs(value)))))
    return number(value, digits)


def signed(value: float, digits: int, unit: str = "") -> str:
    text = number(value, digits)
    return ("+" if value > 0 and text.strip("0.,") else "") + text + unit


def order(report: dict[str, Any]) -> list[str]:
    return [str(report["writer"]["writerToken"]), str(report["seq"])]


ROW = """symbol => {
  const row = document.querySelector(`tr[data-symbol="${symbol}"]`);
  const texts = Object.fromEntries([...row.querySelectorAll("[data-f]")].map(
    cell => [cell.dataset.f, cell.textContent]));
  return {order: [row.dataset.token, row.dataset.seq], state: row.dataset.state, ...texts};
}"""


def test_the_wall_shows_what_the_api_says_on_twenty_symbols(desk: Watched, still: Stack) -> None:
    desk.go("/")
    desk.wait(f"document.querySelectorAll('tr[data-symbol]').length === {len(SYMBOLS)}")
    still.tell("hold")
    for symbol in SYMBOLS:
        report = still.report(symbol)
        until(
            lambda symbol=symbol, report=report: (  # type: ignore[misc]
                desk.page.evaluate(ROW, symbol)["order"] == order(report)
            ),
            5,
            f"{symbol} is shown as of {order(report)}",
        )
        row = desk.page.evaluate(ROW, symbol)
        assert row["mid"] == price(report["mid_price"])
        assert row["spread"] == number(report["spread_bps"], 2)
        assert row["day"] == signed(report["change_24h_pct"], 2, " %")
        assert row["imbalance"] == signed(report["depth"]["imbalance"], 2)
        assert row["score"] == number(report["health"]["score"], 1)
        assert row["writer"] == report["writer"]["nodeId"]
        assert row["symbol"].startswith(symbol + report["venue"])
        assert row["age"] != "–"


def test_every_field_of_a_report_is_shown_as_it_is(desk: Watched, still: Stack) -> None:
    """All leaves of the JSON, by path; also those of the slow part."""
    desk.go("/s/BTCUSDT")
    desk.wait("document.querySelector('dd[data-path=\"seq\"]')")
    still.tell("hold")
    report = still.report("BTCUSDT")
    desk.wait(f"document.querySelector('dd[data-path=\"seq\"]').textContent === '{report['seq']}'")
    shown = desk.page.locator("dd[data-path]").evaluate_all(
        "all => all.map(one => [one.dataset.path, one.textContent])"
    )
    assert {path: json.loads(text) for path, text in shown} == dict(_leaves(report))
    assert len(shown) > 80


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict) or (not value and prefix):
        yield prefix, value
        return
    for key, part in value.items():
        yield from _leaves(part, f"{prefix}.{key}" if prefix else key)


def test_what_canvases_drew_is_the_book_of_the_api(desk: Watched, still: Stack) -> None:
    desk.go("/s/ETHUSDT")
    desk.wait("window.__probe.heatmap?.columns > 6 && window.__probe.heatmap.bubbles > 0")
    before, seq = _pixels(desk), desk.probe("report('ETHUSDT').seq")
    desk.wait(f"window.__probe.report('ETHUSDT').seq > {seq + 2}", 5)
    still.tell("hold")
    report = still.report("ETHUSDT")
    tick = json.loads(_tick(still, "ETHUSDT"))
    desk.wait(f"window.__probe.report('ETHUSDT').seq === {report['seq']}")
    desk.wait(f"window.__probe.heatmap.bestBid === {tick['bids'][0][0]!r}")
    map_ = desk.probe("heatmap")
    assert (map_["bestBid"], map_["bestAsk"]) == (tick["bids"][0][0], tick["asks"][0][0])
    assert map_["bestBidY"] > map_["bestAskY"], "a lower price is lower on the map"
    assert map_["hatched"] == []
    assert map_["cells"] >= 40 * map_["columns"]
    shown = [
        level for level in tick["bids"] + tick["asks"] if map_["low"] < level[0] < map_["high"]
    ]
    largest = max(size for _, size in shown)
    assert map_["maxCell"]["size"] >= largest * (1 - 1e-6), "sizes are kept as 32-bit floats"
    profile = report["liquidity"]["volume_profile"]
    assert {name: mark["price"] for name, mark in map_["marks"].items()} == {
        name: profile[name] for name in ("POC", "VAH", "VAL")
    }
    curve = desk.probe("curve")
    assert (curve["bids"], curve["asks"]) == (len(tick["bids"]), len(tick["asks"]))
    assert math.isclose(curve["bidTotal"], sum(size for _, size in tick["bids"]))
    assert math.isclose(curve["askTotal"], sum(size for _, size in tick["asks"]))
    ladder = desk.page.locator(".ladder tr[data-side=bid] .price").all_text_contents()
    assert ladder == [price(level[0]) for level in tick["bids"][:12]]
    assert desk.probe("price.close") == pytest.approx(report["mid_price"], rel=1e-3)
    after = _pixels(desk)
    for name, digest in after.items():
        assert digest != before[name], f"{name} did not change with what it shows"


def _tick(stack: Stack, symbol: str) -> str:
    return stack.store.call("GET", f"tick:{symbol}")


PIXELS = """canvas => {
  const small = document.createElement("canvas");
  small.width = small.height = 96;
  const context = small.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.drawImage(canvas, 0, 0, 96, 96);
  const words = new Uint32Array(context.getImageData(0, 0, 96, 96).data.buffer);
  return {colours: new Set(words).size, url: canvas.toDataURL()};
}"""


def _pixels(desk: Watched) -> dict[str, str]:
    """A digest of each canvas, which must not be of one colour."""
    found = {}
    for name in ("map", "flow", "curve"):
        seen = desk.page.locator(f"canvas.{name}").evaluate(PIXELS)
        assert seen["colours"] > 3, f"{name} is blank"
        found[name] = hashlib.sha256(seen["url"].encode()).hexdigest()
    return found


def test_a_gap_is_a_hatched_column_and_a_chip_and_then_it_is_over(
    desk: Watched, stack: Stack
) -> None:
    """Within a second of the report that tells of it; the column stays when the book is back."""
    chip = "document.querySelector('.head .chip').textContent"
    desk.go("/s/SOLUSDT")
    desk.wait(f"{chip} === 'live' && window.__probe.heatmap?.columns > 2")
    try:
        stack.tell("gap SOLUSDT")
        until(lambda: stack.report("SOLUSDT")["ingestion"]["book"] == "gap", 5)
        desk.wait(f"{chip} === 'gap' && window.__probe.heatmap.hatched.length === 1", 1.0)
        [run] = desk.probe("heatmap.hatched")
        assert run["kind"] == "gap"
        assert "sequence" in run["reason"]
        assert desk.probe("curve.bids") == 0
        assert "gap" in desk.page.locator(".ladder .between").inner_text()
    finally:
        stack.tell("mend SOLUSDT")
    desk.wait(f"{chip} === 'live'", 3.0)
    desk.wait("window.__probe.curve.bids > 0", 3.0)
    [run] = desk.probe("heatmap.hatched")
    at_ms = stack.report("SOLUSDT")["gaps"]["last_at_ms"]
    assert run["from_ms"] <= at_ms + 1000
    assert run["to_ms"] >= at_ms
    desk.go("/")
    desk.wait("document.querySelector('tr[data-symbol=\"SOLUSDT\"]')?.dataset.state === 'live'")
