"""What is asked of the venue, and reading its addresses back."""

from __future__ import annotations

import json

from streams.venues.coinbase import urls


def test_a_new_socket_is_sent_one_channel_to_a_frame_and_signs_of_life_first() -> None:
    frames = [json.loads(text) for text in urls.subscribe_all(["BTC-USD", "ETH-USD"])]
    assert [f["channel"] for f in frames] == [
        "heartbeats", "level2", "market_trades", "ticker", "candles",
    ]  # fmt: skip
    assert all(f["type"] == "subscribe" for f in frames)
    assert "product_ids" not in frames[0]
    assert all(f["product_ids"] == ["BTC-USD", "ETH-USD"] for f in frames[1:])


def test_nothing_followed_is_signs_of_life_alone() -> None:
    """A first subscription is due within 5 s all the same."""
    assert [json.loads(text)["channel"] for text in urls.subscribe_all([])] == ["heartbeats"]


def test_many_products_are_several_frames() -> None:
    names = [f"C{n}-USD" for n in range(urls.FRAME_PRODUCTS_MAX + 1)]
    frames = [json.loads(text) for text in urls.request("subscribe", "level2", names)]
    assert [name for f in frames for name in f["product_ids"]] == names
    assert len(frames) == 2


def test_addresses_about_products_are_known_again() -> None:
    root = urls.REST_ROOT
    assert urls.is_products(root + urls.products_path(["BTC-USD"]))
    assert urls.is_products(root + urls.product_path("BTC-USD"))
    assert urls.is_products(root + "/market/products")
    for path in ("/market/product_book?product_id=BTC-USD", "/market/products/BTC-USD/ticker"):
        assert not urls.is_products(root + path)


def test_only_a_usdc_product_has_two_names() -> None:
    assert urls.wire_names("BTC-USDC") == ("BTC-USDC", "BTC-USD")
    assert urls.wire_names("BTC-USD") == ("BTC-USD",)
    assert urls.wire_names("USDC-EUR") == ("USDC-EUR",)
