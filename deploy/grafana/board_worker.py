"""A worker: what it applies, what its cycles take, what it publishes, keeps and waits for."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import (
    GREEN,
    RED,
    YELLOW,
    ZERO_IS_BAD,
    Board,
    Panel,
    heat,
    quantiles,
    series,
    stat,
    states,
)

_AT: Final = 'instance=~"$instance"'

_NOW: Final[tuple[Panel, ...]] = (
    stat(
        "Heartbeat",
        "0 where Redis does not take the heartbeat of one of these workers: within 5 s others take "
        "over what it writes.",
        "none",
        f"min(nt_node_heartbeat{{{_AT}}})",
        steps=ZERO_IS_BAD,
        runbook="heartbeat-failures",
    ),
    stat(
        "Symbols written",
        "Leases held.",
        "none",
        f"sum(nt_symbols_assigned{{{_AT}}})",
        runbook="symbol-without-a-writer",
    ),
    stat(
        "Records applied",
        "A second.",
        "cps",
        f"sum(rate(tapeline_records_applied_total{{{_AT}}}[$__rate_interval]))",
    ),
    stat(
        "Busiest process",
        "Cores used. A worker's event loop is one thread: near 1 it is full.",
        "short",
        f"max(rate(process_cpu_seconds_total{{{_AT}}}[$__rate_interval]))",
        steps=((None, GREEN), (0.7, YELLOW), (0.9, RED)),
        runbook="slow-cycle-lagging",
    ),
    stat(
        "Memory",
        "Resident, of the largest. State is bounded by 30 minutes of records, so it levels off.",
        "bytes",
        f"max(process_resident_memory_bytes{{{_AT}}})",
    ),
    stat(
        "Since the start",
        "Of the youngest.",
        "s",
        f"time() - max(process_start_time_seconds{{{_AT}}})",
    ),
)

_RECORDS: Final[tuple[Panel, ...]] = (
    series(
        "Records applied, by kind",
        "A second, without those that were skipped because they came again.",
        "cps",
        (
            f"sum by (kind) (rate(tapeline_records_applied_total{{{_AT}}}[$__rate_interval]))",
            "{{kind}}",
        ),
        stack=True,
    ),
    series(
        "Lag by partition",
        "Records that are written and not applied.",
        "short",
        (
            f"clamp_min(tapeline_end_offset{{{_AT}}} "
            f"- on (job, instance, partition) tapeline_position{{{_AT}}}, 0)",
            "{{instance}} {{partition}}",
        ),
    ),
    series(
        "Without progress",
        "How long a partition that has records to apply has stood still.",
        "s",
        (f"tapeline_progress_age_seconds{{{_AT}}} > 0", "{{instance}} {{partition}}"),
    ),
    series(
        "What engines noticed",
        "Gaps, duplicates, keys that no setting lists.",
        "cps",
        (
            f"sum by (event) (rate(tapeline_engine_events_total{{{_AT}}}[$__rate_interval])) > 0",
            "{{event}}",
        ),
    ),
    series(
        "Skipped and refused",
        "Records that came again after a restart or a rebalance, and records that went to the "
        "dead-letter topic.",
        "cps",
        (f"sum(rate(tapeline_records_skipped_total{{{_AT}}}[$__rate_interval]))", "skipped"),
        (
            f"sum by (reason) (rate(tapeline_dead_letters_total{{{_AT}}}[$__rate_interval]))",
            "dead letter: {{reason}}",
        ),
    ),
    series(
        "Merged windows",
        "Windows written and left out, late and discarded events.",
        "cps",
        (
            f"sum by (outcome) (rate(tapeline_merge_total{{{_AT}}}[$__rate_interval]))",
            "{{outcome}}",
        ),
    ),
)

_REPORTS: Final[tuple[Panel, ...]] = (
    series(
        "One figure of one fast report, p99",
        "Time to compute it. All of a fast cycle should stay below 1 ms.",
        "s",
        (
            "histogram_quantile(0.99, sum by (metric, le) (rate("
            f'nt_calc_latency_seconds_bucket{{{_AT}, cycle="fast"}}[$__rate_interval])))',
            "{{metric}}",
        ),
        steps=((None, GREEN), (0.001, RED)),
        runbook="slow-cycle-lagging",
    ),
    series(
        "One figure of one slow report, p99",
        "Time to compute it. All of a slow cycle should stay below 20 ms.",
        "s",
        (
            "histogram_quantile(0.99, sum by (metric, le) (rate("
            f'nt_calc_latency_seconds_bucket{{{_AT}, cycle="slow"}}[$__rate_interval])))',
            "{{metric}}",
        ),
        steps=((None, GREEN), (0.02, RED)),
        runbook="slow-cycle-lagging",
    ),
    series(
        "Cycles skipped",
        "A second. The worker lagged, and computed the next ones instead.",
        "cps",
        (
            f"sum by (instance, cycle) (rate(tapeline_cycles_skipped_total{{{_AT}}}"
            "[$__rate_interval]))",
            "{{instance}} {{cycle}}",
        ),
        runbook="slow-cycle-lagging",
    ),
    series(
        "Round trip of a batch of writes",
        "To Redis and back: part of the 20 ms that a report may take.",
        "s",
        *quantiles("tapeline_publish_seconds", _AT),
        steps=((None, GREEN), (0.02, RED)),
        runbook="redis-away",
    ),
    heat(
        "Round trip of a batch of writes, distribution",
        "How many batches took how long.",
        "s",
        "tapeline_publish_seconds",
        _AT,
        runbook="redis-away",
    ),
    series(
        "Published",
        "Bytes a second that Redis has accepted.",
        "Bps",
        (
            f"sum by (kind) (rate(tapeline_published_bytes_total{{{_AT}}}[$__rate_interval]))",
            "{{kind}}",
        ),
        stack=True,
    ),
    series(
        "Writes that failed",
        "A second, by reason.",
        "cps",
        (
            f"sum by (reason) (rate(tapeline_publish_failures_total{{{_AT}}}[$__rate_interval]))",
            "{{reason}}",
        ),
        runbook="redis-away",
    ),
    series(
        "Slowest symbols to be published",
        "Reports a second: 1000 / NT_REPORT_PERIOD_MS where all is well.",
        "cps",
        (
            f"bottomk(10, sum by (symbol) (rate(nt_reports_published_total{{{_AT}}}"
            "[$__rate_interval])))",
            "{{symbol}}",
        ),
        runbook="reports-not-generated",
    ),
    series(
        "Ticks published",
        "A second, the ten busiest symbols; 20 a second is the limit of each.",
        "cps",
        (
            f"topk(10, sum by (symbol) (rate(tapeline_ticks_published_total{{{_AT}}}"
            "[$__rate_interval])))",
            "{{symbol}}",
        ),
    ),
)

_KEPT: Final[tuple[Panel, ...]] = (
    series(
        "Checkpoints",
        "A second, by outcome.",
        "cps",
        (
            f"sum by (outcome) (rate(tapeline_checkpoints_total{{{_AT}}}[$__rate_interval]))",
            "{{outcome}}",
        ),
        runbook="broker-away",
    ),
    series(
        "Checkpoints, bytes",
        "A second, of those that the broker has.",
        "Bps",
        (
            f"sum by (instance) (rate(tapeline_checkpoint_bytes_total{{{_AT}}}[$__rate_interval]))",
            "{{instance}}",
        ),
    ),
    series(
        "Checkpoints, share of a core",
        "Processor time for taking and encoding them.",
        "percentunit",
        (
            f"sum by (instance) (rate(tapeline_checkpoint_seconds_total{{{_AT}}}"
            "[$__rate_interval]))",
            "{{instance}}",
        ),
    ),
    series(
        "Applied and not committed",
        "Records that a restart would read again, by partition.",
        "short",
        (
            f"tapeline_position{{{_AT}}} "
            f"- on (job, instance, partition) tapeline_committed_offset{{{_AT}}}",
            "{{instance}} {{partition}}",
        ),
        runbook="broker-away",
    ),
    series(
        "Records beside the changelog",
        "Merged windows and telemetry, a second, by topic and outcome.",
        "cps",
        (
            "sum by (topic, outcome) "
            f"(rate(tapeline_side_records_total{{{_AT}}}[$__rate_interval]))",
            "{{topic}} {{outcome}}",
        ),
    ),
    series(
        "Telemetry",
        "Events a second.",
        "cps",
        (
            f"sum by (event, outcome) (rate(tapeline_telemetry_total{{{_AT}}}[$__rate_interval]))",
            "{{event}} {{outcome}}",
        ),
    ),
)

_PROCESS: Final[tuple[Panel, ...]] = (
    series(
        "Event loop's delay",
        "How late the watchdog's last tick was. Tens of milliseconds again and again: too much to "
        "do.",
        "s",
        (f"tapeline_loop_delay_seconds{{{_AT}}}", "{{instance}}"),
        runbook="slow-cycle-lagging",
    ),
    series(
        "Processor",
        "Cores used.",
        "short",
        (f"rate(process_cpu_seconds_total{{{_AT}}}[$__rate_interval])", "{{instance}}"),
    ),
    series(
        "Memory, resident",
        "By process.",
        "bytes",
        (f"process_resident_memory_bytes{{{_AT}}}", "{{instance}}"),
    ),
    states(
        "What is waited for",
        "A worker that waits for another (broker, topic, Redis) is degraded and lives.",
        f"tapeline_outage{{{_AT}}}",
        "{{instance}} {{what}}",
        width=12,
        words=(("0", "there", GREEN), ("1", "away", RED)),
        runbook="broker-away",
    ),
    series(
        "Standstills",
        "How long something of its own has stood still, from half of NT_STALL_MS on. At NT_STALL_MS "
        "the worker ends itself.",
        "s",
        (f"max by (instance, kind) (tapeline_stall_seconds{{{_AT}}})", "{{instance}} {{kind}}"),
        (
            f"sum by (instance, kind) (increase(tapeline_stalls_total{{{_AT}}}[$__rate_interval]))",
            "began: {{instance}} {{kind}}",
        ),
        width=12,
    ),
)

WORKER: Final = Board(
    uid="tapeline-worker",
    title="Tapeline: worker",
    about="One worker, or all of them: records, cycles, reports, checkpoints, the process.",
    variables=(("instance", "Worker", "label_values(nt_node_heartbeat, instance)"),),
    rows=(
        ("Now", _NOW),
        ("Records", _RECORDS),
        ("Reports", _REPORTS),
        ("Checkpoints and commits", _KEPT),
        ("The process", _PROCESS),
    ),
)
