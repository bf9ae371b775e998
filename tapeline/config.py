"""Settings: read from the environment once, at the edge.

A bad value names the variable, what it holds and what is allowed. Secrets, those inside URLs
included, are masked wherever a setting is printed. ``docs/configuration.md`` is generated from
the fields below.
"""

from __future__ import annotations

import difflib
import os
import socket
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import SettingsConfigDict

from tapeline.config_beside import BesideSettings
from tapeline.config_fields import (
    REDIS_SCHEMES,
    Port,
    checked_kafka_url,
    checked_redis_url,
    plain,
)
from tapeline.config_hub import HubSettings
from tapeline.config_reader import ReaderSettings
from tapeline.config_security import (
    FILE_SUFFIX,
    SECRET_FIELDS,
    SecuritySettings,
    from_files,
    secured,
)
from tapeline.config_tracing import TracingSettings
from tapeline.errors import ConfigError
from tapeline.masking import HIDDEN, mask, mask_refused

__all__ = ["REDIS_SCHEMES", "Settings", "load_settings", "mask"]

PREFIX = "NT_"


class Settings(HubSettings, ReaderSettings, BesideSettings, TracingSettings, SecuritySettings):
    """All settings of bridge, worker and reader; each process uses those it needs."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, validate_default=False
    )

    # --- where things are ---
    kafka_url: Annotated[str, AfterValidator(checked_kafka_url)] = plain(
        "KAFKA_URL", "", "Kafka or Redpanda.", "brokers: `kafka://host:port[,host:port]`"
    )
    redis_url: Annotated[str, AfterValidator(checked_redis_url)] = plain(
        "REDIS_URL", "", "Redis or Valkey.", "`redis[s]://[user:password@]host:port/db`"
    )
    symbols: str = plain(
        "SYMBOLS",
        "",
        "What to follow: `VENUE:SYMBOL` or `VENUE:VENUE_SYMBOL>SYMBOL`, comma-separated. Several "
        "venues may name one symbol; the first is its primary venue.",
    )
    quote_mixed: str = Field(
        "",
        description="Symbols, comma-separated, whose venues may quote in different currencies, or "
        "in one that their names do not tell. Prices of different currencies are never compared.",
    )

    # --- identity, logs, ports ---
    node_id: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]{0,64}$",
        description="This process's name; the host's name and the port when empty.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe log lines written."
    )
    bind_host: str = Field("127.0.0.1", description="Address the HTTP servers listen on.")
    metrics_port: Port = Field(
        9101, description="Worker: `/metrics` and `/health`. 0 picks a free port."
    )
    bridge_port: Port = Field(
        9102, description="Bridge: `/metrics` and `/health`. 0 picks a free port."
    )
    serve_port: Port = Field(8080, description="Reader: the HTTP API. 0 picks a free port.")

    # --- switches ---
    redis_cluster_keys: bool = Field(
        False,
        description="Put symbols in real braces in key names, `report:{BTCUSDT}`, so that a Redis "
        "Cluster keeps all keys of a symbol in one slot.",
    )
    calculators: str = Field(
        "",
        description="Figures of your own, as `package.module:Class`, separated by commas; see "
        "`tables/calculator.py`.",
    )
    enable_kv_reports: bool = Field(True, description="Publish reports to Redis.")
    enable_streams: bool = Field(
        False,
        description="Also write raw events and merged windows to capped Redis Streams, "
        "`events:SYMBOL` and `merged:SYMBOL`.",
    )
    streams_maxlen: int = Field(
        10_000, ge=100, le=10_000_000, description="Entries kept, about, in each Redis Stream."
    )

    # --- topics and the application ---
    app_id: str = Field(
        "tapeline",
        pattern=r"^[a-zA-Z0-9._-]{1,200}$",
        description="Consumer group, and the changelogs' prefix.",
    )
    events_topic: str = Field(
        "md.events.v1", pattern=r"^[a-zA-Z0-9._-]{1,200}$", description="Topic of market events."
    )
    commands_topic: str = Field(
        "control.commands.v1",
        pattern=r"^[a-zA-Z0-9._-]{1,200}$",
        description="Topic of commands: what to follow from now on.",
    )
    routing_topic: str = Field(
        "control.routing.v1",
        pattern=r"^[a-zA-Z0-9._-]{1,200}$",
        description="Topic of the set of subscriptions that commands have led to.",
    )
    telemetry_topic: str = Field(
        "ops.telemetry.v1",
        pattern=r"^[a-zA-Z0-9._-]{1,200}$",
        description="Topic for operators: acknowledgements, and what was decided about data.",
    )
    merged_topic: str = Field(
        "md.merged.v1",
        pattern=r"^[a-zA-Z0-9._-]{1,200}$",
        description="Topic of merged windows: several venues' events of a symbol.",
    )
    partitions: int = Field(
        64, ge=1, le=10_000, description="Partitions of the events topic; fixed for its life."
    )
    replication_factor: int = Field(
        1, ge=1, le=9, description="Replicas of topics Tapeline creates."
    )
    retention_ms: int = Field(
        21_600_000,
        ge=7_200_000,
        le=2_592_000_000,
        description="How long the events topic keeps records.",
    )

    session_timeout_ms: int = Field(
        10_000,
        ge=1000,
        le=300_000,
        description="Worker: silence after which Kafka's group declares it dead; brokers refuse "
        "less than 6000 by default.",
    )

    stall_ms: int = Field(
        5000,
        ge=2000,
        le=60_000,
        description="Worker: standstill with work to do after which it ends itself; `/health` says "
        "so from half of it on.",
    )

    # --- cycles ---
    report_period_ms: int = Field(250, ge=100, le=1000, description="Fast cycle, per symbol.")
    slow_period_ms: int = Field(2000, ge=1000, le=60_000, description="Slow cycle, per symbol.")
    checkpoint_period_ms: int = Field(
        2000, ge=1000, le=10_000, description="Time between two checkpoints of a changed symbol."
    )
    clock: Literal["wall", "records"] = Field(
        "wall",
        description="What `now` is to reports: the wall clock, or the newest record's "
        "`ts_recv_ms` (for playing recordings through a worker).",
    )
    report_ttl_ms: int = Field(
        300_000,
        ge=1000,
        le=86_400_000,
        description="A report expires this long after its last accepted write.",
    )
    report_split_bytes: int = Field(
        262_144,
        ge=1024,
        le=16_777_216,
        description="Above this size a report's long lists go to `report:SYMBOL:heavy`.",
    )
    tick_period_ms: int = Field(
        50, ge=10, le=1000, description="Least time between two writes of `tick:SYMBOL`."
    )

    # --- leases ---
    lease_ttl_ms: int = Field(
        2000,
        ge=400,
        le=60_000,
        description="A writer's lease; renewed each quarter of it.",
    )
    hrw_sticky_pct: float = Field(
        0.02, ge=0, le=0.5, description="Bonus of the current owner in rendezvous hashing."
    )
    node_weight: float = Field(
        1.0,
        ge=0.01,
        le=100,
        description="Worker: its share of the symbols, as a multiple of another's.",
    )
    min_hold_ms: int = Field(
        2000, ge=0, le=600_000, description="Least time between two voluntary moves of a symbol."
    )

    # --- analytics ---
    profile_bin_ticks: int = Field(5, ge=1, le=10_000, description="Volume profile: ticks a bin.")
    profile_value_area_pct: float = Field(
        70.0, ge=1, le=100, description="Volume profile: percent of the volume inside VAL..VAH."
    )
    profile_min_trades: int = Field(
        10, ge=1, le=1_000_000, description="Volume profile: trades below which it is left out."
    )
    liquidity_levels: int = Field(
        50, ge=5, le=1000, description="Levels a side searched for walls and vacuums."
    )
    liquidity_min_samples: int = Field(
        100, ge=10, le=10_000, description="Size samples below which no wall or vacuum is named."
    )
    wall_percentile: float = Field(95.0, ge=50, le=100, description="Walls: percentile of sizes.")
    wall_multiplier: float = Field(
        1.5, ge=1, le=100, description="Walls: a level is one at this multiple of the percentile."
    )
    vacuum_percentile: float = Field(10.0, ge=0, le=50, description="Vacuums: percentile of sizes.")
    vacuum_min_levels: int = Field(
        3, ge=1, le=1000, description="Vacuums: this many thin levels in a row."
    )
    spoof_cancel_pct: float = Field(
        70.0, ge=1, le=100, description="Spoofing: cancelled share of large far orders, percent."
    )
    spoof_min_orders: int = Field(
        5,
        ge=1,
        le=1000,
        description="Spoofing: large far orders on one side below which nothing is said.",
    )
    spoof_far_bps: float = Field(
        5.0,
        ge=0,
        le=10_000,
        description="Spoofing: an order is far at this distance from mid, bps.",
    )
    spoof_lifetime_ms: int = Field(
        3000,
        ge=100,
        le=60_000,
        description="Spoofing: an order gone within this counts as cancelled.",
    )
    iceberg_min_fills: int = Field(5, ge=2, le=1000, description="Iceberg: fills at one price.")
    iceberg_depth_tolerance_pct: float = Field(
        10.0,
        ge=0,
        le=100,
        description="Iceberg: visible size stays within this of its first value.",
    )
    crash_min_signals: int = Field(
        2, ge=1, le=3, description="Flash crash: signals out of three that raise it."
    )

    # --- venue ---
    binance_stream_url: str = Field(
        "wss://data-stream.binance.vision", description="Binance websocket root."
    )
    binance_rest_url: str = Field(
        "https://data-api.binance.vision", description="Binance REST root."
    )
    coinbase_stream_url: str = Field(
        "wss://advanced-trade-ws.coinbase.com", description="Coinbase websocket root."
    )
    coinbase_rest_url: str = Field(
        "https://api.coinbase.com/api/v3/brokerage", description="Coinbase REST root."
    )
    kraken_stream_url: str = Field(
        "wss://ws.kraken.com", description="Kraken websocket root; its version is added."
    )
    snapshot_period_ms: int = Field(
        300_000,
        ge=1000,
        le=3_600_000,
        description="Bridge: time between two written book snapshots.",
    )
    book_stale_ms: int = Field(
        300_000,
        ge=1000,
        le=3_600_000,
        description="Bridge: a book that has not moved for so long on a live socket is asked for "
        "again.",
    )
    book_refresh_min_ms: int = Field(
        120_000,
        ge=1000,
        le=86_400_000,
        description="Bridge: shortest time after which a book is checked, or built anew.",
    )
    book_refresh_max_ms: int = Field(
        300_000, ge=1000, le=86_400_000, description="Bridge: longest such time."
    )
    flush_ms: int = Field(
        50, ge=5, le=1000, description="Bridge: how often it looks for holes to be given up."
    )
    late_ms: int = Field(
        150, ge=10, le=5000, description="Bridge: how long a hole in a stream may be filled."
    )
    alive_period_ms: int = Field(
        500, ge=100, le=10_000, description="Bridge: silence after which `alive` is written."
    )
    outage_buffer_ms: int = Field(
        30_000, ge=1000, le=600_000, description="Bridge: how long a broker outage is buffered."
    )
    outage_buffer_bytes: int = Field(
        67_108_864, ge=1_048_576, le=4_294_967_296, description="Bridge: and how much of it."
    )

    # --- recording ---
    record_dir: str = Field(
        "", description="Bridge: folder to record what venues send to, as capture files."
    )
    record_rotate_mb: int = Field(
        256, ge=1, le=1_048_576, description="Recordings: size of a file, MiB, compressed."
    )
    record_rotate_s: int = Field(
        3_600, ge=1, le=604_800, description="Recordings: age of a file, seconds."
    )
    record_buffer_bytes: int = Field(
        67_108_864,
        ge=65_536,
        le=4_294_967_296,
        description="Recordings: what may wait for the disk; beyond, frames are not recorded.",
    )

    @model_validator(mode="after")
    def _name_the_node(self) -> Settings:
        if not self.node_id:
            object.__setattr__(self, "node_id", f"{socket.gethostname()}-{self.metrics_port}")
        return self

    @property
    def lease_renew_ms(self) -> int:
        """Renewal interval of the writer's lease: a quarter of its TTL."""
        return self.lease_ttl_ms // 4


