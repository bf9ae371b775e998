"""The chain as it is judged: feed, topic, workers, Redis, reader, and each symbol. Pure.

Every figure that nobody tells is null, and ``unknown`` says why: a zero would be a claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from serving.status.facts import Facts, NodeFacts
from serving.status.feeds import SILENT_MS, feeds_of, lives
from serving.status.models import (
    BridgeSight,
    BrokerSight,
    FeedSight,
    PartitionSight,
    Presence,
    ReaderSight,
    RedisSight,
    Stage,
    State,
    Status,
    SymbolSight,
    VenueSight,
    WorkerSight,
    worst,
)
from serving.status.symbols import symbols_of
from serving.status.words import NAMED_MAX, RUNBOOKS, all_down, count, named, out_of, plain, total

BEHIND_S: Final = 2.0
"""Records that a worker needs longer for, at its rate, are a lag worth a word."""

SLOW_MS: Final = 50.0
"""Of an answer of Redis, asked from the same house."""


def status_of(facts: Facts) -> Status:
    """What is told of these facts."""
    feeds = feeds_of(facts.bridges)
    symbols = symbols_of(facts, feeds)
    chain = [
        _feed_stage(facts, feeds),
        _topic_stage(facts),
        _workers_stage(facts, symbols),
        _redis_stage(facts, symbols),
        _reader_stage(facts),
    ]
    if facts.store.error:
        chain[:3] = [_untold(stage) for stage in chain[:3]]
    ill = [one for one in symbols if one.state != "ok"]
    state = worst(*(stage.state for stage in chain))
    sentence = "all is well"
    if state != "ok":
        # Of several that are equally bad, the earliest: what follows may be its consequence.
        culprit = next(stage for stage in chain if stage.state == state)
        sentence = f"{culprit.stage}: {culprit.sentence}"
    elif ill:
        state = "down" if len(ill) == len(symbols) and all_down(ill) else "degraded"
        sentence = f"{out_of(len(ill), len(symbols), 'symbol')} not well: {named(ill)}"
    return Status(
        at_ms=facts.at_ms,
        state=state,
        sentence=sentence,
        chain=chain,
        symbols=symbols,
        feeds=[*feeds.values()],
    )


def _untold(stage: Stage) -> Stage:
    """A stage of which Redis would tell, if it were there."""
    reason = "Redis, which tells of it, does not answer"
    figures = ("rate_per_s", "lag", "age_ms", "restarts")
    return stage.model_copy(
        update={
            "state": "degraded",
            "sentence": f"not known: {reason}",
            "runbook": f"{RUNBOOKS}redis-away",
            **dict.fromkeys(figures),
            "unknown": dict.fromkeys(figures, reason),
            "parts": [],
        }
    )


# --- feed -----------------------------------------------------------------------------------------


def _feed_stage(facts: Facts, feeds: Mapping[str, FeedSight]) -> Stage:
    parts = [_bridge(facts, name) for name in sorted(facts.bridges)]
    living = [b.beat for b in facts.bridges.values() if lives(b) and b.beat is not None]
    ill = [feed for feed in feeds.values() if feed.state != "ok"]
    state: State = "ok"
    if not living:
        heard = f": {', '.join(sorted(facts.bridges)[:NAMED_MAX])} fell silent" if parts else ""
        state, sentence, anchor = "down", f"no bridge is running{heard}", "no-bridge"
    elif ill:
        whole = len(ill) == len(feeds) and all_down(ill)
        state = "down" if whole else "degraded"
        sentence = f"{out_of(len(ill), len(feeds), 'feed')} not well: {named(ill)}"
        anchor = "venue-or-key-rejected"
    else:
        anchor = ""
        sentence = f"{count(len(living), 'bridge')}, {count(len(feeds), 'feed')} in sync"
    frames = [v.frames_per_s for b in living for v in b.venues.values()]
    ages = [v.frame_age_ms for b in living for v in b.venues.values() if v.connected]
    return _stage(
        "feed",
        state,
        sentence,
        anchor,
        rate_per_s=total(frames),
        lag=None,
        age_ms=max((age for age in ages if age is not None), default=None),
        restarts=sum(b.restarts for b in living) if living else None,
        unknown={
            "rate_per_s": "no bridge tells of its frames",
            "lag": "clocks of venues are not compared here: see the bridge's metrics",
            "age_ms": "no venue is connected",
            "restarts": "no bridge is running",
        },
        parts=parts,
    )


def _bridge(facts: Facts, name: str) -> BridgeSight:
    bridge = facts.bridges[name]
    beat = bridge.beat
    state: State = "ok"
    sentence = ""
    if bridge.age_ms is None:
        state, sentence = "down", "its heartbeat has expired"
    elif beat is None:
        state, sentence = "down", "its heartbeat can't be read"
    elif bridge.age_ms > SILENT_MS:
        state, sentence = "down", f"its last heartbeat is {bridge.age_ms / 1000:.1f} s old"
    elif beat.broker.outage or not beat.broker.connected:
        state, sentence = "degraded", "the broker does not take its records"
    elif away := sorted(v for v, venue in beat.venues.items() if not venue.connected):
        state = "down" if len(away) == len(beat.venues) else "degraded"
        sentence = f"no connection to {', '.join(away)}"
    return BridgeSight(
        id=name,
        state=state,
        sentence=sentence,
        hostname=beat.hostname if beat else "",
        pid=beat.pid if beat else 0,
        version=beat.version if beat else "",
        started_at=beat.started_at if beat else 0,
        up_s=max(0, facts.at_ms - beat.started_at) / 1000 if beat and state != "down" else 0.0,
        heartbeat_age_ms=bridge.age_ms,
        restarts=beat.restarts if beat else 0,
        metrics_url=beat.metrics_url if beat else "",
        broker=BrokerSight(**plain(beat.broker)) if beat else None,
        venues={v: VenueSight(**plain(each)) for v, each in beat.venues.items()} if beat else {},
    )


# --- topic ----------------------------------------------------------------------------------------


def _topic_stage(facts: Facts) -> Stage:
    living = [b.beat for b in facts.bridges.values() if lives(b) and b.beat is not None]
    told = [n.stats.outages for n in facts.nodes.values() if present(n) and n.stats is not None]
    away = [b for b in living if b.broker.outage or not b.broker.connected]
    missing = [o for o in told if {"broker", "topic", "coordinator"} & o.keys()]
    name = next((b.topic for b in living if b.topic), "")
    rate = total([b.broker.acknowledged_per_s for b in living])
    speakers = len(living) + len(told)
    state: State
    if not speakers:
        state, sentence = "degraded", "not known: neither a bridge nor a worker is there to tell"
    elif len(away) + len(missing) == speakers:
        state, sentence = "down", "the broker takes nothing"
    elif away or missing:
        state = "degraded"
        sentence = f"{len(away) + len(missing)} of {speakers} do not reach the broker"
    elif not living:
        state, sentence = "degraded", "no bridge writes to it"
    else:
        state, sentence = "ok", f"{name} takes {rate or 0:.0f} records a second"
    silent = "no bridge is running"
    return _stage(
        "topic",
        state,
        sentence,
        "broker-away" if speakers else "no-bridge",
        rate_per_s=rate,
        lag=sum(b.broker.records for b in living) if living else None,
        lag_unit="records",
        age_ms=max((b.broker.age_ms for b in living), default=None),
        restarts=None,
        unknown={
            "rate_per_s": silent,
            "lag": silent,
            "age_ms": silent,
            "restarts": "a reader does not ask the broker",
        },
        topic=name or None,
        partitions=next((b.partitions for b in living if b.partitions), None),
    )


# --- workers --------------------------------------------------------------------------------------


def present(node: NodeFacts) -> bool:
    """Whether a worker beats, and is connected as far as that can be known."""
    beats = node.beat is not None and node.age_ms is not None and node.age_ms <= SILENT_MS
    return beats and node.listens is not False


def _workers_stage(facts: Facts, symbols: Sequence[SymbolSight]) -> Stage:
    parts = [_worker(facts, name) for name in sorted(facts.nodes)]
    here = [n for n in facts.nodes.values() if present(n)]
    ill = [p for p in parts if p.presence in ("up", "draining") and p.state != "ok"]
    orphans = [one for one in symbols if not one.owner]
    rate = total([n.stats.rate_per_s for n in here if n.stats])
    lags = [n.stats.lag for n in here if n.stats and n.stats.lag is not None]
    lag = sum(lags) if lags else None
    anchor = "reports-not-generated"
    state: State
    if not here:
        gone = f": {', '.join(p.id for p in parts[:NAMED_MAX])} gone" if parts else ""
        state, sentence = "down", f"no worker is running{gone}"
    elif ill:
        state = "down" if len(ill) == len(here) and all_down(ill) else "degraded"
        sentence = f"{out_of(len(ill), len(here), 'worker')} not well: {named(ill)}"
    elif orphans:
        state = "down" if len(orphans) == len(symbols) else "degraded"
        anchor = "symbol-without-a-writer"
        sentence = f"{out_of(len(orphans), len(symbols), 'symbol')} without a writer: " + ", ".join(
            one.symbol for one in orphans[:NAMED_MAX]
        )
    elif lag and rate is not None and lag > BEHIND_S * rate and lag > 1_000:
        state, sentence = "degraded", f"{lag} records behind, at {rate:.0f} a second"
    else:
        owned = sum(1 for one in symbols if one.owner)
        behind = "" if lag is None else f", {count(lag, 'record')} behind"
        state = "ok"
        sentence = f"{count(len(here), 'worker')}, {count(owned, 'symbol')}{behind}"
    untold = "no worker tells how far it is" if here else "no worker is running"
    return _stage(
        "workers",
        state,
        sentence,
        anchor,
        rate_per_s=rate,
        lag=lag,
        lag_unit="records",
        age_ms=max((n.age_ms for n in here if n.age_ms is not None), default=None),
        restarts=sum(n.stats.restarts for n in here if n.stats)
        if any(n.stats for n in here)
        else None,
        unknown=dict.fromkeys(("rate_per_s", "lag", "age_ms", "restarts"), untold),
        parts=parts,
    )


def _worker(facts: Facts, name: str) -> WorkerSight:
    node = facts.nodes[name]
    beat, stats = node.beat, node.stats
    presence: Presence
    state: State = "down"
    if node.age_ms is None:
        presence, sentence = "gone", "its heartbeat has expired"
    elif beat is None:
        presence, sentence = "silent", "its heartbeat can't be read"
    elif node.listens is False:
        presence, sentence = "vanished", "its connection to Redis has gone"
    elif node.age_ms > SILENT_MS:
        presence, sentence = "silent", f"its last heartbeat is {node.age_ms / 1000:.1f} s old"
    else:
        presence = "draining" if beat.state == "draining" else "up"
        state, sentence = "ok", ""
        if stats is None:
            sentence = "it does not tell how far it is"
        elif stats.status == "stalled":
            state, sentence = "down", "it stands still, with work to do"
        elif stats.outages:
            state, sentence = "degraded", f"it waits for {', '.join(sorted(stats.outages))}"
        elif not stats.complete:
            state, sentence = "degraded", "its assignment is not complete yet"
        elif presence == "draining":
            state, sentence = "degraded", "it is about to leave"
    alive = presence in ("up", "draining")
    return WorkerSight(
        id=name,
        state=state,
        sentence=sentence,
        presence=presence,
        hostname=beat.hostname if beat else "",
        pid=beat.pid if beat else 0,
        started_at=beat.started_at if beat else 0,
        up_s=max(0, facts.at_ms - beat.started_at) / 1000 if beat and alive else 0.0,
        heartbeat_age_ms=node.age_ms,
        restarts=stats.restarts if stats else None,
        metrics_url=beat.metrics_url if beat else "",
        status=stats.status if stats and stats.status else None,
        rate_per_s=stats.rate_per_s if stats and alive else None,
        lag=stats.lag if stats else None,
        owned=stats.owned if stats and alive else None,
        partitions=[PartitionSight(**plain(p)) for p in stats.partitions] if stats else [],
        partitions_left_out=stats.partitions_left_out if stats else 0,
    )


# --- Redis, reader --------------------------------------------------------------------------------


def _redis_stage(facts: Facts, symbols: Sequence[SymbolSight]) -> Stage:
    store = facts.store
    ages = [one.report_age_ms for one in symbols if one.report_age_ms is not None]
    state: State
    if store.error:
        state, sentence = "down", f"Redis does not answer: {store.error}"
    elif store.took_ms is not None and store.took_ms > SLOW_MS:
        state, sentence = "degraded", f"Redis took {store.took_ms:.0f} ms for a ping"
    else:
        state, sentence = "ok", f"{count(len(ages), 'report')} of {count(len(symbols), 'symbol')}"
    away = "Redis does not answer"
    return _stage(
        "redis",
        state,
        sentence,
        "redis-away",
        rate_per_s=store.accepted_per_s,
        lag=store.took_ms,
        age_ms=min(ages, default=None),
        restarts=None,
        unknown={
            "rate_per_s": away if store.error else "this reader has looked once only",
            "lag": away,
            "age_ms": away if store.error else "no report was ever written",
            "restarts": "Redis does not count its own; see up_s",
        },
        parts=[]
        if store.error
        else [
            RedisSight(
                version=store.version,
                role=store.role,
                up_s=store.up_s,
                used_memory_bytes=store.used_memory_bytes,
            )
        ],
    )


def _reader_stage(facts: Facts) -> Stage:
    reader = facts.reader
    up_s = max(0, facts.at_ms - reader.started_at) / 1000
    return _stage(
        "reader",
        "ok",
        "this reader answers",
        "",
        rate_per_s=reader.rate_per_s,
        lag=None,
        age_ms=0,
        restarts=None,
        unknown={
            "rate_per_s": "this reader does not count its answers",
            "lag": "latencies are in this reader's metrics",
            "restarts": "readers are not counted; see up_s",
        },
        parts=[
            ReaderSight(
                id=reader.id,
                version=reader.version,
                pid=reader.pid,
                started_at=reader.started_at,
                up_s=up_s,
            )
        ],
    )


# --- a stage ---------------------------------------------------------------------------------------


def _stage(
    name: Any, state: State, sentence: str, anchor: str, *, unknown: Mapping[str, str], **rest: Any
) -> Stage:
    return Stage(
        stage=name,
        state=state,
        sentence=sentence,
        runbook="" if state == "ok" or not anchor else f"{RUNBOOKS}{anchor}",
        unknown={figure: why for figure, why in unknown.items() if rest.get(figure) is None},
        **{"lag_unit": "ms", "parts": [], **rest},
    )
