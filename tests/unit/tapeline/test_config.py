"""Settings: ranges, names, masks, and what is said of a wrong one."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tapeline.config import (
    Settings,
    allowed,
    load_settings,
    mask,
    shown,
    unknown_variables,
    variable_name,
)
from tapeline.errors import ConfigError

OF_THE_SPEC = {
    "REDIS_URL": "",
    "KAFKA_URL": "",
    "SYMBOLS": "",
    "NT_ENABLE_KV_REPORTS": True,
    "NT_ENABLE_STREAMS": False,
    "NT_REPORT_PERIOD_MS": 250,
    "NT_SLOW_PERIOD_MS": 2000,
    "NT_LEASE_TTL_MS": 2000,
    "NT_HRW_STICKY_PCT": 0.02,
    "NT_MIN_HOLD_MS": 2000,
    "NT_METRICS_PORT": 9101,
    "NT_LOG_LEVEL": "INFO",
}


def _bounds() -> Iterator[tuple[str, float, float, bool]]:
    for field, info in Settings.model_fields.items():
        low = next((bound.ge for bound in info.metadata if hasattr(bound, "ge")), None)
        high = next((bound.le for bound in info.metadata if hasattr(bound, "le")), None)
        if low is not None and high is not None:
            yield field, low, high, info.annotation is int


RANGES = list(_bounds())


def test_every_number_has_a_range() -> None:
    """None is left to be anything."""
    numbers = {
        name for name, info in Settings.model_fields.items() if info.annotation in (int, float)
    }
    assert numbers == {field for field, *_ in RANGES}


@pytest.mark.parametrize(("field", "low", "high", "whole"), RANGES, ids=[r[0] for r in RANGES])
def test_a_number_is_taken_at_both_ends_of_its_range_and_refused_beyond(
    field: str, low: float, high: float, whole: bool
) -> None:
    """A refusal names variable, value and range."""
    name = variable_name(field)
    step = 1 if whole else 1e-6
    for value in (low, high):
        assert getattr(load_settings({name: str(value)}), field) == value
    for value in (low - step, high + step):
        with pytest.raises(ConfigError) as refused:
            load_settings({name: str(value)})
        said = str(refused.value)
        assert name in said
        assert str(value) in said
        assert f"from {low} to {high}" in said


@pytest.mark.parametrize(("field", "whole"), [(f, whole) for f, _, _, whole in RANGES])
def test_no_number_takes_words_or_what_is_not_finite(field: str, whole: bool) -> None:
    """An integer takes no fraction either."""
    for value in ("many", "nan", "inf", "-inf", "1e999", *(["1.5"] if whole else [])):
        with pytest.raises(ConfigError, match=variable_name(field)):
            load_settings({variable_name(field): value})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("NT_LOG_LEVEL", "LOUD", "one of DEBUG, INFO, WARNING, ERROR"),
        ("NT_CLOCK", "sun", "one of wall, records"),
        ("NT_ENABLE_STREAMS", "perhaps", "true or false"),
        ("NT_NODE_ID", "a|b", "text matching"),
        ("NT_APP_ID", "a b", "text matching"),
        ("NT_EVENTS_TOPIC", "md/events", "text matching"),
        ("KAFKA_URL", "http://127.0.0.1:9092", "kafka://host:port"),
        ("KAFKA_URL", "kafka://127.0.0.1:99999", "kafka://host:port"),
        ("KAFKA_URL", "kafka://a:1,kafka://b:2", "kafka://host:port"),
        ("KAFKA_URL", "kafka://", "kafka://host:port"),
        ("REDIS_URL", "127.0.0.1:6379", "redis[s]://"),
        ("REDIS_URL", "http://127.0.0.1:6379", "redis[s]://"),
        ("REDIS_URL", "redis://127.0.0.1:777777/0", "redis[s]://"),
        ("REDIS_URL", "redis://127.0.0.1:6379/first", "redis[s]://"),
        ("REDIS_URL", "redis:///0", "redis[s]://"),
    ],
)
def test_a_word_out_of_place_is_refused_with_what_would_do(
    name: str, value: str, expected: str
) -> None:
    """Variable, value, expectation, on one line."""
    with pytest.raises(ConfigError) as refused:
        load_settings({name: value})
    assert refused.value.name == name
    assert expected in str(refused.value)
    assert value in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAFKA_URL", "kafka://127.0.0.1:9092"),
        ("KAFKA_URL", "127.0.0.1:9092"),
        ("KAFKA_URL", "kafka://a:9092,b:9093,[::1]:9094"),
        ("REDIS_URL", "redis://127.0.0.1"),
        ("REDIS_URL", "redis://127.0.0.1:6379/3"),
        ("REDIS_URL", "rediss://user:word@host:6380/0"),
        ("REDIS_URL", "unix:///run/redis.sock"),
    ],
)
def test_addresses_are_taken_as_their_clients_take_them(name: str, value: str) -> None:
    """With and without what is optional."""
    settings = load_settings({name: value})
    assert shown(settings)[name] == mask(value)


def test_the_names_and_defaults_of_the_specification_are_kept() -> None:
    """Operators know them."""
    values = shown(load_settings({}))
    assert {name: values[name] for name in OF_THE_SPEC} == OF_THE_SPEC
    assert "NT_NODE_ID" in values


def test_the_environment_is_read_and_an_override_wins() -> None:
    """An empty variable counts as unset."""
    environ = {"NT_REPORT_PERIOD_MS": "500", "SYMBOLS": "binance:BTCUSDT", "NT_APP_ID": ""}
    settings = load_settings(environ, symbols="binance:ETHUSDT")
    assert settings.report_period_ms == 500
    assert settings.symbols == "binance:ETHUSDT"
    assert settings.app_id == "tapeline"


def test_the_process_environment_is_the_default_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only there."""
    monkeypatch.setenv("NT_PARTITIONS", "7")
    assert load_settings().partitions == 7
    assert load_settings({}).partitions == 64


