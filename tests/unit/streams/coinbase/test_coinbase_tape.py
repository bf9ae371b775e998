"""Coinbase's captures: who is on them, sockets of their own numbers, and the check of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.capture.check import check
from streams.capture.dialects import dialect_of
from streams.capture.formats import CaptureWriter
from streams.venues.coinbase import urls
from tests.support.coinbase import (
    BOOK,
    NOW_MS,
    ack,
    book,
    candle,
    candles,
    error,
    heartbeat,
    level2,
    product,
    products,
    ticker,
    trade,
    trades,
)

DIALECT = dialect_of("coinbase")
PRODUCTS = urls.REST_ROOT + "/market/products"


def test_a_glance_tells_channel_and_product() -> None:
    assert DIALECT.look(book(0)) == ("l2_data", "BTC-USD")
    assert DIALECT.look(trades(0, trade(1))) == ("market_trades", "BTC-USD")
    assert DIALECT.look(ticker(0)) == ("ticker", "BTC-USD")
    assert DIALECT.look(candles(0, candle(300))) == ("candles", "BTC-USD")
    assert DIALECT.look(heartbeat(0)) == ("heartbeats", "")
    assert DIALECT.look(ack(0, level2=["BTC-USD"])) == ("subscriptions", "")
    assert DIALECT.look(error("no").replace(" ", "")) == ("error", "")
    assert DIALECT.look("rubbish") == ("", "")


def test_replies_are_known_by_address_or_first_key() -> None:
    assert DIALECT.request_of(PRODUCTS) == ("instrument", "")
    assert DIALECT.request_of(urls.REST_ROOT + "/market/product_book?product_id=X") is None
    assert DIALECT.inline_reply(products().decode().replace(" ", "")) == "instrument"
    assert DIALECT.inline_reply(book(0)) is None
    assert DIALECT.symbols_in_address(urls.STREAM_ROOT) == []


def test_each_socket_of_a_tape_has_its_own_numbers(tmp_path: Path) -> None:
    """A second one opens, takes the book over, and the first one closes."""
    path = tmp_path / "tape.gz"
    with CaptureWriter(path) as tape:
        tape.http(PRODUCTS, products(product()).decode(), NOW_MS)
        for conn, at in (("a", 0), ("b", 10)):
            tape.connect(conn, urls.STREAM_ROOT, NOW_MS + at)
            tape.recv(conn, book(0), NOW_MS + at + 1)
            tape.recv(conn, level2(1), NOW_MS + at + 2)
        tape.recv("a", level2(2), NOW_MS + 20)
        tape.close_socket("a", NOW_MS + 21)
        tape.recv("b", level2(2), NOW_MS + 22)
    result = check("coinbase", [path])
    counts = result.counts
    assert (counts.sequence_gaps, counts.resyncs, counts.stale, result.errors) == (0, 0, 1, 0)
    assert result.as_json()["events"]["book_snapshot"] == 2
    assert result.as_json()["events"]["book_delta"] == 3
    assert result.ok


def test_a_book_whose_socket_closes_is_distrusted_though_another_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "tape.gz"
    with CaptureWriter(path) as tape:
        for conn in ("a", "b"):
            tape.connect(conn, urls.STREAM_ROOT, NOW_MS)
        tape.recv("b", heartbeat(0), NOW_MS)
        tape.recv("a", book(0), NOW_MS + 1)
        tape.close_socket("a", NOW_MS + 2)
        tape.recv("b", level2(1), NOW_MS + 3)
    result = check("coinbase", [path])
    assert (result.counts.sequence_gaps, result.counts.resyncs, result.counts.stale) == (0, 1, 1)


def test_a_file_with_a_hole_is_one_resync_and_mute_until_a_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "tape.gz"
    with CaptureWriter(path) as tape:
        tape.connect("a", urls.STREAM_ROOT, NOW_MS)
        for number, wire in enumerate(
            [book(0), level2(1), level2(3), level2(4), book(5), level2(6)]
        ):
            tape.recv("a", wire, NOW_MS + number)
    result = check("coinbase", [path])
    assert (result.counts.sequence_gaps, result.counts.resyncs) == (1, 1)
    assert result.as_json()["events"] == {
        "book_delta": 2,
        "book_snapshot": 2,
        "feed_status": 2,
        "instrument": 1,
    }


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_a_recording_in_pieces_is_one_tape(tmp_path: Path, pieces: int) -> None:
    wires = [book(0, BOOK), *(level2(n) for n in range(1, 12))]
    paths = [tmp_path / f"{n}" for n in range(pieces)]
    each = len(wires) // pieces
    for n, path in enumerate(paths):
        lines = wires[n * each : (n + 1) * each]
        path.write_text("\n".join(f"{(NOW_MS + n) * 1_000_000} {wire}" for wire in lines))
    result = check("coinbase", paths)
    counts = result.counts
    assert (counts.sequence_first, counts.sequence_last, counts.sequence_gaps) == (0, 11, 0)
    assert result.as_json()["events"]["book_delta"] == 11
