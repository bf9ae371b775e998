"""Reports as a Parquet file: a column for what people plot, and the whole report as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson

from tapeline.errors import ConfigError

ROWS: Final = 2000
"""A row group: what is in memory at a time."""


def _in(*path: str) -> Callable[[dict[str, Any]], Any]:
    def get(report: dict[str, Any]) -> Any:
        value: Any = report
        for name in path:
            if value is None:
                return None
            value = value[name]
        return value

    return get


COLUMNS: Final[dict[str, tuple[str, Callable[[dict[str, Any]], Any]]]] = {
    "symbol": ("string", _in("symbol")),
    "venue": ("string", _in("venue")),
    "seq": ("int64", _in("seq")),
    "now_ms": ("int64", _in("source", "fast", "now_ms")),
    "offset": ("int64", _in("source", "fast", "offset")),
    "slow_now_ms": ("int64", _in("source", "slow", "now_ms")),
    "slow_offset": ("int64", _in("source", "slow", "offset")),
    "data_age_ms": ("int64", _in("data_age_ms")),
    "book": ("string", _in("ingestion", "book")),
    "last_price": ("double", _in("last_price")),
    "best_bid": ("double", _in("best_bid", "price")),
    "best_bid_qty": ("double", _in("best_bid", "qty")),
    "best_ask": ("double", _in("best_ask", "price")),
    "best_ask_qty": ("double", _in("best_ask", "qty")),
    "mid_price": ("double", _in("mid_price")),
    "micro_price": ("double", _in("micro_price")),
    "spread_bps": ("double", _in("spread_bps")),
    "imbalance": ("double", _in("depth", "imbalance")),
    "orders_per_sec": ("double", _in("flow", "orders_per_sec")),
    "net_flow": ("double", _in("flow", "net_flow")),
    "poc": ("double", _in("liquidity", "volume_profile", "POC")),
    "health": ("double", _in("health", "score")),
    "gaps": ("int64", _in("gaps", "count")),
    "synthetic": ("bool", _in("synthetic")),
}
"""Type and source of each column; ``report`` follows with the whole."""


def check_parquet(out: Path) -> None:
    """Raises ConfigError, naming the extra, where Parquet can't be written here."""
    if find_spec("pyarrow") is None:
        raise ConfigError(
            "--out",
            str(out),
            "pyarrow, the extra `parquet` (pip install 'tapeline[parquet]'), "
            "or a name that ends in .ndjson",
        )


def write_parquet(parts: Sequence[Path], out: Path) -> None:
    """Files of reports, one a line, as one Parquet file in their order."""
    import pyarrow as pa  # noqa: PLC0415 - an extra
    import pyarrow.parquet as pq  # noqa: PLC0415

    fields = [(name, pa.type_for_alias(kind)) for name, (kind, _) in COLUMNS.items()]
    schema = pa.schema([*fields, ("report", pa.string())])
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for lines in _chunks(parts):
            reports = [orjson.loads(line) for line in lines]
            columns = {name: [get(r) for r in reports] for name, (_, get) in COLUMNS.items()}
            columns["report"] = [line.decode().rstrip("\n") for line in lines]
            writer.write_table(pa.table(columns, schema=schema))


def _chunks(parts: Sequence[Path]) -> Iterator[list[bytes]]:
    for part in parts:
        with part.open("rb") as file:
            while lines := list(islice(file, ROWS)):
                yield lines
