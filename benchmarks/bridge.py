"""What the bridge's assembler costs a frame, beside cryptofeed on the very same frames.

    python -m benchmarks bridge RECORDING ... [--repeats 3] [--json]

RECORDING are files of one Binance recording of one symbol (diff depth, book ticker, trades, one
REST book), in order. Both read each frame as text and end with a book and typed events handed to
a caller who does nothing: decoding, sequence checks, assembly. No socket, no Kafka. cryptofeed is
driven by `message_handler`, in a process of its own. It knows no ``trade`` frames of Binance, so
it gets them as the ``aggTrade`` frames it knows.

The two do not do the same: Tapeline's events are exact integers in the contract's types, and its
book says crossed, gap and what changed; cryptofeed's are `Decimal`, in a book sorted in C.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.commands import json_of
from benchmarks.machine import CRYPTOFEED_PYTHON, ROOT, described, machine, peers_ready
from streams import events
from streams.capture.dialects import dialect_of
from streams.capture.formats import read_entries
from streams.capture.player import listings_of, survey
from streams.events import Event
from streams.venues.binance.assembler import BinanceAssembler

VENUE = "binance"
KINDS = ("depth", "trade", "bookTicker")
GOAL = 5.0
TIMEOUT_S = 600.0
REPEATS = 3


@dataclass(frozen=True, slots=True)
class Tape:
    """A recording in memory.

    Attributes:
        symbol: As the venue spells it.
        book: The REST book's body.
        frames: (ms since the epoch, text) of each.
    """

    symbol: str
    book: str
    frames: Sequence[tuple[int, str]]

    def of(self, kind: str) -> Tape:
        """One kind of frames alone."""
        return Tape(self.symbol, self.book, [f for f in self.frames if kind_of(f[1]) == kind])


def kind_of(frame: str) -> str:
    """``depth``, ``trade`` or ``bookTicker``."""
    return str(json.loads(frame)["stream"].split("@")[1])


def tape_of(files: Sequence[Path]) -> Tape:
    """The recording.

    Raises:
        SystemExit: It is of several symbols, or has no REST book.
    """
    dialect = dialect_of(VENUE)
    symbols = survey(dialect, files).symbols
    frames, books = [], []
    for path in files:
        for entry in read_entries(path):
            if entry.kind == "recv" and dialect.inline_reply(entry.data) == "snapshot":
                books.append(entry.data)
            elif entry.kind == "recv":
                frames.append((entry.ts_ms or 0, entry.data))
    if len(symbols) != 1 or len(books) != 1:
        raise SystemExit(
            f"bridge: {len(symbols)} symbols and {len(books)} REST books; expected one of each"
        )
    return Tape(symbols[0], books[0], frames)


def assembled(tape: Tape, *, encode: bool = False) -> tuple[float, int]:
    """Seconds that the frames take, and how many events they make."""
    (listing,) = listings_of(dialect_of(VENUE), [tape.symbol])
    assembler = BinanceAssembler([listing], infer_instruments=True)
    receive, book = assembler.receive, tape.book.encode()
    feed = events.Feed(1, 1)
    count = 0
    began = perf_counter()
    assembler.connected(tape.frames[0][0])
    asked = False
    for ts_ms, frame in tape.frames:
        made: list[Event] = receive(frame, ts_ms)
        if not asked:
            for request in assembler.requests_to_send():
                asked = True
                made += assembler.http_response(request, 200, book, ts_ms)
        count += len(made)
        if encode:
            for event in made:
                events.stamp(event, feed, 1)
                events.encode(event)
    seconds = perf_counter() - began
    counts = assembler.counts
    if counts.gaps or counts.crossed or counts.errors:
        raise SystemExit(f"bridge: the recording gave {counts}")
    return seconds, count


def as_cryptofeed_knows(frame: str) -> str:
    """A ``trade`` frame as an ``aggTrade`` frame; others as they are."""
    told = json.loads(frame)
    data = told["data"]
    if data.get("e") != "trade":
        return frame
    data["e"], data["a"] = "aggTrade", data.pop("t")
    data["f"] = data["l"] = data["a"]
    return json.dumps(told, separators=(",", ":"))


def beside(path: Path) -> dict[str, Any]:
    """cryptofeed's figures."""
    return json_of(
        "bridge: cryptofeed",
        [CRYPTOFEED_PYTHON, ROOT / "benchmarks" / "peers" / "cryptofeed_frames.py", path],
        timeout_s=TIMEOUT_S,
    )


