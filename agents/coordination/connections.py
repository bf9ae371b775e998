"""Connections to Redis: one client that must answer in time or not at all, one for the rest."""

from __future__ import annotations

from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig

FAILURES: Final = (RedisError, OSError, TimeoutError)
"""What a round trip may end in when Redis is away, slow or unwilling."""

READER_CONNECTIONS: Final = 20
READER_TIMEOUT_S: Final = 5.0
READER_RETRIES: Final = 3


class Connections:
    """The clients of one process.

    Attributes:
        writer: For leases, heartbeats and publishing. A command is sent once: its timeout is a
            quarter of the lease's life and nothing is repeated behind the caller's back, for a
            repeated command could act after its sender's right has passed.
        reader: For everything else; pooled and patient.
        listener: For one subscription, which waits for as long as nothing is said.
    """

    def __init__(self, redis_url: str, lease_ttl_ms: int) -> None:
        # With notifications on, a pooled connection that the server has closed is not noticed
        # before the next command fails on it.
        common: dict[str, Any] = {
            "health_check_interval": 0,
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        }
        self.timeout_s = lease_ttl_ms / 4 / 1000
        self.writer: Redis = Redis.from_url(
            redis_url,
            socket_timeout=self.timeout_s,
            socket_connect_timeout=self.timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,  # nothing here needs 3, and connecting is a round trip shorter
            driver_info=None,
            **common,
        )
        self.reader: Redis = Redis.from_url(
            redis_url,
            socket_timeout=READER_TIMEOUT_S,
            socket_connect_timeout=READER_TIMEOUT_S,
            retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), READER_RETRIES),
            max_connections=READER_CONNECTIONS,
            **common,
        )

        self.listener: Redis = Redis.from_url(
            redis_url,
            socket_connect_timeout=self.timeout_s,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
            **common,
        )

    async def close(self) -> None:
        """Close all connections."""
        for client in (self.writer, self.reader, self.listener):
            await client.aclose()


def failure_reason(error: BaseException) -> str:
    """A short word for a failed round trip: ``timeout``, ``connection`` or ``refused``."""
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return "timeout"
    if isinstance(error, OSError | RedisConnectionError):
        return "connection"
    return "refused"
