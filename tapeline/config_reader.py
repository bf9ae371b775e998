"""Settings of readers alone: who may ask, from where, and how much."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings

from tapeline.config_fields import checked_redis_url, plain


class ReaderSettings(BaseSettings):
    """What `tapeline serve` asks for beside the settings that all processes share."""

    redis_reader_url: Annotated[str, AfterValidator(checked_redis_url)] = plain(
        "REDIS_READER_URL",
        "",
        "Reader: Redis for reports and ticks alone, as a user who may only read or on a replica; "
        "`REDIS_URL` when empty.",
        "`redis[s]://[user:password@]host:port/db`",
    )
    require_keys: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Reader: who needs an API key. `auto`: everybody, unless `NT_BIND_HOST` is a "
        "loopback address; `always`: on loopback too, as behind a proxy on this machine; `never`: "
        "nobody, where something else decides who reaches the port.",
    )
    allowed_hosts: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._:,\[\]-]*$|^\*$",
        description="Reader: names it may be called by in `Host`, comma-separated, beside "
        "localhost and the address a connection arrives at; `*` for any.",
    )
    allowed_origins: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._:/,\[\]-]*$",
        description="Reader: origins of other pages that may call it, comma-separated, such as "
        "`https://desk.example`: over HTTP (CORS) and `/ws`.",
    )
    key_rate_per_s: int = Field(
        50, ge=1, le=100_000, description="Reader: requests a second of a key created without rate."
    )
    query_history: int = Field(
        1000, ge=0, le=100_000, description="Reader: calls of a key kept for `/queries`, about."
    )
    http_body_max_bytes: int = Field(
        262_144, ge=1024, le=16_777_216, description="Reader: largest body of a request."
    )
    http_read_timeout_s: int = Field(
        10, ge=1, le=120, description="Reader: how long the head, and the body, of a request take."
    )
    access_log: bool = Field(True, description="Reader: a log line for each request.")
