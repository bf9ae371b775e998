"""API keys: what is stored of them, and how they are found."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from lua import Keys
from serving.access import SCOPES, Access
from serving.access.keys import KeyStore, decoded, mint, parsed
from serving.access.ring import GRACE_MS, POLL_MS, KeyRing, KeysUnknown
from serving.reader import reader_client
from tapeline.clock import ManualClock
from tapeline.errors import ConfigError, TapelineError
from tests.support.redis_process import RedisProcess

NOW_MS = 1_800_000_000_000


def made(name: str = "desk", scopes: tuple[str, ...] = ("reports:read",)) -> tuple[str, str, str]:
    """(id, text, secret) of a new key; not stored."""
    key, text = mint(name, scopes, None, NOW_MS)
    return key.id, text, text.split("_", 2)[2]


def test_a_key_is_its_id_and_256_random_bits() -> None:
    """What is stored is the hash; the secret is in the text alone."""
    asked: list[int] = []

    def random_bytes(count: int) -> bytes:
        asked.append(count)
        return bytes(range(count))

    key, text = mint("desk", ["ticks:read", "reports:read"], 7, NOW_MS, random_bytes)
    assert asked == [8, 32]
    assert text == f"tl_{key.id}_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    secret = text.split("_", 2)[2]
    assert key.sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in repr(key)
    assert (key.scopes, key.rate_per_s, key.created_ms) == (
        ("reports:read", "ticks:read"), 7, NOW_MS,
    )  # fmt: skip
    assert parsed(text) == (key.id, secret)
    assert key.opens_with(secret)
    assert not key.opens_with(secret[:-1] + "A")
    assert not key.opens_with("")


@given(st.text(max_size=80))
def test_nothing_else_is_a_key(text: str) -> None:
    assert parsed(text) is None


@pytest.mark.parametrize(
    ("name", "scopes", "rate", "says"),
    [
        ("", ["reports:read"], None, "--name"),
        ("a\nb", ["reports:read"], None, "--name"),
        ("desk", [], None, "--scope"),
        ("desk", ["reports:write"], None, "--scope"),
        ("desk", ["admin"], 0, "--rate"),
    ],
)
def test_what_can_be_no_key_is_said(
    name: str, scopes: list[str], rate: int | None, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        mint(name, scopes, rate, NOW_MS)


def test_loopback_may_read_everything_and_change_nothing() -> None:
    assert Access.loopback() == Access("loopback", frozenset(SCOPES) - {"admin"})


def test_what_cannot_be_read_is_no_key() -> None:
    """Nor is one under another's name, which would open with another's secret."""
    assert decoded({b"a": b"{}", b"b": b"no json", b"_version": b"1"}) == {}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_MS)


async def test_a_key_is_stored_listed_and_revoked(redis: Redis) -> None:
    store = KeyStore(redis, Keys())
    key, text = mint("desk", ["reports:read"], None, NOW_MS)
    await store.put(key)
    assert [one.id for one in await store.list()] == [key.id]
    revoked = await store.revoke(key.id, NOW_MS + 5)
    assert revoked.revoked_ms == NOW_MS + 5
    assert (await store.revoke(key.id, NOW_MS + 9)).revoked_ms == NOW_MS + 5
    with pytest.raises(TapelineError, match="no API key 'nobody'"):
        await store.revoke("nobody", NOW_MS)
    everything = b"".join((await redis.hgetall("nt:keys")).values())
    assert text.split("_", 2)[2].encode() not in everything


async def test_a_ring_finds_a_key_by_its_whole_text(redis: Redis, clock: ManualClock) -> None:
    key, text = mint("desk", ["reports:read"], None, NOW_MS)
    await KeyStore(redis, Keys()).put(key)
    ring = KeyRing(redis, Keys(), clock)
    assert await ring.find(text) == key
    assert await ring.current(key.id) == key
    assert ring.in_force == 1
    for wrong in (text[:-1] + ("A" if text[-1] != "A" else "B"), text + "A", text[3:], "", "tl_"):
        assert await ring.find(wrong) is None
    assert await ring.find(made()[1]) is None


async def test_a_revoked_key_is_refused_within_the_poll(redis: Redis, clock: ManualClock) -> None:
    """And within a second by the wall clock, as the poll is a quarter of one."""
    assert POLL_MS <= 500
    store = KeyStore(redis, Keys())
    key, text = mint("desk", ["reports:read"], None, NOW_MS)
    await store.put(key)
    ring = KeyRing(redis, Keys(), clock)
    assert await ring.find(text) is not None
    await store.revoke(key.id, NOW_MS)
    clock.advance(POLL_MS)
    assert await ring.find(text) is None
    assert await ring.current(key.id) is None


async def test_a_new_key_works_at_once_and_guesses_ask_redis_seldom(
    redis: Redis, clock: ManualClock
) -> None:
    """20 looks a second, whatever the number of guesses."""
    ring = KeyRing(redis, Keys(), clock)
    await ring.refresh()
    key, text = mint("desk", ["reports:read"], None, NOW_MS)
    await KeyStore(redis, Keys()).put(key)
    clock.advance(60)
    assert await ring.find(text) == key
    before = (await redis.info("stats"))["total_commands_processed"]
    for _ in range(200):
        assert await ring.find(made()[1]) is None
    assert (await redis.info("stats"))["total_commands_processed"] - before < 5


async def test_keys_stay_in_force_while_redis_is_briefly_away(
    own_server: RedisProcess, clock: ManualClock
) -> None:
    """And no longer: what has been revoked meanwhile can't be known."""
    async with reader_client(own_server.url) as redis:
        key, text = mint("desk", ["reports:read"], None, NOW_MS)
        await KeyStore(redis, Keys()).put(key)
        ring = KeyRing(redis, Keys(), clock)
        assert await ring.find(text) == key
        own_server.kill()
        clock.advance(GRACE_MS)
        assert await ring.find(text) == key
        clock.advance(1)
        with pytest.raises(KeysUnknown):
            await ring.find(text)
        with pytest.raises(KeysUnknown):
            await KeyRing(redis, Keys(), clock).refresh()
        own_server.start()  # without its keys
        clock.advance(POLL_MS)
        assert await ring.find(text) is None
