"""Overview: is what readers get fresh, how much comes through, what is missing, who writes."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import (
    GREEN,
    ONE_IS_BAD,
    PLAIN,
    RED,
    YELLOW,
    ZERO_IS_BAD,
    Board,
    Panel,
    heat,
    series,
    stat,
    table,
)

FRESH: Final = ((None, GREEN), (1.0, YELLOW), (2.0, RED))
"""Above one second a report is degraded, above two it is down."""

_SYMBOL: Final = 'symbol=~"$symbol"'

_NOW: Final[tuple[Panel, ...]] = (
    stat(
        "Symbols without a writer",
        "Symbols that workers know of, less the leases that they hold. Nobody publishes these.",
        "none",
        "max(tapeline_symbols_known) - (sum(nt_symbols_assigned) or vector(0))",
        steps=ONE_IS_BAD,
        runbook="symbol-without-a-writer",
    ),
    stat(
        "Oldest data",
        "The worst symbol's p95 of the age of its newest record, when its reports are computed. "
        "Above 1 s reports are degraded, above 2 s down.",
        "s",
        "max(histogram_quantile(0.95, sum by (symbol, le) "
        "(rate(nt_data_age_seconds_bucket[$__rate_interval]))))",
        steps=FRESH,
        runbook="reports-not-generated",
    ),
    stat(
        "Workers",
        "Workers whose heartbeat Redis takes.",
        "none",
        "sum(nt_node_heartbeat) or vector(0)",
        steps=ZERO_IS_BAD,
        runbook="heartbeat-failures",
    ),
    stat(
        "Venues connected",
        "Venues that some bridge has a socket of.",
        "none",
        "sum(max by (venue) (tapeline_bridge_connected)) or vector(0)",
        steps=ZERO_IS_BAD,
        runbook="venue-or-key-rejected",
    ),
    stat(
        "Books in sync",
        "Share of followed books that follow the venue's at some bridge.",
        "percentunit",
        "avg(max by (venue, symbol) (tapeline_bridge_in_sync))",
        steps=((None, RED), (0.95, YELLOW), (1.0, GREEN)),
        most=1,
        runbook="venue-or-key-rejected",
    ),
    stat(
        "Subscribers",
        "Pairs of channel and symbol that clients follow over websockets, on all readers.",
        "none",
        "sum(tapeline_hub_subscribers) or vector(0)",
        steps=PLAIN,
    ),
)

_FRESHNESS: Final[tuple[Panel, ...]] = (
    series(
        "Age of data, p95, ten oldest symbols",
        "Age of the newest record when a report is computed. Signs of life come every 500 ms even "
        "where nobody trades, so a line above 1 s is a fault.",
        "s",
        (
            "topk(10, histogram_quantile(0.95, sum by (symbol, le) "
            f"(rate(nt_data_age_seconds_bucket{{{_SYMBOL}}}[$__rate_interval]))))",
            "{{symbol}}",
        ),
        width=12,
        steps=FRESH,
        runbook="reports-not-generated",
    ),
    heat(
        "Age of data, all symbols",
        "The same as a distribution: how many reports were computed from data of what age.",
        "s",
        "nt_data_age_seconds",
        _SYMBOL,
        width=12,
        runbook="reports-not-generated",
    ),
)

_RATES: Final[tuple[Panel, ...]] = (
    series(
        "Events",
        "Records a second: made by bridges, taken by the broker, applied by workers. Lines apart "
        "from each other for long are a queue that grows.",
        "cps",
        ("sum(rate(tapeline_bridge_records_total[$__rate_interval]))", "made"),
        ("sum(rate(tapeline_bridge_acknowledged_total[$__rate_interval]))", "acknowledged"),
        ("sum(rate(tapeline_records_applied_total[$__rate_interval]))", "applied"),
        runbook="broker-away",
    ),
    series(
        "Reports and ticks published",
        "Writes a second that Redis has accepted. Reports come at 1000 / NT_REPORT_PERIOD_MS for "
        "each symbol; ticks when something has changed.",
        "cps",
        ("sum(rate(nt_reports_published_total[$__rate_interval]))", "reports"),
        ("sum(rate(tapeline_ticks_published_total[$__rate_interval]))", "ticks"),
        runbook="reports-not-generated",
    ),
    series(
        "Lag of workers",
        "Records that are written and not applied, the five worst partitions. The end is looked at "
        "every few seconds, so less than that many seconds' worth means nothing.",
        "short",
        (
            "topk(5, max by (partition) (clamp_min(tapeline_end_offset "
            "- on (job, instance, partition) tapeline_position, 0)))",
            "partition {{partition}}",
        ),
    ),
)

_MISSING: Final[tuple[Panel, ...]] = (
    series(
        "Gaps",
        "Times a second that readers of the topic were told that something is missing. The book is "
        "muted until it has been asked for anew.",
        "cps",
        (
            "sum by (venue, symbol) "
            f"(rate(tapeline_bridge_gaps_total{{{_SYMBOL}}}[$__rate_interval])) > 0",
            "{{venue}} {{symbol}}",
        ),
        runbook="venue-or-key-rejected",
    ),
    series(
        "What engines noticed",
        "Gaps, crossed books, missing and repeated trades, as workers see them in the topic.",
        "cps",
        ("sum by (event) (rate(tapeline_engine_events_total[$__rate_interval])) > 0", "{{event}}"),
    ),
    series(
        "Refused and failed",
        "Writes to Redis that failed, writes refused to a writer that was fenced, and records and "
        "frames that went to a dead-letter topic.",
        "cps",
        ("sum(rate(tapeline_publish_failures_total[$__rate_interval]))", "writes failed"),
        ("sum(rate(nt_lease_conflicts_total[$__rate_interval]))", "writes refused"),
        ("sum(rate(tapeline_dead_letters_total[$__rate_interval]))", "records to dead letters"),
        (
            "sum(rate(tapeline_bridge_dead_letters_total[$__rate_interval]))",
            "frames to dead letters",
        ),
        runbook="redis-away",
    ),
)

_OWNERS: Final[tuple[Panel, ...]] = (
    series(
        "Symbols written, by worker",
        "Leases held. The whole should be as high as the line of the symbols known.",
        "none",
        ("sum by (instance) (nt_symbols_assigned)", "{{instance}}"),
        stack=True,
        runbook="symbol-without-a-writer",
    ),
    table(
        "Who writes what",
        "One row a symbol. Two for a moment are a change of hands seen from both sides.",
        f"max by (symbol, instance) (tapeline_symbol_owned{{{_SYMBOL}}})",
        runbook="symbol-without-a-writer",
    ),
    table(
        "What runs",
        "Processes with their versions.",
        "max by (component, version, instance) (tapeline_build_info)",
    ),
)

OVERVIEW: Final = Board(
    uid="tapeline-overview",
    title="Tapeline: overview",
    about="Freshness, rates, gaps and owners of the whole system. Begin here.",
    variables=(("symbol", "Symbol", "label_values(nt_data_age_seconds_count, symbol)"),),
    rows=(
        ("Now", _NOW),
        ("Freshness", _FRESHNESS),
        ("Rates", _RATES),
        ("What is missing", _MISSING),
        ("Owners", _OWNERS),
    ),
)
