"""What is followed: which venues list a symbol, in which order, in which currency."""

from __future__ import annotations

import pytest

from streams import symbols
from streams.feed_lease import FeedKey
from streams.symbols import Listing, check_quotes, parse_symbols, quote_of, venues_by_symbol
from tapeline.errors import ConfigError
from tests.support.bridge_fakes import FakeScripts

THREE = "binance:BTCUSD,kraken:BTC/USD>BTCUSD,coinbase:BTC-USD>BTCUSD"


@pytest.fixture(autouse=True)
def _three_venues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbols, "VENUES", ("binance", "coinbase", "kraken"))


def test_several_venues_may_list_a_symbol_and_the_first_is_its_primary_one() -> None:
    found = parse_symbols(f"kraken:ETH/USD>ETHUSD,{THREE},coinbase:ETH-USD>ETHUSD")
    assert found[2] == Listing("kraken", "BTC/USD", "BTCUSD")
    assert venues_by_symbol(found) == {
        "ETHUSD": ("kraken", "coinbase"),
        "BTCUSD": ("binance", "kraken", "coinbase"),
    }


def test_the_same_market_is_two_symbols_where_it_is_not_renamed() -> None:
    found = parse_symbols("binance:BTCUSDT,kraken:BTC/USD>BTCUSD,coinbase:BTC-USD>BTCUSD")
    assert venues_by_symbol(found) == {
        "BTCUSDT": ("binance",), "BTCUSD": ("kraken", "coinbase"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("binance:BTCUSDT,binance:BTCUSDT", "each symbol once of a venue; binance has BTCUSDT"),
        ("binance:BTCUSDT>X,binance:ETHUSDT>X", "each symbol once of a venue; binance has X"),
        ("binance:BTCUSDT,binance:BTCUSDT>X", "one symbol for each market; binance:BTCUSDT has"),
        ("nowhere:BTCUSDT", "a venue out of binance, coinbase, kraken"),
        ("kraken:BTC/USD", "VENUE:VENUE_SYMBOL>SYMBOL"),
    ],
)
def test_what_is_not_so_is_named(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse_symbols(text)


def test_currencies_are_not_folded_into_one_symbol_unless_it_is_asked_for_by_name() -> None:
    text = "binance:BTCUSDT>BTCUSD,kraken:BTC/USD>BTCUSD"
    with pytest.raises(ConfigError) as caught:
        parse_symbols(text)
    assert str(caught.value) == (
        "SYMBOLS is 'binance:BTCUSDT>BTCUSD in USDT, kraken:BTC/USD>BTCUSD in USD'; expected one "
        "quote currency in BTCUSD, or BTCUSD among NT_QUOTE_MIXED"
    )
    with pytest.raises(ConfigError, match="among NT_QUOTE_MIXED"):
        parse_symbols(text, quote_mixed="ETHUSD")
    assert len(parse_symbols(text, quote_mixed="ETHUSD, BTCUSD")) == 2


def test_a_currency_that_a_name_does_not_tell_is_not_taken_for_equal() -> None:
    with pytest.raises(ConfigError, match="binance:BNBUSD in an unknown currency"):
        parse_symbols("binance:BNBUSD,kraken:BNB/USD>BNBUSD")
    assert parse_symbols("binance:BNBUSD,kraken:BNB/USD>BNBUSD", quote_mixed="BNBUSD")
    with pytest.raises(ConfigError, match="one quote currency in X, or X among"):
        parse_symbols("binance:WHAT>X,kraken:ODD>X")
    assert parse_symbols("binance:BNBUSD")


def test_a_name_that_is_no_symbol_is_no_symbol_to_mix() -> None:
    with pytest.raises(ConfigError, match="NT_QUOTE_MIXED is 'BTC/USD'"):
        check_quotes((), name="SYMBOLS", quote_mixed="BTC/USD")


@pytest.mark.parametrize(
    ("name", "quote"),
    [
        ("BTC/USD", "USD"),
        ("BTC-USDC", "USDC"),
        ("XBT/eur", "EUR"),
        ("BTCUSDT", "USDT"),
        ("BTCUSDC", "USDC"),
        ("ETHBTC", "BTC"),
        ("BTCUSD", "USD"),
        ("BTCFDUSD", ""),
        ("ARBUSD", ""),
        ("USDT", ""),
        ("/USD", ""),
        ("WHAT", ""),
    ],
)
def test_the_currency_is_read_off_the_venue_s_name(name: str, quote: str) -> None:
    assert quote_of(name) == quote


def test_feeds_of_one_symbol_have_a_lease_for_each_venue() -> None:
    """So each venue's records have a token and a sequence of their own."""
    keys = FakeScripts().keys
    leases = {keys.feed(*FeedKey(one.venue, one.symbol)) for one in parse_symbols(THREE)}
    assert len(leases) == 3
