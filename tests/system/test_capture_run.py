"""A real recording through the whole path: bridge, real Kafka, real worker, real Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.support.data import recording

FILES = (
    "binance/hftbacktest/btcusdt_20240808.gz",
    "binance/hftbacktest/btcusdt_20240809.gz",
)
COINBASE = "coinbase/cryptofeed/COINBASE_advanced_part1.jsonl.gz"
KRAKEN = "kraken/trading-system/kraken_v2_btcusd_d10_20260719T1754.jsonl.gz"

# What differs between two runs: who wrote it, when, under which names.
OF_THE_RUN = {"writer", "seq", "updatedAt", "source"}

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.recordings, pytest.mark.slow]


def capture_run(
    kafka_url: str, redis_url: str, *options: str, paths: tuple[str, ...] = FILES
) -> dict[str, Any]:
    """The command's last line of stdout; the process must exit with 0."""
    files = [str(recording(path)) for path in paths]
    done = subprocess.run(
        [sys.executable, "-m", "tapeline.cli", "capture", "run", *files, "--json", *options],
        env={**os.environ, "KAFKA_URL": kafka_url, "REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    body: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return body


def comparable(report: dict[str, Any]) -> dict[str, Any]:
    """A report without what is of the run; offsets and times of the data stay in."""
    kept = {name: value for name, value in report.items() if name not in OF_THE_RUN}
    kept["ingestion"] = {**report["ingestion"], "feed_token": None}
    fast, slow = report["source"]["fast"], report["source"]["slow"]
    return {**kept, "at": [(part["offset"], part["now_ms"]) for part in (fast, slow)]}


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, Any]]:
    """Of the runs so far, by name."""
    return {}


def test_a_recording_goes_through_the_whole_path_without_loss(
    kafka_url: str, redis_url: str, results: dict[str, dict[str, Any]]
) -> None:
    """The counts are those measured on the files themselves."""
    body = results["whole"] = capture_run(kafka_url, redis_url)
    assert body["frames"] == 99_574
    assert body["gaps"] == body["crossed"] == body["errors"] == 0
    assert body["trades"] == {"applied": 19_904, "duplicates": 0, "missing": 0}
    assert body["tops"] == {"compared": 1_072, "equal": 1_072}
    assert body["events"]["book_delta"] == 6_493
    assert body["events"]["ticker"] == 73_174
    assert body["recomputed_equal"] == {"BTCUSDT": True}
    assert body["report"]["gaps"]["count"] == 0
    assert body["report"]["ingestion"]["book"] == "ok"


def test_a_worker_killed_midway_ends_with_the_same_report(
    kafka_url: str, redis_url: str, results: dict[str, dict[str, Any]]
) -> None:
    """Field by field, and it publishes again within 10 s."""
    body = capture_run(kafka_url, redis_url, "--kill-worker-at", "50000")
    assert body["restarts"] == 1
    print(f"first report {body['seconds_to_report_after_restart']} s after the restart")
    assert body["seconds_to_report_after_restart"] <= 10
    assert body["recomputed_equal"] == {"BTCUSDT": True}
    whole = results.get("whole") or capture_run(kafka_url, redis_url)
    assert comparable(body["report"]) == comparable(whole["report"])


def test_books_of_megabytes_go_through_a_broker_with_stock_limits(
    kafka_url: str, redis_url: str
) -> None:
    """Snapshots of 46,000 and 23,334 levels, in frames of 5.08 and 2.53 MB."""
    body = capture_run(kafka_url, redis_url, "--venue", "coinbase", paths=(COINBASE,))
    assert body["frames"] == 600
    assert body["gaps"] == body["crossed"] == body["errors"] == 0
    assert body["recomputed_equal"] == {"BTCUSD": True, "ETHUSD": True}
    for symbol in ("BTCUSD", "ETHUSD"):
        assert body["reports"][symbol]["ingestion"]["book"] == "ok"
    # The larger of the two is written in parts, each below the broker's limit.
    assert body["events"]["book_snapshot"] > 4


def test_a_book_with_checksums_goes_through_the_whole_path(kafka_url: str, redis_url: str) -> None:
    body = capture_run(kafka_url, redis_url, "--venue", "kraken", paths=(KRAKEN,))
    assert body["frames"] == 1_376
    assert body["events"]["book_delta"] == 1_253
    assert body["gaps"] == body["crossed"] == body["errors"] == 0
    assert body["recomputed_equal"] == {"BTCUSD": True}


def test_a_store_with_somebody_elses_report_is_refused(kafka_url: str, redis_url: str) -> None:
    """A recording must never overwrite a live report."""
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.set("report:BTCUSDT", "{}")
        with pytest.raises(AssertionError, match="a store that holds a report of BTCUSDT"):
            capture_run(kafka_url, redis_url)
        assert client.get("report:BTCUSDT") == b"{}"
