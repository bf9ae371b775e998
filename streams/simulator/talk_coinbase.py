"""One client of the simulated Coinbase Advanced Trade: subscriptions, numbering, heartbeats."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from streams.simulator.dialect import Frame, Message, as_symbols, stream_name
from streams.simulator.dialect_coinbase import DATA_CHANNELS, CoinbaseFeed
from streams.simulator.times import rfc3339_short

HEARTBEAT_MS: Final = 1000
SUBSCRIBE_WITHIN_MS: Final = 5000

_KINDS: Final = {
    "level2": "book", "market_trades": "trade", "ticker": "ticker", "candles": "kline",
}  # fmt: skip


class CoinbaseTalk:
    """A connection; all its frames share one sequence, from 0 on.

    Attributes:
        streams: What it hears, in order of subscription.
        sequence: Number of the next frame.
    """

    def __init__(self, feeds: Mapping[str, CoinbaseFeed], now_ms: int, up_ms: int) -> None:
        """A new connection.

        Args:
            feeds: By product.
            now_ms: When it was opened.
            up_ms: When the venue came up: heartbeats are counted from there.
        """
        self.streams: dict[str, None] = {}
        self.sequence = 0
        self._feeds = feeds
        self._channels: dict[str, dict[str, None]] = {}
        self._opened_ms, self._up_ms = now_ms, up_ms
        self._asked = False
        self._beat_ms = 0

    def opened(self, now_ms: int) -> list[Frame]:
        """Nothing: the venue waits for a first subscription."""
        return []

    def received(self, text: str, now_ms: int) -> list[Frame]:
        """Act on a subscription: the snapshots of its products, then all that is subscribed."""
        try:
            asked = json.loads(text)
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            return [_error("failed to parse message")]
        what, channel = asked.get("type"), asked.get("channel")
        if what not in ("subscribe", "unsubscribe"):
            return [_error(f"unknown message type {what}")]
        if channel == "heartbeats":
            products = ["heartbeats"]
        elif channel in DATA_CHANNELS:
            named = as_symbols(asked.get("product_ids"))
            if named is None:
                return [_error("product_ids must be a list that is not empty")]
            products = [self._product(name) for name in named]
            unknown = [name for name in products if name not in self._feeds]
            if unknown:
                return [_error(f"{unknown[0]} is not a valid product")]
        else:
            return [_error(f"channel {channel} is not supported")]
        channel, self._asked = str(channel), True
        out = []
        for product in products:
            if what == "subscribe":
                out += self._subscribe(channel, product, now_ms)
            else:
                self._unsubscribe(channel, product)
        acked = {name: [*self._channels[name]] for name in sorted(self._channels)}
        body = json.dumps({"subscriptions": acked}, separators=(",", ":"))
        return [*out, self._numbered("subscriptions", body, now_ms)]

    def frames(self, message: Message) -> list[Frame]:
        """A message in its numbered envelope; one that the venue lost leaves a hole."""
        ts_ms, stream, data, symbol, kind = message
        if not data:
            self.skip()
            return []
        channel = DATA_CHANNELS[stream.rpartition("@")[2]]
        return [self._numbered(channel, data, ts_ms, stream, symbol, kind)]

    def beat(self, now_ms: int) -> list[Frame]:
        """One a second, where it is subscribed."""
        if "heartbeats" not in self._channels or now_ms < self._beat_ms + HEARTBEAT_MS:
            return []
        self._beat_ms = now_ms
        up_ms = now_ms - self._up_ms
        time = rfc3339_short(now_ms).replace("T", " ").removesuffix("Z")
        body = (
            f'{{"current_time":"{time} +0000 UTC m=+{up_ms / 1000:.9f}",'
            f'"heartbeat_counter":{up_ms // 1000}}}'
        )
        return [self._numbered("heartbeats", body, now_ms, kind="heartbeat")]

    def skip(self) -> None:
        """The next frame's number is one higher than it should be."""
        self.sequence += 1

    def overdue(self, now_ms: int) -> bool:
        """Whether it has asked for nothing in the first 5 s."""
        return not self._asked and now_ms > self._opened_ms + SUBSCRIBE_WITHIN_MS

    def shutdown(self, ts_ms: int) -> list[Frame]:
        """Nothing: the venue closes unannounced."""
        return []

    def broken(self, symbol: str, ts_ms: int) -> Frame:
        """A frame that breaks off in the middle, numbered as if it were whole."""
        frame = self._numbered("l2_data", f'{{"type":"update","product_id":"{symbol}"', ts_ms)
        return Frame(frame.text.removesuffix("]}"), "!garbage", symbol, "control")

    def state(self) -> dict[str, Any]:
        """What the control API shows of it."""
        return {"streams": list(self.streams), "sequence_num": self.sequence - 1}

    # --- inside ---

    def _product(self, name: str) -> str:
        # A USDC product is the USD one by another name, and answers with its id.
        alias = name.removesuffix("C") if name.endswith("-USDC") else name
        return alias if name not in self._feeds else name

    def _subscribe(self, channel: str, product: str, now_ms: int) -> list[Frame]:
        self._channels.setdefault(channel, {})[product] = None
        if channel == "heartbeats":
            return []
        stream = stream_name(product, channel)
        self.streams[stream] = None
        events = self._feeds[product].snapshot(channel)
        called = DATA_CHANNELS[channel]
        return [self._numbered(called, events, now_ms, stream, product, _KINDS[channel])]

    def _unsubscribe(self, channel: str, product: str) -> None:
        products = self._channels.get(channel, {})
        products.pop(product, None)
        if not products:
            self._channels.pop(channel, None)
        self.streams.pop(stream_name(product, channel), None)

    def _numbered(
        self,
        channel: str,
        event: str,
        ts_ms: int,
        stream: str = "",
        symbol: str = "",
        kind: str = "control",
    ) -> Frame:
        number, self.sequence = self.sequence, self.sequence + 1
        return Frame(
            f'{{"channel":"{channel}","timestamp":"{rfc3339_short(ts_ms)}",'
            f'"sequence_num":{number},"events":[{event}]}}',
            stream,
            symbol,
            kind,
        )


def _error(message: str) -> Frame:
    return Frame(json.dumps({"type": "error", "message": message}, separators=(",", ":")))
