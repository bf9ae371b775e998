"""``tapeline replay``: a topic range or a tape through the engine once more, on a virtual clock.

The same input gives the same bytes at any speed and with any number of workers: a symbol's
reports are a function of its own records (`agents.timeline`), and everything made of all symbols
is made in the order of their names.
"""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

from agents.parameters import parameters_of
from agents.timeline import Plan
from streams.capture.records import TapeRecords
from streams.symbols import Listing, check_quotes, parse_symbols, venues_by_symbol
from streams.topic_reader import TopicReader
from streams.topics import partition_of
from tables.report import iso_utc
from tapeline.config import Settings
from tapeline.errors import ConfigError, StackError, TapelineError
from tapeline.kafka_access import KafkaAccess
from tapeline.replay_range import Edge, check_order, range_of, times_only
from tapeline.replay_share import (
    Progress,
    Share,
    SymbolOutcome,
    TapeSource,
    TopicSource,
    part_of,
    run_share,
)

COPY_BYTES: Final = 1 << 20
GRACE_S: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for.

    Attributes:
        files: A tape; the events topic if empty.
        symbols: Canonical names or ``VENUE:SYMBOL``; all of the tape or of SYMBOLS if empty.
        begin, end: Of the reports.
        out: File of the reports, by its ending NDJSON or Parquet.
        prefix: Of keys in Redis; empty for none.
    """

    files: tuple[Path, ...] = ()
    venue: str = "binance"
    symbols: tuple[str, ...] = ()
    begin: Edge | None = None
    end: Edge | None = None
    speed: float = 0.0
    workers: int = 1
    out: Path | None = None
    prefix: str = ""


@dataclass(slots=True)
class Replay:
    """What a replay gave.

    Attributes:
        symbols: By name, in their order.
        problems: Frames of a tape that were refused, the first of them.
    """

    symbols: dict[str, SymbolOutcome]
    speed: float
    workers: int
    seconds: float = 0.0
    out: Path | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """Of all reports: SHA-256 over a line ``SYMBOL DIGEST`` for each symbol."""
        lines = (f"{name} {outcome.digest}\n" for name, outcome in self.symbols.items())
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        each = self.symbols.values()
        records, warm_up = sum(o.records for o in each), sum(o.warm_up for o in each)
        first = min((o.first_ms for o in each if o.first_ms is not None), default=None)
        last = max((o.last_ms for o in each if o.last_ms is not None), default=None)
        return {
            "records": records,
            "warm_up_records": warm_up,
            "reports": sum(o.reports for o in each),
            "failed": sum(sum(o.failed.values()) for o in each),
            "seconds": round(self.seconds, 3),
            "records_per_second": round((records + warm_up) / max(self.seconds, 1e-9)),
            "first": None if first is None else iso_utc(first),
            "last": None if last is None else iso_utc(last),
            "digest": self.digest,
            "speed": self.speed,
            "workers": self.workers,
            "out": None if self.out is None else str(self.out),
            "symbols": {name: _shown(outcome) for name, outcome in self.symbols.items()},
        }


def _shown(outcome: SymbolOutcome) -> dict[str, Any]:
    body = asdict(outcome)
    for name in ("first", "last"):
        at_ms = body.pop(f"{name}_ms")
        body[name] = None if at_ms is None else iso_utc(at_ms)
    return body


def run_replay(
    settings: Settings,
    request: Request,
    *,
    progress: Progress = lambda _done, _total: None,
    note: Callable[[str], None] = lambda _text: None,
) -> Replay:
    """Replay, and write what was asked for.

    Args:
        settings: Of this process.
        request: What to replay, and where to.
        progress: Told of what is done and how much there is.
        note: Told what somebody should know of the range.

    Raises:
        ConfigError: The request can't be right.
        TapelineError: The source can't be read, or there is nothing in the range.
    """
    check_order(request.begin, request.end)
    whole = _whole(settings, request, note)
    shares = split(whole, request.workers)
    began = time.monotonic()
    with _parts(request.out) as folder:
        shares = [replace(share, parts=folder) for share in shares]
        outcomes = _in_one(shares[0], progress) if len(shares) == 1 else _in_many(shares, progress)
        result = Replay(dict(sorted(outcomes.items())), request.speed, len(shares), out=request.out)
        result.seconds = time.monotonic() - began
        if not any(outcome.reports for outcome in outcomes.values()):
            raise TapelineError(_nothing(result))
        if request.out is not None and folder is not None:
            _join(folder, list(result.symbols), request.out)
    return result


def _nothing(result: Replay) -> str:
    body = result.as_json()
    return (
        f"nothing to report of {', '.join(result.symbols)} in that range: {body['records']} records "
        f"in it and {body['warm_up_records']} before it"
    )


# --- what to replay -----------------------------------------------------------------------------


def _whole(settings: Settings, request: Request, note: Callable[[str], None]) -> Share:
    """All of it, as one share."""
    from_ms = to_ms = None
    topic = "capture"
    source: TapeSource | TopicSource
    if request.files:
        from_ms, to_ms = times_only(request.begin, "--from"), times_only(request.end, "--to")
        source = TapeSource(request.venue, request.files)
        listings = chosen(request.symbols, TapeRecords(request.venue, request.files).listings)
        if not listings:
            raise ConfigError(
                "FILE", str(request.files[0]), f"a tape of {request.venue} with symbols"
            )
        if from_ms is not None:
            note("all of the tape before --from is warm-up")
    else:
        mixed = settings.quote_mixed
        listed = parse_symbols(settings.symbols, quote_mixed=mixed) if settings.symbols else ()
        listings = chosen(request.symbols, listed)
        check_quotes(listings, name="--symbols", quote_mixed=mixed)
        if not listings:
            raise ConfigError("--symbols", None, "symbols such as binance:BTCUSDT, or SYMBOLS")
        topic = settings.events_topic
        source, from_ms, to_ms = asyncio.run(_topic(settings, request, listings, note))
    return Share(
        source=source,
        venues=venues_by_symbol(listings),
        plan=Plan(
            report_period_ms=settings.report_period_ms,
            slow_period_ms=settings.slow_period_ms,
            parameters=parameters_of(settings),
            from_ms=from_ms,
            to_ms=to_ms,
            topic=topic,
        ),
        speed=request.speed,
        redis_url=settings.redis_url,
        prefix=request.prefix,
        ttl_ms=settings.report_ttl_ms,
    )


def chosen(names: Sequence[str], listed: Sequence[Listing]) -> tuple[Listing, ...]:
    """The listings named, or all that there are; a symbol's name means all its venues.

    Raises:
        ConfigError: One is neither listed nor a listing itself.
    """
    if not names:
        return tuple(listed)
    known = venues_by_symbol(listed)
    found: dict[tuple[str, str], Listing] = {}
    for name in names:
        if ":" in name:
            named = parse_symbols(name, name="--symbols")
        elif name in known:
            named = tuple(listing for listing in listed if listing.symbol == name)
        else:
            there = f"one of {', '.join(known)}, or " if known else ""
            raise ConfigError("--symbols", name, f"{there}VENUE:SYMBOL such as binance:BTCUSDT")
        found |= {(listing.venue, listing.symbol): listing for listing in named}
    return tuple(found.values())


async def _topic(
    settings: Settings,
    request: Request,
    listings: Sequence[Listing],
    note: Callable[[str], None],
) -> tuple[TopicSource, int | None, int | None]:
    async with TopicReader(settings, settings.events_topic) as reader:
        homes = {one.symbol: partition_of(one.symbol, reader.partitions) for one in listings}
        found = await range_of(reader, set(homes.values()), request.begin, request.end)
    for text in found.notes:
        note(text)
    source = TopicSource(KafkaAccess.of(settings), settings.events_topic, found.spans, homes)
    return source, found.from_ms, found.to_ms


def split(whole: Share, workers: int) -> list[Share]:
    """Symbols dealt out to at most ``workers`` shares."""
    names = sorted(whole.venues)
    dealt = [names[first::workers] for first in range(min(workers, len(names)))]
    return [replace(whole, venues={s: whole.venues[s] for s in mine}) for mine in dealt]


# --- doing it -----------------------------------------------------------------------------------


def _in_one(share: Share, progress: Progress) -> dict[str, SymbolOutcome]:
    return asyncio.run(run_share(share, progress))


def _in_many(shares: Sequence[Share], progress: Progress) -> dict[str, SymbolOutcome]:
    """One process a share; whatever ends this, they end with it."""
    # Not forked: a fork would carry this process's sockets and threads along.
    context = multiprocessing.get_context("spawn")
    children: dict[Connection, BaseProcess] = {}
    try:
        with _deaf_to_ctrl_c():
            for share in shares:
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_child, args=(share, theirs), daemon=True)
                process.start()
                theirs.close()
                children[ours] = process
        return _gather(children, progress)
    finally:
        for connection, child in children.items():
            connection.close()
            child.terminate()
        for child in children.values():
            child.join(GRACE_S)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """For starting children: they inherit it, and this process, which hears again, ends them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _gather(
    children: Mapping[Connection, BaseProcess], progress: Progress
) -> dict[str, SymbolOutcome]:
    outcomes: dict[str, SymbolOutcome] = {}
    told = dict.fromkeys(children, (0, 0))
    left = set(children)
    while left:
        for connection in wait(list(left)):
            assert isinstance(connection, Connection)
            try:
                message = connection.recv()
            except EOFError:
                process = children[connection]
                process.join(GRACE_S)
                raise StackError(
                    f"a replay's worker ended with status {process.exitcode}; its log says why"
                ) from None
            if isinstance(message, str):
                raise TapelineError(message)
            if isinstance(message, dict):
                outcomes.update(message)
                left.discard(connection)
            else:
                told[connection] = message
                progress(sum(d for d, _ in told.values()), sum(t for _, t in told.values()))
    return outcomes


def _child(share: Share, connection: Connection) -> None:
    """A worker process: progress as pairs, then its outcomes, or what went wrong as text."""
    try:
        connection.send(
            asyncio.run(run_share(share, lambda done, total: connection.send((done, total))))
        )
    except TapelineError as error:
        connection.send(str(error))
    except BrokenPipeError:
        pass  # the parent has gone


# --- what it leaves -----------------------------------------------------------------------------


@contextmanager
def _parts(out: Path | None) -> Iterator[Path | None]:
    """A folder beside ``out`` for the reports of each symbol; gone at the end."""
    if out is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix=".tapeline-replay-", dir=out.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _join(folder: Path, symbols: Sequence[str], out: Path) -> None:
    """One file of all symbols, in the order of their names; there whole or not at all."""
    made = folder / out.name
    if out.suffix == ".parquet":
        from tapeline.replay_parquet import write_parquet  # noqa: PLC0415 - an extra

        write_parquet([part_of(folder, symbol) for symbol in symbols], made)
    else:
        with made.open("wb") as whole:
            for symbol in symbols:
                with part_of(folder, symbol).open("rb") as part:
                    shutil.copyfileobj(part, whole, COPY_BYTES)
    made.replace(out)
