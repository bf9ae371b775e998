"""Settings of traces: which are made, and where they go."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings

from tapeline.config_fields import checked_otlp_endpoint


class TracingSettings(BaseSettings):
    """What bridge, worker and reader share to make one trace."""

    trace_sample_ratio: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Bridge: share of frames whose way is traced, to the report's readers; each "
        "process needs `NT_OTLP_ENDPOINT` to tell its part.",
    )
    otlp_endpoint: Annotated[str, AfterValidator(checked_otlp_endpoint)] = Field(
        "",
        description="Where spans are sent, as OTLP over HTTP: a collector, such as "
        "`http://127.0.0.1:4318`. No spans are made where it is empty. Needs the extra `otel`.",
        json_schema_extra={"expected": "`http[s]://[user:password@]host[:port][/path]`"},
    )
