"""What a venue's dialect is to the server: feeds that make messages, talks that make frames.

A `Feed` is one market in a venue's words, the same for all clients. A `Talk` is one client's
side of it: what it subscribed, and what is numbered or wrapped for its connection alone. Both
are pure: time enters with each call, texts come out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar, Final, NamedTuple, Protocol

from streams.ladder import Ladder
from streams.simulator.figures import Day
from streams.simulator.flow import LevelChanges, Market
from streams.simulator.listing import E8
from streams.simulator.resting import ASK, BID, Print, Top

DATA_KINDS: Final = ("book", "trade", "ticker", "kline")
"""Kinds of frames about one symbol's market."""


class Message(NamedTuple):
    """One payload for the subscribers of ``stream``, as JSON text.

    Attributes:
        data: Empty for one that the venue makes, but fails to send.
        symbol: As the venue spells it.
        kind: One of `DATA_KINDS`.
    """

    ts_ms: int
    stream: str
    data: str
    symbol: str = ""
    kind: str = ""


class Frame(NamedTuple):
    """What one client is sent.

    Attributes:
        stream: What counts call it; empty for replies.
        symbol: As the venue spells it; empty where it is about none.
        kind: One of `DATA_KINDS`, ``instrument``, ``heartbeat`` or ``control``.
    """

    text: str
    stream: str = ""
    symbol: str = ""
    kind: str = "control"


class Talk(Protocol):
    """One connection in a venue's dialect."""

    @property
    def streams(self) -> Mapping[str, object]:
        """Names of the streams it hears, in order of subscription."""
        ...

    def opened(self, now_ms: int) -> list[Frame]:
        """The socket is open: what the venue says unasked."""
        ...

    def received(self, text: str, now_ms: int) -> list[Frame]:
        """A frame of the client: acts on it, and returns answers and snapshots."""
        ...

    def frames(self, message: Message) -> list[Frame]:
        """A message of a stream it hears, as it goes to this client."""
        ...

    def beat(self, now_ms: int) -> list[Frame]:
        """Heartbeats that are due."""
        ...

    def skip(self) -> None:
        """Leave out one of the connection's own numbers, where it has such."""
        ...

    def overdue(self, now_ms: int) -> bool:
        """Whether the venue would close it, for having asked for nothing in time."""
        ...

    def shutdown(self, ts_ms: int) -> list[Frame]:
        """What the venue says before it closes, if anything."""
        ...

    def broken(self, symbol: str, ts_ms: int) -> Frame:
        """A frame that breaks off in the middle."""
        ...

    def state(self) -> dict[str, Any]:
        """What the control API shows of it."""
        ...


class Feed:
    """A market and all that a venue publishes of it.

    Trades and quotes go out when they happen, level changes on a grid of `GRID_MS` of the
    market's own time. `book` is what was published, which the market itself is ahead of.

    Attributes:
        market: The order flow behind it.
        book: (bids, asks) as the venue's clients can know them.
        version: Number of the last change in ``book``.
        book_ms: When ``book`` last changed.
        made: Payloads produced, by stream suffix; level changes in them as ``levels``.
        swallowed: Book payloads kept back by an episode.
        swallow: How many of the next ones will be kept back.
    """

    GRID_MS: ClassVar[int] = 100

    def __init__(self, market: Market, now_ms: int) -> None:
        self.market = market
        self.symbol = market.spec.symbol
        self.made: Counter[str] = Counter()
        self.swallowed = self.swallow = 0
        self.now_ms = self.book_ms = now_ms
        self.day = Day(market)
        self.version = market.book.update_id
        self.book = _copied(market)
        self._prefix = stream_name(self.symbol, "")
        self._grid_ms = now_ms - now_ms % self.GRID_MS + self.GRID_MS

    # --- what each dialect says in its own words ---

    def px(self, px: int) -> str:
        """A price in ticks, as the venue prints it."""
        raise NotImplementedError

    def sz(self, sz: int) -> str:
        """A size in lots, as the venue prints it."""
        raise NotImplementedError

    def on_print(self, trade: Print, out: list[Message]) -> None:
        """A trade has happened."""

    def on_top(self, top: Top, out: list[Message]) -> None:
        """The best prices or their sizes have changed."""

    def on_news_over(self, out: list[Message]) -> None:
        """That was all for the moment: say what was gathered."""

    def on_grid(self, at_ms: int, changes: LevelChanges | None, out: list[Message]) -> None:
        """A point of the grid: `publish` the changes, and say what is due."""
        raise NotImplementedError

    # --- the same for all ---

    def step(self, now_ms: int) -> list[Message]:
        """All payloads due up to and including ``now_ms``, in the order of their times."""
        out: list[Message] = []
        while self._grid_ms <= now_ms:
            at_ms = self._grid_ms
            # What happens at the very instant of the grid belongs to the next interval.
            self._realtime(at_ms - 0.001, out)
            self.on_grid(at_ms, self.market.level_changes(), out)
            self._grid_ms += self.GRID_MS
        self._realtime(now_ms, out)
        self.now_ms = now_ms
        return out

    def publish(self, at_ms: int, changes: LevelChanges) -> bool:
        """Bring `book` up to date; False if an episode keeps the payload back."""
        self.made["levels"] += len(changes.bids) + len(changes.asks)
        self.book[BID].update(changes.bids)
        self.book[ASK].update(changes.asks)
        self.version, self.book_ms = changes.last_id, at_ms
        if self.swallow:
            self.swallow -= 1
            self.swallowed += 1
            return False
        return True

    def renumber(self, first_id: int) -> None:
        """Book changes are numbered anew; all clients have to begin anew, too."""
        self.market.renumber(first_id)
        self.version = first_id
        self.book = _copied(self.market)

    def whole(self) -> dict[str, Any]:
        """The published book, all levels as printed, best first, and what it holds at."""
        bids, asks = self.book
        return {
            "symbol": self.symbol,
            "version": self.version,
            "ts_ms": self.book_ms,
            "bids": [[self.px(px), self.sz(sz)] for px, sz in bids.highest(len(bids))],
            "asks": [[self.px(px), self.sz(sz)] for px, sz in asks.lowest(len(asks))],
            "synthetic": True,
        }

    def say(self, ts_ms: int, suffix: str, kind: str, data: str, out: list[Message]) -> None:
        """Count a payload and send it to a stream of the symbol."""
        self.made[suffix] += 1
        out.append(Message(ts_ms, self._prefix + suffix, data, self.symbol, kind))

    def _realtime(self, to_ms: float, out: list[Message]) -> None:
        for news in self.market.advance(to_ms):
            if isinstance(news, Print):
                self.on_print(news, out)
            else:
                self.on_top(news, out)
        self.on_news_over(out)


def stream_name(symbol: str, suffix: str) -> str:
    """How a stream is called here, whatever the venue calls it."""
    return f"{symbol.lower()}@{suffix}"


def decimal(value_e8: int, digits: int = 8) -> str:
    """A fixed number of decimals, 0 to 8; what is beyond them is cut off."""
    whole, rest = divmod(abs(value_e8), E8)
    text = f"{'-' if value_e8 < 0 else ''}{whole}.{rest:08d}"
    return text if digits == 8 else text[: len(text) - 8 + digits - (not digits)]


def as_symbols(value: object) -> list[str] | None:
    """A JSON list of texts that is not empty; None for anything else."""
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return value
    return None


def _copied(market: Market) -> tuple[Ladder, Ladder]:
    bids, asks = (Ladder(side.sizes.items()) for side in market.book.sides)
    return bids, asks
