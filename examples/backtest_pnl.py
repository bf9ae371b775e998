"""A strategy on a recorded market, and what it would have made. A demonstration, not advice.

    python examples/backtest_pnl.py [RECORDING ...] [--png pnl.png] [--fee-bps 1.0]

Without a recording it trades on the simulated exchange's tape, where there is nothing to be won.
The picture needs matplotlib: pip install 'tapeline[plot]'.

The rule: resting size leans to one side (`depth.imbalance`) and the micro-price leans with it, so
take that side; leave when the lean is gone. Orders are takers' and fill at the best price of the
*next* report, one report period after the signal. What it leaves out makes it look better than
it would be: queues, size beyond the best level, the venue's own delay and outages.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from agents.backtest import Context, Item, Source, run_backtest
from streams.capture.formats import CaptureError
from streams.simulator.tape import simulated_records
from tables.report import Report
from tapeline.errors import TapelineError

ENTER, LEAVE = 0.35, 0.05
SIM_SECONDS = 300


@dataclass
class Curve:
    """What there is to draw, one entry a report."""

    at_ms: list[int] = field(default_factory=list)
    mid: list[float] = field(default_factory=list)
    position: list[float] = field(default_factory=list)
    gross: list[float] = field(default_factory=list)
    net: list[float] = field(default_factory=list)


class ImbalanceTaker:
    """Holds +size, -size or nothing.

    Attributes:
        size: Base units of one position.
        fee_bps: Of the traded value, on each side.
        curve: Marked to mid at each report.
        trades: Times it bought or sold.
    """

    def __init__(self, size: float, fee_bps: float) -> None:
        self.size, self.fee_bps = size, fee_bps
        self.curve = Curve()
        self.trades = 0
        self.position = self.cash = self.fees = 0.0
        self._wanted = 0.0

    def __call__(self, item: Item, context: Context) -> None:
        """One report; events are not looked at."""
        if not isinstance(item, Report):
            return
        bid, ask, mid, depth = item.best_bid, item.best_ask, item.mid_price, item.depth
        if item.ingestion.book != "ok" or not bid or not ask or mid is None or depth is None:
            self._wanted = 0.0  # a book that can't be believed is nothing to hold a position on
            return
        self._trade(self._wanted, bid.price, ask.price)
        self._wanted = self._signal(depth.imbalance, (item.micro_price or mid) - mid)
        gross = self.cash + self.position * mid
        curve = self.curve
        curve.at_ms.append(context.now_ms)
        curve.mid.append(mid)
        curve.position.append(self.position)
        curve.gross.append(gross)
        curve.net.append(gross - self.fees)

    def _signal(self, imbalance: float, lean: float) -> float:
        if abs(imbalance) < LEAVE:
            return 0.0
        if abs(imbalance) > ENTER and imbalance * lean > 0:
            return self.size if imbalance > 0 else -self.size
        return self._wanted

    def _trade(self, wanted: float, bid: float, ask: float) -> None:
        change = wanted - self.position
        if change:
            price = ask if change > 0 else bid
            self.cash -= change * price
            self.fees += abs(change) * price * self.fee_bps / 10_000
            self.position = wanted
            self.trades += 1


def draw(curve: Curve, png: Path, title: str, fee_bps: float) -> None:
    """Mid price with the position held above, profit before and after fees below."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    minutes = [(ms - curve.at_ms[0]) / 60_000 for ms in curve.at_ms]
    figure, (top, below) = plt.subplots(
        2, 1, sharex=True, figsize=(10, 6), height_ratios=(3, 2), layout="constrained"
    )
    top.plot(minutes, curve.mid, color="#1f2937", linewidth=0.9)
    low, high = min(curve.mid), max(curve.mid)
    for held, colour, name in ((1, "#bfe3c8", "long"), (-1, "#f3c9c5", "short")):
        where = [position * held > 0 for position in curve.position]
        top.fill_between(
            minutes, low, high, where=where, step="post", color=colour, linewidth=0, label=name
        )
    top.set_ylabel("mid price")
    top.ticklabel_format(axis="y", useOffset=False)
    top.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    top.set_title(title, loc="left", fontsize=11)
    below.axhline(0, color="#9ca3af", linewidth=0.8)
    below.plot(minutes, curve.gross, color="#2563eb", linewidth=1.2, label="before fees")
    below.plot(
        minutes, curve.net, color="#b91c1c", linewidth=1.2, label=f"after {fee_bps:g} bps a trade"
    )
    below.set_ylabel("profit, quote units")
    below.set_xlabel("minutes of the recording")
    below.legend(loc="lower left", frameon=False)
    for axes in (top, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0)
    figure.savefig(png, dpi=120)
    plt.close(figure)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0, or 1 where there was nothing to trade on."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("recording", nargs="*", type=Path)
    options.add_argument("--symbol", help="the first with a report if not given")
    options.add_argument("--size", type=float, default=0.01, help="base units of a position")
    options.add_argument("--fee-bps", type=float, default=1.0, help="a taker's fee")
    options.add_argument("--png", type=Path, default=Path("pnl.png"))
    args = options.parse_args(argv)
    symbol = args.symbol or (None if args.recording else "BTCUSDT")
    source: Source = args.recording or simulated_records([symbol], seconds=SIM_SECONDS)
    strategy = ImbalanceTaker(args.size, args.fee_bps)
    chosen: list[str] = [symbol] if symbol else []

    def one_symbol(item: Item, context: Context) -> None:
        if not chosen:
            chosen.append(item.symbol)
        if item.symbol == chosen[0]:
            strategy(item, context)

    try:
        outcome = run_backtest(source, one_symbol, kinds=())
    except (CaptureError, TapelineError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    curve = strategy.curve
    if not curve.at_ms:
        print("ERROR: no report with a book: nothing to trade on", file=sys.stderr)
        return 1
    drawn = None
    try:
        tape = "recording" if args.recording else "simulated market"
        title = f"{chosen[0]}, {tape}: imbalance taker of {args.size:g}, a demonstration"
        draw(curve, args.png, title, args.fee_bps)
        drawn = str(args.png)
    except ImportError:
        print("no picture: pip install 'tapeline[plot]'", file=sys.stderr)
    body = {
        "symbol": chosen[0],
        "records": outcome.records,
        "reports": outcome.reports,
        "trades": strategy.trades,
        "gross": round(curve.gross[-1], 4),
        "fees": round(strategy.fees, 4),
        "net": round(curve.net[-1], 4),
        "png": drawn,
    }
    print(json.dumps(body))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
