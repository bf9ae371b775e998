"""Settings of a system that runs beside another one, on the same topic of events."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings

_SUFFIX: Final = re.compile(r"[a-z0-9_-]{1,16}")
_TAKEN: Final = ("heavy", "log_level", "stats", "trace")
"""Last words of keys of a system without a suffix; `lua.keys` has them as well."""


def checked_suffix(suffix: str) -> str:
    """Checks ``NT_REPORT_SUFFIX``."""
    if suffix and (suffix in _TAKEN or _SUFFIX.fullmatch(suffix) is None):
        raise ValueError
    return suffix


class BesideSettings(BaseSettings):
    """Where the second of two systems keeps what it writes."""

    report_suffix: Annotated[str, AfterValidator(checked_suffix)] = Field(
        "",
        description="For a second system beside one that is live: last word of all that its "
        "workers keep in Redis (`report:BTCUSDT:nt`), of its consumer group and of the topics it "
        "writes (`tapeline-nt`, `md.merged.v1-nt`). Readers with the same suffix read it. Bridges "
        "are shared, and have none.",
        json_schema_extra={
            "expected": "1 to 16 of a-z, 0-9, _ and -, none of heavy, log_level, stats, trace"
        },
    )

    def suffixed(self, name: str) -> str:
        """A consumer group or topic of the workers' own: ``tapeline-nt``; itself without suffix."""
        return f"{name}-{self.report_suffix}" if self.report_suffix else name
