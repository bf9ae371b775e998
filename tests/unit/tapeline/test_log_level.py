"""The level of logs while a process runs: who decides, for how long, and what is said of it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from lua import Keys
from tapeline.clock import ManualClock
from tapeline.config import load_settings
from tapeline.errors import ConfigError, StackError
from tapeline.log_level import SIGNAL, SIGNAL_MS, LevelRule, Levels, levels_followed
from tapeline.log_level_cli import _set, seconds_of
from tapeline.logging import LIBRARIES, set_level
from tests.support.worker import eventually

NOBODY = (None, -2)
NODE_KEY, ALL_KEY = Keys().log_level("n1"), Keys().log_level("*")


@pytest.fixture
def levels_restored() -> Iterator[None]:
    names = ("", *LIBRARIES)
    before = {name: logging.getLogger(name).level for name in names}
    handler = signal.getsignal(SIGNAL)
    yield
    signal.signal(SIGNAL, handler)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


# --- the rule -------------------------------------------------------------------------------------


def test_a_level_ends_with_its_time() -> None:
    rule = LevelRule("INFO")
    assert rule.at(0).level == "INFO"
    rule.told(NOBODY, (b"DEBUG", 500), now_ms=1000)
    assert [rule.at(now).level for now in (1000, 1499, 1500)] == ["DEBUG", "DEBUG", "INFO"]


def test_the_nearer_word_wins() -> None:
    """Signal, node, all, configured."""
    rule = LevelRule("INFO")
    rule.told((b"ERROR", 500), (b"DEBUG", 900), now_ms=0)
    assert rule.at(1) == ("ERROR", 500, "node")
    assert rule.at(600) == ("DEBUG", 900, "all")
    rule.signalled(1)
    assert rule.at(2).why == "signal"
    assert rule.at(2).level == "DEBUG"


def test_a_second_signal_takes_the_first_back() -> None:
    rule = LevelRule("WARNING")
    rule.signalled(0)
    assert rule.at(SIGNAL_MS - 1).level == "DEBUG"
    assert rule.at(SIGNAL_MS).level == "WARNING"
    rule.signalled(SIGNAL_MS)
    rule.signalled(SIGNAL_MS + 1)
    assert rule.at(SIGNAL_MS + 2).level == "WARNING"


def test_what_is_withdrawn_is_over_at_once() -> None:
    rule = LevelRule("INFO")
    rule.told(NOBODY, (b"DEBUG", 9_000), now_ms=0)
    rule.told(NOBODY, NOBODY, now_ms=1)
    assert rule.at(1).level == "INFO"


@pytest.mark.parametrize("value", [b"LOUD", b"", b"\xff", 7])
def test_a_value_that_is_no_level_is_none(value: Any) -> None:
    rule = LevelRule("INFO")
    rule.told(NOBODY, (value, 500), now_ms=0)
    assert rule.at(1).level == "INFO"


def test_a_key_set_by_hand_without_an_end_has_none() -> None:
    rule = LevelRule("INFO")
    rule.told((b"DEBUG", -1), NOBODY, now_ms=0)
    assert rule.at(10**15).level == "DEBUG"


# --- what is done ---------------------------------------------------------------------------------


def test_a_change_is_said_once_at_the_louder_level() -> None:
    """Or nobody would read it."""
    clock, done = ManualClock(), []
    levels = Levels("INFO", clock, done.append)
    levels.settle()
    assert done == []
    levels.signalled()
    assert done == ["DEBUG", "DEBUG"]
    levels.rule.told((b"ERROR", 500), NOBODY, clock.monotonic_ms())
    levels.signalled()
    assert done[2:] == ["DEBUG", "ERROR"]
    clock.advance(500)
    levels.settle()
    levels.settle()
    assert done[4:] == ["INFO", "INFO"]


def test_libraries_stay_as_quiet_as_they_were(levels_restored: None) -> None:
    """Their requests and connections are of use to their authors alone."""
    set_level("DEBUG")
    assert logging.getLogger("tapeline.x").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("aiokafka.conn").isEnabledFor(logging.INFO)
    set_level("ERROR")
    assert not logging.getLogger("aiokafka.conn").isEnabledFor(logging.WARNING)
    assert not logging.getLogger("tapeline.x").isEnabledFor(logging.WARNING)


def test_a_handler_with_a_level_of_its_own_lets_more_through(levels_restored: None) -> None:
    """Faust sets one, where a worker is started quiet."""
    handler = logging.NullHandler(level=logging.WARNING)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        set_level("DEBUG")
        assert handler.level == logging.DEBUG
    finally:
        root.removeHandler(handler)


async def test_redis_away_takes_nothing_back_before_its_time() -> None:
    class Away:
        def pipeline(self, **_: Any) -> Any:
            raise RedisConnectionError

    clock, done = ManualClock(), []
    levels = Levels("INFO", clock, done.append)
    levels.rule.told(NOBODY, (b"DEBUG", 500), 0)
    for now_ms, level in ((0, "DEBUG"), (499, "DEBUG"), (500, "INFO")):
        clock.time_ms = now_ms
        task = asyncio.create_task(levels.follow(Away(), NODE_KEY, ALL_KEY))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert done[-1] == level


# --- in a process ---------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_key_and_a_signal_change_a_process(
    redis_url: str, levels_restored: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is as before when they are over."""
    monkeypatch.setattr("tapeline.log_level.POLL_S", 0.05)
    settings = load_settings({"NT_NODE_ID": "n1", "NT_LOG_LEVEL": "INFO"})
    root = logging.getLogger()
    root.setLevel("INFO")

    async def level_is(level: int) -> bool:
        return root.level == level

    async with levels_followed(settings, redis_url, NODE_KEY, ALL_KEY):
        said = await _set(redis_url, ALL_KEY, "DEBUG", 60)
        assert (said["level"], said["for_s"]) == ("DEBUG", 60)
        await eventually(lambda: level_is(logging.DEBUG))
        await _set(redis_url, NODE_KEY, "ERROR", 1)
        await eventually(lambda: level_is(logging.ERROR))
        await eventually(lambda: level_is(logging.DEBUG))
        assert (await _set(redis_url, ALL_KEY, "RESET", 1))["level"] is None
        await eventually(lambda: level_is(logging.INFO))
        os.kill(os.getpid(), SIGNAL)
        await eventually(lambda: level_is(logging.DEBUG))
        os.kill(os.getpid(), SIGNAL)
        await eventually(lambda: level_is(logging.INFO))
    os.kill(os.getpid(), SIGNAL)  # late: it must not end the process


async def test_without_redis_a_signal_does(levels_restored: None) -> None:
    root = logging.getLogger()
    root.setLevel("INFO")
    async with levels_followed(load_settings({}), "", NODE_KEY, ALL_KEY) as levels:
        levels.signalled()
        assert root.level == logging.DEBUG


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("168h", 604_800)]
)
def test_a_time_is_read(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0m", "-5s", "5d", "1.5h", "169h", "m", "ten"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--for is .*; expected a time from 1s to 168h"):
        seconds_of(text)


async def test_redis_away_is_said() -> None:
    with pytest.raises(StackError, match="Redis did not answer"):
        await _set("redis://127.0.0.1:1/0", ALL_KEY, "DEBUG", 1)


def test_the_keys_are_where_a_reader_s_user_may_read() -> None:
    """Beside heartbeats, and no node's heartbeat."""
    for keys in (Keys(), Keys(cluster=True)):
        for name in ("n1", "*"):
            key = keys.log_level(name)
            assert key == f"{keys.node(name)}:log_level"
            assert keys.node_of(key) == ""
