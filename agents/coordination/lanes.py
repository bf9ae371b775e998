"""What waits to be written of one symbol: the newest draft, and the write under way.

Pure: leases and time enter with each call; times are monotonic ms unless they say otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from agents.coordination.lease_state import Lease
from agents.coordination.sink import WriteKind
from lua import PublishCode, ReportWrite, TickWrite

ReportEncoder = Callable[[int, int, int], tuple[bytes, bytes]]
"""(writer token, seq, updated_at in ms since the epoch) -> (payload, heavy or b'')."""

TickEncoder = Callable[[int, int], bytes]
"""(writer token, seq) -> payload."""

Write = ReportWrite | TickWrite
EncoderT = TypeVar("EncoderT", ReportEncoder, TickEncoder)

ATTEMPTS: Final = 3
BACKOFF_MS: Final = 50
"""Before the second try; doubled before the third."""

GIVEN_UP_MS: Final = 200
"""After the last try: then the newest draft is written, and no longer this one."""


class Lane(Generic[EncoderT]):
    """One symbol's reports, or its ticks: latest only, one write at a time.

    The order of a write is fixed when it is encoded, and never used for another: a write whose
    outcome is unknown may still arrive.

    Args:
        symbol: Whose.
        period_ms: Least time between two accepted writes; 0 for none.

    Attributes:
        due_ms: Nothing is to be written before this moment.
        period_ms: As given; may be changed at any time, for the writes to come.
    """

    kind: WriteKind

    def __init__(self, symbol: str, period_ms: int = 0) -> None:
        self.symbol = symbol
        self.due_ms = 0
        self.period_ms = period_ms
        self._draft: tuple[int, EncoderT] | None = None  # (watermark, encoder)
        self._under_way: tuple[Write, tuple[int, EncoderT]] | None = None
        self._attempts = 0
        self._lease_value = ""
        self._seq = 0
        self._watermark = 0

    @property
    def pending(self) -> bool:
        """Whether there is anything to write."""
        return self._draft is not None or self._under_way is not None

    def put(self, watermark: int, encode: EncoderT) -> bool:
        """Keep the newest draft.

        Returns:
            False if it is behind what was accepted already; it is dropped.
        """
        if watermark < self._watermark:
            return False
        self._draft = (watermark, encode)
        return True

    def clear(self) -> None:
        """Forget what waits; order and watermark stay."""
        self._draft = self._under_way = None

    def take(self, lease: Lease, now_ms: int, wall_ms: int) -> Write | None:
        """The write to be sent now under ``lease``.

        Args:
            lease: Valid at this moment.
            now_ms: Monotonic.
            wall_ms: Since the epoch, to stamp with.

        Raises:
            Exception: Whatever the encoder raises; the draft is dropped.
        """
        if self._lease_value != lease.value:
            # Of another grant: refused, or soon to be. What it carried is a draft again.
            self._back_to_draft()
            self._lease_value = lease.value
            self._adopt(lease)
        if now_ms < self.due_ms:
            return None
        if self._under_way is not None:
            return self._under_way[0]
        if self._draft is None:
            return None
        draft, self._draft = self._draft, None
        self._seq += 1
        self._attempts = 0
        write = self._encode(lease, draft, wall_ms)
        self._under_way = (write, draft)
        return write

    def answered(self, write: Write, code: PublishCode, now_ms: int) -> None:
        """Redis answered ``write``."""
        if self._under_way is None or self._under_way[0] is not write:
            return  # cleared meanwhile
        if code is PublishCode.FENCED or code is PublishCode.NOT_OWNER:
            self._back_to_draft()
            return
        self._under_way = None
        if code.stored:
            self._watermark = max(self._watermark, write.watermark)
            self.due_ms = now_ms + self.period_ms

    def failed(self, write: Write, now_ms: int) -> bool:
        """The try came to nothing, or its outcome is unknown.

        Returns:
            True if it was the last one.
        """
        if self._under_way is None or self._under_way[0] is not write:
            return False
        self._attempts += 1
        if self._attempts < ATTEMPTS:
            self.due_ms = now_ms + BACKOFF_MS * 2 ** (self._attempts - 1)
            return False
        self._back_to_draft()
        self.due_ms = now_ms + GIVEN_UP_MS
        return True

    def _back_to_draft(self) -> None:
        if self._under_way is not None and self._draft is None:
            self._draft = self._under_way[1]
        self._under_way = None

    def _adopt(self, lease: Lease) -> None:
        raise NotImplementedError

    def _encode(self, lease: Lease, draft: tuple[int, EncoderT], wall_ms: int) -> Write:
        raise NotImplementedError


class ReportLane(Lane[ReportEncoder]):
    """Reports: seq and updated_at go on from those of the writer before."""

    kind: WriteKind = "report"

    def __init__(self, symbol: str) -> None:
        super().__init__(symbol)
        self._updated_at = 0

    def _adopt(self, lease: Lease) -> None:
        self._seq = max(self._seq, lease.last_seq)
        self._updated_at = max(self._updated_at, lease.last_updated_at)

    def _encode(self, lease: Lease, draft: tuple[int, ReportEncoder], wall_ms: int) -> ReportWrite:
        watermark, encode = draft
        self._updated_at = max(self._updated_at + 1, wall_ms)
        payload, heavy = encode(lease.token, self._seq, self._updated_at)
        return ReportWrite(
            symbol=self.symbol,
            lease_value=lease.value,
            token=lease.token,
            seq=self._seq,
            watermark=watermark,
            updated_at=self._updated_at,
            payload=payload,
            heavy=heavy,
        )


class TickLane(Lane[TickEncoder]):
    """Ticks: a seq of their own, that goes on for as long as the process lives."""

    kind: WriteKind = "tick"

    def _adopt(self, lease: Lease) -> None:
        pass

    def _encode(self, lease: Lease, draft: tuple[int, TickEncoder], wall_ms: int) -> TickWrite:
        watermark, encode = draft
        return TickWrite(
            symbol=self.symbol,
            lease_value=lease.value,
            token=lease.token,
            seq=self._seq,
            watermark=watermark,
            payload=encode(lease.token, self._seq),
        )
