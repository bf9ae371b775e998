"""Readers: connections, how late things are handed out, and what goes wrong."""

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
)

_AT: Final = 'instance=~"$instance"'
_QUICK: Final = ((None, GREEN), (0.02, RED))
"""Answers should come within 20 ms."""

_NOW: Final[tuple[Panel, ...]] = (
    stat(
        "Connections",
        "Websockets that are open.",
        "none",
        f"sum(tapeline_hub_connections{{{_AT}}})",
    ),
    stat(
        "Subscribers",
        "Pairs of channel and symbol followed, each by each client.",
        "none",
        f"sum(tapeline_hub_subscribers{{{_AT}}})",
    ),
    stat(
        "Active streams",
        "Pairs of channel and symbol that somebody follows.",
        "none",
        f"sum(tapeline_hub_streams{{{_AT}}})",
    ),
    stat(
        "Faults",
        "Share of answers with a status from 500 on, in the last 5 minutes.",
        "percentunit",
        f'sum(rate(tapeline_http_requests_total{{{_AT}, status=~"5.."}}[5m])) '
        f"/ sum(rate(tapeline_http_requests_total{{{_AT}}}[5m])) or vector(0)",
        steps=((None, GREEN), (0.001, YELLOW), (0.01, RED)),
        most=1,
        runbook="redis-away",
    ),
    stat(
        "GET /get_report, p99",
        "Time to answer, in the last 5 minutes.",
        "s",
        "histogram_quantile(0.99, sum by (le) (rate(tapeline_http_request_seconds_bucket"
        f'{{{_AT}, route="/get_report"}}[5m])))',
        steps=_QUICK,
    ),
    stat(
        "Redis",
        "0 where it does not answer one of the readers: clients are told so.",
        "none",
        f"min(tapeline_hub_store_up{{{_AT}}})",
        steps=ZERO_IS_BAD,
        runbook="redis-away",
    ),
)

_HUB: Final[tuple[Panel, ...]] = (
    series(
        "Connections",
        "Websockets that are open, by reader.",
        "none",
        (f"tapeline_hub_connections{{{_AT}}}", "{{instance}}"),
        stack=True,
    ),
    series(
        "Subscribers",
        "Now, and the most since each reader began.",
        "none",
        (f"sum(tapeline_hub_subscribers{{{_AT}}})", "now"),
        (f"sum(tapeline_hub_subscribers_peak{{{_AT}}})", "peak"),
        (f"sum(tapeline_hub_streams{{{_AT}}})", "streams"),
    ),
    series(
        "Frames and bytes sent",
        "A second.",
        "cps",
        (f"sum(rate(tapeline_hub_frames_total{{{_AT}}}[$__rate_interval]))", "frames"),
        (f"sum(rate(tapeline_hub_bytes_total{{{_AT}}}[$__rate_interval]))", "bytes"),
    ),
    heat(
        "Delivery",
        "From the hub's hearing of something to its being handed to a client's socket.",
        "s",
        "tapeline_hub_delivery_seconds",
        _AT,
        width=12,
    ),
    series(
        "Delivery, percentiles",
        "The same. A slow client's frames wait for it and are counted too.",
        "s",
        *quantiles("tapeline_hub_delivery_seconds", _AT),
        width=12,
    ),
    series(
        "Replaced by newer ones",
        "Frames and events a second, by channel. Not a fault: a slow client gets the newest.",
        "cps",
        (
            f"sum by (channel) (rate(tapeline_hub_coalesced_total{{{_AT}}}[$__rate_interval]))",
            "{{channel}}",
        ),
        stack=True,
    ),
    series(
        "What waits for one client",
        "Frames and events of one stream, the most there are; and seconds a second that frames "
        "have waited for the rate limit.",
        "short",
        (f"tapeline_hub_buffer_depth{{{_AT}}}", "{{instance}} waits"),
        (
            f"sum(rate(tapeline_hub_throttled_seconds_total{{{_AT}}}[$__rate_interval]))",
            "throttled, s/s",
        ),
    ),
    series(
        "How long clients stay",
        "Of sessions that ended in the last hour.",
        "s",
        (
            "histogram_quantile(0.5, sum by (le) "
            f"(rate(tapeline_hub_session_seconds_bucket{{{_AT}}}[1h])))",
            "median",
        ),
    ),
    series(
        "Errors",
        "A second: what could not be handed on, requests refused, connections that the hub has "
        "ended.",
        "cps",
        (
            f"sum by (reason) (rate(tapeline_hub_broadcast_errors_total{{{_AT}}}[$__rate_interval]))",
            "not handed on: {{reason}}",
        ),
        (
            f"sum by (code) (rate(tapeline_hub_refused_total{{{_AT}}}[$__rate_interval]))",
            "refused: {{code}}",
        ),
        (
            f"sum by (reason) (rate(tapeline_hub_closed_total{{{_AT}}}[$__rate_interval]))",
            "ended: {{reason}}",
        ),
        width=24,
    ),
)

