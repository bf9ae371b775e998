"""The simulated venue without sockets: all symbols on one clock, and its episodes.

Pure: `Exchange.step` takes the time. The server puts it on the wire; tests and benchmarks call
it directly, as fast as it goes.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from streams.simulator import dialect_binance as binance
from streams.simulator.dialect import Feed, Message
from streams.simulator.dialect_binance import SymbolFeed
from streams.simulator.dialect_coinbase import CoinbaseFeed
from streams.simulator.dialect_kraken import KrakenFeed
from streams.simulator.episodes import SCRIPTS, Episode, plan
from streams.simulator.flow import RATE_DEFAULT, Market
from streams.simulator.listing import spec_for
from tapeline.errors import ConfigError

EPISODES_KEPT = 1000

FEEDS: Final[Mapping[str, type[Feed]]] = MappingProxyType(
    {"binance": SymbolFeed, "coinbase": CoinbaseFeed, "kraken": KrakenFeed}
)
"""The dialects: what each venue's symbols are published by."""


class Order(NamedTuple):
    """What the server must do to its sockets.

    Attributes:
        what: ``close`` all, announce a ``shutdown``, or send ``garbage`` about a symbol.
        detail: Why, or which symbol.
    """

    ts_ms: int
    what: Literal["close", "shutdown", "garbage"]
    detail: str


class Exchange:
    """Markets in several symbols and what the venue sends of them.

    Attributes:
        venue: Whose dialect it speaks.
        feeds: By symbol, in the order given.
        episodes: Planned, running and past; the newest 1,000.
        refuse_until_ms: REST refuses everything before this time.
        retry_after_s: And says to come back after this.
    """

    def __init__(
        self,
        symbols: Iterable[str],
        *,
        seed: int,
        start_ms: int,
        rate: float = RATE_DEFAULT,
        venue: str = "binance",
    ) -> None:
        """List the symbols; the markets open at ``start_ms``.

        Args:
            symbols: What it lists, each once.
            seed: With symbol and start, all that chance depends on.
            start_ms: Milliseconds since the epoch.
            rate: Book changes a second and symbol, in the long run.
            venue: One of `FEEDS`.

        Raises:
            ConfigError: No symbol, one that can't be a symbol, a rate out of range, or an
                unknown venue.
        """
        if venue not in FEEDS:
            raise ConfigError("venue", venue, "one of " + ", ".join(FEEDS))
        names = list(dict.fromkeys(symbols))
        if not names:
            raise ConfigError("symbols", None, "at least one symbol such as BTCUSDT")
        if not 1 <= rate <= 20_000:
            raise ConfigError("rate", rate, "book changes a second and symbol, 1 to 20000")
        self.seed, self.rate, self.start_ms, self.now_ms = seed, rate, start_ms, start_ms
        self.venue = venue
        self.feeds: dict[str, Feed] = {
            name: FEEDS[venue](Market(spec_for(name, venue), seed, start_ms, rate), start_ms)
            for name in names
        }
        self.episodes: list[Episode] = []
        self.refuse_until_ms = 0
        self.retry_after_s = 1
        self._planned: list[tuple[int, int, Episode]] = []
        self._orders: list[tuple[int, int, Order]] = []
        self._count = 0
        self._restarts = 0

    def start(
        self, name: str, symbol: str | None = None, *, at_ms: int | None = None, **params: object
    ) -> Episode:
        """Run an episode at a time, or now.

        Raises:
            ConfigError: Unknown script, symbol or parameter.
        """
        if symbol is not None and symbol not in self.feeds:
            raise ConfigError("symbol", symbol, "one of " + ", ".join(self.feeds))
        starts_ms = self.now_ms if at_ms is None else max(at_ms, self.now_ms)
        episode = plan(name, symbol, starts_ms, params)
        self.episodes = [*self.episodes[-EPISODES_KEPT + 1 :], episode]
        on_market = SCRIPTS[name].on_market
        if on_market is not None:
            market = self.feeds[str(symbol)].market
            market.at(starts_ms, lambda: on_market(market, episode))
        else:
            self._count += 1
            heapq.heappush(self._planned, (starts_ms, self._count, episode))
        return episode

    def order(self, ts_ms: int, what: Literal["close", "shutdown", "garbage"], detail: str) -> None:
        """Have the server do something to its sockets at a time."""
        self._count += 1
        heapq.heappush(self._orders, (ts_ms, self._count, Order(ts_ms, what, detail)))

    def step(self, now_ms: int) -> list[Message | Order]:
        """All that the venue sends up to and including ``now_ms``, in order of time."""
        out: list[Message | Order] = []
        while self._planned and self._planned[0][0] <= now_ms:
            _, _, episode = heapq.heappop(self._planned)
            on_venue = SCRIPTS[episode.name].on_venue
            assert on_venue is not None  # the others are planned by their market
            for feed in self.feeds.values():
                out.extend(feed.step(episode.starts_ms))
            on_venue(self, episode)
        for feed in self.feeds.values():
            out.extend(feed.step(now_ms))
        while self._orders and self._orders[0][0] <= now_ms:
            out.append(heapq.heappop(self._orders)[2])
        out.sort(key=_time)
        self.now_ms = now_ms
        return out

    def restart(self) -> None:
        """Number book changes anew, lower than before. Orders, trades and their ids go on.

        A trade keeps its id for ever, so those are not used again.
        """
        self._restarts += 1
        for name, feed in self.feeds.items():
            rng = random.Random(f"{self.seed}:{name}:restart:{self._restarts}")
            feed.renumber(rng.randrange(1, 10**6))

    def snapshot(self, symbol: str, limit: int, *, old: bool = False) -> str:
        """Body of Binance's ``GET /api/v3/depth``; KeyError for a symbol not listed.

        Args:
            symbol: Of Binance.
            limit: Levels a side.
            old: As it was when the venue came up, with all its levels.
        """
        feed = self.feeds[symbol]
        assert isinstance(feed, SymbolFeed)
        return feed.old_snapshot() if old else feed.snapshot(limit)

    def listings(self, symbols: Iterable[str] | None = None) -> list[dict[str, object]]:
        """Entries of Binance's ``exchangeInfo``; KeyError for a symbol not listed."""
        names = self.feeds if symbols is None else symbols
        return [binance.listing(self.feeds[name].market.spec) for name in names]


def _time(item: Message | Order) -> int:
    return item.ts_ms
