"""Commands to the bridges as a reader sends them, where they can't be sent."""

from __future__ import annotations

import subprocess
import sys

import pytest

from serving.feeds import ControlUnavailable, UnknownFeed
from tapeline.config import load_settings
from tapeline.reader_kafka import KafkaFeedControl


@pytest.fixture
def control() -> KafkaFeedControl:
    return KafkaFeedControl(load_settings({}, kafka_url="kafka://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("venue", "symbol", "venue_symbol"),
    [
        ("nowhere", "BTCUSDT", ""),
        ("binance", "btc", ""),
        ("binance", "BTC,ETH", ""),
        ("binance", "BTCUSDT", "BTC,kraken:ETH"),
        ("binance", "BTCUSDT", "BTCUSDT>ETHUSDT"),
    ],
)
async def test_what_can_be_no_feed_is_not_sent(
    control: KafkaFeedControl, venue: str, symbol: str, venue_symbol: str
) -> None:
    with pytest.raises(UnknownFeed):
        await control.follow(venue, symbol, venue_symbol)
    if not venue_symbol:
        with pytest.raises(UnknownFeed):
            await control.unfollow(venue, symbol)


async def test_a_broker_that_is_not_there_is_told_as_such(control: KafkaFeedControl) -> None:
    with pytest.raises(ControlUnavailable, match="does not answer"):
        await control.follow("binance", "BTCUSDT", "")
    with pytest.raises(ControlUnavailable, match="does not answer"):
        await control.unfollow("binance", "BTCUSDT")


def test_a_reader_starts_without_kafka_s_client_and_without_numpy() -> None:
    """It is imported with the first command."""
    code = (
        "import sys, serving.run, tapeline.reader_kafka\n"
        "print([m for m in ('aiokafka', 'numpy', 'streams', 'agents') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