def variable_name(field: str) -> str:
    """The environment variable a field is read from."""
    info = Settings.model_fields[field]
    if isinstance(info.validation_alias, AliasChoices):
        return str(info.validation_alias.choices[0])
    return (PREFIX + field).upper()


def allowed(info: FieldInfo) -> str:
    """What a field accepts, in words."""
    if isinstance(info.json_schema_extra, dict):
        return str(info.json_schema_extra["expected"])
    low = high = pattern = None
    for bound in info.metadata:
        low = getattr(bound, "ge", None) if low is None else low
        high = getattr(bound, "le", None) if high is None else high
        pattern = getattr(bound, "pattern", None) or pattern
    kind = info.annotation
    if low is not None or high is not None:
        return f"{'a number' if kind is float else 'an integer'} from {low} to {high}"
    if kind is bool:
        return "true or false"
    if getattr(kind, "__args__", None):
        return "one of " + ", ".join(str(choice) for choice in kind.__args__)  # type: ignore[union-attr]
    return f"text matching {pattern}" if pattern else "text"


def load_settings(
    environ: Mapping[str, str] | None = None, *, require: tuple[str, ...] = (), **overrides: Any
) -> Settings:
    """Settings from the environment.

    Args:
        environ: Instead of the process's own.
        require: Field names that must not be empty.
        overrides: Field values that win over the environment.

    Raises:
        ConfigError: A value out of range, a required one missing, or some that do not go together.
    """
    source = os.environ if environ is None else environ
    files = {f: variable_name(f) for f in SECRET_FIELDS if f not in overrides}
    given = {**source, **{files[f]: text for f, text in from_files(source, files).items()}}
    values: dict[str, Any] = {}
    for field in Settings.model_fields:
        name = variable_name(field)
        if field in overrides:
            values[name if name[: len(PREFIX)] != PREFIX else field] = overrides[field]
        elif given.get(name, "") != "":
            values[name if name[: len(PREFIX)] != PREFIX else field] = given[name]
    settings: Settings
    try:
        settings = _FromValues(**values)
    except ValidationError as exc:
        first = exc.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "settings"
        field = field.lower() if field.lower() in Settings.model_fields else field
        name = variable_name(field)
        said = mask_refused if field in SECRET_FIELDS else mask
        raise ConfigError(
            name, said(str(first["input"])), allowed(Settings.model_fields[field])
        ) from None
    settings = secured(settings)
    for field in require:
        if not getattr(settings, field):
            raise ConfigError(variable_name(field), None, _wanted(Settings.model_fields[field]))
    return settings


