"""The venues that are followed: can they be reached from here, and what time is it there?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import aiohttp
import orjson

from streams.symbols import Listing, parse_symbols
from streams.venues.binance import urls as binance
from streams.venues.coinbase import urls as coinbase
from streams.venues.kraken import urls as kraken
from streams.wiring import WIRINGS
from tapeline.config import Settings, mask
from tapeline.doctor.model import Check, Finding, fail, skip, warn
from tapeline.doctor.model import ok as well
from tapeline.doctor.store import judge_clock
from tapeline.errors import ConfigError

ANSWER_S: Final = 2.5
REFUSED: Final = (401, 403, 418, 429, 451)
"""Answers of a venue that does not want this address, or not now."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to look at a venue.

    Attributes:
        stream_path: Of a websocket that these names are followed on.
        time_path: Of its clock, behind its REST root.
        time_ms: Reads the answer.
        error_ms: How far that may be off by itself.
    """

    stream_path: Callable[[list[str]], str]
    time_path: str
    time_ms: Callable[[Any], float]
    error_ms: float = 0.0


PLACES: Final = {
    "binance": Place(binance.stream_path, "/api/v3/time", lambda body: body["serverTime"]),
    "coinbase": Place(
        lambda _: coinbase.STREAM_PATH, "/time", lambda body: float(body["epochMillis"])
    ),
    # Whole seconds: half of one is added, and it may be off by as much.
    "kraken": Place(
        lambda _: kraken.STREAM_PATH,
        "/0/public/Time",
        lambda body: body["result"]["unixtime"] * 1000.0 + 500,
        500.0,
    ),
}


def checks(settings: Settings) -> list[Check]:
    """Two checks of each venue in SYMBOLS."""
    try:
        listings = parse_symbols(settings.symbols, quote_mixed=settings.quote_mixed)
    except ConfigError:
        listings = ()  # the check of the settings says so
    by_venue: dict[str, list[Listing]] = {}
    for listing in listings:
        by_venue.setdefault(listing.venue, []).append(listing)
    found = []
    for venue, ours in by_venue.items():
        fix = f"see that {WIRINGS[venue].stream_root(settings)} can be reached"
        found += [
            Check(f"venues.{venue}", partial(look_at_stream, settings, venue, ours), fix),
            Check(f"clock.{venue}", partial(look_at_clock, settings, venue), fix),
        ]
    return found or [Check("venues", _nothing, "")]


async def _nothing() -> Finding:
    return skip("SYMBOLS names no venue", "venues that can be reached")


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=ANSWER_S),
        headers={"User-Agent": "tapeline"},
        trust_env=True,
    )


async def look_at_stream(settings: Settings, venue: str, listings: list[Listing]) -> Finding:
    """Opens a websocket, and closes it again."""
    root = WIRINGS[venue].stream_root(settings)
    expected = f"a websocket at {root}"
    variable = f"NT_{venue.upper()}_STREAM_URL"
    path = PLACES[venue].stream_path([listings[0].venue_symbol])
    began_s = time.perf_counter()
    try:
        async with _session() as session:
            socket = await session.ws_connect(root.rstrip("/") + path, timeout=_CLOSE)
            took_ms = (time.perf_counter() - began_s) * 1000
            await socket.close()
    except aiohttp.WSServerHandshakeError as error:
        return _refused(venue, error.status, expected, variable)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        return _away(mask(f"{root}: {str(error) or 'no answer'}"), expected, variable)
    return well(f"open after {took_ms:.0f} ms", expected)


async def look_at_clock(settings: Settings, venue: str) -> Finding:
    """Asks for its time."""
    place, root = PLACES[venue], WIRINGS[venue].rest_root(settings)
    expected, url = f"the time, at {root}{place.time_path}", root.rstrip("/") + place.time_path
    if venue == "kraken" and settings.kraken_stream_url != kraken.STREAM_ROOT:
        return skip("NT_KRAKEN_STREAM_URL is another place, whose clock is not known", expected)
    best: tuple[float, float] | None = None
    try:
        async with _session() as session:
            for _ in range(2):  # the first one has to connect
                before_ms, began_s = time.time() * 1000, time.perf_counter()
                async with session.get(url, allow_redirects=False) as answer:
                    raw = await answer.read()
                trip_ms = (time.perf_counter() - began_s) * 1000
                if answer.status != 200:
                    return skip(f"{venue} answers {answer.status} there", expected)
                ahead_ms = place.time_ms(orjson.loads(raw)) - (before_ms + trip_ms / 2)
                if best is None or trip_ms < best[0]:
                    best = trip_ms, ahead_ms
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return skip(mask(f"{root} does not answer: {str(error) or 'no answer'}"), expected)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        return skip(f"{venue} says no time there: {error!r}", expected)
    assert best is not None
    return judge_clock(venue, best[1], best[0] / 2 + place.error_ms)


def _refused(venue: str, status: int, expected: str, variable: str) -> Finding:
    if status in REFUSED:
        fix = f"another address or region, later, or {variable}; docs/venues.md"
        return fail(f"{venue} refuses this address: status {status}", expected, fix)
    return fail(f"{venue} answers {status}", expected, f"{variable}: is it the venue's?")


def _away(found: str, expected: str, variable: str) -> Finding:
    """No way there: a bridge needs one, workers and readers do not."""
    fix = f"a network that leads there, HTTPS_PROXY, or {variable}; only bridges need it"
    return warn(found, expected, fix)


_CLOSE: Final = aiohttp.ClientWSTimeout(ws_close=0.5)
