"""The lease against a model of ten lines, in whatever order Hypothesis thinks of."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from redis.asyncio import Redis

from lua import (
    AcquireCode,
    Acquired,
    Keys,
    PublishCode,
    ReleaseCode,
    RenewCode,
    ReportWrite,
    Scripts,
)
from tests.support.redis_process import RedisProcess

S = Keys().writer("X")
TTL_MS = 60_000  # nothing ends by itself here

NODES = st.sampled_from(["a", "b", "c"])


class Model:
    """What a lease is."""

    def __init__(self) -> None:
        self.holder: Acquired | None = None
        self.by = ""
        self.newest = 0

    def acquire(self, who: str, floor: int) -> tuple[AcquireCode, int]:
        """The code, and the token or the least that it may be."""
        if self.holder is None:
            return AcquireCode.GRANTED, max(self.newest, floor) + 1
        if self.by != who:
            return AcquireCode.HELD, self.newest
        if self.holder.token >= max(self.newest, floor):
            return AcquireCode.HELD_BY_ME, self.holder.token
        return AcquireCode.GRANTED, max(self.newest, floor) + 1

    def publish(self, lease: Acquired) -> PublishCode:
        if lease.token < self.newest:
            return PublishCode.FENCED
        owner = self.holder is not None and self.holder.lease_value == lease.lease_value
        return PublishCode.OK if owner else PublishCode.NOT_OWNER


class LeaseMachine(RuleBasedStateMachine):
    """Three nodes, one lease; every grant ever made may be used at any later time."""

    url = ""
    grants: Bundle[Acquired] = Bundle("grants")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.redis = Redis.from_url(self.url)
        self.scripts = Scripts(self.redis)
        self.model = Model()
        self.floors = dict.fromkeys("abc", 0)
        self.seq = 0
        self.runner.run(self.redis.flushall())

    def teardown(self) -> None:
        self.runner.run(self.redis.aclose())
        self.runner.close()

    @rule(target=grants, who=NODES, ahead=st.integers(0, 3))
    def acquire(self, who: str, ahead: int) -> object:
        floor = self.floors[who] + ahead
        code, token = self.model.acquire(who, floor)
        got = self.runner.run(self.scripts.acquire(S, who, "1", TTL_MS, floor))
        assert got.code is code
        if code is AcquireCode.GRANTED:
            assert got.token >= token
        else:
            assert got.token == token
        return self.take(who, got)

    @rule(target=grants, who=NODES, seen=grants)
    def steal(self, who: str, seen: Acquired) -> object:
        holder = self.model.holder
        wish = self.scripts.acquire_many(
            [(S, self.floors[who], seen.lease_value)], who, "1", TTL_MS
        )
        (got,) = self.runner.run(wish)
        assert isinstance(got, Acquired)
        code, _ = self.model.acquire(who, self.floors[who])
        if code is AcquireCode.HELD and holder and holder.lease_value == seen.lease_value:
            code = AcquireCode.STOLEN
            assert got.token > self.model.newest
        assert got.code is code
        return self.take(who, got)

    def take(self, who: str, got: Acquired) -> object:
        self.floors[who] = max(self.floors[who], got.token)
        if not got.mine:
            return multiple()
        self.model.holder, self.model.by = got, who
        self.model.newest = max(self.model.newest, got.token)
        return got

    @rule(lease=grants)
    def renew(self, lease: Acquired) -> None:
        holder = self.model.holder
        alive = holder is not None and holder.lease_value == lease.lease_value
        code = self.runner.run(self.scripts.renew(S.lease, lease.lease_value, TTL_MS))
        assert code is (RenewCode.RENEWED if alive else RenewCode.LOST)

    @rule(lease=consumes(grants))
    def release(self, lease: Acquired) -> None:
        holder = self.model.holder
        alive = holder is not None and holder.lease_value == lease.lease_value
        code = self.runner.run(self.scripts.release(S.lease, lease.lease_value))
        assert code is (ReleaseCode.RELEASED if alive else ReleaseCode.NOT_HELD)
        if alive:
            self.model.holder = None

    @rule(lease=grants)
    def publish(self, lease: Acquired) -> None:
        self.seq += 1
        write = ReportWrite(
            symbol="X",
            lease_value=lease.lease_value,
            token=lease.token,
            seq=self.seq,
            watermark=self.seq,
            updated_at=self.seq,
            payload=b"{}",
        )
        assert self.runner.run(self.scripts.publish(write, TTL_MS)) is self.model.publish(lease)

    @rule()
    def expire(self) -> None:
        self.runner.run(self.redis.delete(S.lease))
        self.model.holder = None

    @rule()
    def forget_scripts(self) -> None:
        self.runner.run(self.redis.script_flush())

    @invariant()
    def redis_holds_what_the_model_holds(self) -> None:
        held = self.runner.run(self.redis.get(S.lease))
        assert held == (self.model.holder.lease_value.encode() if self.model.holder else None)
        counter = self.runner.run(self.redis.get(S.counter))
        assert int(counter or 0) == self.model.newest


@pytest.fixture
def machine(server: RedisProcess) -> Iterator[type[LeaseMachine]]:
    LeaseMachine.url = server.url
    yield LeaseMachine
    LeaseMachine.url = ""


@pytest.mark.slow
def test_a_lease_is_what_the_model_says(machine: type[LeaseMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