def measured(tape: Tape, repeats: int) -> dict[str, Any]:
    """Microseconds a frame of each kind, medians of interleaved rounds."""
    missing = peers_ready("cryptofeed")
    tapes = {"all": tape, **{kind: tape.of(kind) for kind in KINDS}}
    ours: dict[str, list[float]] = {name: [] for name in tapes}
    encoded: list[float] = []
    theirs: dict[str, list[float]] = {name: [] for name in tapes}
    told: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="tapeline-bridge-") as folder:
        path = Path(folder) / "frames"
        lines = [tape.book, *(as_cryptofeed_knows(frame) for _, frame in tape.frames)]
        path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        for _ in range(repeats):
            for name, one in tapes.items():
                if one.frames:
                    ours[name].append(assembled(one)[0] / len(one.frames) * 1e6)
            encoded.append(assembled(tape, encode=True)[0] / len(tape.frames) * 1e6)
            if not missing:
                found = beside(path)
                told = found["told"]
                for name, seconds in found["seconds"].items():
                    if found["frames"][name]:
                        theirs[name].append(seconds / found["frames"][name] * 1e6)
    rows = {}
    for name, one in tapes.items():
        if not ours[name]:
            continue
        us = statistics.median(ours[name])
        their_us = statistics.median(theirs[name]) if theirs[name] else None
        rows[name] = {
            "frames": len(one.frames),
            "tapeline_us": round(us, 2),
            "cryptofeed_us": round(their_us, 2) if their_us else None,
            "ratio": round(their_us / us, 2) if their_us else None,
        }
    return {
        "symbol": tape.symbol,
        "rows": rows,
        "with_records_us": round(statistics.median(encoded), 2),
        "cryptofeed_told": told,
        "missing": missing,
        "machine": machine(),
    }


def main(argv: list[str] | None = None) -> int:
    """Measure, and print; 1 where the goal is not reached."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("recording", nargs="*", type=Path)
    options.add_argument("--repeats", type=int, default=REPEATS)
    options.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = options.parse_args(argv)
    if not args.recording:
        print("bridge: needs a recording of Binance: FILE ...", file=sys.stderr)
        return 2
    found = measured(tape_of(args.recording), args.repeats)
    lines = [f"{'frames':<12}{'count':>9}{'Tapeline':>12}{'cryptofeed':>12}{'ratio':>8}"]
    for name, row in found["rows"].items():
        theirs = f"{row['cryptofeed_us']:.2f} us" if row["ratio"] else "-"
        ratio = f"{row['ratio']:.2f}x" if row["ratio"] else "-"
        ours = f"{row['tapeline_us']:.2f} us"
        lines.append(f"{name:<12}{row['frames']:>9,}{ours:>12}{theirs:>12}{ratio:>8}")
    lines.append(f"all, stamped and encoded as records: {found['with_records_us']:.2f} us")
    if found["missing"]:
        lines.append(f"cryptofeed: {found['missing']}")
    print(described(found["machine"]), *lines, sep="\n", file=sys.stderr)
    if args.json:
        print(json.dumps(found))
    ratio = found["rows"]["all"]["ratio"]
    print(f"goal: {GOAL:g} times as fast as cryptofeed", file=sys.stderr)
    return 0 if ratio is not None and ratio >= GOAL else 1


if __name__ == "__main__":
    raise SystemExit(main())
