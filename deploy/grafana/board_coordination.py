"""Coordination: who is there, who writes what, and how symbols and feeds change hands."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import (
    GREEN,
    ONE_IS_BAD,
    RED,
    ZERO_IS_BAD,
    Board,
    Panel,
    series,
    stat,
    states,
    table,
)

_NOW: Final[tuple[Panel, ...]] = (
    stat(
        "Workers",
        "Those whose heartbeat Redis takes.",
        "none",
        "sum(nt_node_heartbeat) or vector(0)",
        steps=ZERO_IS_BAD,
        runbook="heartbeat-failures",
    ),
    stat(
        "Symbols without a writer",
        "Known to workers, less the leases that they hold.",
        "none",
        "max(tapeline_symbols_known) - (sum(nt_symbols_assigned) or vector(0))",
        steps=ONE_IS_BAD,
        runbook="symbol-without-a-writer",
    ),
    stat(
        "Rebalances",
        "Assignments of the group in the last 10 minutes.",
        "none",
        "max(increase(nt_hrw_rebalances_total[10m])) or vector(0)",
        steps=((None, GREEN), (6, RED)),
        runbook="excessive-rebalancing",
    ),
    stat(
        "Refused writes",
        "Lease conflicts in the last 5 minutes. One or two a symbol that changes hands are normal.",
        "none",
        "sum(increase(nt_lease_conflicts_total[5m])) or vector(0)",
        runbook="lease-conflicts",
    ),
    stat(
        "Evictions",
        "Dead nodes taken out of the group in the last hour.",
        "none",
        "sum(increase(tapeline_evictions_total[1h])) or vector(0)",
        runbook="node-spared-or-evicted",
    ),
    stat(
        "Warm partitions",
        "Kept beside the assigned ones, on all workers.",
        "none",
        "sum(tapeline_warm_partitions) or vector(0)",
    ),
)

_OWNERS: Final[tuple[Panel, ...]] = (
    states(
        "Heartbeats",
        "Whether Redis takes a node's heartbeat. Without it others take over within 5 s.",
        "nt_node_heartbeat",
        "{{instance}}",
        words=(("0", "not taken", RED), ("1", "alive", GREEN)),
        runbook="heartbeat-failures",
    ),
    series(
        "Leases held",
        "By node, on top of each other: together they should reach the symbols known.",
        "none",
        ("sum by (instance) (nt_symbols_assigned)", "{{instance}}"),
        stack=True,
        runbook="symbol-without-a-writer",
    ),
    table(
        "Who writes what",
        "One row a symbol. Two for a moment are a change of hands seen from both sides.",
        'max by (symbol, instance) (tapeline_symbol_owned{symbol=~"$symbol"})',
        runbook="symbol-without-a-writer",
    ),
    states(
        "Writers over time",
        "Who has written a symbol. A hole in all lines of a symbol is time without a writer.",
        'tapeline_symbol_owned{symbol=~"$symbol"}',
        "{{symbol}} {{instance}}",
        width=24,
        height=12,
        words=(("1", "writes", GREEN),),
        runbook="symbol-without-a-writer",
    ),
)

_CHANGES: Final[tuple[Panel, ...]] = (
    series(
        "Rebalances",
        "Assignments that each node has served, in each interval: the same on all of them.",
        "short",
        (
            "sum by (instance) (increase(nt_hrw_rebalances_total[$__rate_interval]))",
            "{{instance}}",
        ),
        runbook="excessive-rebalancing",
    ),
    series(
        "Leases asked for",
        "That another had, or nobody, in each interval.",
        "short",
        (
            "sum by (reason) (increase(tapeline_takeovers_total[$__rate_interval]))",
            "{{reason}}",
        ),
        runbook="symbol-without-a-writer",
    ),
    series(
        "Leases lost",
        "In each interval, by why.",
        "short",
        ("sum by (reason) (increase(tapeline_leases_lost_total[$__rate_interval]))", "{{reason}}"),
        runbook="lease-conflicts",
    ),
    series(
        "Writes refused",
        "In each interval, by node that tried. The refusal is the protection.",
        "short",
        (
            "sum by (instance) (increase(nt_lease_conflicts_total[$__rate_interval]))",
            "{{instance}}",
        ),
        runbook="lease-conflicts",
    ),
    series(
        "Ownership differences",
        "Where lease, rendezvous hashing and Kafka disagree; for a while after each change, and not "
        "for longer.",
        "none",
        ("max by (kind) (tapeline_ownership_differences)", "{{kind}}"),
        (
            "sum(increase(tapeline_ownership_repairs_total[$__rate_interval]))",
            "repairs asked for",
        ),
        runbook="ownership-differences",
    ),
    series(
        "Evictions",
        "Dead nodes taken out of the group, in each interval.",
        "short",
        (
            "sum by (instance) (increase(tapeline_evictions_total[$__rate_interval]))",
            "{{instance}}",
        ),
        runbook="node-spared-or-evicted",
    ),
)

_STANDBY: Final[tuple[Panel, ...]] = (
    series(
        "Warm partitions",
        "By node. With two workers or more all of them together should be the number of partitions.",
        "none",
        ("sum by (instance) (tapeline_warm_partitions)", "{{instance}}"),
        stack=True,
    ),
    series(
        "Records applied to warm copies",
        "A second.",
        "cps",
        (
            "sum by (instance) (rate(tapeline_warm_records_applied_total[$__rate_interval]))",
            "{{instance}}",
        ),
    ),
    series(
        "What engines of warm copies noticed",
        "A second.",
        "cps",
        ("sum by (event) (rate(tapeline_warm_events_total[$__rate_interval])) > 0", "{{event}}"),
    ),
)

_FEEDS: Final[tuple[Panel, ...]] = (
    states(
        "Writers of feeds",
        "Which bridge holds the lease on a feed; the token is 0 at the others.",
        'tapeline_bridge_feed_token{symbol=~"$symbol"} > bool 0',
        "{{venue}} {{symbol}} {{instance}}",
        width=16,
        words=(("0", "stands by", "dark-blue"), ("1", "writes", GREEN)),
        runbook="no-bridge",
    ),
    series(
        "Feeds that changed hands",
        "In each interval: leases that became another's.",
        "short",
        (
            "sum by (instance) (increase(tapeline_bridge_leases_lost_total[$__rate_interval]))",
            "{{instance}}",
        ),
        runbook="no-bridge",
    ),
)

COORDINATION: Final = Board(
    uid="tapeline-coordination",
    title="Tapeline: coordination",
    about="Workers and bridges among each other: heartbeats, leases, rebalances, takeovers.",
    variables=(("symbol", "Symbol", "label_values(tapeline_symbol_owned, symbol)"),),
    rows=(
        ("Now", _NOW),
        ("Who writes", _OWNERS),
        ("Changes of hands", _CHANGES),
        ("Standby", _STANDBY),
        ("Feeds", _FEEDS),
    ),
)