_HTTP: Final[tuple[Panel, ...]] = (
    series(
        "Requests",
        "A second, by route.",
        "reqps",
        (
            f"sum by (route) (rate(tapeline_http_requests_total{{{_AT}}}[$__rate_interval]))",
            "{{route}}",
        ),
        stack=True,
    ),
    series(
        "Answers by status",
        "A second. Statuses from 500 on are faults of ours.",
        "reqps",
        (
            f"sum by (status) (rate(tapeline_http_requests_total{{{_AT}}}[$__rate_interval]))",
            "{{status}}",
        ),
        runbook="redis-away",
    ),
    series(
        "Refused at the door",
        "A second, by the kind of problem.",
        "reqps",
        (
            f"sum by (kind) (rate(tapeline_http_refused_total{{{_AT}}}[$__rate_interval]))",
            "{{kind}}",
        ),
    ),
    heat(
        "Time to answer",
        "All routes.",
        "s",
        "tapeline_http_request_seconds",
        _AT,
        width=12,
    ),
    series(
        "Time to answer, p99 by route",
        "20 ms are the goal of /get_report.",
        "s",
        (
            "histogram_quantile(0.99, sum by (route, le) "
            f"(rate(tapeline_http_request_seconds_bucket{{{_AT}}}[$__rate_interval])))",
            "{{route}}",
        ),
        width=12,
        steps=_QUICK,
    ),
    series(
        "Age of data that was handed out, p95",
        "Of reports, the ten oldest symbols that somebody asked for.",
        "s",
        (
            "topk(10, histogram_quantile(0.95, sum by (symbol, le) "
            f"(rate(tapeline_report_age_seconds_bucket{{{_AT}}}[$__rate_interval]))))",
            "{{symbol}}",
        ),
        steps=((None, GREEN), (1.0, YELLOW), (2.0, RED)),
        runbook="reports-not-generated",
    ),
    series(
        "Calls of MCP tools",
        "A second, by tool and outcome; and events of changed resources.",
        "cps",
        (
            f"sum by (tool, outcome) (rate(tapeline_mcp_calls_total{{{_AT}}}[$__rate_interval]))",
            "{{tool}} {{outcome}}",
        ),
        (f"sum(rate(tapeline_mcp_events_total{{{_AT}}}[$__rate_interval]))", "events"),
    ),
    series(
        "MCP tools, p99",
        "Time that they took. `wait_for_report` waits as long as it is asked to.",
        "s",
        (
            "histogram_quantile(0.99, sum by (tool, le) "
            f"(rate(tapeline_mcp_call_seconds_bucket{{{_AT}}}[$__rate_interval])))",
            "{{tool}}",
        ),
    ),
)

_PROCESS: Final[tuple[Panel, ...]] = (
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
    series(
        "Descriptors in use",
        "Share of what the process may have: one for each client.",
        "percentunit",
        (f"process_open_fds{{{_AT}}} / process_max_fds{{{_AT}}}", "{{instance}}"),
        (
            f"sum(increase(tapeline_query_history_dropped_total{{{_AT}}}[$__rate_interval]))",
            "calls not in a key's history",
        ),
    ),
)

READERS: Final = Board(
    uid="tapeline-readers",
    title="Tapeline: readers",
    about="HTTP, WebSocket and MCP: connections, latency, errors.",
    variables=(("instance", "Reader", "label_values(tapeline_hub_connections, instance)"),),
    rows=(
        ("Now", _NOW),
        ("WebSocket", _HUB),
        ("HTTP and MCP", _HTTP),
        ("The process", _PROCESS),
    ),
)
