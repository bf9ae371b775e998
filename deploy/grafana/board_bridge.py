"""Bridges and venues: what comes, what is missing of it, and whether the broker takes it."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import (
    GREEN,
    RED,
    YELLOW,
    ZERO_IS_BAD,
    Board,
    Panel,
    series,
    stat,
    states,
    table,
)

_AT: Final = 'instance=~"$instance"'
_OF: Final = f'{_AT}, venue=~"$venue"'

_NOW: Final[tuple[Panel, ...]] = (
    stat(
        "Venues connected",
        "Those that some bridge has a socket of.",
        "none",
        f"sum(max by (venue) (tapeline_bridge_connected{{{_OF}}}))",
        steps=ZERO_IS_BAD,
        runbook="venue-or-key-rejected",
    ),
    stat(
        "Feeds without a writer",
        "Followed by bridges, and none holds the lease.",
        "none",
        f"count(max by (venue, symbol) (tapeline_bridge_feed_token{{{_OF}}}) == 0) or vector(0)",
        steps=((None, GREEN), (1, RED)),
        runbook="no-bridge",
    ),
    stat(
        "Books out of sync",
        "At every bridge that follows them.",
        "none",
        f"count(max by (venue, symbol) (tapeline_bridge_in_sync{{{_OF}}}) == 0) or vector(0)",
        steps=((None, GREEN), (1, RED)),
        runbook="venue-or-key-rejected",
    ),
    stat(
        "Frames",
        "A second.",
        "cps",
        f"sum(rate(tapeline_bridge_frames_total{{{_OF}}}[$__rate_interval]))",
    ),
    stat(
        "Oldest in the outbox",
        "Since when the broker has not taken it.",
        "s",
        f"max(tapeline_bridge_outbox_age_seconds{{{_AT}}})",
        steps=((None, GREEN), (2, YELLOW), (10, RED)),
        runbook="broker-away",
    ),
    stat(
        "Subscriptions, version",
        "Rises with each change of what is followed.",
        "none",
        f"max(tapeline_bridge_routing_version{{{_AT}}})",
    ),
)

_VENUES: Final[tuple[Panel, ...]] = (
    states(
        "Sockets",
        "Whether a bridge has a socket of a venue.",
        f"tapeline_bridge_connected{{{_OF}}}",
        "{{instance}} {{venue}}",
        words=(("0", "none", RED), ("1", "connected", GREEN)),
        runbook="venue-or-key-rejected",
    ),
    series(
        "Frames",
        "A second, by venue.",
        "cps",
        (
            f"sum by (venue) (rate(tapeline_bridge_frames_total{{{_OF}}}[$__rate_interval]))",
            "{{venue}}",
        ),
    ),
    series(
        "Sockets opened and lost",
        "In each interval. `refused`: the venue could not be reached, or said no.",
        "short",
        (
            f"sum by (venue) (increase(tapeline_bridge_connects_total{{{_OF}}}[$__rate_interval]))",
            "{{venue}} opened",
        ),
        (
            "sum by (venue, reason) "
            f"(increase(tapeline_bridge_reconnects_total{{{_OF}}}[$__rate_interval]))",
            "{{venue}} lost: {{reason}}",
        ),
        runbook="venue-or-key-rejected",
    ),
    series(
        "Subscribed anew",
        "In each interval, by why.",
        "short",
        (
            f"sum by (venue, reason) (increase(nt_ws_resubscribe_total{{{_OF}}}[$__rate_interval]))",
            "{{venue}} {{reason}}",
        ),
        runbook="venue-or-key-rejected",
    ),
    series(
        "Round trip",
        "Shortest of the last minute's pings.",
        "s",
        (f"tapeline_bridge_round_trip_seconds{{{_OF}}}", "{{instance}} {{venue}}"),
    ),
    series(
        "Clocks",
        "How far a venue's clock is ahead of ours, estimated. Nothing is ordered by it.",
        "s",
        (f"tapeline_bridge_clock_offset_seconds{{{_OF}}}", "{{instance}} {{venue}}"),
        least=None,
    ),
    series(
        "Frames that are not the venue's dialect",
        "A second; kept as dead letters, as far as there is room.",
        "cps",
        (
            f"sum by (venue) (rate(tapeline_bridge_frame_errors_total{{{_OF}}}[$__rate_interval]))",
            "{{venue}}",
        ),
        (
            f"sum by (venue) (rate(tapeline_bridge_dead_letters_total{{{_OF}}}[$__rate_interval]))",
            "{{venue}} kept",
        ),
        (
            "sum by (venue, reason) "
            f"(rate(tapeline_bridge_dead_letters_dropped_total{{{_OF}}}[$__rate_interval]))",
            "{{venue}} not kept: {{reason}}",
        ),
        runbook="venue-or-key-rejected",
    ),
    series(
        "REST requests refused",
        "In each interval, by status. 429 and 418 are the venue's limit for this address.",
        "short",
        (
            "sum by (venue, status) "
            f"(increase(tapeline_bridge_requests_refused_total{{{_OF}}}[$__rate_interval]))",
            "{{venue}} {{status}}",
        ),
        runbook="venue-or-key-rejected",
    ),
    series(
        "Times replaced",
        "Of the venue, more than 60 s off ours.",
        "short",
        (
            f"sum by (venue) (increase(tapeline_bridge_ts_replaced_total{{{_OF}}}[$__rate_interval]))",
            "{{venue}}",
        ),
    ),
)

_FEEDS: Final[tuple[Panel, ...]] = (
    series(
        "Records made, by kind",
        "A second.",
        "cps",
        (
            f"sum by (kind) (rate(tapeline_bridge_records_total{{{_OF}}}[$__rate_interval]))",
            "{{kind}}",
        ),
        stack=True,
    ),
    series(
        "Gaps",
        "Times that readers were told that something is missing, in each interval.",
        "short",
        (
            "sum by (venue, symbol) "
            f"(increase(tapeline_bridge_gaps_total{{{_OF}}}[$__rate_interval])) > 0",
            "{{venue}} {{symbol}}",
        ),
        runbook="venue-or-key-rejected",
    ),
    series(
        "Books distrusted",
        "Books asked for anew, and what was found wrong: checksums, holes in a connection's "
        "numbers, crossed books, differences from a snapshot. In each interval.",
        "short",
        (
            f"sum by (venue) (increase(tapeline_bridge_resyncs_total{{{_OF}}}[$__rate_interval]))",
            "{{venue}} asked for anew",
        ),
        (
            "sum by (venue) "
            f"(increase(tapeline_bridge_checksums_failed_total{{{_OF}}}[$__rate_interval]))",
            "{{venue}} checksum",
        ),
        (
            "sum by (venue) "
            f"(increase(tapeline_bridge_sequence_gaps_total{{{_OF}}}[$__rate_interval]))",
            "{{venue}} hole",
        ),
        (
            f"sum by (venue) (increase(tapeline_bridge_crossed_total{{{_OF}}}[$__rate_interval]))",
            "{{venue}} crossed",
        ),
        (
            "sum by (venue) "
            f"(increase(tapeline_bridge_checks_differed_total{{{_OF}}}[$__rate_interval]))",
            "{{venue}} differed",
        ),
    ),
    series(
        "Trades missing, repeated, late",
        "Trades that the venue made and the bridge did not see; trades dropped because they had "
        "been seen; events that came when their hole had been given up. In each interval.",
        "short",
        (
            "sum by (venue) "
            f"(increase(tapeline_bridge_trades_missing_total{{{_OF}}}[$__rate_interval]))",
            "{{venue}} missing",
        ),
        (
            "sum by (venue) "
            f"(increase(tapeline_bridge_trade_duplicates_total{{{_OF}}}[$__rate_interval]))",
            "{{venue}} repeated",
        ),
        (
            f"sum by (venue) (increase(tapeline_bridge_late_total{{{_OF}}}[$__rate_interval]))",
            "{{venue}} late",
        ),
    ),
    series(
        "Not written for want of a lease",
        "Events a second. It rises at a standby bridge, and at the only one it should not.",
        "cps",
        (
            f"sum by (instance, venue) (rate(tapeline_bridge_muted_total{{{_OF}}}[$__rate_interval]))",
            "{{instance}} {{venue}}",
        ),
        runbook="no-bridge",
    ),
    table(
        "Books out of sync now",
        "At a bridge that follows them.",
        f"tapeline_bridge_in_sync{{{_OF}}} == 0",
        runbook="venue-or-key-rejected",
    ),
)

_BROKER: Final[tuple[Panel, ...]] = (
    states(
        "Broker and Redis",
        "Whether a bridge has a producer, and whether Redis answers it.",
        'label_replace(tapeline_bridge_broker_connected{instance=~"$instance"}, "what", "broker", '
        '"", "") or label_replace(tapeline_bridge_redis_reachable{instance=~"$instance"}, "what", '
        '"redis", "", "")',
        "{{instance}} {{what}}",
        words=(("0", "away", RED), ("1", "there", GREEN)),
        runbook="broker-away",
    ),
    series(
        "Outbox",
        "Bytes that the broker has not acknowledged. NT_OUTAGE_BUFFER_BYTES is the limit.",
        "bytes",
        (f"tapeline_bridge_outbox_bytes{{{_AT}}}", "{{instance}}"),
        runbook="broker-away",
    ),
    series(
        "Outbox, records and age",
        "Records that wait, and how long the oldest of them has.",
        "short",
        (f"tapeline_bridge_outbox_records{{{_AT}}}", "{{instance}} records"),
        (f"tapeline_bridge_outbox_age_seconds{{{_AT}}}", "{{instance}} seconds"),
        runbook="broker-away",
    ),
    series(
        "Acknowledged",
        "Records a second.",
        "cps",
        (
            f"sum by (instance) (rate(tapeline_bridge_acknowledged_total{{{_AT}}}[$__rate_interval]))",
            "{{instance}}",
        ),
    ),
    series(
        "Lost",
        "Records dropped because the broker was away for too long (readers are told of it as a "
        "gap), and records that it will never take. In each interval.",
        "short",
        (
            f"sum by (venue) (increase(tapeline_bridge_dropped_total{{{_OF}}}[$__rate_interval]))",
            "{{venue}} dropped",
        ),
        (
            f"sum(increase(tapeline_bridge_refused_total{{{_AT}}}[$__rate_interval]))",
            "refused",
        ),
        runbook="broker-away",
    ),
    series(
        "Producers replaced, feed leases lost",
        "In each interval.",
        "short",
        (
            "sum by (reason) "
            f"(increase(tapeline_bridge_producers_replaced_total{{{_AT}}}[$__rate_interval]))",
            "producer: {{reason}}",
        ),
        (
            f"sum by (instance) (increase(tapeline_bridge_leases_lost_total{{{_AT}}}[$__rate_interval]))",
            "{{instance}} lease lost",
        ),
        runbook="broker-away",
    ),
)

_BESIDE: Final[tuple[Panel, ...]] = (
    series(
        "Telemetry",
        "Events a second.",
        "cps",
        (
            "sum by (event, venue) "
            f"(rate(tapeline_bridge_telemetry_total{{{_OF}}}[$__rate_interval]))",
            "{{event}} {{venue}}",
        ),
    ),
    series(
        "Recorder",
        "What waits to be recorded, where a bridge records.",
        "bytes",
        (f"tapeline_bridge_recorder_queue_bytes{{{_OF}}}", "{{instance}} {{venue}}"),
    ),
    series(
        "Recorder, what is lost",
        "Frames and replies not recorded, a second, and whether the disk takes nothing.",
        "short",
        (
            f"sum by (venue) (rate(tapeline_bridge_recorder_dropped_total{{{_OF}}}[$__rate_interval]))",
            "{{venue}} dropped",
        ),
        (
            f"max by (venue) (tapeline_bridge_recorder_failed{{{_OF}}})",
            "{{venue}} disk takes nothing",
        ),
    ),
    series(
        "Dead letters that wait",
        "Frames to be kept, not yet acknowledged.",
        "short",
        (f"tapeline_bridge_dead_letters_waiting{{{_AT}}}", "{{instance}}"),
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
)

BRIDGE: Final = Board(
    uid="tapeline-bridge",
    title="Tapeline: bridge and venues",
    about="What venues send, what is missing of it, and whether the broker takes what is made of it.",
    variables=(
        ("instance", "Bridge", "label_values(tapeline_bridge_broker_connected, instance)"),
        ("venue", "Venue", "label_values(tapeline_bridge_connected, venue)"),
    ),
    rows=(
        ("Now", _NOW),
        ("Venues", _VENUES),
        ("Feeds", _FEEDS),
        ("Broker and Redis", _BROKER),
        ("Beside it, and the process", _BESIDE),
    ),
)
