"""The tools at work: arguments in, answers out. Knows nothing of the protocol."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from serving.access import Access
from serving.answer_traces import AnswerTraces
from serving.mcp import answers, book
from serving.mcp import contract as c
from serving.mcp import refusals as no
from serving.mcp.bus import RedisBus
from serving.mcp.condition import BadCondition, Condition, check_field, parse
from serving.mcp.counts import McpCounts
from serving.mcp.market import Market
from serving.mcp.status import StatusSource
from serving.mcp.tools import OFFERS
from serving.reader import BadSymbol, StoredReport, StoreUnavailable, check_symbol
from tapeline.errors import ReportError
from tapeline.logging import get_logger

WAITS_MAX: Final = 16
"""Waits of one caller at a time; others are told to come back."""

LOOK_S: Final = 0.5
"""A wait looks by itself this often: an announcement may be lost."""

PROGRESS_S: Final = 1.0
log = get_logger("mcp")

Progress = Callable[[float, float, str], Awaitable[None]]
"""Is told (seconds waited, seconds at most, a few words)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call gave.

    Attributes:
        text: Two lines for people and models; of a refusal, its JSON.
        content: As the tool's schema says; None of a refusal.
    """

    text: str
    content: dict[str, Any] | None

    @property
    def refused(self) -> bool:
        """Whether it gives no answer."""
        return self.content is None


async def _no_progress(_waited_s: float, _most_s: float, _words: str) -> None:
    pass


class Service:
    """All tools.

    Args:
        market: What they read.
        bus: Tells of writes.
        status: Tells how the chain stands.
        report_period_ms: What to wait before asking for newer data.
        counts: What is counted.
        traces: Told of answers with a report, where those are traced.

    Attributes:
        waits: Open waits by caller.
    """

    def __init__(
        self,
        market: Market,
        bus: RedisBus,
        status: StatusSource,
        report_period_ms: int,
        counts: McpCounts,
        traces: AnswerTraces | None = None,
    ) -> None:
        self.market, self._traces = market, traces
        self._bus, self._status, self._period_ms = bus, status, report_period_ms
        self._counts = counts
        self.waits: Counter[str] = Counter()
        self._ends = False
        self._tools: dict[str, Callable[..., Awaitable[tuple[str, msgspec.Struct]]]] = {
            "get_report": self._get_report,
            "list_symbols": self._list_symbols,
            "compare_reports": self._compare_reports,
            "get_order_book": self._get_order_book,
            "wait_for_report": self._wait_for_report,
            "get_service_status": self._get_service_status,
        }

    def end(self) -> None:
        """The process is about to end: who waits is answered now."""
        self._ends = True
        self._bus.wake_all()

    async def call(
        self,
        name: str,
        arguments: dict[str, Any],
        caller: Access | None = None,
        progress: Progress = _no_progress,
    ) -> Outcome:
        """One call of a tool.

        Raises:
            KeyError: There is no such tool.
        """
        offer, began = OFFERS[name], time.perf_counter()
        caller = caller or Access.loopback()
        try:
            if offer.scope not in caller.scopes:
                raise no.Refused(no.FORBIDDEN, f"{name} needs a key with scope {offer.scope}")
            asked = await self._checked(offer.takes, arguments)
            words, found = await self._tools[name](asked, caller, progress)
            outcome = Outcome(words, msgspec.to_builtins(found))
            code = "ok"
        except no.Refused as error:
            outcome, code = refusal(error), error.refusal.code
        except StoreUnavailable as error:
            outcome, code = refusal(no.not_ready(str(error))), no.NOT_READY
        except ReportError as error:
            # Of the stored bytes, not of the call: never the bytes themselves.
            log.warning("mcp.unreadable", tool=name, error=str(error))
            outcome, code = refusal(no.not_ready("what is stored can't be read")), no.NOT_READY
        took_s = time.perf_counter() - began
        self._counts.calls.labels(name, code).inc()
        self._counts.seconds.labels(name).observe(took_s)
        log.info(
            "mcp.call",
            tool=name,
            key_id=caller.key_id,
            outcome=code,
            took_ms=round(took_s * 1000, 2),
        )
        return outcome

    async def _checked(self, takes: type[msgspec.Struct], arguments: dict[str, Any]) -> Any:
        try:
            return msgspec.convert(arguments, takes)
        except msgspec.ValidationError as error:
            sentence = str(error).replace("`$.", "`")
            asked = arguments.get("symbol")
            near: list[str] = []
            if "$.symbol`" in str(error) and isinstance(asked, str):
                near = await self.market.near(asked[:32])
            code = no.RANGE_TOO_LARGE if " <= " in sentence else no.BAD_ARGUMENT
            raise no.Refused(code, f"argument: {sentence}", suggestions=near) from None

    # --- the tools -------------------------------------------------------------------------------

    async def _get_report(
        self, asked: c.GetReport, _caller: Access, _progress: Progress
    ) -> tuple[str, msgspec.Struct]:
        began_ns = time.time_ns()
        report, none = await self._read(asked.symbol)
        age_ms = report.data_age_ms if report else None
        limit = asked.max_age_ms
        if not isinstance(limit, msgspec.UnsetType) and (age_ms is None or age_ms > limit):
            raise no.too_old(asked.symbol, age_ms, limit, self._period_ms)
        whole = None
        if report is not None and asked.detail == "summary":
            whole = await self.market.whole_body(asked.symbol, report)
        found = answers.answer(
            asked.symbol, report, asked.kind, asked.detail, self.market.now_ms(), none, whole
        )
        self._answered(asked.symbol, report, began_ns)
        return answers.in_words(found, asked.kind), found

    async def _list_symbols(
        self, asked: c.ListSymbols, _caller: Access, _progress: Progress
    ) -> tuple[str, msgspec.Struct]:
        wanted = (asked.query or "").upper()
        rows = [answers.row(one) for one in await self.market.rows() if wanted in one.symbol]
        if not isinstance(asked.state, msgspec.UnsetType):
            rows = [row for row in rows if row.state == asked.state]
        after = asked.cursor or ""
        rest = [row for row in rows if row.symbol > after]
        page = rest[: asked.limit]
        found = c.SymbolList(
            now_ms=self.market.now_ms(),
            total=len(rows),
            symbols=page,
            next_cursor=page[-1].symbol if len(rest) > len(page) else None,
        )
        states = Counter(row.state for row in rows)
        counts = ", ".join(f"{states[state]} {state}" for state in states) or "none"
        shown = ", ".join(f"{row.symbol} {row.state}" for row in page[:10])
        more = "; more by cursor" if found.next_cursor else ""
        return f"{len(rows)} symbols: {counts}{more}.\n{shown}", found

    async def _compare_reports(
        self, asked: c.CompareReports, _caller: Access, _progress: Progress
    ) -> tuple[str, msgspec.Struct]:
        fields = list(
            answers.COMPARED if isinstance(asked.fields, msgspec.UnsetType) else asked.fields
        )
        try:
            for symbol in asked.symbols:
                check_symbol(symbol)  # `$` of the schema's pattern lets a line's end pass
            for field in fields:
                check_field(field)
        except BadSymbol as error:
            raise no.Refused(no.BAD_ARGUMENT, str(error)) from None
        except BadCondition as error:
            raise no.Refused(no.BAD_ARGUMENT, str(error), suggestions=error.suggestions) from None
        found = answers.compared(
            await self.market.reports(asked.symbols), fields, self.market.now_ms()
        )
        stale = [row.symbol for row in found.rows if row.stale]
        trust = f"STALE: {', '.join(stale)}" if stale else "Fresh"
        missing = f"; no report: {', '.join(found.missing)}" if found.missing else ""
        head = f"{trust}; computed within {found.skew_ms} ms of each other{missing}."
        rows = "; ".join(
            f"{row.symbol} {answers.value_in_words(row.values[0])}" for row in found.rows
        )
        return f"{head}\n{fields[0]}: {rows or 'nothing'}.", found

    async def _get_order_book(
        self, asked: c.GetOrderBook, _caller: Access, _progress: Progress
    ) -> tuple[str, msgspec.Struct]:
        report, none = await self._read(asked.symbol)
        found = book.answer(
            asked.symbol,
            await self.market.tick(asked.symbol),
            report,
            self.market.now_ms(),
            none or "no book is stored",
            depth=asked.depth,
            bucket_bps=asked.bucket_bps or None,
            notional=asked.notional or None,
        )
        return book.in_words(found), found

    async def _wait_for_report(
        self, asked: c.WaitForReport, caller: Access, progress: Progress
    ) -> tuple[str, msgspec.Struct]:
        condition = None
        if asked.when:
            try:
                condition = parse(asked.when)
            except BadCondition as error:
                raise no.Refused(
                    no.BAD_ARGUMENT, str(error), suggestions=error.suggestions
                ) from None
        with self._one_wait(caller):
            report, none, matched = await self._waited(asked, condition, progress)
        began_ns = time.time_ns()
        found = answers.wait_answer(
            asked.symbol, report, self.market.now_ms(), none, matched=matched
        )
        self._answered(asked.symbol, report, began_ns)
        words = answers.in_words(found, "fast")
        return (words if matched else f"No match in {asked.timeout_s:g} s. {words}"), found

    @contextmanager
    def _one_wait(self, caller: Access) -> Iterator[None]:
        if self.waits[caller.key_id] >= WAITS_MAX:
            raise no.Refused(
                no.RATE_LIMITED,
                f"{WAITS_MAX} waits of this key are open already",
                retry_after_ms=no.RETRY_MS,
            )
        self.waits[caller.key_id] += 1
        try:
            yield
        finally:
            self.waits[caller.key_id] -= 1
            if not self.waits[caller.key_id]:
                del self.waits[caller.key_id]

    async def _waited(
        self, asked: c.WaitForReport, condition: Condition | None, progress: Progress
    ) -> tuple[StoredReport | None, str, bool]:
        began = told = time.monotonic()
        ends = began + asked.timeout_s
        async with self._bus.writes_of(asked.symbol) as written:
            while True:
                written.clear()
                report, none = await self._read(asked.symbol)
                newer = report is not None and report.seq > asked.after_seq
                if (
                    report is not None
                    and newer
                    and (condition is None or condition.holds(answers.decoded(report)))
                ):
                    return report, none, True
                now = time.monotonic()
                if now >= ends or self._ends:
                    return report, none, False
                if now - told >= PROGRESS_S:
                    told = now
                    seen = f"seq {report.seq}" if report else "no report yet"
                    await progress(now - began, asked.timeout_s, seen)
                try:
                    async with asyncio.timeout(min(LOOK_S, ends - now)):
                        await written.wait()
                except TimeoutError:
                    pass

    async def _get_service_status(
        self, _asked: c.GetServiceStatus, _caller: Access, _progress: Progress
    ) -> tuple[str, msgspec.Struct]:
        found = await self._status()
        chain = ", ".join(f"{stage.stage} {stage.state}" for stage in found.stages)
        wrong = [stage for stage in found.stages if stage.state != "ok"]
        notes = "; ".join(f"{stage.stage}: {stage.note}" for stage in wrong) or "nothing is wrong"
        return f"{found.state}: {chain}.\n{notes}.", found

    def _answered(self, symbol: str, report: StoredReport | None, began_ns: int) -> None:
        if self._traces is not None and report is not None:
            self._traces.answered(symbol, report.token, report.seq, "mcp", began_ns)

    async def _read(self, symbol: str) -> tuple[StoredReport | None, str]:
        """A report, or why there is none."""
        try:
            report = await self.market.report(symbol)
        except BadSymbol as error:
            raise no.Refused(no.BAD_ARGUMENT, str(error)) from None
        if report is not None:
            return report, ""
        if await self.market.knows(symbol):
            stepped_back = await self.market.has_report(symbol)
            return None, answers.STEPPED_BACK if stepped_back else answers.NONE_STORED
        raise no.unknown_symbol(symbol, await self.market.near(symbol))


def refusal(error: no.Refused) -> Outcome:
    """A refusal as an outcome: its JSON, for machines and models alike."""
    return Outcome(msgspec.json.encode(error.refusal).decode(), None)
