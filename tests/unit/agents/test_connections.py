"""How the two clients differ, and what failures are called."""

from __future__ import annotations

import pytest
from redis.exceptions import BusyLoadingError, ReadOnlyError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from agents.coordination.connections import Connections, failure_reason


async def test_a_decision_is_sent_once_and_waited_for_a_quarter_of_the_lease() -> None:
    connections = Connections("redis://127.0.0.1:1/0", 2000)
    settings = connections.writer.connection_pool.connection_kwargs
    assert settings["socket_timeout"] == settings["socket_connect_timeout"] == 0.5
    assert settings["retry"].get_retries() == 0
    assert settings["health_check_interval"] == 0
    with pytest.raises(RedisConnectionError):
        await connections.writer.ping()
    await connections.close()


async def test_readers_are_pooled_and_patient() -> None:
    connections = Connections("redis://127.0.0.1:1/0", 400)
    pool = connections.reader.connection_pool
    assert pool.max_connections == 20
    assert pool.connection_kwargs["socket_timeout"] == 5.0
    assert pool.connection_kwargs["retry"].get_retries() == 3
    assert connections.timeout_s == 0.1
    await connections.close()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "timeout"),
        (RedisTimeoutError(), "timeout"),
        (RedisConnectionError(), "connection"),
        (ConnectionResetError(), "connection"),
        (BusyLoadingError(), "connection"),
        (ReadOnlyError(), "refused"),
    ],
)
def test_failures_have_short_names(error: Exception, reason: str) -> None:
    assert failure_reason(error) == reason
