"""What Redis does for the coordination protocol, in Python: the scripts' semantics and no more.

The scripts in ``lua/`` are the contract, and a test puts random calls to both. Only what a check of
the simulator's own needs can be switched off.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lua.replies import TOKEN_LIMIT, AcquireCode, BeatCode, PublishCode

Hash = dict[str, str]


class TokenLimitReached(Exception):
    """The script would answer with the error TOKENLIMIT."""


@dataclass(frozen=True, slots=True)
class Copy:
    """All the data of one moment."""

    values: dict[str, Any]
    expiries: dict[str, int]


class RedisModel:
    """One server's data, and the steps that are atomic on it.

    Args:
        now_ms: Its clock, since the epoch.
        fenced: Check tokens and leases before a write is stored.
        floored: Grant tokens above the caller's floor and the clock.
    """

    def __init__(
        self, now_ms: Callable[[], int], *, fenced: bool = True, floored: bool = True
    ) -> None:
        self._now_ms = now_ms
        self._fenced, self._floored = fenced, floored
        self._values: dict[str, Any] = {}
        self._expiries: dict[str, int] = {}

    # --- data ----------------------------------------------------------------------------------

    def get(self, key: str) -> Any:
        """A value that has not expired; None without one."""
        ends_ms = self._expiries.get(key)
        if ends_ms is not None and ends_ms <= self._now_ms():
            self.delete(key)
        return self._values.get(key)

    def pttl(self, key: str) -> int:
        """What is left of a key, ms; -1 if it never expires, -2 without it."""
        if self.get(key) is None:
            return -2
        ends_ms = self._expiries.get(key)
        return -1 if ends_ms is None else ends_ms - self._now_ms()

    def set(self, key: str, value: Any, px: int | None = None) -> None:
        """SET, with PX."""
        self._values[key] = value
        if px is None:
            self._expiries.pop(key, None)
        else:
            self._expiries[key] = self._now_ms() + px

    def delete(self, key: str) -> None:
        """DEL."""
        self._values.pop(key, None)
        self._expiries.pop(key, None)

    def copy(self) -> Copy:
        """What a replica has that hears nothing more from now on."""
        values = {k: dict(v) if isinstance(v, dict) else v for k, v in self._values.items()}
        return Copy(values, dict(self._expiries))

    def become(self, copy: Copy | None) -> None:
        """Go on from a copy, or from nothing."""
        self._values = {}
        self._expiries = {}
        if copy is not None:
            self._values = {
                k: dict(v) if isinstance(v, dict) else v for k, v in copy.values.items()
            }
            self._expiries = dict(copy.expiries)

    def _number(self, key: str) -> int:
        return int(self.get(key) or 0)

    def _meta(self, key: str) -> Hash:
        return self.get(key) or {}

    # --- leases --------------------------------------------------------------------------------

    def acquire(
        self,
        keys: tuple[str, str, str],
        node: str,
        incarnation: str,
        ttl_ms: int,
        floor: int,
        steal_below_ms: int,
        expected: str,
    ) -> list[Any]:
        """``acquire.lua``."""
        lease, counter, meta = keys
        last = self._meta(meta)
        seq, updated_at = int(last.get("seq", 0)), int(last.get("updated_at", 0))
        known = (int(last.get("token", 0)), int(last.get("tick_token", 0)))
        newest = max(self._number(counter), *known)
        code = AcquireCode.GRANTED
        held = self.get(lease)
        if held is not None:
            mine = f"{node}|{incarnation}|"
            if held.startswith(mine):
                token = int(held[len(mine) :] or 0)
                if token >= newest and token >= floor:
                    self._expiries[lease] = self._now_ms() + ttl_ms
                    return [AcquireCode.HELD_BY_ME, token, held, ttl_ms, seq, updated_at]
            elif held == expected and self.pttl(lease) < steal_below_ms:
                code = AcquireCode.STOLEN
            else:
                return [AcquireCode.HELD, newest, held, self.pttl(lease), seq, updated_at]
        token = newest + 1
        if self._floored:
            token = max(token, floor + 1, self._now_ms())
        if token > TOKEN_LIMIT:
            raise TokenLimitReached(lease)
        value = f"{node}|{incarnation}|{token}"
        self.set(counter, str(token))
        self.set(lease, value, ttl_ms)
        return [code, token, value, ttl_ms, seq, updated_at]

    def renew(self, lease: str, lease_value: str, ttl_ms: int) -> int:
        """``renew.lua``."""
        if self.get(lease) != lease_value:
            return 0
        self._expiries[lease] = self._now_ms() + ttl_ms
        return 1

    def release(self, lease: str, lease_value: str) -> int:
        """``release.lua``."""
        if self.get(lease) != lease_value:
            return 0
        self.delete(lease)
        return 1

    def look(self, lease: str, meta: str) -> list[Any]:
        """``look.lua``."""
        held, last = self.get(lease), self._meta(meta)
        left_ms = self.pttl(lease) if held is not None else 0
        return [held or "", left_ms, int(last.get("token", 0)), int(last.get("watermark", 0))]

    # --- reports -------------------------------------------------------------------------------

    def publish(
        self,
        keys: tuple[str, str, str, str, str],
        lease_value: str,
        token: int,
        seq: int,
        watermark: int,
        updated_at: int,
        ttl_ms: int,
        payload: bytes,
        heavy_payload: bytes,
    ) -> int:
        """``publish.lua``, but for the announcement, which is the caller's."""
        report, heavy, lease, counter, meta = keys
        last = self._meta(meta)
        refused = self._refused(last, "", lease, counter, lease_value, token, seq, watermark)
        if refused is not None:
            return refused
        self.set(report, payload, ttl_ms)
        if heavy_payload == b"":
            self.delete(heavy)
        else:
            self.set(heavy, heavy_payload, ttl_ms)
        wrote = {"token": token, "seq": seq, "watermark": watermark, "updated_at": updated_at}
        self._wrote(meta, last, wrote, counter, token)
        return PublishCode.OK

    def publish_tick(
        self,
        keys: tuple[str, str, str, str],
        lease_value: str,
        token: int,
        seq: int,
        watermark: int,
        ttl_ms: int,
        payload: bytes,
    ) -> int:
        """``publish_tick.lua``, but for the announcement, which is the caller's."""
        tick, lease, counter, meta = keys
        last = self._meta(meta)
        if self._fenced and int(last.get("token", 0)) > token:
            return PublishCode.FENCED
        refused = self._refused(last, "tick_", lease, counter, lease_value, token, seq, watermark)
        if refused is not None:
            return refused
        self.set(tick, payload, ttl_ms)
        wrote = {"tick_token": token, "tick_seq": seq, "tick_watermark": watermark}
        self._wrote(meta, last, wrote, counter, token)
        return PublishCode.OK

    def _refused(
        self,
        last: Hash,
        kind: str,
        lease: str,
        counter: str,
        lease_value: str,
        token: int,
        seq: int,
        watermark: int,
    ) -> int | None:
        last_token = int(last.get(f"{kind}token", 0))
        if self._fenced:
            if self._number(counter) > token or last_token > token:
                return PublishCode.FENCED
            if self.get(lease) != lease_value:
                return PublishCode.NOT_OWNER
        if last_token == token and seq <= int(last[f"{kind}seq"]):
            return PublishCode.DUPLICATE
        if watermark < int(last.get(f"{kind}watermark", 0)):
            return PublishCode.STALE_DATA
        return None

    def _wrote(
        self, meta: str, last: Hash, wrote: dict[str, int], counter: str, token: int
    ) -> None:
        self._values[meta] = last | {name: str(value) for name, value in wrote.items()}
        if self._number(counter) < token:
            self.set(counter, str(token))

    # --- nodes ---------------------------------------------------------------------------------

    def beat(
        self,
        keys: tuple[str, str],
        node_id: str,
        incarnation: str,
        payload: bytes,
        ttl_s: int,
        replaces: str,
    ) -> list[Any]:
        """``beat.lua``."""
        heartbeat, nodes = keys
        code, shown = BeatCode.ACCEPTED, payload
        held = self.get(heartbeat)
        if held is not None:
            holder = _incarnation(held)
            if holder != incarnation and (holder == "" or holder != replaces):
                code, shown = BeatCode.DUPLICATE_ID, held
        alive: dict[str, int] = dict(self.get(nodes) or {})
        if code is BeatCode.ACCEPTED:
            if ttl_s == 0:
                self.delete(heartbeat)
                alive.pop(node_id, None)
                shown = b""
            else:
                self.set(heartbeat, payload, ttl_s * 1000)
                alive[node_id] = self._now_ms()
                least_ms = self._now_ms() - ttl_s * 1000
                alive = {node: ms for node, ms in alive.items() if ms > least_ms}
            self._values[nodes] = alive
        return [code, shown, sorted(alive, key=lambda node: (alive[node], node))]


def _incarnation(heartbeat: bytes) -> str:
    """Whose heartbeat; '' of one that can't be read."""
    try:
        value = json.loads(heartbeat)
    except ValueError:
        return ""
    said = value.get("incarnation") if isinstance(value, dict) else None
    return said or ""
