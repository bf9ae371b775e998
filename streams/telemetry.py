"""Records of ``ops.telemetry.v1`` for operators: what was decided about data, and why. Pure.

They are flat JSON objects; `docs/telemetry.md` lists each event's fields. They are never mixed with
market events, and nothing reads them to work: what is left out here is counted all the same.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from streams.allowance import Allowance
from tapeline.clock import Clock

TELEMETRY_VERSION: Final = 1

PER_SECOND: Final = 50.0
BURST: Final = 200.0
"""Of one event: what goes beyond is counted, not written."""

_encode: Final = msgspec.json.Encoder().encode


class Ids(NamedTuple):
    """What a record and the log line that says the same are found by.

    Attributes:
        trace_id: Shared by what belongs together.
        decision_id: Of this decision alone.
    """

    trace_id: str
    decision_id: str


class Telemetry:
    """Makes records, each event within its allowance.

    Attributes:
        made: Records made, by (event, venue); the venue is empty where an event has none.
        suppressed: Left out because there were too many, likewise.
    """

    def __init__(
        self,
        write: Callable[[bytes, bytes], None],
        *,
        component: str,
        node_id: str,
        clock: Clock,
    ) -> None:
        """Nothing is written before the first event.

        Args:
            write: Takes a record's key and value; it must not wait.
            component: ``bridge`` or ``worker``.
            node_id: Whose.
            clock: Tells when it is, and how fast they come.
        """
        self.made: Counter[tuple[str, str]] = Counter()
        self.suppressed: Counter[tuple[str, str]] = Counter()
        self._write, self._component, self._node_id, self._clock = write, component, node_id, clock
        self._allowances: dict[str, Allowance] = {}

    def outcomes(self) -> Iterator[tuple[tuple[str, str, str], int]]:
        """Counts by (event, venue, ``written`` or ``suppressed``), for metrics."""
        for outcome, counts in (("written", self.made), ("suppressed", self.suppressed)):
            for (event, venue), count in [*counts.items()]:
                yield (event, venue, outcome), count

    def tell(self, event: str, *, trace_id: str = "", **fields: Any) -> Ids:
        """Write one event.

        Args:
            event: Its name, such as ``book.resync``.
            trace_id: What it is a part of; one of its own where nothing is given.
            fields: JSON values, flat.

        Returns:
            Its ids, for the log line that says the same.
        """
        ids = Ids(trace_id or uuid.uuid4().hex, uuid.uuid4().hex)
        key = (event, str(fields.get("provider", "")))
        allowance = self._allowances.setdefault(event, Allowance(PER_SECOND, BURST))
        if not allowance.spend(self._clock.monotonic_ms()):
            self.suppressed[key] += 1
            return ids
        self.made[key] += 1
        record = {
            "v": TELEMETRY_VERSION,
            "event": event,
            "ts_ms": self._clock.now_ms(),
            "component": self._component,
            "node_id": self._node_id,
            **ids._asdict(),
            **fields,
        }
        self._write(event.encode(), _encode(record))
        return ids
