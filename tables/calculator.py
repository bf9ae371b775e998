"""Figures of your own in every report: calculators that plug into the engine.

A calculator is a small state machine over one symbol's records. It obeys the engine's rules, so
that what it says is recovered, replayed and audited like everything else: its state changes only
in `apply`, `read` changes nothing, neither looks at a clock, and nothing older than 30 minutes
of record time may have any effect.

``examples/calculator_vwap.py`` is one; ``NT_CALCULATORS=examples.calculator_vwap:Vwap`` puts its
figure under ``custom.vwap_5m`` of each report.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from streams.events import Event, Instrument, Trade
from tables.book import OrderBook
from tapeline.errors import SnapshotError


class Market(Protocol):
    """What a calculator may look at beside the record; read only.

    Attributes:
        book: With the record applied; levels in units of ``10 ** book.px_e`` and
            ``10 ** book.sz_e``; to be used while its ``state`` is ``ok``.
        newest_ms: Newest ``ts_recv_ms`` so far.
    """

    symbol: str
    venue: str
    newest_ms: int
    book: OrderBook
    instrument: Instrument | None
    last_trade: Trade | None


@runtime_checkable
class Calculator(Protocol):
    """What a plug-in implements. It is made without arguments, one for each symbol.

    Attributes:
        name: Its key under ``custom``; unique among the calculators of a worker.
        version: Raise it when the same records give another state or figure.
    """

    name: ClassVar[str]
    version: ClassVar[int]

    def apply(self, event: Event, market: Market) -> None:
        """Take a record that the engine has just applied. Late and repeated ones never come."""

    def read(self, now_ms: int) -> Any:
        """The figure at a time not before the newest record, as plain JSON values."""

    def snapshot(self) -> Any:
        """The state as plain values: numbers, text, bytes, lists, dicts with text keys."""

    def restore(self, state: Any) -> None:
        """Become the calculator that `snapshot` was taken of; tuples come back as lists."""


class Calculators:
    """All calculators of one engine.

    One that raises is put aside, with its error in the place of its figure, until the engine is
    rebuilt: a figure from half a change would be wrong, and the others must not suffer.

    Attributes:
        failed: What went wrong, by name.
    """

    __slots__ = ("_all", "_working", "failed")

    def __init__(self, types: Sequence[type[Calculator]]) -> None:
        self._all = {each.name: each() for each in types}
        self._working = list(self._all.values())
        self.failed: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._all)

    def apply(self, event: Event, market: Market) -> list[str]:
        """Give all of them a record; the names of those that have failed on it."""
        failed = []
        for each in self._working:
            try:
                each.apply(event, market)
            except Exception as error:
                # Somebody else's code: whatever it raises must stop nothing but itself.
                self.failed[each.name] = f"{type(error).__name__}: {error}"[:200]
                failed.append(each.name)
        if failed:
            self._working = [each for each in self._working if each.name not in self.failed]
        return failed

    def read(self, now_ms: int) -> dict[str, Any] | None:
        """Every figure by name, None without calculators."""
        if not self._all:
            return None
        figures: dict[str, Any] = {}
        for name, each in self._all.items():
            error = self.failed.get(name)
            if error is None:
                try:
                    figures[name] = each.read(now_ms)
                    continue
                except Exception as raised:
                    # Not kept: reading changes nothing, and the next look may go well.
                    error = f"{type(raised).__name__}: {raised}"[:200]
            figures[name] = {"error": error}
        return figures

    def snapshot(self) -> list[tuple[object, ...]]:
        """Plain values; `restore` takes them back."""
        return [
            (
                name,
                each.version,
                self.failed.get(name),
                None if name in self.failed else each.snapshot(),
            )
            for name, each in self._all.items()
        ]

    def restore(self, values: Sequence[Sequence[Any]]) -> None:
        """Become what `snapshot` was taken of.

        Raises:
            SnapshotError: Other calculators, or other versions: their state can only be rebuilt
                from the records.
        """
        stored = [(name, version) for name, version, _, _ in values]
        wanted = [(name, each.version) for name, each in self._all.items()]
        if stored != wanted:
            raise SnapshotError(f"snapshot with calculators {stored}, not {wanted}")
        for name, _, error, state in values:
            if error is None:
                self._all[name].restore(state)
            else:
                self.failed[name] = error
        self._working = [each for each in self._all.values() if each.name not in self.failed]
