"""One client of the simulated Kraken: websocket v2's requests, their acks, and the heartbeat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from streams.simulator.dialect import Frame, Message, as_symbols, stream_name
from streams.simulator.dialect_kraken import DEPTHS, INTERVALS, KrakenFeed, asset, pair
from streams.simulator.times import rfc3339

HEARTBEAT_MS: Final = 1000
EVENT_TRIGGERS: Final = ("trades", "bbo")
INSTRUMENT: Final = "@instrument"

_KINDS: Final = {"book": "book", "trade": "trade", "ticker": "ticker", "ohlc": "kline"}
_WARNINGS: Final = {
    "instrument": ["tick_size is deprecated, use price_increment"],
    "ohlc": ["timestamp is deprecated, use interval_begin"],
}


class _Refused(Exception):
    """A request is answered with an error."""


class KrakenTalk:
    """A connection to ``/v2``.

    Attributes:
        streams: What it hears, in order of subscription; a symbol's channel has one of them.
    """

    def __init__(self, feeds: Mapping[str, KrakenFeed], connection_id: int) -> None:
        self.streams: dict[str, None] = {}
        self._feeds = feeds
        self._connection_id = connection_id
        self._subscribed: dict[tuple[str, str], str] = {}
        self._beat_ms: int | None = None

    def opened(self, now_ms: int) -> list[Frame]:
        """The status comes first, unasked."""
        return [self._status("online")]

    def received(self, text: str, now_ms: int) -> list[Frame]:
        """Act on a request: one ack, or error, for each symbol, and its snapshot behind it."""
        try:
            asked = json.loads(text)
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            return [self._answer({"error": "Malformed request", "success": False}, now_ms)]
        method = asked.get("method")
        head: dict[str, Any] = {"method": method}
        if isinstance(asked.get("req_id"), int):
            head["req_id"] = asked["req_id"]
        try:
            if method == "ping":
                return [self._answer({**head, "method": "pong"}, now_ms)]
            if method not in ("subscribe", "unsubscribe"):
                raise _Refused("Unsupported event")
            params = asked.get("params")
            if not isinstance(params, dict):
                raise _Refused("Params field must be an object")
            channel = params.get("channel")
            if channel == "instrument":
                return self._instrument(head, params, now_ms)
            if channel not in _KINDS:
                raise _Refused("Unsupported channel")
            symbols = as_symbols(params.get("symbol"))
            if symbols is None:
                raise _Refused("Symbol(s) not found")
        except _Refused as refused:
            return [self._refusal(head, str(refused), "", now_ms)]
        return [
            frame
            for symbol in symbols
            for frame in self._one(head, str(channel), symbol, params, now_ms)
        ]

    def frames(self, message: Message) -> list[Frame]:
        """The same text for all clients; nothing where the venue failed to send."""
        _, stream, data, symbol, kind = message
        return [Frame(data, stream, symbol, kind)]

    def beat(self, now_ms: int) -> list[Frame]:
        """One a second, from the first subscription on."""
        if self._beat_ms is None or now_ms < self._beat_ms + HEARTBEAT_MS:
            return []
        self._beat_ms = now_ms
        return [Frame('{"channel":"heartbeat"}', "", "", "heartbeat")]

    def skip(self) -> None:
        """Nothing: it has no numbers, only checksums."""

    def overdue(self, now_ms: int) -> bool:
        """Never."""
        return False

    def shutdown(self, ts_ms: int) -> list[Frame]:
        """What it says before it goes into maintenance."""
        return [self._status("maintenance")]

    def broken(self, symbol: str, ts_ms: int) -> Frame:
        """A frame that breaks off in the middle."""
        text = f'{{"channel":"book","type":"update","data":[{{"symbol":"{symbol}","bids":['
        return Frame(text, "!garbage", symbol, "control")

    def state(self) -> dict[str, Any]:
        """What the control API shows of it."""
        return {"streams": list(self.streams), "connection_id": self._connection_id}

    # --- inside ---

    def _status(self, system: str) -> Frame:
        return Frame(
            f'{{"channel":"status","type":"update","data":[{{"version":"2.0.10",'
            f'"system":"{system}","api_version":"v2","connection_id":{self._connection_id}}}]}}'
        )

    def _one(
        self, head: dict[str, Any], channel: str, symbol: str, params: dict[str, Any], now_ms: int
    ) -> list[Frame]:
        feed = self._feeds.get(symbol)
        try:
            if feed is None:
                raise _Refused(f"Currency pair not supported {symbol}")
            suffix, options = _subscription(channel, params)
            known = self._subscribed.get((channel, symbol))
            stream = stream_name(symbol, suffix)
            if head["method"] == "unsubscribe":
                if known != stream:
                    raise _Refused("Subscription Not Found")
                del self._subscribed[channel, symbol], self.streams[stream]
                result = {"channel": channel, **options, "symbol": symbol}
                return [self._answer({**head, "result": result, "success": True}, now_ms)]
            if known is not None:
                raise _Refused("Already subscribed")
        except _Refused as refused:
            return [self._refusal(head, str(refused), symbol, now_ms)]
        self._subscribed[channel, symbol] = stream
        self.streams[stream] = None
        snapshot = params.get("snapshot", True) is not False
        result = {"channel": channel, **options, "snapshot": snapshot, "symbol": symbol}
        if channel in _WARNINGS:
            result["warnings"] = _WARNINGS[channel]
        first = _first(feed, channel, options, now_ms)
        out = [self._answer({**head, "result": result, "success": True}, now_ms)]
        self._live(now_ms)
        if snapshot:
            out.append(Frame(first, stream, symbol, _KINDS[channel]))
        return out

    def _instrument(self, head: dict[str, Any], params: dict[str, Any], now_ms: int) -> list[Frame]:
        subscribes = head["method"] == "subscribe"
        if subscribes == (INSTRUMENT in self.streams):
            raise _Refused("Already subscribed" if subscribes else "Subscription Not Found")
        result: dict[str, Any] = {"channel": "instrument"}
        if not subscribes:
            del self.streams[INSTRUMENT]
            return [self._answer({**head, "result": result, "success": True}, now_ms)]
        self.streams[INSTRUMENT] = None
        self._live(now_ms)
        snapshot = params.get("snapshot", True) is not False
        result.update(snapshot=snapshot, warnings=_WARNINGS["instrument"])
        out = [self._answer({**head, "result": result, "success": True}, now_ms)]
        if snapshot:
            specs = [feed.market.spec for feed in self._feeds.values()]
            assets = sorted({name for spec in specs for name in (spec.base, spec.quote)})
            text = (
                '{"channel":"instrument","type":"snapshot","data":{"assets":['
                + ",".join(map(asset, assets))
                + '],"pairs":['
                + ",".join(map(pair, specs))
                + "]}}"
            )
            out.append(Frame(text, INSTRUMENT, "", "instrument"))
        return out

    def _live(self, now_ms: int) -> None:
        if self._beat_ms is None:
            self._beat_ms = now_ms - HEARTBEAT_MS

    def _refusal(self, head: dict[str, Any], error: str, symbol: str, now_ms: int) -> Frame:
        named = {"symbol": symbol} if symbol else {}
        return self._answer({"error": error, **head, "success": False, **named}, now_ms)

    @staticmethod
    def _answer(body: dict[str, Any], now_ms: int) -> Frame:
        stamp = rfc3339(now_ms)
        text = json.dumps({**body, "time_in": stamp, "time_out": stamp}, separators=(",", ":"))
        return Frame(text)


def _subscription(channel: str, params: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The stream's suffix and the options that an ack repeats.

    Raises:
        _Refused: An option that the venue does not have.
    """
    if channel == "book":
        depth = params.get("depth", 10)
        if depth not in DEPTHS:
            raise _Refused("Subscription depth not supported")
        return f"book-{depth}", {"depth": depth}
    if channel == "ohlc":
        interval = params.get("interval", 1)
        if interval not in INTERVALS:
            raise _Refused("Subscription ohlc interval not supported")
        return f"ohlc-{interval}", {"interval": interval}
    if channel == "ticker":
        trigger = params.get("event_trigger", "trades")
        if trigger not in EVENT_TRIGGERS:
            raise _Refused("Event_trigger field must be trades or bbo")
        return f"ticker-{trigger}", {"event_trigger": trigger}
    return "trade", {}


def _first(feed: KrakenFeed, channel: str, options: dict[str, Any], now_ms: int) -> str:
    """The snapshot of a channel; from now on the feed makes what was subscribed."""
    if channel == "book":
        feed.depths.add(options["depth"])
        return feed.book_snapshot(options["depth"])
    if channel == "ohlc":
        return feed.ohlc_snapshot(options["interval"], now_ms)
    return feed.trade_snapshot() if channel == "trade" else feed.ticker_snapshot()
