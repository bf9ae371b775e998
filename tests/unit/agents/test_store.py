"""What the store holds is what reading the whole changelog would give, whatever came to pass."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agents.store import PENDING_MAX, TapelineStore
from tables.changelog import (
    Checkpoint,
    checkpoint_key,
    decode_checkpoint,
    encode_checkpoint,
    newest,
)

TOPIC = "app-engine-changelog"
HOME = 3
CHANGELOG = TP(TOPIC, HOME)
SYMBOLS = ("A", "B")

Entry = tuple[int, bytes, bytes | None]
"""(offset, key, value) of a changelog's record."""


def new_store() -> TapelineStore:
    table = SimpleNamespace(
        name="engine", changelog_topic=SimpleNamespace(get_topic_name=lambda: TOPIC)
    )
    return TapelineStore("memory://", None, table)  # type: ignore[arg-type]


def rebalanced(store: TapelineStore, generation: int, *, held: bool = True) -> None:
    assigned = {TP("events", HOME), CHANGELOG} if held else set()
    asyncio.run(store.on_rebalance(assigned, set(), set(), generation))


def read(store: TapelineStore, entries: list[Entry]) -> None:
    """As recovery does."""
    store.apply_changelog_batch(
        [
            SimpleNamespace(
                key=key,
                value=value,
                message=SimpleNamespace(partition=HOME, offset=offset, value=value),
            )
            for offset, key, value in entries
        ],
        lambda key: key,
        lambda value: value,
    )


@dataclass
class Changelog:
    """One partition as the broker keeps it."""

    entries: list[Entry] = field(default_factory=list)
    end: int = 0
    retained: set[int] = field(default_factory=set)

    def append(self, key: bytes, value: bytes | None) -> int:
        self.entries.append((self.end, key, value))
        self.end += 1
        return self.end - 1

    def compact(self) -> None:
        """The last record of each key stays; a tombstone that has been seen before goes."""
        last = {key: offset for offset, key, _ in self.entries}
        kept = [e for e in self.entries if last[e[1]] == e[0]]
        gone = self.retained - {self.end - 1}  # the active segment is never cleaned
        self.retained |= {offset for offset, _, value in kept if value is None}
        self.entries = [e for e in kept if e[0] not in gone]

    def whole(self) -> dict[bytes, bytes]:
        """What reading from the beginning gives."""
        held = {key: value for _, key, value in self.entries}
        return {key: value for key, value in held.items() if value is not None}


@dataclass
class Worker:
    """A process that may own the partition, or believe so."""

    store: TapelineStore = field(default_factory=new_store)
    owns: bool = False
    token: int = 0
    applied: int = 0
    stored: dict[str, set[int]] = field(default_factory=dict)

    def save(self, changelog: Changelog, symbol: str, *, heard: bool) -> None:
        """A checkpoint, and tombstones of lower tokens once it is acknowledged."""
        tokens = self.stored.setdefault(symbol, set())
        token = max([self.token, *tokens])
        self.write(
            changelog,
            checkpoint_key(symbol, token),
            encode_checkpoint(Checkpoint(symbol, token, 0, self.applied, b"state")),
            heard=heard,
        )
        if heard:
            for lower in sorted(t for t in tokens if t < token):
                tokens.discard(lower)
                self.write(changelog, checkpoint_key(symbol, lower), None, heard=heard)
            tokens.add(token)

    def write(self, changelog: Changelog, key: bytes, value: bytes | None, *, heard: bool) -> None:
        offset = changelog.append(key, value)
        if heard:
            self.store.written(HOME, offset, key, value)

    def found(self) -> dict[str, Checkpoint]:
        return newest(decode_checkpoint(value) for value in self.store.data.values())