def test_a_node_without_a_name_is_called_by_host_and_port() -> None:
    """Two workers of one machine differ."""
    first, second = (load_settings({"NT_METRICS_PORT": port}) for port in ("9101", "9201"))
    assert first.node_id.endswith("-9101")
    assert first.node_id != second.node_id
    assert load_settings({"NT_NODE_ID": "n1"}).node_id == "n1"


def test_a_lease_is_renewed_at_least_twice_in_its_life() -> None:
    """At both ends of its range."""
    for ttl in ("400", "60000"):
        settings = load_settings({"NT_LEASE_TTL_MS": ttl})
        assert settings.lease_ttl_ms >= 2 * settings.lease_renew_ms > 0


@pytest.mark.parametrize("name", ["KAFKA_URL", "REDIS_URL", "SYMBOLS"])
def test_a_required_variable_that_is_absent_is_named(name: str) -> None:
    """With what it should hold."""
    with pytest.raises(ConfigError, match=f"{name} is not set; expected .+"):
        load_settings({}, require=(name.lower(),))


def test_settings_can_not_be_changed_afterwards() -> None:
    """One reading, at the edge."""
    with pytest.raises(ValueError, match="frozen"):
        load_settings({}).partitions = 3


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://user:word@host:6379/0", "redis://user:***@host:6379/0"),
        ("redis://:word@host", "redis://:***@host"),
        ("rediss://u:p@ss:wo/rd@host:1", "rediss://u:***@host:1"),
        ("kafka://u:word@a:1,b:2", "kafka://u:***@b:2|kafka://u:***@a:1,b:2"),
        ("REDIS://U:word@host", "REDIS://U:***@host"),
        ("redis://host/0?password=word&db=1", "redis://host/0?password=***&db=1"),
        ("at redis://u:word@a and redis://v:word@b", "at redis://u:***@a and redis://v:***@b"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("mail a@b, see http://host:80", "mail a@b, see http://host:80"),
        ("wss://h:1/stream?streams=x@depth@100ms", "wss://h:1/stream?streams=x@depth@100ms"),
    ],
)
def test_passwords_inside_urls_are_masked_and_nothing_else(text: str, masked: str) -> None:
    """However many, whatever they are made of."""
    assert mask(text) in masked.split("|")
    assert "word" not in mask(text).replace("password=", "")


