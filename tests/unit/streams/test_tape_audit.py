"""What a topic holds, counted from its records: trades that were dead letters among them."""

from __future__ import annotations

from streams.events import Feed, Trade, encode, stamp
from streams.tape_audit import TapeAudit


def trade(trade_id: int, feed: Feed, routing_version: int = 1) -> bytes:
    event = Trade(
        venue="binance",
        symbol="BTCUSDT",
        ts_event_ms=1,
        ts_recv_ms=1,
        px_e=-2,
        sz_e=-5,
        px=1,
        sz=1,
        side="buy",
        event_id=f"binance:BTCUSDT:{trade_id}",
        trade_id=trade_id,
    )
    stamp(event, feed, routing_version)
    return encode(event)


def test_a_trade_that_has_re_entered_fills_its_hole_and_breaks_no_sequence() -> None:
    audit = TapeAudit()
    audit.add(trade(7, Feed(9, 1)))
    audit.add(trade(9, Feed(9, 2)))
    assert (audit.gaps, audit.trades, audit.missing) == (0, 2, 1)
    audit.add(trade(8, Feed(1, 1), routing_version=0))
    audit.add(trade(8, Feed(1, 1), routing_version=0))
    audit.add(trade(10, Feed(9, 3)))
    assert (audit.gaps, audit.trades, audit.missing, audit.duplicates) == (0, 4, 0, 1)


def test_a_hole_of_a_feed_and_a_trade_written_twice_are_counted() -> None:
    audit = TapeAudit()
    audit.add(trade(7, Feed(9, 1)))
    audit.add(trade(7, Feed(9, 3)))
    assert (audit.gaps, audit.trades, audit.duplicates) == (1, 1, 1)
