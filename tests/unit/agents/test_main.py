"""From the environment to an application, or to an error that names the variable."""

from __future__ import annotations

import asyncio

import pytest

from agents.main import faust_app, worker_settings
from tapeline.config import Settings, variable_name
from tapeline.errors import ConfigError

GOOD = {
    "KAFKA_URL": "kafka://127.0.0.1:1",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "SYMBOLS": "binance:BTCUSDT",
    "NT_METRICS_PORT": "0",
}


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Only what a worker needs."""
    for field in Settings.model_fields:
        monkeypatch.delenv(variable_name(field), raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    # A worker's process has a loop of its own kind; this one has many tests to come.
    monkeypatch.setattr(asyncio, "set_event_loop_policy", lambda _policy: None)
    return monkeypatch


@pytest.mark.parametrize("name", ["KAFKA_URL", "REDIS_URL", "SYMBOLS"])
def test_what_is_missing_is_named(
    environ: pytest.MonkeyPatch, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On one line of stderr, and the process leaves with 2."""
    environ.delenv(name)
    with pytest.raises(SystemExit) as leaving:
        faust_app()
    assert leaving.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"ERROR: {name} is not set")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("NT_REPORT_PERIOD_MS", "99", "an integer from 100 to 1000"),
        ("NT_SLOW_PERIOD_MS", "999", "an integer from 1000 to 60000"),
        ("NT_LEASE_TTL_MS", "soon", "an integer from 400 to 60000"),
        ("NT_CLOCK", "sundial", "one of wall, records"),
        ("NT_NODE_ID", "a|b", "text matching"),
        ("SYMBOLS", "BTCUSDT", "expected"),
    ],
)
def test_what_is_out_of_range_is_named(
    environ: pytest.MonkeyPatch,
    name: str,
    value: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With what it is, and what it may be."""
    environ.setenv(name, value)
    with pytest.raises(SystemExit) as leaving:
        faust_app()
    assert leaving.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"ERROR: {name} is ")
    assert words in error


def test_redis_is_needed_by_reports_and_by_streams_alone(environ: pytest.MonkeyPatch) -> None:
    """Without both there is none."""
    environ.delenv("REDIS_URL")
    environ.setenv("NT_ENABLE_KV_REPORTS", "false")
    assert worker_settings().redis_url == ""
    environ.setenv("NT_ENABLE_STREAMS", "true")
    with pytest.raises(ConfigError, match="REDIS_URL"):
        worker_settings()
