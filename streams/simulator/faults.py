"""What goes wrong on the way from a venue to its clients, by script and by chance.

Pure and seeded. `Faults` holds a venue's rules and counts what they did; a `Line` is the way to
one client: it takes frames as the dialect made them and gives what is sent instead. Whether
chance strikes depends on seed, rule, connection, symbol, kind and how many such frames went
before, never on how streams interleave. What episodes do happens in the market; what happens
here is on the wire only, so the exchange's own book stays right.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from typing import Any, Final, Literal, NamedTuple

from streams.simulator.dialect import Frame
from streams.simulator.fault_rules import FAULTS, Rule
from streams.simulator.mangling import MANGLERS

LOG_KEPT: Final = 1000
Desk = Literal["wire", "number", "request"]
"""Where rules are asked: for each frame, for each number given to one, for each request."""


class Strike(NamedTuple):
    """A fault that was injected.

    Attributes:
        connection: Number of the connection, from 1; 0 for a request.
        frame: How many frames of this symbol and kind the connection had been due; 0 likewise.
    """

    ts_ms: int
    fault: str
    symbol: str
    kind: str
    connection: int
    frame: int


class _Armed:
    """A rule and what is left of it."""

    __slots__ = ("index", "left", "rule", "seen")

    def __init__(self, rule: Rule, index: int) -> None:
        self.rule, self.index = rule, index
        self.left = rule.count
        self.seen = 0

    def wants(self, symbol: str, kind: str, connection: int) -> bool:
        rule = self.rule
        if rule.symbol is not None and rule.symbol != symbol:
            return False
        if rule.connection and rule.connection != connection:
            return False
        if rule.kind is not None:
            return rule.kind == kind
        return FAULTS[rule.fault].on == "request" or kind in FAULTS[rule.fault].kinds

    def due(self, now_ms: int) -> bool:
        """Whether a scripted rule strikes the frame at hand, which it has seen."""
        rule = self.rule
        if not self.left:
            return False
        return self.seen >= rule.number if rule.number else now_ms >= rule.at_ms


class Faults:
    """A venue's rules, and what they have done.

    Attributes:
        counts: Injected, by fault, symbol and kind.
        log: The newest 1,000.
        silenced: Frames that silent and half-open sockets did not get.
        restarts: Owed to the venue, each taken once by `take_restarts`.
        refuse_until_ms: No connection is accepted before this time.
    """

    def __init__(self, seed: int | str) -> None:
        self.counts: dict[str, dict[str, dict[str, int]]] = {}
        self.log: deque[Strike] = deque(maxlen=LOG_KEPT)
        self.silenced = 0
        self.refuse_until_ms = 0
        self._restarts = 0
        self._seed = seed
        self._armed: dict[Desk, list[_Armed]] = {"wire": [], "number": [], "request": []}
        self._added = 0
        self._refused_until_ms = 0
        self._banned = False
        self._requests = Draws(f"{seed}:requests")

    @property
    def rules(self) -> list[Rule]:
        """Those that still hold, in the order added."""
        armed = sorted((a for desk in self._armed.values() for a in desk), key=_index)
        return [a.rule for a in armed if a.left]

    def add(self, rule: Rule) -> None:
        """Let a rule hold from now on."""
        place = FAULTS[rule.fault].on
        desk: Desk = place if place in ("number", "request") else "wire"
        self._armed[desk].append(_Armed(rule, self._added))
        self._added += 1

    def clear(self) -> None:
        """Let no rule hold any longer; what was held back is sent in time."""
        for desk in self._armed.values():
            desk.clear()

    def line(self, connection: int) -> Line:
        """The way to a new client."""
        return Line(self, connection, f"{self._seed}:{connection}")

    def take_restarts(self) -> int:
        """How often the venue has to restart now."""
        owed, self._restarts = self._restarts, 0
        return owed

    def strike(
        self, desk: Desk, draws: Draws, connection: int, symbol: str, kind: str, now_ms: int
    ) -> Rule | None:
        """The rule that strikes the frame or request at hand; every rule has seen it."""
        found: Rule | None = None
        for armed in self._armed[desk]:
            if not armed.wants(symbol, kind, connection):
                continue
            rule = armed.rule
            armed.seen += 1
            if rule.rate:
                # Drawn whatever the others did: a rule's chances are its own.
                if draws.next(armed.index, symbol, kind) < rule.rate and found is None:
                    found = rule
            elif found is None and armed.due(now_ms):
                armed.left -= 1
                found = rule
        return found

    def struck(
        self, fault: str, symbol: str, kind: str, now_ms: int, connection: int, frame: int
    ) -> None:
        """Count what has been injected."""
        kinds = self.counts.setdefault(fault, {}).setdefault(symbol or "*", {})
        kinds[kind] = kinds.get(kind, 0) + 1
        self.log.append(Strike(now_ms, fault, symbol, kind, connection, frame))

    def of_venue(self, rule: Rule, now_ms: int) -> None:
        """Do what a rule does to all clients."""
        if rule.fault == "restart":
            self._restarts += 1
        else:
            until_ms = now_ms + round(rule.number_of("seconds") * 1000)
            self.refuse_until_ms = max(self.refuse_until_ms, until_ms)

    def request(self, symbol: str, kind: str, now_ms: int) -> tuple[str, int]:
        """What becomes of a REST request.

        Args:
            symbol: As the venue spells it; empty where it is about none.
            kind: What is asked for, such as ``depth``.
            now_ms: The venue's time.

        Returns:
            (fault, seconds to wait): ``limit`` or ``ban`` for a refusal, ``old_snapshot`` for an
            answer out of the past, or an empty name.
        """
        wait_ms = self._refused_until_ms - now_ms
        if wait_ms > 0:
            return ("ban" if self._banned else "limit"), -(-wait_ms // 1000)
        rule = self.strike("request", self._requests, 0, symbol, kind, now_ms)
        if rule is None:
            return "", 0
        self.struck(rule.fault, symbol, kind, now_ms, 0, 0)
        if rule.fault == "old_snapshot":
            return rule.fault, 0
        wait_s = max(1, round(rule.number_of("retry_after")))
        self._refused_until_ms, self._banned = now_ms + wait_s * 1000, rule.fault == "ban"
        return rule.fault, wait_s

    def state(self) -> dict[str, Any]:
        """What the control API shows."""
        return {
            "counts": self.counts,
            "totals": by_fault(self.counts),
            "silenced": self.silenced,
            "rules": [str(rule) for rule in self.rules],
            "log": [strike._asdict() for strike in self.log],
        }


class Draws:
    """Seeded chance, one sequence for each rule, symbol and kind."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._streams: dict[tuple[int, str, str], random.Random] = {}

    def next(self, rule: int, symbol: str, kind: str) -> float:
        """From 0 up to 1."""
        key = (rule, symbol, kind)
        rng = self._streams.get(key)
        if rng is None:
            rng = self._streams[key] = random.Random(f"{self._seed}:{rule}:{symbol}:{kind}")
        return rng.random()


