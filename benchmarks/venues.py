"""What a venue's assembler takes: frames and megabytes a second, beside cryptofeed on the same frames.

    python -m benchmarks venues VENUE=FILE[,FILE...] ... [--repeats 3] [--json]

FILEs are recordings of one venue, in order. Both read each frame as text and end with books and typed
events handed to a caller who does nothing: decoding, sequence checks, checksums, assembly. cryptofeed
runs in a process of its own, with its checksum validation on; it does not speak Kraken's websocket v2.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.commands import json_of
from benchmarks.machine import CRYPTOFEED_PYTHON, ROOT, described, machine, peers_ready
from streams.capture.dialects import dialect_of
from streams.capture.formats import read_entries
from streams.capture.player import Player, listings_of, survey
from tapeline.errors import ConfigError

REPEATS = 3
TIMEOUT_S = 300.0
PEER_VENUES = ("coinbase", "kraken")


def frames_of(files: Sequence[Path]) -> list[str]:
    """What the venue sent."""
    return [e.data for path in files for e in read_entries(path) if e.kind == "recv"]


def ours(venue: str, files: Sequence[Path]) -> tuple[float, dict[str, int]]:
    """Seconds that the assembler takes over all frames, and its events by kind."""
    dialect = dialect_of(venue)
    tape = survey(dialect, files)
    assembler = dialect.assembler(
        listings_of(dialect, tape.symbols), infer_instruments=not tape.has_instruments
    )
    receive, taken = assembler.receive, 0.0

    def timed(frame: str | bytes, ts_recv_ms: int, connection: int = 0) -> Any:
        nonlocal taken
        began = perf_counter()
        try:
            return receive(frame, ts_recv_ms, connection)
        finally:
            taken += perf_counter() - began

    assembler.receive = timed  # type: ignore[method-assign]
    for _ in Player(assembler, dialect, files).play():
        pass
    return taken, dict(assembler.counts.events)


def theirs(venue: str, frames: Sequence[str]) -> dict[str, Any]:
    """cryptofeed's figures."""
    with tempfile.TemporaryDirectory(prefix="tapeline-venues-") as folder:
        path = Path(folder) / "frames"
        path.write_text("\n".join(map(json.dumps, frames)), encoding="utf-8")
        program = ROOT / "benchmarks" / "peers" / "cryptofeed_venue.py"
        return json_of(
            f"venues: cryptofeed, {venue}",
            [CRYPTOFEED_PYTHON, program, venue, path],
            timeout_s=TIMEOUT_S,
        )


def speaks(venue: str, frames: Sequence[str]) -> bool:
    """Whether cryptofeed knows this dialect: Kraken's frames are lists in v1 only."""
    if venue not in PEER_VENUES:
        return False
    return venue != "kraken" or any(frame.startswith("[") for frame in frames)


def measured(tapes: Sequence[tuple[str, Sequence[Path]]], repeats: int) -> dict[str, Any]:
    """Medians of interleaved rounds."""
    missing = peers_ready("cryptofeed")
    rows = []
    for venue, files in tapes:
        frames = frames_of(files)
        size_mb = sum(len(frame) for frame in frames) / 1e6
        mine, peer, events = [], [], {}
        for _ in range(repeats):
            seconds, events = ours(venue, files)
            mine.append(seconds)
            if not missing and speaks(venue, frames):
                peer.append(float(theirs(venue, frames)["seconds"]))
        took, peer_took = statistics.median(mine), statistics.median(peer) if peer else None
        rows.append(
            {
                "venue": venue,
                "recording": files[0].name,
                "frames": len(frames),
                "mb": round(size_mb, 2),
                "frames_per_s": round(len(frames) / took),
                "mb_per_s": round(size_mb / took, 1),
                "cryptofeed_frames_per_s": round(len(frames) / peer_took) if peer_took else None,
                "cryptofeed_mb_per_s": round(size_mb / peer_took, 1) if peer_took else None,
                "ratio": round(peer_took / took, 2) if peer_took else None,
                "events": events,
            }
        )
    return {"rows": rows, "missing": missing, "machine": machine()}


def tape_of(text: str) -> tuple[str, list[Path]]:
    """An argument.

    Raises:
        ConfigError: It is no ``VENUE=FILE``, or a file is not there.
    """
    venue, equals, names = text.partition("=")
    files = [Path(name) for name in names.split(",") if name]
    if not equals or not files:
        raise ConfigError("recording", text, "VENUE=FILE[,FILE...]")
    dialect_of(venue)
    for file in files:
        if not file.is_file():
            raise ConfigError("recording", str(file), "a file that is there")
    return venue, files


def main(argv: list[str] | None = None) -> int:
    """Measure, and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("recording", nargs="*", help="VENUE=FILE[,FILE...]")
    options.add_argument("--repeats", type=int, default=REPEATS)
    options.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = options.parse_args(argv)
    try:
        tapes = [tape_of(text) for text in args.recording]
    except ConfigError as error:
        print(f"venues: {error}", file=sys.stderr)
        return 2
    if not tapes:
        print("venues: needs recordings: VENUE=FILE[,FILE...] ...", file=sys.stderr)
        return 2
    found = measured(tapes, args.repeats)
    print(described(found["machine"]), file=sys.stderr)
    print(
        f"{'recording':<44}{'frames':>8}{'MB':>8}{'frames/s':>11}{'MB/s':>8}{'cryptofeed':>12}"
        f"{'ratio':>8}",
        file=sys.stderr,
    )
    for row in found["rows"]:
        peer = f"{row['cryptofeed_frames_per_s']:,}" if row["ratio"] else "-"
        ratio = f"{row['ratio']:.2f}x" if row["ratio"] else "-"
        print(
            f"{row['recording']:<44}{row['frames']:>8,}{row['mb']:>8}{row['frames_per_s']:>11,}"
            f"{row['mb_per_s']:>8}{peer:>12}{ratio:>8}",
            file=sys.stderr,
        )
    if found["missing"]:
        print(f"cryptofeed: {found['missing']}", file=sys.stderr)
    if args.json:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
