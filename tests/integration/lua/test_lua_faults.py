"""Under any order of faults accepted writes are in order; with a check taken out they are not."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from lua import PublishCode, Scripts
from tests.support.fence_faults import walk, without

SEEDS = range(8)


async def test_accepted_writes_are_in_order_whatever_happens(
    redis: Redis, scripts: Scripts
) -> None:
    seen: set[PublishCode] = set()
    writes = 0
    for seed in SEEDS:
        accepted = await walk(redis, scripts, seed)
        assert accepted.violations() == [], f"seed {seed}"
        seen |= accepted.codes.keys()
        writes += len(accepted.writes)
    assert seen == set(PublishCode), "the walk is too tame"
    assert writes > 300


@pytest.mark.parametrize(
    ("checks", "violation"),
    [
        (("FENCED", "NOT_OWNER"), "token fell"),
        (("DUPLICATE",), "(token, seq) did not rise"),
        (("STALE_DATA",), "watermark fell"),
    ],
)
async def test_without_a_check_the_order_breaks(
    redis: Redis, checks: tuple[str, ...], violation: str
) -> None:
    """So the test above can fail: it fails for want of exactly this."""
    broken = Scripts(redis, scripts=without("publish", *checks))
    caught = [
        seed
        for seed in SEEDS
        if any(violation in found for found in (await walk(redis, broken, seed)).violations())
    ]
    # One check may hide another's absence on some walk, never on most.
    assert len(caught) > len(SEEDS) * 3 / 4