def _wanted(info: FieldInfo) -> str:
    """What a setting that must not be empty should hold."""
    words = allowed(info)
    return (info.description or "a value") if words == "text" else words


class _FromValues(Settings):
    """Settings from given values alone: the environment has been read already."""

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls, settings_cls: Any, init_settings: Any, **_: Any
    ) -> Any:
        return (init_settings,)


def unknown_variables(environ: Mapping[str, str] | None = None) -> dict[str, str | None]:
    """Variables with our prefix that no setting reads, each with the nearest name that one does."""
    known = [variable_name(field) for field in Settings.model_fields]
    known += [variable_name(field) + FILE_SUFFIX for field in SECRET_FIELDS]
    found = (os.environ if environ is None else environ).keys()
    return {
        name: next(iter(difflib.get_close_matches(name, known, 1)), None)
        for name in sorted(found)
        if name.startswith(PREFIX) and name not in known and not name.startswith("NT_TEST_")
    }


def shown(settings: Settings) -> dict[str, Any]:
    """Every setting by its variable's name, secrets masked."""
    return {variable_name(field): _shown(value) for field, value in settings.model_dump().items()}


def _shown(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return HIDDEN if value.get_secret_value() else ""
    return mask(value) if isinstance(value, str) else value


def exit_on_config_error(exc: ConfigError) -> None:
    """Say what is wrong on one line and leave with status 2."""
    sys.stderr.write(f"ERROR: {exc}\n")
    raise SystemExit(2)
