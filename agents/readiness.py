"""Whether a worker is where a rolling upgrade may go on from."""

from __future__ import annotations

from typing import Any

NAMED_MAX = 5


def unready(well: bool, body: dict[str, Any]) -> str:
    """Why a worker is not settled; '' where it is.

    Settled is what [Coordination](../docs/coordination.md#rolling-deploy) asks for before the next
    node may stop: the group has assigned, what is assigned is written by this node, what it is to
    keep warm is warm, and nothing that it needs is away.

    Args:
        well: Whether it moves.
        body: What ``/health`` says.
    """
    if not well:
        return f"stalled: {_names(one['what'] for one in body['stalled'])}"
    if body["outages"]:
        return f"away: {_names(body['outages'])}"
    if not body["assigned"]:
        return "the group has not assigned yet"
    # Without heartbeats there are no leases either: it publishes no reports (NT_ENABLE_KV_REPORTS).
    leased = bool(body["last_heartbeat_ts"])
    unheld = set(body["assigned_symbols"]) - set(body["owned_symbols"]) if leased else set()
    if unheld:
        return f"assigned and not written yet: {_names(unheld)}"
    if body["warming_symbols"]:
        return f"not warm yet: {_names(body['warming_symbols'])}"
    return ""


def _names(names: Any) -> str:
    listed = sorted(names)
    more = len(listed) - NAMED_MAX
    return ", ".join(listed[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
