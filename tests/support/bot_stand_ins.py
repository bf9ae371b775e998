"""The few names of freqtrade and Hummingbot that the examples use, where those are not installed.

They have the shape that freqtrade 2026.9 and Hummingbot's ``StrategyV2Base`` have; nothing is traded.
"""

from __future__ import annotations

import logging
import operator
import sys
from decimal import Decimal
from types import ModuleType, SimpleNamespace
from typing import Any


class Column(list[Any]):
    """Compares as a column of pandas does: row by row; no comparison with NaN is true."""

    def __le__(self, limit: Any) -> Column:
        return Column(value <= limit for value in self)

    def __gt__(self, limit: Any) -> Column:
        return Column(value > limit for value in self)

    def __and__(self, other: Column) -> Column:
        return Column(map(operator.and_, self, other))


class Frame:
    """Of pandas.DataFrame: columns, ``index``, and setting by ``loc``."""

    def __init__(self, rows: int) -> None:
        self.index = list(range(rows))
        self.columns: dict[str, Column] = {}

    @property
    def loc(self) -> Frame:
        return self

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def __setitem__(self, where: str | tuple[Any, str], value: Any) -> None:
        if isinstance(where, str):
            self.columns[where] = Column([value] * len(self.index))
            return
        rows, name = where
        chosen = rows if isinstance(rows, Column) else Column(at == rows for at in self.index)
        column = self.columns.setdefault(name, Column([None] * len(self.index)))
        for at, wanted in enumerate(chosen):
            if wanted:
                column[at] = value


def provider(*pairs: str, mode: str = "dry_run") -> SimpleNamespace:
    """Of freqtrade's DataProvider."""
    return SimpleNamespace(
        current_whitelist=lambda: list(pairs), runmode=SimpleNamespace(value=mode)
    )


class InformativeStrategy:
    """Of freqtrade's IStrategy."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.dp: Any = None


class QuotingStrategy:
    """Of Hummingbot's StrategyV2Base: orders, and what its log said."""

    def __init__(self, connectors: dict[str, Any], config: Any = None) -> None:
        self.connectors = connectors
        self.orders: dict[str, SimpleNamespace] = {}
        self.said: list[str] = []
        self.stopped = False
        self._made = 0

    def get_active_orders(self, connector_name: str) -> list[SimpleNamespace]:
        return list(self.orders.values())

    def cancel(self, connector_name: str, trading_pair: str, order_id: str) -> None:
        del self.orders[order_id]

    def buy(self, *order: Any) -> None:
        self._place("buy", *order)

    def sell(self, *order: Any) -> None:
        self._place("sell", *order)

    def logger(self) -> logging.Logger:
        log = logging.Logger("hummingbot")
        log.addHandler(_Remembering(self.said))
        return log

    async def on_stop(self) -> None:
        self.stopped = True

    def _place(
        self, side: str, connector: str, pair: str, amount: Decimal, kind: str, price: Decimal
    ) -> None:
        assert isinstance(price, Decimal)
        assert kind == "limit"
        self._made += 1
        self.orders[str(self._made)] = SimpleNamespace(
            trading_pair=pair, client_order_id=str(self._made), side=side, price=price
        )


class _Remembering(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record.getMessage())


def install() -> None:
    """Let the examples import these, whether or not the real ones are here."""
    names: dict[str, dict[str, Any]] = {
        "freqtrade": {},
        "freqtrade.strategy": {"IStrategy": InformativeStrategy},
        "hummingbot": {},
        "hummingbot.core": {},
        "hummingbot.core.data_type": {},
        "hummingbot.core.data_type.common": {"OrderType": SimpleNamespace(LIMIT="limit")},
        "hummingbot.strategy": {},
        "hummingbot.strategy.strategy_v2_base": {"StrategyV2Base": QuotingStrategy},
    }
    for name, holds in names.items():
        module = sys.modules[name] = ModuleType(name)
        vars(module).update(holds)
