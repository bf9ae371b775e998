"""Feed leases: which bridge may write a (venue, symbol), and under which token.

The token travels in each record and the engine drops lower ones, so two bridges of one symbol do
no harm: the lease only says which of them need not bother. That is why Redis being away is no
reason to stop. A token is taken from us by a grant to another, a grant needs Redis, and when it
is back the lease is either still ours, or we learn that it is not. Only that answer mutes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from lua import LeaseKeys, RenewCode, Scripts, TokenLimit
from tapeline.logging import get_logger

RELEASE_S: Final = 1.0

SOONEST_MS: Final = 20.0
SLACK_MS: Final = 5.0
"""Another's lease is asked for this long after it would have run out."""

log = get_logger("feed_lease")


class FeedKey(NamedTuple):
    """What a feed lease is about."""

    venue: str
    symbol: str


class Holder(Protocol):
    """Who is told."""

    def granted(self, key: FeedKey, token: int) -> None:
        """The lease is ours, under a token that was never ours before."""
        ...

    def revoked(self, key: FeedKey) -> None:
        """The lease is another's."""
        ...


class _Lease(NamedTuple):
    token: int
    value: str


def lease_client(redis_url: str, ttl_ms: int) -> Redis:
    """A connection of its own that answers, or fails, well within a lease's life."""
    timeout_s = ttl_ms / 4000
    return Redis.from_url(
        redis_url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )


class FeedLeases:
    """Takes, renews and gives back leases.

    Attributes:
        reachable: Whether Redis answered last time.
        lost: Leases that became another's.
    """

    def __init__(
        self,
        scripts: Scripts,
        keys: Iterable[FeedKey],
        holder: Holder,
        *,
        node_id: str,
        incarnation: str,
        ttl_ms: int,
    ) -> None:
        """Nothing is asked of Redis before `run`.

        Args:
            scripts: On a client of `lease_client`.
            keys: All leases to take.
            holder: Told of grants and losses.
            node_id: Of this process, for people to read.
            incarnation: Of this run: a lease left by an earlier one is not ours.
            ttl_ms: Life of a lease; it is renewed each quarter of it.
        """
        self.reachable = False
        self.lost = 0
        self._scripts, self._holder = scripts, holder
        self._node_id, self._incarnation, self._ttl_ms = node_id, incarnation, ttl_ms
        self._wanted = dict.fromkeys(keys)
        self._held: dict[FeedKey, _Lease] = {}
        self._newest: dict[FeedKey, int] = {}
        self._unwanted: list[tuple[str, str]] = []
        self._told = False
        self._free_in_ms = float(ttl_ms)  # the first of the leases that are another's
        self._hurry = asyncio.Event()

    def token(self, key: FeedKey) -> int:
        """The token held; 0 for none."""
        lease = self._held.get(key)
        return lease.token if lease else 0

    async def run(self) -> None:
        """Keep the leases until cancelled.

        Raises:
            TokenLimit: Redis can grant no higher token.
        """
        while True:
            self._hurry.clear()
            await self.step()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_ms() / 1000):
                    await self._hurry.wait()

    def _pause_ms(self) -> float:
        """Until the next renewal, or until another's lease would have run out."""
        return max(SOONEST_MS, min(self._ttl_ms / 4, self._free_in_ms + SLACK_MS))

    async def step(self) -> None:
        """Renew what is held, ask for what is not."""
        try:
            await self._renew()
            # Before asking: one of them may be wanted again.
            unwanted, self._unwanted = self._unwanted, []
            await self._scripts.release_many(unwanted)
            await self._acquire()
        except (RedisError, OSError, TimeoutError) as exc:
            if self.reachable or not self._told:
                log.warning(
                    "redis.unavailable",
                    error=str(exc) or type(exc).__name__,
                    tokens_kept=len(self._held),
                )
            self.reachable, self._told = False, True
        else:
            if not self.reachable and self._told:
                log.info("redis.available")
            self.reachable = True

    def want(self, key: FeedKey) -> None:
        """Have one more lease, as soon as it can be had."""
        self._wanted[key] = None
        self._hurry.set()

    def forget(self, key: FeedKey) -> None:
        """Do without one lease from now on: its symbol is not listed, or followed no more."""
        self._wanted.pop(key, None)
        lease = self._held.pop(key, None)
        if lease is not None:
            self._unwanted.append((self._keys(key).lease, lease.value))

    async def release(self) -> None:
        """Let go of all leases, in bounded time: the next bridge need not wait them out."""
        held, self._held = self._held, {}
        self._wanted.clear()
        await self._release([(self._keys(key).lease, lease.value) for key, lease in held.items()])

    async def _release(self, leases: list[tuple[str, str]]) -> None:
        if not leases:
            return
        try:
            async with asyncio.timeout(RELEASE_S):
                await self._scripts.release_many(leases)
        except (RedisError, OSError, TimeoutError) as exc:
            log.warning("feed.not_released", leases=len(leases), error=str(exc))

    async def _renew(self) -> None:
        held = [*self._held.items()]
        leases = [(self._keys(key).lease, lease.value) for key, lease in held]
        replies = await self._scripts.renew_many(leases, self._ttl_ms)
        for (key, lease), reply in zip(held, replies, strict=True):
            if isinstance(reply, RedisError):
                raise reply
            if reply is not RenewCode.RENEWED and self._held.get(key) == lease:
                del self._held[key]
                self.lost += 1
                self._holder.revoked(key)

    async def _acquire(self) -> None:
        """Right after a loss too: a lease that merely ran out is ours again, with a new token."""
        missing = [key for key in self._wanted if key not in self._held]
        replies = await self._scripts.acquire_many(
            [(self._keys(key), self._newest.get(key, 0), "") for key in missing],
            self._node_id,
            self._incarnation,
            self._ttl_ms,
        )
        self._free_in_ms = float(self._ttl_ms)
        for key, reply in zip(missing, replies, strict=True):
            if isinstance(reply, (RedisError, TokenLimit)):
                raise reply
            if not reply.mine and reply.pttl_ms >= 0:
                self._free_in_ms = min(self._free_in_ms, reply.pttl_ms)
            if reply.mine and key in self._wanted:
                self._held[key] = _Lease(reply.token, reply.lease_value)
                self._newest[key] = reply.token
                self._holder.granted(key, reply.token)

    def _keys(self, key: FeedKey) -> LeaseKeys:
        return self._scripts.keys.feed(*key)
