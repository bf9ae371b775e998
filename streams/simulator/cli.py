"""``python -m streams.simulator``: run the simulated exchange until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import sys
from collections.abc import Sequence

from streams.simulator.episodes import SCRIPTS
from streams.simulator.flow import RATE_DEFAULT
from streams.simulator.server import SimulatedExchange
from tapeline.errors import ConfigError

_EPISODE = re.compile(r"(?P<name>[a-z_]+)(@(?P<in_s>\d+(\.\d+)?))?(:(?P<symbol>[A-Z0-9._-]+))?")


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(
        prog="python -m streams.simulator",
        description="A made-up exchange on loopback, in Binance's dialect.",
    )
    options.add_argument("--symbols", default="BTCUSDT,ETHUSDT", help="comma-separated")
    options.add_argument("--seed", type=int, default=7)
    options.add_argument("--host", default="127.0.0.1", help="a loopback address")
    options.add_argument("--port", type=int, default=0, help="0 picks a free one")
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
    return options


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
    sim = SimulatedExchange(
        [name.strip() for name in args.symbols.split(",") if name.strip()],
        seed=args.seed,
        port=args.port,
        rate=args.rate,
        host=args.host,
        weight_per_minute=args.weight_per_minute,
    )
    for text in args.episode:
        name, in_s, symbol = parse_episode(text)
        sim.start_episode(name, symbol, in_s=in_s)
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    async with sim:
        urls = {
            "stream_url": sim.stream_url,
            "rest_url": sim.rest_url,
            "control_url": sim.control_url,
        }
        print(json.dumps({**urls, "seed": args.seed}), flush=True)
        await stop.wait()


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
