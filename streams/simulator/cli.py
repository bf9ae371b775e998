"""``python -m streams.simulator``: run simulated exchanges until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack

from streams.simulator.episodes import SCRIPTS
from streams.simulator.exchange import FEEDS
from streams.simulator.fault_rules import FAULTS
from streams.simulator.flow import RATE_DEFAULT
from streams.simulator.server import SimulatedExchange
from tapeline.errors import ConfigError

_EPISODE = re.compile(r"(?P<name>[a-z_]+)(@(?P<in_s>\d+(\.\d+)?))?(:(?P<symbol>[A-Z0-9._/-]+))?")


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(
        prog="python -m streams.simulator",
        description="Made-up exchanges on loopback, each on a port of its own, in the dialects of "
        "Binance, Coinbase and Kraken.",
    )
    options.add_argument(
        "--symbols",
        default="BTCUSDT,ETHUSDT",
        help="comma-separated SYMBOL or VENUE:SYMBOL, such as kraken:BTC/USD,coinbase:BTC-USD",
    )
    options.add_argument(
        "--venue", default="binance", choices=sorted(FEEDS), help="of symbols that name none"
    )
    options.add_argument("--seed", type=int, default=7)
    options.add_argument("--host", default="127.0.0.1", help="a loopback address")
    options.add_argument(
        "--port",
        type=int,
        default=0,
        help="the first venue's, the next ones follow; 0 picks free ones",
    )
    options.add_argument(
        "--rate", type=float, default=RATE_DEFAULT, help="book changes a second and symbol"
    )
    options.add_argument(
        "--weight-per-minute", type=int, default=0, help="REST budget; 0 for none, Binance: 6000"
    )
    options.add_argument(
        "--episode",
        action="append",
        default=[],
        metavar="NAME@SECONDS:SYMBOL",
        help="repeatable; NAME out of " + ", ".join(SCRIPTS),
    )
    options.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="RULE",
        help="repeatable; [VENUE=]NAME[@SECONDS|#NUMBER|%%RATE][:SYMBOL[:KIND]][,KEY=VALUE], NAME "
        "out of all, " + ", ".join(FAULTS),
    )
    return options


def venues_of(symbols: str, venue: str) -> dict[str, list[str]]:
    """Symbols by venue, in the order given.

    Args:
        symbols: As the option says.
        venue: Of symbols that name none.

    Raises:
        ConfigError: An unknown venue, or no symbol.
    """
    found: dict[str, list[str]] = {}
    for entry in filter(None, (part.strip() for part in symbols.split(","))):
        named, colon, symbol = entry.rpartition(":")
        at = named if colon else venue
        if at not in FEEDS:
            raise ConfigError("--symbols", entry, "a venue out of " + ", ".join(FEEDS))
        found.setdefault(at, []).append(symbol)
    if not found:
        raise ConfigError("--symbols", symbols, "at least one symbol such as BTCUSDT")
    return found


def parse_episode(text: str) -> tuple[str, float, str | None]:
    """``wall@10:BTCUSDT`` as (name, seconds from the start, symbol).

    Raises:
        ConfigError: It does not parse.
    """
    match = _EPISODE.fullmatch(text)
    if match is None:
        raise ConfigError("--episode", text, "NAME@SECONDS:SYMBOL such as wall@10:BTCUSDT")
    return match["name"], float(match["in_s"] or 0), match["symbol"]


async def serve(args: argparse.Namespace) -> None:
    """Run until a signal.

    Raises:
        ConfigError: An option that is not accepted.
    """
    sims = [
        SimulatedExchange(
            names,
            seed=args.seed,
            port=args.port and args.port + n,
            rate=args.rate,
            host=args.host,
            weight_per_minute=args.weight_per_minute,
            venue=venue,
        )
        for n, (venue, names) in enumerate(venues_of(args.symbols, args.venue).items())
    ]
    for text in args.episode:
        _plan_episode(sims, text)
    for text in args.fault:
        if not [rule for sim in sims for rule in sim.add_faults(text)]:
            here = ", ".join(sim.exchange.venue for sim in sims)
            raise ConfigError("--fault", text, f"a fault of a venue that is simulated: {here}")
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    async with AsyncExitStack() as running:
        for sim in sims:
            await running.enter_async_context(sim)
        urls = {
            sim.exchange.venue: {
                "stream_url": sim.stream_url,
                "rest_url": sim.rest_url,
                "control_url": sim.control_url,
            }
            for sim in sims
        }
        first = urls[sims[0].exchange.venue]
        print(json.dumps({**first, "seed": args.seed, "venues": urls}), flush=True)
        await stop.wait()


def _plan_episode(sims: Sequence[SimulatedExchange], text: str) -> None:
    """At all venues that list its symbol; without one, at all.

    Raises:
        ConfigError: It does not parse, or no venue lists its symbol.
    """
    name, in_s, symbol = parse_episode(text)
    listing = [sim for sim in sims if symbol is None or symbol in sim.exchange.feeds]
    for sim in listing or sims[:1]:
        sim.start_episode(name, symbol, in_s=in_s)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 after a signal, 1 if the port can't be had, 2 for a bad option."""
    args = parser().parse_args(argv)
    try:
        asyncio.run(serve(args))
    except ConfigError as exc:
        print(f"ERROR: {exc}", file=sys.stderr)
        return 2
    except OSError as exc:
        print(f"ERROR: {args.host}:{args.port}: {exc.strerror or exc}", file=sys.stderr)
        return 1
    return 0
