"""Addresses, written and read back."""

from __future__ import annotations

import pytest

from streams.venues.binance import urls


def test_a_stream_path_names_its_symbols() -> None:
    path = urls.stream_path(["BTCUSDT", "1INCHUSDT"])
    assert urls.symbols_in_address(urls.STREAM_ROOT + path) == ["BTCUSDT", "1INCHUSDT"]


def test_a_raw_streams_address_names_its_symbol() -> None:
    assert urls.symbols_in_address("wss://stream.binance.com:9443/ws/bnbbtc@depth") == ["BNBBTC"]
    assert urls.symbols_in_address("wss://stream.binance.com:9443/ws") == []


@pytest.mark.parametrize(
    ("url", "request_of"),
    [
        (urls.REST_ROOT + urls.snapshot_path("BTCUSDT"), ("snapshot", "BTCUSDT")),
        ("https://api.binance.us/api/v3/depth?limit=5&symbol=ethusdt", ("snapshot", "ETHUSDT")),
        (urls.REST_ROOT + urls.instrument_path(["BTCUSDT"]), ("instrument", "")),
        (urls.REST_ROOT + urls.instrument_path(["BTCUSDT", "ETHUSDT"]), ("instrument", "")),
        ("https://api.binance.com/api/v3/exchangeInfo", ("instrument", "")),
        ("https://api.binance.com/api/v3/klines?symbol=BTCUSDT", None),
    ],
)
def test_a_rest_address_says_what_it_asked_for(
    url: str, request_of: tuple[str, str] | None
) -> None:
    assert urls.request_of(url) == request_of