def test_no_secret_is_shown_nor_said_in_an_error() -> None:
    """Neither in a list of settings nor where the value is refused."""
    settings = load_settings({"REDIS_URL": "redis://u:hush@h/0"})
    assert "hush" not in str(shown(settings))
    with pytest.raises(ConfigError) as refused:
        load_settings({"KAFKA_URL": "kafka://u:hush@h:1"})
    assert "hush" not in str(refused.value)
    for wrong in (
        "redis://u:hush@h:99999/0",
        "http://u:hush@h/0",
        "redis://u:hu/sh@h:1/0",
        "redis://u:12/hush@h:1",
    ):
        with pytest.raises(ConfigError) as refused:
            load_settings({"REDIS_URL": wrong})
        assert "hu" not in str(refused.value)


def test_an_unknown_variable_of_ours_is_named_with_its_nearest() -> None:
    """Others' variables are none of our business."""
    environ = {
        "NT_REPORT_PERIOD": "250",
        "NT_XYZZY_PLUGH": "1",
        "NT_TEST_KAFKA_URL": "kafka://x",
        "NT_PARTITIONS": "1",
        "KAFKA_URLS": "x",
    }
    assert unknown_variables(environ) == {
        "NT_REPORT_PERIOD": "NT_REPORT_PERIOD_MS",
        "NT_XYZZY_PLUGH": None,
    }


def test_every_setting_says_what_it_is_and_what_it_takes() -> None:
    """The page of settings is made of this."""
    for info in Settings.model_fields.values():
        assert info.description
        assert info.description.endswith((".", ")."))
        assert allowed(info)
        assert not isinstance(info.default, float) or math.isfinite(info.default)


# --- as a process ---------------------------------------------------------------------------------


def _tapeline(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    from tests.support.commands import environment

    return subprocess.run(
        [sys.executable, "-m", "tapeline.cli", *arguments],
        env=environment(**environ),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "environ", "said"),
    [
        (
            ("config",),
            {"NT_REPORT_PERIOD_MS": "5"},
            "NT_REPORT_PERIOD_MS is '5'; expected an integer from 100 to 1000",
        ),
        (("report", "BTCUSDT"), {"NT_SERVE_PORT": "1"}, "REDIS_URL is not set"),
        (("serve",), {}, "REDIS_URL is not set"),
        (("serve",), {"REDIS_URL": "h:1"}, "REDIS_URL is 'h:1'"),
        (("bridge",), {"REDIS_URL": "redis://h:1"}, "KAFKA_URL is not set"),
        (
            ("bridge",),
            {"REDIS_URL": "redis://h:1", "KAFKA_URL": "kafka://h:1"},
            "SYMBOLS is not set",
        ),
        (("dev",), {"NT_LEASE_TTL_MS": "1"}, "NT_LEASE_TTL_MS is '1'"),
        (("topics", "plan"), {}, "KAFKA_URL is not set"),
    ],
)
def test_a_wrong_setting_ends_any_command_with_status_2_and_one_error(
    command: tuple[str, ...], environ: dict[str, str], said: str
) -> None:
    """No traceback, nothing on stdout."""
    done = _tapeline(*command, **environ)
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
    assert len(errors) == 1
    assert errors[0].startswith("ERROR: " + said)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_config_prints_masked_settings_and_warns_of_a_slip() -> None:
    """As JSON, on the last line."""
    import json

    done = _tapeline(
        "config", "--json", REDIS_URL="redis://u:hush@h/0", NT_SERVEPORT="1", NT_SERVE_PORT="8081"
    )
    assert done.returncode == 0
    values: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert values["REDIS_URL"] == "redis://u:***@h/0"
    assert values["NT_SERVE_PORT"] == 8081
    assert "WARNING: NT_SERVEPORT is not a setting; did you mean NT_SERVE_PORT?" in done.stderr
    assert "hush" not in done.stdout + done.stderr
