"""The scripts as typed calls: loaded once, run by hash, sent in full where Redis lost them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from lua.keys import Keys, LeaseKeys
from lua.replies import (
    AcquireCode,
    Acquired,
    BeatCode,
    Beaten,
    PublishCode,
    ReleaseCode,
    RenewCode,
    ReportWrite,
    Sight,
    TickWrite,
    TokenLimit,
    raw,
    text,
)

Argument = str | bytes | int


@dataclass(frozen=True, slots=True)
class Script:
    """One script.

    Attributes:
        name: Its file's, without the suffix.
        source: Its text.
        sha: What EVALSHA calls it by.
    """

    name: str
    source: str
    sha: str


def load_script(name: str) -> Script:
    """The script of that name out of the package."""
    source = resources.files("lua").joinpath(f"{name}.lua").read_text("utf-8")
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


NAMES: Final = ("acquire", "renew", "release", "look", "publish", "publish_tick", "beat")

WHATEVER_IS_LEFT_MS: Final = 2**53
"""Above the life of any lease."""

TRACE_MS: Final = 10_000
"""How long readers find out which trace a report is of."""

DEFAULT_SCRIPTS: Final = {name: load_script(name) for name in NAMES}


class Call(NamedTuple):
    """A script with what it is to be given."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[Argument, ...]


