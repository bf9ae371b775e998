"""Rules for faults: which there are, when they strike, and how a rule is written.

``NAME@SECONDS``, ``NAME#NUMBER`` or ``NAME%RATE``, then ``:SYMBOL``, ``:KIND`` and ``,KEY=VALUE``
as needed: ``drop@10:BTC/USD:book`` loses the first book frame of BTC/USD after 10 s,
``delay#25::trade,ms=400`` holds back the 25th trade frame, ``duplicate%0.01`` sends one frame in
a hundred twice. Before the name, ``VENUE=`` says where it holds. ``all%RATE`` stands for all
faults by chance, rarer the more they break.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from streams.simulator.dialect import DATA_KINDS
from tapeline.errors import ConfigError

Place = Literal["frame", "line", "venue", "number", "request"]

COUNT_MAX: Final = 1_000_000

_RULE = re.compile(
    r"(?:(?P<venue>[a-z]+)=)?(?P<name>[a-z_]+)"
    r"(?:@(?P<at>\d+(?:\.\d+)?)|#(?P<number>[1-9]\d{0,8})|%(?P<rate>\d*\.?\d+(?:e-\d+)?))?"
    r"(?::(?P<symbol>[A-Z0-9._/-]*)(?::(?P<kind>[A-Za-z_]+))?)?"
    r"(?P<params>(?:,[a-z_]+=\d+(?:\.\d+)?)*)"
)
_EXPECTED = (
    "[VENUE=]NAME[@SECONDS|#NUMBER|%RATE][:SYMBOL[:KIND]][,KEY=VALUE] such as drop@10:BTCUSDT:book"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong.

    Attributes:
        on: Whether it strikes a frame, what follows on its connection (``line``), the whole
            ``venue``, the connection's ``number``s, or a REST ``request``.
        defaults: Parameters it takes.
        rarity: How many times rarer than a lost frame it is where all happen by chance.
        venue: The only one that has it; empty for any.
        kinds: Frames it strikes where a rule names no kind.
    """

    on: Place
    defaults: Mapping[str, float] = field(default_factory=dict)
    rarity: float = 1
    venue: str = ""
    kinds: tuple[str, ...] = DATA_KINDS


FAULTS: Final[Mapping[str, Fault]] = MappingProxyType(
    {
        # A frame is lost, sent twice, changes places with the next of its stream, or comes late
        # while others overtake it.
        "drop": Fault("frame"),
        "duplicate": Fault("frame"),
        "reorder": Fault("frame", {"ms": 1000}),
        "delay": Fault("frame", {"ms": 300}),
        # It is cut, no JSON object, right but for its checksum, or right but enormous.
        "truncate": Fault("frame"),
        "malform": Fault("frame"),
        "checksum": Fault("frame", venue="kraken", kinds=("book",)),
        "huge": Fault("frame", {"bytes": 6_000_000}, rarity=100),
        # The connection's sequence leaves out numbers, and nothing is missing.
        "hole": Fault("number", {"numbers": 1}, venue="coinbase"),
        # The socket stays open and brings nothing; or nobody reads it and it is never closed,
        # before the venue resets it at last; or it is closed.
        "silent": Fault("line", {"seconds": 30}, rarity=100),
        "half_open": Fault("line", {"seconds": 60}, rarity=100),
        "disconnect": Fault("line", rarity=50),
        # All sockets are closed and ids begin anew; or nobody is let in for a while.
        "restart": Fault("venue", rarity=200),
        "refuse_connections": Fault("venue", {"seconds": 5}, rarity=200),
        # REST answers with a book older than the diffs, with 429, or with 418.
        "old_snapshot": Fault("request", venue="binance", rarity=0.1),
        "limit": Fault("request", {"retry_after": 1}, rarity=0.1),
        "ban": Fault("request", {"retry_after": 2}, rarity=0.2),
    }
)


@dataclass(frozen=True, slots=True)
class Rule:
    """When a fault strikes; by its time unless ``number`` or ``rate`` is given.

    Attributes:
        symbol, kind: Which frames or requests it looks at; None for all about market data.
        at_ms: Strikes the first of them at or after this time, in the venue's time.
        number: Strikes the n-th of them, over all connections, counted from when it was added.
        rate: Chance for each of them, from 0 to 1.
        count: How many it strikes, one after the other; by chance there is no end.
        connection: The only one it looks at, from 1; 0 for any.
        params: The fault's own parameters, defaults filled in.
    """

    fault: str
    symbol: str | None = None
    kind: str | None = None
    at_ms: int = 0
    number: int = 0
    rate: float = 0.0
    count: int = 1
    connection: int = 0
    params: Mapping[str, float] = field(default_factory=dict)

    def number_of(self, name: str) -> float:
        """A parameter."""
        return self.params[name]

    def __str__(self) -> str:
        if self.rate:
            when = f"%{self.rate:g}"
        else:
            when = f"#{self.number}" if self.number else f"@{self.at_ms}ms"
        which = f":{self.symbol or ''}:{self.kind}" if self.kind else f":{self.symbol or ''}"
        params = "".join(f",{name}={value:g}" for name, value in self.params.items())
        return f"{self.fault}{when}{which.rstrip(':')}{params}"


def rules_of(text: str, venue: str, start_ms: int) -> list[Rule]:
    """The rules that a text stands for at a venue; none if it names another venue.

    Args:
        text: As the module says.
        venue: Such as ``kraken``.
        start_ms: What its seconds are counted from.

    Raises:
        ConfigError: It does not parse, or the venue has no such fault, parameter or rate.
    """
    match = _RULE.fullmatch(text)
    if match is None:
        raise ConfigError("--fault", text, _EXPECTED)
    if match["venue"] not in (None, venue):
        return []
    name, rate = match["name"], float(match["rate"] or 0)
    given = dict(part.split("=") for part in match["params"].split(",") if part)
    if match["rate"] and not 0 < rate <= 1:
        raise ConfigError("--fault", text, "a rate above 0 and up to 1")
    if name == "all":
        if not rate or given or match["kind"]:
            raise ConfigError("--fault", text, "all%RATE or all%RATE:SYMBOL")
        here = {n: fault for n, fault in FAULTS.items() if fault.venue in ("", venue)}
        return [
            Rule(
                n,
                match["symbol"] or None,
                rate=min(1.0, rate / fault.rarity),
                params=fault.defaults,
            )
            for n, fault in here.items()
        ]
    if name not in FAULTS:
        raise ConfigError("--fault", text, "one of all, " + ", ".join(FAULTS))
    fault = FAULTS[name]
    if fault.venue not in ("", venue):
        if match["venue"]:
            raise ConfigError("--fault", text, f"a fault of {venue}; {name} is {fault.venue}'s")
        return []
    count, connection = int(float(given.pop("count", 1))), int(float(given.pop("connection", 0)))
    if not 1 <= count <= COUNT_MAX:
        raise ConfigError("--fault", text, f"a count from 1 to {COUNT_MAX}")
    unknown = given.keys() - fault.defaults.keys()
    if unknown:
        known = ", ".join(("count", "connection", *fault.defaults))
        raise ConfigError("--fault", text, f"parameters out of: {known}")
    return [
        Rule(
            name,
            match["symbol"] or None,
            match["kind"],
            at_ms=start_ms + round(float(match["at"] or 0) * 1000),
            number=int(match["number"] or 0),
            rate=rate,
            count=count,
            connection=connection,
            params={**fault.defaults, **{key: float(value) for key, value in given.items()}},
        )
    ]
