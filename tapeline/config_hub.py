"""Settings of the WebSocket hub; `tapeline.config.Settings` has them beside all others."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings

_STATES = "reports.fast|reports.slow|ticks|book|status"
_EVENTS = "trades|klines|merged|anomalies"


class HubSettings(BaseSettings):
    """What each client of ``/ws`` gets, and how many there may be."""

    hub_rate: float = Field(
        1000, ge=1, le=1_000_000, description="Hub: frames a second to one client."
    )
    hub_burst: int = Field(
        100, ge=1, le=100_000, description="Hub: frames to one client at once, after a pause."
    )
    hub_flush_ms: int = Field(
        50,
        ge=1,
        le=1000,
        description="Hub: least time between two frames of one channel and symbol; what comes "
        "between them is coalesced.",
    )
    hub_coalesced: str = Field(
        "reports.fast,reports.slow,ticks,book,status",
        pattern=rf"^(?:(?:{_STATES}|{_EVENTS})(?:,(?:{_STATES}|{_EVENTS}))*)?$",
        description="Hub: channels, comma-separated, of which a client that is behind gets the "
        "newest only. Of others up to 1,000 frames wait; executions are never coalesced.",
    )
    hub_heartbeat_s: float = Field(
        2.0, ge=0.1, le=60, description="Hub: time between two heartbeats."
    )
    hub_clients_max: int = Field(
        10_000, ge=1, le=1_000_000, description="Hub: clients at once; more are turned away."
    )
    hub_executions_queue: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="Hub: execution reports that may wait for one client; beyond, it is closed "
        "with 1013 and the place to go on from.",
    )
    hub_send_timeout_s: float = Field(
        10.0, ge=0.1, le=600, description="Hub: how long a client may take nothing at all."
    )
    hub_events: Literal["auto", "kafka", "redis"] = Field(
        "auto",
        description="Hub: where trades, candles and merged windows come from: the topics, or the "
        "capped Redis Streams that workers write with `NT_ENABLE_STREAMS`. `auto`: the topics "
        "where `KAFKA_URL` is set.",
    )
