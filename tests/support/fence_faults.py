"""Two writers of one symbol under every fault a script can meet, and what must hold all the same.

Scripts are atomic, so an interleaving of processes is a sequence of script calls: a seeded
random walk over them, with writes held back and sent later as a paused process would, leases
that end while a write is on its way, stolen leases, lost data and forgotten scripts.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field

from redis.asyncio import Redis

from lua import Acquired, Keys, PublishCode, ReportWrite, Scripts
from lua.scripts import Script, load_script

KEYS = Keys()
SYMBOL = "X"
LEASE = KEYS.writer(SYMBOL)
TTL_MS = 60_000

ACTIONS = {
    "acquire": 12,
    "steal": 4,
    "renew": 6,
    "publish": 40,
    "hold_back": 10,
    "send_late": 14,
    "catch_up": 20,
    "expire": 6,
    "forget_scripts": 1,
    "lose_counter": 1,
    "wipe": 0.5,
}
"""What a step does, and how often."""


@dataclass
class Accepted:
    """Writes that Redis accepted, in order, and what it said of the rest."""

    writes: list[ReportWrite] = field(default_factory=list)
    wipes: list[int] = field(default_factory=list)
    codes: dict[PublishCode, int] = field(default_factory=dict)

    def violations(self) -> list[str]:
        """What must never happen, and did."""
        found = []
        for at, (before, now) in enumerate(zip(self.writes, self.writes[1:], strict=False), 1):
            if now.token < before.token:
                found.append(f"write {at}: token fell from {before.token} to {now.token}")
            elif (now.token, now.seq) <= (before.token, before.seq):
                found.append(f"write {at}: (token, seq) did not rise: {now.token}, {now.seq}")
            if at not in self.wipes:  # a watermark lives in Redis alone
                if now.watermark < before.watermark:
                    found.append(f"write {at}: watermark fell to {now.watermark}")
                if now.updated_at <= before.updated_at:
                    found.append(f"write {at}: updated_at did not rise")
        return found


@dataclass
class Writer:
    """One process: knows what it was told, and not what has happened since."""

    name: str
    lease: Acquired | None = None
    floor: int = 0
    seq: int = 0
    updated_at: int = 0
    applied: int = 0
    held_back: list[ReportWrite] = field(default_factory=list)

    def granted(self, got: Acquired) -> None:
        self.floor = max(self.floor, got.token)
        self.lease = got if got.mine else None
        if got.mine:
            self.seq = max(self.seq, got.last_seq)
            self.updated_at = max(self.updated_at, got.last_updated_at)

    def write(self, now_ms: int) -> ReportWrite | None:
        if self.lease is None:
            return None
        self.seq += 1
        self.updated_at = max(self.updated_at + 1, now_ms)
        return ReportWrite(
            symbol=SYMBOL,
            lease_value=self.lease.lease_value,
            token=self.lease.token,
            seq=self.seq,
            watermark=self.applied,
            updated_at=self.updated_at,
            payload=b"{}",
        )


async def walk(redis: Redis, scripts: Scripts, seed: int, steps: int = 400) -> Accepted:
    """A random walk from an empty Redis; the same walk for the same seed."""
    rng = random.Random(seed)
    await redis.flushall()
    writers = [Writer("a"), Writer("b")]
    accepted = Accepted()
    end = 0  # of the topic
    for step in range(steps):
        writer = rng.choice(writers)
        end += rng.randrange(3)
        action = rng.choices(list(ACTIONS), list(ACTIONS.values()))[0]
        if action == "acquire":
            writer.granted(await scripts.acquire(LEASE, writer.name, "1", TTL_MS, writer.floor))
        elif action == "steal":
            seen = await redis.get(LEASE.lease) or b""
            (got,) = await scripts.acquire_many(
                [(LEASE, writer.floor, seen.decode())], writer.name, "1", TTL_MS
            )
            assert isinstance(got, Acquired)
            writer.granted(got)
        elif action == "renew" and writer.lease:
            if not await scripts.renew(LEASE.lease, writer.lease.lease_value, TTL_MS):
                writer.lease = None
        elif action in {"publish", "hold_back"}:
            # One writer's clock is far behind the other's.
            write = writer.write(step if writer.name == "a" else 1_000_000 + step)
            if write and action == "hold_back":
                writer.held_back.append(write)
            elif write:
                await send(scripts, writer, write, accepted)
                if rng.random() < 0.2:
                    await send(scripts, writer, write, accepted)  # its reply was lost
        elif action == "send_late" and writer.held_back:
            late = writer.held_back.pop(rng.randrange(len(writer.held_back)))
            await send(scripts, writer, late, accepted)
        elif action == "catch_up":
            writer.applied = max(writer.applied, end - rng.randrange(20))
        elif action == "expire":
            await redis.delete(LEASE.lease)
        elif action == "forget_scripts":
            await redis.script_flush()
        elif action == "lose_counter":
            await redis.delete(LEASE.counter)
        elif action == "wipe":
            await redis.flushall()
            accepted.wipes.append(len(accepted.writes))
    return accepted


async def send(scripts: Scripts, writer: Writer, write: ReportWrite, accepted: Accepted) -> None:
    code = await scripts.publish(write, TTL_MS)
    accepted.codes[code] = accepted.codes.get(code, 0) + 1
    if code is PublishCode.OK:
        accepted.writes.append(write)
    elif code in {PublishCode.FENCED, PublishCode.NOT_OWNER} and (
        writer.lease and writer.lease.lease_value == write.lease_value
    ):
        writer.lease = None


def without(name: str, *checks: str) -> dict[str, Script]:
    """A copy of a script without the checks that return these codes."""
    source = load_script(name).source
    for check in checks:
        head, found, tail = source.partition(f"\n  return {check}\nend\n")
        assert found, f"{name} has no check {check}"
        source = head[: head.rindex("\nif ") + 1] + tail
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return {name: Script(name, source, sha)}
