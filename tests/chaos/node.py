"""A worker that writes down every script call and its answer: ``faust -A tests.chaos.node worker``.

``CHAOS_LOG`` names the file, one JSON object a line: ``t`` is the machine's monotonic clock, so
that lines of several processes can be put in order. ``CHAOS_OFF`` names safeguards to take away,
so that a test can show that the checkers miss them.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import Any

from agents.coordination.lease import LeaseManager
from agents.coordination.lease_state import LeaseBook
from agents.main import faust_app
from lua import ReportWrite, Scripts, scripts
from lua.scripts import load_script
from tests.support.faults import no_offset_gate

_LOG = open(os.environ["CHAOS_LOG"], "a", buffering=1, encoding="utf-8")  # noqa: SIM115
_NODE = os.environ.get("NT_NODE_ID", "")


def _write(**fields: Any) -> None:
    _LOG.write(json.dumps({"t": time.monotonic(), "node": _NODE, **fields}) + "\n")


def log_calls() -> None:
    """Write down what coordination asks of Redis, and what it is told."""
    publish, acquire, renew = Scripts.publish_many, Scripts.acquire_many, Scripts.renew_many
    current = LeaseManager.current
    asked: dict[str, float] = {}

    def asked_for(self: LeaseManager, symbol: str) -> Any:
        asked[symbol] = time.monotonic()
        return current(self, symbol)

    async def publish_many(self: Scripts, writes: Any, ttl_ms: int) -> Any:
        reports = [one for one in writes if isinstance(one, ReportWrite)]
        for one in reports:
            _write(
                call="publish",
                # A process that is stopped behind this has found its lease valid: what it sends when
                # it goes on can't be held back by itself, and is what the fence is for.
                decided=asked[one.symbol],
                symbol=one.symbol,
                lease=one.lease_value,
                token=one.token,
                seq=one.seq,
                watermark=one.watermark,
                updated_at=one.updated_at,
            )
        answers = await publish(self, writes, ttl_ms)
        for one, answer in zip(writes, answers, strict=True):
            if isinstance(one, ReportWrite):
                name = getattr(answer, "name", repr(answer))
                _write(call="published", symbol=one.symbol, token=one.token, seq=one.seq, code=name)
        return answers

    async def acquire_many(self: Scripts, wishes: Any, *rest: Any) -> Any:
        sent = time.monotonic()
        answers = await acquire(self, wishes, *rest)
        for (keys, _, expected), answer in zip(wishes, answers, strict=True):
            code = getattr(answer, "code", None)
            _write(
                call="acquire",
                sent=sent,
                lease=keys.lease,
                expected=expected,
                code=getattr(code, "name", repr(answer)),
                value=getattr(answer, "lease_value", ""),
                token=getattr(answer, "token", 0),
            )
        return answers

    async def renew_many(self: Scripts, leases: Any, ttl_ms: int) -> Any:
        sent = time.monotonic()
        answers = await renew(self, leases, ttl_ms)
        for (key, value), answer in zip(leases, answers, strict=True):
            code = getattr(answer, "name", repr(answer))
            _write(call="renew", sent=sent, lease=key, value=value, code=code)
        return answers

    LeaseManager.current = asked_for  # type: ignore[method-assign]
    Scripts.publish_many = publish_many  # type: ignore[method-assign]
    Scripts.acquire_many = acquire_many  # type: ignore[method-assign]
    Scripts.renew_many = renew_many  # type: ignore[method-assign]


# --- safeguards taken away -------------------------------------------------------------------------


def _without(name: str, *conditions: str, by: str = "if false then") -> None:
    """A script of which some lines are replaced."""
    script = load_script(name)
    source = script.source
    for condition in conditions:
        assert condition in source
        source = source.replace(condition, by)
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    scripts.DEFAULT_SCRIPTS[name] = scripts.Script(name, source, sha)


def no_fencing() -> None:
    """Publish stores whatever it is given."""
    _without(
        "publish",
        "if granted > token or last_token > token then",
        "if redis.call('GET', lease) ~= lease_value then",
        "if last_token == token and seq <= tonumber(last[2]) then",
        "if watermark < tonumber(last[3] or '0') then",
    )


def no_deadline() -> None:
    """A lease is believed until Redis says that it is another's, for however long it says nothing."""
    drop = LeaseBook.drop

    def only_lost(
        self: LeaseBook, symbol: str, value: str, next_try_ms: int, *, lost: bool = True
    ) -> bool:
        return lost and drop(self, symbol, value, next_try_ms)

    LeaseBook.drop = only_lost  # type: ignore[method-assign]
    LeaseBook._deadline = lambda _self, sent_ms: sent_ms + 10**9  # type: ignore[method-assign]


def no_floor() -> None:
    """Tokens start over where Redis has lost them: whatever was seen, whatever the time."""
    _without("acquire", "math.max(newest + 1, floor + 1, now_ms)", by="newest + 1")


OFF = {
    "no_fencing": no_fencing,
    "no_deadline": no_deadline,
    "no_floor": no_floor,
    "no_gate": no_offset_gate,
}

for _name in filter(None, os.environ.get("CHAOS_OFF", "").split(",")):
    OFF[_name]()
log_calls()
app = faust_app()