class Line:
    """The way from the venue to one client.

    Attributes:
        connection: Its number, from 1.
        silent_until_ms: Nothing gets through before this time; the socket stays open.
        half_open_until_ms: Nothing is read or answered either, and then it is cut off.
        cut: It is to be closed now.
    """

    def __init__(self, faults: Faults, connection: int, seed: str) -> None:
        self.connection = connection
        self.silent_until_ms = self.half_open_until_ms = 0
        self.cut = False
        self._faults = faults
        self._draws = Draws(seed)
        self._shapes = random.Random(f"{seed}:shapes")
        self._numbers: dict[tuple[str, str], int] = {}
        self._held: dict[str, tuple[Frame, int]] = {}
        self._later: list[tuple[int, int, Frame]] = []
        self._count = 0

    def holes(self, symbol: str, kind: str, now_ms: int) -> int:
        """How many of the connection's own numbers to leave out before the next frame."""
        rule = self._faults.strike("number", self._draws, self.connection, symbol, kind, now_ms)
        if rule is None:
            return 0
        self._struck(rule.fault, symbol, kind, now_ms)
        return max(1, round(rule.number_of("numbers")))

    def half_open(self, now_ms: int) -> bool:
        """Whether the client talks to nobody."""
        return now_ms < self.half_open_until_ms

    def send(self, frame: Frame, now_ms: int) -> list[Frame]:
        """What is sent instead of a frame, now."""
        key = (frame.symbol, frame.kind)
        self._numbers[key] = self._numbers.get(key, 0) + 1
        if self._deaf(now_ms):
            self._faults.silenced += 1
            return []
        rule = self._faults.strike("wire", self._draws, self.connection, *key, now_ms)
        if rule is None:
            return self._with_held(frame, now_ms)
        return self._apply(rule, frame, now_ms)

    def due(self, now_ms: int) -> list[Frame]:
        """Frames held back that are to go now."""
        out = []
        while self._later and self._later[0][0] <= now_ms:
            out.append(heapq.heappop(self._later)[2])
        for stream in [s for s, (_, until_ms) in self._held.items() if until_ms <= now_ms]:
            # No neighbour came to change places with: it is late, and nothing else.
            frame, _ = self._held.pop(stream)
            self._struck("delay", frame.symbol, frame.kind, now_ms)
            out.append(frame)
        if out and self._deaf(now_ms):
            self._faults.silenced += len(out)
            return []
        return out

    # --- inside ---

    def _deaf(self, now_ms: int) -> bool:
        return now_ms < self.silent_until_ms or now_ms < self.half_open_until_ms

    def _struck(self, fault: str, symbol: str, kind: str, now_ms: int) -> None:
        number = self._numbers.get((symbol, kind), 0)
        self._faults.struck(fault, symbol, kind, now_ms, self.connection, number)

    def _with_held(self, frame: Frame, now_ms: int) -> list[Frame]:
        """The frame, and behind it the one that waits for it, if there is one."""
        if frame.stream not in self._held:
            return [frame]
        held, _ = self._held.pop(frame.stream)
        self._struck("reorder", held.symbol, held.kind, now_ms)
        return [frame, held]

    def _apply(self, rule: Rule, frame: Frame, now_ms: int) -> list[Frame]:
        fault = rule.fault
        if fault in MANGLERS:
            text = MANGLERS[fault](frame.text, self._shapes, rule.params)
            if text is not None:
                self._struck(fault, frame.symbol, frame.kind, now_ms)
                frame = frame._replace(text=text)
            return self._with_held(frame, now_ms)
        if fault == "reorder":
            if frame.stream in self._held:
                return self._with_held(frame, now_ms)
            self._held[frame.stream] = (frame, now_ms + round(rule.number_of("ms")))
            return []
        self._struck(fault, frame.symbol, frame.kind, now_ms)
        if fault == "drop":
            return []
        if fault == "duplicate":
            return [frame, *self._with_held(frame, now_ms)]
        if fault == "delay":
            self._count += 1
            due_ms = now_ms + round(rule.number_of("ms"))
            heapq.heappush(self._later, (due_ms, self._count, frame))
            return []
        return self._whole_line(rule, frame, now_ms)

    def _whole_line(self, rule: Rule, frame: Frame, now_ms: int) -> list[Frame]:
        if rule.fault == "disconnect":
            self.cut = True
        elif rule.fault in ("silent", "half_open"):
            until_ms = now_ms + round(rule.number_of("seconds") * 1000)
            if rule.fault == "silent":
                self.silent_until_ms = until_ms
            else:
                self.half_open_until_ms = until_ms
            self._faults.silenced += 1
            return []
        else:
            self._faults.of_venue(rule, now_ms)
        return self._with_held(frame, now_ms)


def _index(armed: _Armed) -> int:
    return armed.index


def by_fault(counts: dict[str, dict[str, dict[str, int]]]) -> dict[str, int]:
    """Totals by fault."""
    return {
        fault: sum(sum(kinds.values()) for kinds in symbols.values())
        for fault, symbols in counts.items()
    }