class Scripts:
    """Runs the scripts on one Redis.

    A call is one round trip. Where Redis does not know a script (a restart, ``SCRIPT FLUSH``)
    it has run nothing, so the call is repeated with the script's text. Every method may raise
    `redis.exceptions.RedisError`: whether the step was done is then unknown.

    Args:
        redis: The client; its timeouts and retries are the caller's business.
        keys: Key names.
        scripts: Instead of the package's, for tests.
    """

    def __init__(
        self, redis: Redis, keys: Keys | None = None, scripts: dict[str, Script] | None = None
    ) -> None:
        self._redis = redis
        self.keys = keys or Keys()
        self._scripts = {**DEFAULT_SCRIPTS, **(scripts or {})}

    # --- leases --------------------------------------------------------------------------------

    async def acquire(
        self,
        keys: LeaseKeys,
        node: str,
        incarnation: str,
        ttl_ms: int,
        floor: int = 0,
        *,
        steal_below_ms: int = 0,
        expected: str = "",
    ) -> Acquired:
        """Take a lease.

        Args:
            keys: Which.
            node: Who; without ``|``.
            incarnation: Which start of it; without ``|``.
            ttl_ms: Life of the lease.
            floor: Highest token the caller has ever seen.
            steal_below_ms: Take another's if it has less than this left; 0 never.
            expected: The other's lease value as the caller saw it.

        Raises:
            TokenLimit: No token is left.
        """
        call = self._acquire(keys, node, incarnation, ttl_ms, floor, steal_below_ms, expected)
        try:
            return _acquired(await self._run(call))
        except ResponseError as error:
            raise _lease_error(error) from None

    async def acquire_many(
        self,
        wishes: Sequence[tuple[LeaseKeys, int, str]],
        node: str,
        incarnation: str,
        ttl_ms: int,
    ) -> list[Acquired | TokenLimit | RedisError]:
        """Take many leases in one round trip.

        Args:
            wishes: Of each its keys, its floor, and the lease value to steal whatever is left
                of it ('' to steal none).
            node: Who; without ``|``.
            incarnation: Which start of it; without ``|``.
            ttl_ms: Life of the leases.

        Returns:
            One answer a wish, in order; an error concerns that wish only.
        """
        replies = await self._run_many(
            [
                self._acquire(
                    keys,
                    node,
                    incarnation,
                    ttl_ms,
                    floor,
                    WHATEVER_IS_LEFT_MS if expected else 0,
                    expected,
                )
                for keys, floor, expected in wishes
            ]
        )
        return [
            _lease_error(reply) if isinstance(reply, RedisError) else _acquired(reply)
            for reply in replies
        ]

    async def renew(self, lease: str, lease_value: str, ttl_ms: int) -> RenewCode:
        """Extend the lease at key ``lease`` to ``ttl_ms`` from now."""
        return RenewCode(await self._run(self._renew(lease, lease_value, ttl_ms)))

    async def renew_many(
        self, leases: Sequence[tuple[str, str]], ttl_ms: int
    ) -> list[RenewCode | RedisError]:
        """Extend many leases, (key, value) each, in one round trip; one answer each, in order."""
        replies = await self._run_many(
            [self._renew(lease, lease_value, ttl_ms) for lease, lease_value in leases]
        )
        return [r if isinstance(r, RedisError) else RenewCode(r) for r in replies]

    async def release(self, lease: str, lease_value: str) -> ReleaseCode:
        """Give back the lease at key ``lease``."""
        return ReleaseCode(await self._run(self._release(lease, lease_value)))

    async def release_many(
        self, leases: Sequence[tuple[str, str]]
    ) -> list[ReleaseCode | RedisError]:
        """Give back many leases, (key, value) each, in one round trip; one answer each."""
        replies = await self._run_many([self._release(*lease) for lease in leases])
        return [r if isinstance(r, RedisError) else ReleaseCode(r) for r in replies]

    async def look(self, keys: LeaseKeys) -> Sight:
        """Who holds a lease, and what has been published under it."""
        return _sight(await self._run(self._look(keys)))

    async def look_many(self, leases: Sequence[LeaseKeys]) -> list[Sight | RedisError]:
        """Who holds these leases and what they have published, in one round trip."""
        replies = await self._run_many([self._look(keys) for keys in leases])
        return [r if isinstance(r, RedisError) else _sight(r) for r in replies]

    # --- reports -------------------------------------------------------------------------------

    async def publish(self, write: ReportWrite, ttl_ms: int) -> PublishCode:
        """Store a report that lives ``ttl_ms``."""
        return PublishCode(await self._run(self._publish(write, ttl_ms)))

    async def publish_tick(self, write: TickWrite, ttl_ms: int) -> PublishCode:
        """Store a tick that lives ``ttl_ms``."""
        return PublishCode(await self._run(self._publish_tick(write, ttl_ms)))

    async def publish_many(
        self,
        writes: Sequence[ReportWrite | TickWrite],
        ttl_ms: int,
        traces: Sequence[tuple[str, str]] = (),
    ) -> list[PublishCode | RedisError]:
        """Store many reports and ticks in one round trip; one answer each, in order.

        Args:
            writes: What to store.
            ttl_ms: Life of each.
            traces: Keys and values set in the same round trip, before the writes: which traces
                they are of. A write that is refused leaves its trace there, of a report that
                nobody reads.
        """
        replies = await self._run_many(
            [
                self._publish(write, ttl_ms)
                if isinstance(write, ReportWrite)
                else self._publish_tick(write, ttl_ms)
                for write in writes
            ],
            traces,
        )
        return [r if isinstance(r, RedisError) else PublishCode(r) for r in replies]

    # --- nodes ---------------------------------------------------------------------------------

    async def beat(
        self, node_id: str, incarnation: str, payload: bytes, ttl_s: int, *, replaces: str = ""
    ) -> Beaten:
        """Say that a node lives.

        Args:
            node_id: Its name.
            incarnation: Which start of it.
            payload: JSON with ``incarnation``.
            ttl_s: Life of the heartbeat; 0 leaves.
            replaces: An incarnation known to be dead, whose name is taken over.
        """
        reply = await self._run(
            Call(
                self._scripts["beat"],
                (self.keys.node(node_id), self.keys.nodes()),
                (node_id, incarnation, payload, ttl_s, replaces),
            )
        )
        return Beaten(BeatCode(reply[0]), raw(reply[1]), tuple(text(id_) for id_ in reply[2]))

    async def heartbeats(self, node_ids: Sequence[str]) -> dict[str, bytes]:
        """The heartbeats of those of these nodes that have one."""
        if not node_ids:
            return {}
        found = await self._redis.mget([self.keys.node(node_id) for node_id in node_ids])
        return {n: raw(beat) for n, beat in zip(node_ids, found, strict=True) if beat is not None}

    # --- calls ---------------------------------------------------------------------------------

    def _acquire(
        self,
        keys: LeaseKeys,
        node: str,
        incarnation: str,
        ttl_ms: int,
        floor: int,
        steal_below_ms: int,
        expected: str,
    ) -> Call:
        if "|" in node or "|" in incarnation or not node or not incarnation:
            raise ValueError(
                f"node {node!r}, incarnation {incarnation!r}; expected non-empty texts without '|'"
            )
        args = (node, incarnation, ttl_ms, floor, steal_below_ms, expected)
        return Call(self._scripts["acquire"], (keys.lease, keys.counter, keys.meta), args)

    def _renew(self, lease: str, lease_value: str, ttl_ms: int) -> Call:
        return Call(self._scripts["renew"], (lease,), (lease_value, ttl_ms))

    def _release(self, lease: str, lease_value: str) -> Call:
        return Call(self._scripts["release"], (lease,), (lease_value,))

    def _look(self, keys: LeaseKeys) -> Call:
        return Call(self._scripts["look"], (keys.lease, keys.meta), ())

    def _publish(self, write: ReportWrite, ttl_ms: int) -> Call:
        report, (lease, counter, meta) = (
            self.keys.report(write.symbol),
            self.keys.writer(write.symbol),
        )
        return Call(
            self._scripts["publish"],
            (report, self.keys.heavy(write.symbol), lease, counter, meta),
            (
                write.lease_value,
                write.token,
                write.seq,
                write.watermark,
                write.updated_at,
                ttl_ms,
                write.payload,
                write.heavy,
                report,
                _announcement(write),
            ),
        )

    def _publish_tick(self, write: TickWrite, ttl_ms: int) -> Call:
        tick, (lease, counter, meta) = self.keys.tick(write.symbol), self.keys.writer(write.symbol)
        return Call(
            self._scripts["publish_tick"],
            (tick, lease, counter, meta),
            (
                write.lease_value,
                write.token,
                write.seq,
                write.watermark,
                ttl_ms,
                write.payload,
                tick,
                _announcement(write),
            ),
        )

    # --- running -------------------------------------------------------------------------------

    async def _run(self, call: Call) -> Any:
        script, keys, args = call
        try:
            return await self._redis.evalsha(script.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await self._redis.eval(script.source, len(keys), *keys, *args)

    async def _run_many(
        self, calls: Sequence[Call], traces: Sequence[tuple[str, str]] = ()
    ) -> list[Any]:
        """Replies in order, an error reply as its exception."""
        if not calls:
            return []
        replies = await self._pipeline(calls, by_text=False, traces=traces)
        unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            again = await self._pipeline([calls[at] for at in unknown], by_text=True)
            for at, reply in zip(unknown, again, strict=True):
                replies[at] = reply
        return replies

    async def _pipeline(
        self, calls: Sequence[Call], *, by_text: bool, traces: Sequence[tuple[str, str]] = ()
    ) -> list[Any]:
        sent: set[str] = set()
        async with self._redis.pipeline(transaction=False) as pipe:
            for key, value in traces:
                pipe.set(key, value, px=TRACE_MS)
            for script, keys, args in calls:
                if by_text and script.name not in sent:
                    sent.add(script.name)  # EVAL also makes it known to the EVALSHAs behind it
                    pipe.execute_command("EVAL", script.source, len(keys), *keys, *args)
                else:
                    pipe.execute_command("EVALSHA", script.sha, len(keys), *keys, *args)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
        return replies[len(traces) :]


def _announcement(write: ReportWrite | TickWrite) -> str:
    return f'{{"symbol":"{write.symbol}","token":{write.token},"seq":{write.seq}}}'


def _acquired(reply: Any) -> Acquired:
    code, token, lease_value, pttl_ms, last_seq, last_updated_at = reply
    return Acquired(AcquireCode(code), token, text(lease_value), pttl_ms, last_seq, last_updated_at)


def _sight(reply: Any) -> Sight:
    lease_value, pttl_ms, token, watermark = reply
    return Sight(text(lease_value), pttl_ms, token, watermark)


def _lease_error(error: RedisError) -> TokenLimit | RedisError:
    return TokenLimit(str(error)) if str(error).startswith("TOKENLIMIT") else error