class Handovers(RuleBasedStateMachine):
    """Two workers; one may sleep through a handover and write late."""

    def __init__(self) -> None:
        super().__init__()
        self.changelog = Changelog()
        self.workers = [Worker(), Worker()]
        self.generation = 0
        self.owner: Worker | None = None
        self.applied = 0
        self.late = False

    @rule(
        owner=st.sampled_from([0, 1, None]),
        asleep=st.booleans(),
        interrupted=st.sampled_from([None, None, None, None, 0, 1, 3]),
        batch=st.integers(1, 4),
    )
    def assign(self, owner: int | None, asleep: bool, interrupted: int | None, batch: int) -> None:
        """A generation of the group; a worker asleep does not hear of it."""
        self.generation += 1
        before, self.owner = self.owner, None
        for nth, worker in enumerate(self.workers):
            if nth != owner and asleep:
                continue
            rebalanced(worker.store, self.generation, held=nth == owner)
            worker.owns = nth == owner
        if owner is None:
            return
        worker = self.workers[owner]
        start = worker.store.persisted_offset(CHANGELOG)
        after = -1 if start is None else start
        left = [entry for entry in self.changelog.entries if entry[0] > after]
        if interrupted is not None:
            # The next rebalance comes before all was read; nothing is made of it yet.
            read(worker.store, left[:interrupted])
            worker.owns = False
            return
        for at in range(0, len(left), batch):
            read(worker.store, left[at : at + batch])
        worker.store.recovered({CHANGELOG: self.changelog.end - 1})
        whole = self.changelog.whole()
        assert worker.found() == newest(decode_checkpoint(value) for value in whole.values())
        assert whole.items() <= worker.store.data.items()
        if not self.late:
            # A late writer's tombstone may be gone before it is read; of a lower token, always.
            assert dict(worker.store.data) == whole
        worker.stored = {}
        for value in worker.store.data.values():
            one = decode_checkpoint(value)
            worker.stored.setdefault(one.symbol, set()).add(one.token)
        if before is not worker:
            worker.token = self.generation
        worker.applied = self.applied
        self.owner = worker

    @precondition(lambda self: self.owner is not None)
    @rule(symbol=st.sampled_from(SYMBOLS), heard=st.sampled_from([True, True, True, False]))
    def checkpoint(self, symbol: str, heard: bool) -> None:
        """The owner keeps what it has; its acknowledgement may get lost."""
        assert self.owner is not None
        self.applied += 1
        self.owner.applied = self.applied
        self.owner.save(self.changelog, symbol, heard=heard)

    @precondition(lambda self: any(w.owns and w is not self.owner for w in self.workers))
    @rule(symbol=st.sampled_from(SYMBOLS), heard=st.booleans())
    def late_write(self, symbol: str, heard: bool) -> None:
        """One that slept through its end writes under its lower token."""
        for worker in self.workers:
            if worker.owns and worker is not self.owner:
                self.late = True
                worker.save(self.changelog, symbol, heard=heard)

    @rule(times=st.integers(1, 2))
    def compact(self, times: int) -> None:
        for _ in range(times):
            self.changelog.compact()

    @invariant()
    def one_checkpoint_a_key(self) -> None:
        """Nothing is held twice, and nothing of a partition whose offset is not known."""
        for worker in self.workers:
            if worker.store.persisted_offset(CHANGELOG) is None:
                assert not worker.store.data


TestHandovers = Handovers.TestCase
TestHandovers.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


# --- the rules, one by one -----------------------------------------------------------------------


def recovered(entries: int = 3) -> tuple[TapelineStore, Changelog]:
    """A store that has read a changelog of so many keys."""
    store, changelog = new_store(), Changelog()
    for nth in range(entries):
        changelog.append(b"K%d" % nth, b"v")
    rebalanced(store, 1)
    read(store, changelog.entries)
    store.recovered({CHANGELOG: changelog.end - 1})
    return store, changelog


def test_a_partition_that_stays_is_read_on() -> None:
    """From the last own record, without reading any."""
    store, _ = recovered()
    store.written(HOME, 3, b"K0", b"newer")
    store.written(HOME, 4, b"K1", None)
    rebalanced(store, 2)
    assert store.persisted_offset(CHANGELOG) == 4
    assert dict(store.data) == {b"K0": b"newer", b"K2": b"v"}


def test_acknowledgements_may_come_in_any_order() -> None:
    """The chain is what counts."""
    store, _ = recovered()
    store.written(HOME, 4, b"K0", b"second")
    assert store.persisted_offset(CHANGELOG) == 2
    store.written(HOME, 3, b"K0", b"first")
    assert store.persisted_offset(CHANGELOG) == 4
    assert store.data[b"K0"] == b"second"


@pytest.mark.parametrize(
    "happens",
    [
        lambda store: rebalanced(store, 3),
        lambda store: (rebalanced(store, 2, held=False), rebalanced(store, 3)),
        lambda store: (store.written(HOME, 4, b"K0", b"x"), rebalanced(store, 2)),
        lambda store: [store.written(HOME, 4 + n, b"K0", b"x") for n in range(PENDING_MAX + 1)],
        lambda store: store.written(HOME, 0, b"K0", b"of another changelog"),
        lambda store: store.forget(HOME),
    ],
    ids=["a generation missed", "lost and back", "a hole", "a long hole", "stepped back", "cut"],
)
def test_what_may_be_another_writers_is_forgotten(happens: Any) -> None:
    """Whole, to be read from the beginning."""
    store, _ = recovered()
    happens(store)
    assert store.persisted_offset(CHANGELOG) is None
    assert dict(store.data) == {}


def test_other_partitions_are_none_of_its_business() -> None:
    """Late news of those given up change nothing."""
    store, changelog = recovered()
    rebalanced(store, 2, held=False)
    read(store, changelog.entries)
    store.written(HOME, 3, b"K0", b"late")
    store.recovered({CHANGELOG: 9})
    assert store.persisted_offset(CHANGELOG) is None
    assert dict(store.data) == {}


def test_an_empty_changelog_is_known_too() -> None:
    """The first record written follows upon nothing."""
    store, _ = recovered(0)
    store.written(HOME, 0, b"K0", b"v")
    rebalanced(store, 2)
    assert store.persisted_offset(CHANGELOG) == 0
