"""Scripted episodes: something that a detector, or a bridge, must notice.

An episode is a few actions at fixed times from its start. Those of the first group act on one
market's orders, like everybody else's; those of the second on the venue itself. Random choices
come from the episode's own generator, so a market before its first episode is the same market.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from streams.simulator import fitted
from streams.simulator.flow import Market
from streams.simulator.resting import ASK, BID, Order, Side
from tapeline.errors import ConfigError

if TYPE_CHECKING:
    from streams.simulator.exchange import Exchange

WALL_MULTIPLE: Final = 1.5
"""A wall is this multiple of the 95th percentile of level sizes; see `Market.percentile`."""

STEP_MS: Final = 100


@dataclass(slots=True)
class Episode:
    """One run of a script.

    Attributes:
        symbol: None when the whole venue is hit.
        starts_ms, ends_ms: In the venue's time; the end is when all traces are gone.
        params: The script's parameters, defaults filled in.
    """

    name: str
    symbol: str | None
    starts_ms: int
    params: dict[str, float | str]
    ends_ms: int = 0
    rng: random.Random = field(default_factory=random.Random, repr=False)

    def number(self, name: str) -> float:
        """A numeric parameter."""
        return float(self.params[name])

    @property
    def side(self) -> Side:
        """The side it is on."""
        return ASK if self.params["side"] == "ask" else BID

    def as_dict(self) -> dict[str, Any]:
        """What the control API shows."""
        return {
            "name": self.name,
            "symbol": self.symbol,
            "starts_ms": self.starts_ms,
            "ends_ms": self.ends_ms,
            "params": self.params,
        }


def wall(market: Market, episode: Episode) -> None:
    """One level of many times the wall threshold, a few levels behind the best price."""
    side = episode.side
    market.hold()
    px, _ = market.book.levels(side, 5)[-1]
    # New levels in between would push it out of the reported ones.
    between = sorted((px, market.book.best(side) + (1 if side else -1)))
    closed = (side, between[0], between[1])
    market.closed.append(closed)
    lots = round(market.percentile(95) * WALL_MULTIPLE * episode.number("factor"))
    order = market.book.add(Order(side, px, lots))

    def end() -> None:
        market.closed.remove(closed)
        market.book.cancel(order)
        market.release()

    market.at(episode.ends_ms, end)


def vacuum(market: Market, episode: Episode) -> None:
    """The levels next to the best price all become dust, and nobody fills them."""
    side, book = episode.side, market.book
    market.hold()
    prices = [px for px, _ in book.levels(side, int(episode.number("levels")) + 1)][1:]
    dust = max(1, market.percentile(10) // 4)
    closed = (side, min(prices), max(prices))
    market.closed.append(closed)
    standing = []
    for px in prices:
        for order in book.orders_at(side, px):
            book.cancel(order)
        standing.append(book.add(Order(side, px, dust)))

    def end() -> None:
        market.closed.remove(closed)
        for order in standing:
            book.cancel(order)
        market.release()

    market.at(episode.ends_ms, end)


def iceberg(market: Market, episode: Episode) -> None:
    """Fill after fill at the best price, which goes on showing the same size."""
    side, book, rng = episode.side, market.book, episode.rng
    market.hold()
    pinned = market.pinned
    assert pinned is not None  # hold() has set it
    px = pinned[side]
    closed = (side, px, px)
    market.closed.append(closed)
    for order in book.orders_at(side, px):
        book.cancel(order)
    shown = max(20, round(market.percentile(95) * 0.6))
    fills = int(episode.number("fills"))
    berg = book.add(Order(side, px, shown, peak=shown, hidden=shown * fills * 10))

    def fill() -> None:
        berg.peak = round(shown * (1 + rng.uniform(-0.03, 0.03)))
        book.take(side, round(shown * rng.uniform(0.3, 0.5)), px)

    # The first fill waits until a diff has shown the size it is measured against.
    for count in range(fills):
        market.at(episode.starts_ms + 300 + count * episode.number("every_ms"), fill)

    def end() -> None:
        market.closed.remove(closed)
        book.cancel(berg)
        market.release()

    market.at(episode.ends_ms, end)


def spoof(market: Market, episode: Episode) -> None:
    """Large orders far from mid, one after the other, each taken back before it can trade."""
    side, rng = episode.side, episode.rng
    placed: list[Order] = []

    def place() -> None:
        away = market.mid * (episode.number("far_bps") + rng.uniform(0, 5)) / 10_000
        px = max(1, round(market.mid + away if side else market.mid - away))
        while any(order.sz and order.px == px for order in placed[-8:]):
            px += 1 if side else -1
        lots = round(
            market.percentile(95) * WALL_MULTIPLE * episode.number("factor") * rng.uniform(1, 1.3)
        )
        order = Order(side, px, lots)
        placed.append(order)
        market.rest(order, rng.uniform(1000, 1900))

    # The first few come quickly, so that there is something to see within seconds.
    at_ms = float(episode.starts_ms)
    for count in range(int(episode.number("orders"))):
        market.at(at_ms, place)
        at_ms += 150 if count < 5 else episode.number("every_ms")


def flash_crash(market: Market, episode: Episode) -> None:
    """Bids vanish, the spread opens, selling accelerates; then buyers bring the price back."""
    book, spec = market.book, market.spec
    steps = int(episode.number("seconds") * 1000 / STEP_MS)
    back = int(episode.number("recovery_seconds") * 1000 / (2 * STEP_MS))
    before = market.mid
    fall = before * episode.number("fall_bps") / 10_000
    thin = market.depth(BID) // 240
    gap = max(12, round(500 * spec.reach))
    taken_10s = 10 * fitted.TAKERS_PER_S * 0.06 * spec.lots_per_unit * market.pace
    weight = steps * (steps + 1) / 2
    market.wide = True
    market.thinned = [0.95, 0.3]

    def thin_out() -> None:
        for px, sz in book.levels(BID, 40):
            if sz <= thin:
                continue
            for order in book.orders_at(BID, px):
                book.cancel(order)
            market.rest(Order(BID, px, max(1, thin)), 3000)

    def sell(step: int) -> None:
        low = round(before - fall * (step / steps) ** 2)
        lots = max(1, round(taken_10s * episode.number("intensity") * step / weight))
        best = book.best(BID)
        # Whoever catches the knife arrives in the same instant, so the book stays thin.
        caught = best + 1 if best < low and book.spread() > 1 else best
        book.add(Order(BID, caught, lots))
        limit = min(low, caught)
        book.take(BID, sum(sz for px, sz in book.levels(BID, 200) if px >= limit), limit)
        thin_out()
        if step % 5 == 0 and book.spread() > 2 * gap:
            market.follow(ASK, book.best(BID) + gap)

    def turn() -> None:
        market.wide = False
        market.thinned = [0.0, 0.0]
        low = market.mid
        for count in range(1, back + 1):
            target = round(low + (before - low) * 0.7 * count / back)
            market.at(
                episode.starts_ms + (steps + 2 * count) * STEP_MS,
                lambda px=target: buy(px),  # type: ignore[misc]
            )

    def buy(px: int) -> None:
        eaten = sum(sz for level, sz in book.levels(ASK, 200) if level <= px)
        if eaten and market.pinned is None:
            book.take(ASK, eaten, px)
            market.follow(BID, book.best(ASK) - 1)

    thin_out()
    for step in range(1, steps + 1):
        market.at(episode.starts_ms + step * STEP_MS, lambda step=step: sell(step))  # type: ignore[misc]
    market.at(episode.starts_ms + (steps + 1) * STEP_MS, turn)


def _gap(exchange: Exchange, episode: Episode) -> None:
    """Depth payloads are kept back, so the next one does not follow on the one before."""
    exchange.feeds[str(episode.symbol)].swallow += int(episode.number("count"))


def _disconnect(exchange: Exchange, episode: Episode) -> None:
    """All sockets are closed."""
    exchange.order(episode.starts_ms, "close", "disconnect")


def _shutdown(exchange: Exchange, episode: Episode) -> None:
    """``serverShutdown`` is announced; later all sockets that were open then are closed."""
    exchange.order(episode.starts_ms, "shutdown", "")
    exchange.order(episode.ends_ms, "close", "shutdown")


def _refuse(exchange: Exchange, episode: Episode) -> None:
    """REST answers 429 with ``Retry-After``."""
    exchange.refuse_until_ms = episode.ends_ms
    exchange.retry_after_s = int(episode.number("retry_after"))


def _garbage(exchange: Exchange, episode: Episode) -> None:
    """A frame that breaks off in the middle goes to all sockets."""
    exchange.order(episode.starts_ms, "garbage", str(episode.symbol))


@dataclass(frozen=True, slots=True)
class Script:
    """How a kind of episode runs.

    Attributes:
        on_market: Acts on one market's orders.
        on_venue: Acts on the venue.
        needs_symbol: Whether it is about one symbol.
        defaults: Parameters it takes.
        length_ms: How long all of it takes.
    """

    defaults: Mapping[str, float | str]
    length_ms: Callable[[Episode], float]
    on_market: Callable[[Market, Episode], None] | None = None
    on_venue: Callable[[Exchange, Episode], None] | None = None
    needs_symbol: bool = True


def _seconds(episode: Episode) -> float:
    return episode.number("seconds") * 1000


SCRIPTS: Final[Mapping[str, Script]] = MappingProxyType(
    {
        "wall": Script({"side": "bid", "seconds": 20, "factor": 6}, _seconds, wall),
        "vacuum": Script({"side": "ask", "seconds": 20, "levels": 10}, _seconds, vacuum),
        "iceberg": Script(
            {"side": "bid", "fills": 24, "every_ms": 300},
            lambda e: 1000 + e.number("fills") * e.number("every_ms"),
            iceberg,
        ),
        "spoof": Script(
            {"side": "ask", "orders": 16, "every_ms": 900, "far_bps": 15, "factor": 2.5},
            lambda e: 2000 + e.number("orders") * e.number("every_ms"),
            spoof,
        ),
        "flash_crash": Script(
            {"seconds": 12, "recovery_seconds": 8, "fall_bps": 80, "intensity": 30},
            lambda e: 1000 * (e.number("seconds") + e.number("recovery_seconds")) + STEP_MS,
            flash_crash,
        ),
        "gap": Script({"count": 1}, lambda _: 0, on_venue=_gap),
        "disconnect": Script({}, lambda _: 0, on_venue=_disconnect, needs_symbol=False),
        "shutdown": Script({"seconds": 5}, _seconds, on_venue=_shutdown, needs_symbol=False),
        "refuse": Script(
            {"seconds": 5, "retry_after": 1}, _seconds, on_venue=_refuse, needs_symbol=False
        ),
        "garbage": Script({}, lambda _: 0, on_venue=_garbage),
    }
)


def plan(name: str, symbol: str | None, starts_ms: int, params: Mapping[str, object]) -> Episode:
    """An episode with its parameters checked.

    Raises:
        ConfigError: Unknown script or parameter, or a value of the wrong kind.
    """
    script = SCRIPTS.get(name)
    if script is None:
        raise ConfigError("episode", name, "one of " + ", ".join(SCRIPTS))
    if script.needs_symbol and symbol is None:
        raise ConfigError(f"symbol of episode {name}", None, "a listed symbol")
    values: dict[str, float | str] = dict(script.defaults)
    for key, value in params.items():
        if key not in values:
            known = ", ".join(values) or "none"
            raise ConfigError(f"parameter of episode {name}", key, f"out of: {known}")
        if key == "side":
            if value not in ("bid", "ask"):
                raise ConfigError(f"{name}.side", value, "bid or ask")
            values[key] = str(value)
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise ConfigError(f"{name}.{key}", value, "a positive number")
        else:
            values[key] = value
    episode = Episode(name, symbol if script.needs_symbol else None, starts_ms, values)
    episode.ends_ms = starts_ms + round(script.length_ms(episode))
    episode.rng = random.Random(f"{name}:{symbol}:{starts_ms}")
    return episode
