"""The simulated exchange without sockets or waiting: the records that a bridge would write of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Final

from streams.capture.records import Placed, records_of
from streams.events import Event
from streams.simulator.dialect import Message
from streams.simulator.exchange import Exchange
from streams.simulator.flow import RATE_DEFAULT
from streams.symbols import Listing
from streams.venues.binance.assembler import BinanceAssembler

START_MS: Final = 1_700_000_000_000
CHUNK_MS: Final = 100
BOOK_LEVELS: Final = 1000


def simulated_records(
    symbols: Sequence[str], *, seed: int = 7, seconds: int = 60, rate: float = RATE_DEFAULT
) -> Iterator[Placed]:
    """Records of a made-up market; the same for the same arguments.

    Args:
        symbols: Such as ``BTCUSDT``.
        seed: All that chance depends on, with the symbols.
        seconds: Of event time.
        rate: Book changes a second and symbol.
    """
    assembler = BinanceAssembler([Listing("binance", symbol, symbol) for symbol in symbols])
    exchange = Exchange(symbols, seed=seed, start_ms=START_MS, rate=rate)
    return records_of(assembler, moments(exchange, assembler, seconds))


def moments(
    exchange: Exchange, assembler: BinanceAssembler, seconds: int
) -> Iterator[tuple[int, list[Event]]]:
    """The exchange's frames and answers through an assembler, as fast as it goes.

    Args:
        exchange: Fresh, at `START_MS`.
        assembler: Of its symbols.
        seconds: Of event time.

    Yields:
        (ts_recv_ms, events), also where there are none.
    """
    wanted = set(assembler.stream_path().partition("streams=")[2].split("/"))
    yield START_MS, assembler.connected(START_MS)
    for now_ms in range(START_MS + CHUNK_MS, START_MS + seconds * 1000 + 1, CHUNK_MS):
        for item in exchange.step(now_ms):
            if isinstance(item, Message) and item.stream in wanted:
                frame = f'{{"stream":"{item.stream}","data":{item.data}}}'
                yield item.ts_ms, assembler.receive(frame, item.ts_ms)
        for request in assembler.requests_to_send():
            body = (
                exchange.snapshot(request.venue_symbol, BOOK_LEVELS)
                if request.purpose == "snapshot"
                else json.dumps({"symbols": exchange.listings()})
            )
            yield now_ms, assembler.http_response(request, 200, body.encode(), now_ms)
