"""Markets that look like markets, as reports, ticks and trades: what the dashboard's tests write.

Pure: a seed and times in, records out. Sizes rest at their prices for a while, so that a map of
the book has bands in it; trades come in bursts; a gap is put in by hand.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Final

import msgspec

from streams.events import Feed, Trade
from tables.report import (
    Anomaly,
    Best,
    Coverage,
    Depth,
    FlowPart,
    Gaps,
    Health,
    Ingestion,
    LastTrade,
    Liquidity,
    Position,
    Profile,
    Report,
    Source,
    Tick,
    Vacuum,
    VenueBest,
    VenuePart,
    VenuesPart,
    Wall,
    Writer,
    iso_utc,
)

LEVELS: Final = 50
REPORTED: Final = 20
BASES: Final = [
    "BTC",
    "ETH",
    "SOL",
    "XRP",
    "BNB",
    "DOGE",
    "ADA",
    "AVAX",
    "LINK",
    "DOT",
    "LTC",
    "BCH",
    "UNI",
    "ATOM",
    "XLM",
    "NEAR",
    "APT",
    "ARB",
    "OP",
    "FIL",
    "INJ",
    "SUI",
    "SEI",
    "TIA",
    "AAVE",
    "MKR",
    "GRT",
    "RUNE",
    "ALGO",
    "VET",
]
PRICES: Final = (61_250.0, 3_215.0, 148.6, 0.5218, 582.4, 0.1184, 0.3721, 27.31, 11.84, 4.512)


def symbols(count: int) -> list[str]:
    """Names of so many markets."""
    names = [f"{base}USDT" for base in BASES]
    names += [f"X{n:03d}USDT" for n in range(count - len(names))]
    return names[:count]


class Market:
    """One symbol.

    Args:
        symbol: Its name.
        seed: What happens in it.
        node: Who is said to write it.
    """

    def __init__(self, symbol: str, seed: int, node: str) -> None:
        self.symbol, self.node = symbol, node
        self._random = random.Random(f"{symbol}{seed}")
        self._salt = self._random.getrandbits(32)
        number = [*symbols(400), symbol].index(symbol)
        self._price = PRICES[number % len(PRICES)] * (1 + 0.05 * (number // len(PRICES)))
        self._digits = max(1, 5 - math.floor(math.log10(self._price))) - (
            1 if self._price > 1000 else 0
        )
        self.tick = 10.0**-self._digits
        self._mid = round(self._price / self.tick)
        self._drift = 0.0
        self._lean = 0.0
        self._unit = 40_000 / self._price
        self._trade_id = 1000
        self._trades: list[tuple[int, float, float, bool]] = []
        self._by_price: Counter[int] = Counter()
        self._book: tuple[int, list[tuple[float, float]], list[tuple[float, float]]] | None = None
        self.broken = False
        self.gaps = 0
        self._gap_ms: int | None = None
        self._half = self._random.choice((1, 1, 1, 2, 3))

    # --- time passes ---------------------------------------------------------------------------

    def step(self, now_ms: int) -> list[Trade]:
        """A quarter of a second later; the trades of it."""
        rnd = self._random
        self._drift = self._drift * 0.92 + rnd.gauss(0, 0.55)
        self._lean = self._lean * 0.94 + rnd.gauss(0, 0.14) + self._drift * 0.012
        self._mid += round(self._drift + rnd.gauss(0, 0.8))
        rate = 0.8 + 5 * max(0.0, abs(self._drift) - 0.8)
        made = []
        for _ in range(min(12, int(rnd.expovariate(1 / rate)))):
            buy = rnd.random() < 0.5 + max(-0.4, min(0.4, self._drift * 0.14))
            units = self._mid + (self._half if buy else -self._half)
            size = round(self._unit * 0.02 * rnd.lognormvariate(0, 1.1), 5)
            made.append(self._trade(now_ms - rnd.randrange(200), units, size, buy))
        made.sort(key=lambda trade: trade.trade_id or 0)
        self._trades = [one for one in self._trades if one[0] > now_ms - 30_000]
        return made

    def gap(self, now_ms: int) -> None:
        """The venue's sequence breaks."""
        self.broken, self._gap_ms = True, now_ms
        self.gaps += 1

    def mend(self) -> None:
        """A new snapshot has come."""
        self.broken = False

    def _trade(self, at_ms: int, units: int, size: float, buy: bool) -> Trade:
        self._trade_id += 1
        self._trades.append((at_ms, units * self.tick, size, buy))
        self._by_price[units // 5] += round(size * 1e5)
        return Trade(
            venue="binance",
            symbol=self.symbol,
            ts_event_ms=at_ms,
            ts_recv_ms=at_ms,
            v=1,
            feed=Feed(7, self._trade_id),
            px_e=-self._digits,
            sz_e=-5,
            px=units,
            sz=round(size * 1e5),
            side="buy" if buy else "sell",
            event_id=f"binance:{self.symbol}:{self._trade_id}",
            trade_id=self._trade_id,
        )

    # --- what is seen --------------------------------------------------------------------------

    def book(self, now_ms: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        """Bids and asks, best first; the same as long as the time is."""
        if self._book is not None and self._book[0] == now_ms:
            return self._book[1], self._book[2]
        sides = []
        for sign in (-1, 1):
            lean = 1 + max(-0.6, min(0.6, -sign * self._lean))
            sides.append(
                [
                    (
                        self._at(self._mid + sign * (self._half + n)),
                        self._size(self._mid + sign * (self._half + n), n, now_ms) * lean,
                    )
                    for n in range(LEVELS)
                ]
            )
        bids, asks = ([(price, round(size, 5)) for price, size in side] for side in sides)
        self._book = (now_ms, bids, asks)
        return bids, asks

    def _at(self, units: int) -> float:
        return round(units * self.tick, self._digits)

    def _size(self, units: int, level: int, now_ms: int) -> float:
        """What rests at a price: the same for some seconds, then another."""
        life_ms = 4_000 + 26_000 * self._noise(units, 1)
        era = int((now_ms + 60_000 * self._noise(units, 2)) / life_ms)
        size = self._unit * (0.03 + 0.3 * self._noise(units, 3, era) ** 3) * (1 + level / 14)
        if units % 25 == 0:
            size *= 3
        if self._noise(units, 5, era // 3) > 0.965:
            size *= 9
        return size

    def _noise(self, *of: int) -> float:
        return (hash((self._salt, *of)) & 0xFFFFFF) / 0x1000000

    def tick_record(self, now_ms: int, token: int, seq: int) -> Tick:
        """``tick:SYMBOL``."""
        bids, asks = self.book(now_ms)
        last = self._trades[-1] if self._trades else None
        return Tick(
            symbol=self.symbol,
            venue="binance",
            writer_token=token,
            seq=seq,
            offset=seq,
            ts_recv_ms=now_ms - 12,
            last_trade=None
            if last is None
            else LastTrade(
                price=last[1],
                qty=last[2],
                side="buy" if last[3] else "sell",
                trade_id=self._trade_id,
                ts_event_ms=last[0],
                ts_recv_ms=last[0],
            ),
            quote=None,
            book="gap" if self.broken else "ok",
            bids=[] if self.broken else bids,
            asks=[] if self.broken else asks,
            synthetic=True,
        )

    def report(self, now_ms: int, token: int, seq: int, updated_at: int) -> Report:
        """``report:SYMBOL``."""
        bids, asks = self.book(now_ms)
        top_bids, top_asks = bids[:REPORTED], asks[:REPORTED]
        bid, ask = Best(*bids[0]), Best(*asks[0])
        mid = (bid.price + ask.price) / 2
        total_bid = sum(size for _, size in top_bids)
        total_ask = sum(size for _, size in top_asks)
        imbalance = (total_bid - total_ask) / (total_bid + total_ask)
        bought = sum(size for _, _, size, buy in self._trades if buy)
        sold = sum(size for _, _, size, buy in self._trades if not buy)
        recent = [one for one in self._trades if one[0] > now_ms - 10_000]
        position = Position("md.events.v1", self._salt % 64, seq * 7, now_ms)
        found = self._anomalies(now_ms)
        here = VenuePart(
            state="gap" if self.broken else "ok",
            reason="sequence" if self.broken else "",
            consolidated=not self.broken,
            quote="USDT",
            best_bid=bid,
            best_ask=ask,
            age_ms=12,
            gaps=self.gaps,
            synthetic=True,
        )
        spread_bps = 10_000 * (ask.price - bid.price) / mid
        return Report(
            writer=Writer(self.node, token),
            seq=seq,
            updated_at=updated_at,
            symbol=self.symbol,
            venue="binance",
            generated_at=iso_utc(now_ms),
            source=Source(position, position),
            data_age_ms=12 + self._random.randrange(60),
            last_change_age_ms=40,
            ingestion=Ingestion(
                status="ok",
                feed="gap" if self.broken else "connected",
                book="gap" if self.broken else "ok",
                reason="sequence" if self.broken else "",
                feed_token=7,
            ),
            last_price=self._trades[-1][1] if self._trades else None,
            change_24h_pct=round(100 * (mid - self._price * 0.985) / self._price, 2),
            high_24h=round(self._price * 1.02, self._digits),
            low_24h=round(self._price * 0.97, self._digits),
            volume_24h=round(self._unit * 9000, 3),
            best_bid=bid,
            best_ask=ask,
            spread_bps=spread_bps,
            mid_price=mid,
            micro_price=(bid.price * ask.qty + ask.price * bid.qty) / (bid.qty + ask.qty),
            depth=Depth(REPORTED, total_bid, total_ask, imbalance, top_bids, top_asks),
            flow=FlowPart(len(recent) / 10, bought - sold, bought, sold, len(self._trades), 10, 30),
            health=Health(round(92 - 8 * abs(imbalance), 1), 1.0, 1.0, 1 - abs(imbalance), 0.8),
            gaps=Gaps(
                1800, self.gaps, self._gap_ms, {"sequence": self.gaps} if self.gaps else {}, 0, 0
            ),
            coverage=Coverage(1.0, 1.0, 0.42, True, 9120),
            synthetic=True,
            venues=VenuesPart(
                primary="binance",
                quote="USDT",
                quote_mixed=False,
                best_bid=None if self.broken else VenueBest(bid.price, bid.qty, "binance"),
                best_ask=None if self.broken else VenueBest(ask.price, ask.qty, "binance"),
                locked=[],
                crossed=[],
                by_venue={"binance": here},
            ),
            liquidity=Liquidity(self._profile(), self._walls(bids, asks), self._vacuums(asks)),
            anomalies=found,
        )

    def _anomalies(self, now_ms: int) -> list[Anomaly]:
        if self._noise(now_ms // 20_000) < 0.72:
            return []
        return [
            Anomaly(
                type="iceberg",
                severity="medium",
                note=f"6 fills at {self._at(self._mid)}, 3.2x what was visible there",
            )
        ]

    def _walls(
        self, bids: list[tuple[float, float]], asks: list[tuple[float, float]]
    ) -> list[Wall]:
        sizes = sorted(size for _, size in bids + asks)
        limit = 1.5 * sizes[int(0.95 * len(sizes))]
        found = [("bid", level) for level in bids] + [("ask", level) for level in asks]
        return [
            Wall(side, price, size, "high" if size > 2 * limit else "medium")  # type: ignore[arg-type]
            for side, (price, size) in found
            if size > limit
        ]

    def _vacuums(self, asks: list[tuple[float, float]]) -> list[Vacuum]:
        if self._noise(self._mid // 40) < 0.6:
            return []
        return [Vacuum("ask", asks[8][0], asks[13][0], 6, "medium")]

    def _profile(self) -> Profile | None:
        if sum(self._by_price.values()) == 0 or len(self._by_price) < 3:
            return None
        poc, _ = self._by_price.most_common(1)[0]
        total, low, high = sum(self._by_price.values()), poc, poc
        held, least, most = self._by_price[poc], min(self._by_price), max(self._by_price)
        while held < 0.7 * total:
            up, down = self._by_price[high + 1], self._by_price[low - 1]
            if (up >= down and high < most) or low <= least:
                high, held = high + 1, held + up
            else:
                low, held = low - 1, held + down
        step = 5 * self.tick
        return Profile(
            poc=(poc + 0.5) * step,
            vah=(high + 1) * step,
            val=low * step,
            window_sec=1800,
            trade_count=self._trade_id - 1000,
        )


encode_trade: Final = msgspec.json.Encoder().encode
